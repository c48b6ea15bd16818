//! TLS to a server: whom to trust, who the client is, and the handshake.
//!
//! rustls does the work, on a socket of ours. Files are read when a connection is made: those that
//! were renewed count for the next one. Nothing of a private key is ever shown.

use std::{
    fmt, fs, io,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use tokio::io::BufReader;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, AlertDescription, CertificateError, ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem, pem::PemObject},
    },
};

use super::{
    connect::{ConnectError, Socket},
    environment,
    error::{Error, Result},
};
use crate::runtime::lock;

/// rustls reads in pieces of 4 KiB; a record has up to 16, and several come at once.
const READ_AHEAD: usize = 64 << 10;

/// What is encrypted.
pub(super) type Encrypted = TlsStream<BufReader<Socket>>;

/// Certificates or a private key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// In a file.
    File(PathBuf),
    /// Here.
    Bytes(Vec<u8>),
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.fmt(f),
            Self::Bytes(_) => f.write_str("***"),
        }
    }
}

/// How a client proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its certificate, then those that lead to its authority.
    pub certificate: Pem,
    /// The certificate's private key.
    pub key: Pem,
}

/// TLS options; all are for `https://` endpoints only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Authorities that may vouch for the server. `None`: the environment's `FLOWMESH_TLS_CA_FILE`,
    /// else those that the system trusts.
    pub authorities: Option<Pem>,
    /// For servers that ask who the client is. `None`: the environment's `FLOWMESH_TLS_CERT_FILE`
    /// and `FLOWMESH_TLS_KEY_FILE`, else nothing.
    pub identity: Option<Identity>,
    /// The name that the server's certificate must have. `None`: the environment's
    /// `FLOWMESH_TLS_SERVER_NAME`, else the host of the endpoint.
    pub server_name: Option<String>,
}

impl TlsOptions {
    /// Whether the application wants nothing of TLS.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Handshakes with one server.
pub(crate) struct Tls {
    authorities: Option<Pem>,
    identity: Option<Identity>,
    name: ServerName<'static>,
    /// Of the last connection. It also holds what sessions can be resumed.
    last: Mutex<Option<(Contents, Arc<ClientConfig>)>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What options and files held at one time.
#[derive(PartialEq, Eq)]
struct Contents {
    /// `None` for the authorities of the system.
    authorities: Option<Vec<u8>>,
    identity: Option<[Vec<u8>; 2]>,
}

impl Tls {
    /// For the server at `host`. No file is read yet.
    pub fn new(options: &TlsOptions, host: &str) -> Result<Self> {
        let of_environment = |name| environment::path(name).map(Pem::File);
        let authorities = options.authorities.clone().or_else(|| of_environment("FLOWMESH_TLS_CA_FILE"));
        let identity = match &options.identity {
            Some(identity) => Some(identity.clone()),
            None => {
                match (of_environment("FLOWMESH_TLS_CERT_FILE"), of_environment("FLOWMESH_TLS_KEY_FILE")) {
                    (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
                    (None, None) => None,
                    _ => {
                        return Err(Error::invalid(
                            "the environment must have both of FLOWMESH_TLS_CERT_FILE and \
                             FLOWMESH_TLS_KEY_FILE, or neither",
                        ));
                    }
                }
            }
        };
        let name = match &options.server_name {
            Some(name) => Some(name.clone()),
            None => environment::text("FLOWMESH_TLS_SERVER_NAME")?,
        };
        let name = name.as_deref().unwrap_or(host);
        let name =
            check_name(name).map_err(|rule| Error::invalid(format!("the server name `{name}` {rule}")))?;
        Ok(Self { authorities, identity, name, last: Mutex::default() })
    }

    /// Has the server prove who it is. How long that may take is the caller's affair.
    pub async fn shake(self: &Arc<Self>, socket: Socket) -> std::result::Result<Encrypted, ConnectError> {
        let tls = self.clone();
        let config = tokio::task::spawn_blocking(move || tls.config()).await;
        let config = config.unwrap_or_else(|e| Err(e.to_string())).map_err(ConnectError::explained)?;
        let socket = BufReader::with_capacity(READ_AHEAD, socket);
        TlsConnector::from(config).connect(self.name.clone(), socket).await.map_err(|e| {
            ConnectError::explained(match rustls_error(&e) {
                Some(e) => self.explain(e),
                None => format!("the TLS handshake broke off: {e}"),
            })
        })
    }

    /// An error of the stream as people should see it.
    pub fn explained(&self, e: io::Error) -> io::Error {
        match rustls_error(&e) {
            Some(cause) => io::Error::new(io::ErrorKind::InvalidData, self.explain(cause)),
            None => e,
        }
    }

    fn config(&self) -> std::result::Result<Arc<ClientConfig>, String> {
        let contents = Contents {
            authorities: self.authorities.as_ref().map(|pem| read(pem, "tls_ca_file")).transpose()?,
            identity: match &self.identity {
                Some(Identity { certificate, key }) => {
                    Some([read(certificate, "tls_certificate_file")?, read(key, "tls_key_file")?])
                }
                None => None,
            },
        };
        let mut last = lock(&self.last);
        if let Some((same, config)) = &*last
            && *same == contents
        {
            return Ok(config.clone());
        }
        let authorities = match &contents.authorities {
            Some(pem) => authorities(pem).map_err(|rule| of(&self.authorities, "tls_ca", &rule))?,
            None => of_the_system()?,
        };
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has what TLS 1.2 and 1.3 need")
            .with_root_certificates(authorities);
        let mut config = match &contents.identity {
            None => builder.with_no_client_auth(),
            Some([certificate, key]) => {
                let certificate_of = self.identity.as_ref().map(|i| i.certificate.clone());
                let (chain, key) = identity(certificate, key)
                    .map_err(|rule| of(&certificate_of, "tls_certificate", &rule))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|e| of(&certificate_of, "tls_certificate", &unusable_pair(&e)))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let config = Arc::new(config);
        *last = Some((contents, config.clone()));
        Ok(config)
    }

    fn explain(&self, e: &rustls::Error) -> String {
        let name = self.name.to_str();
        match e {
            rustls::Error::InvalidMessage(_) => {
                "the server does not speak TLS: its endpoint is http:// and not https://".into()
            }
            rustls::Error::InvalidCertificate(e) => match e {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    format!("the certificate of {name} has expired")
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    format!("the certificate of {name} is not valid yet; check the clock")
                }
                // The same name with another key is another authority.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
                    "the certificate of {name} is by an authority that is not trusted here; trust it with \
                     tls_ca_file"
                ),
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    format!(
                        "the server's certificate is not for {name}; connect by a name that it has, or give \
                         one as tls_server_name"
                    )
                }
                CertificateError::Other(e) if e.to_string().contains("CaUsedAsEndEntity") => format!(
                    "the certificate of {name} is that of an authority (CA:TRUE); a server needs one with \
                     CA:FALSE"
                ),
                e => format!("the certificate of {name} is not good: {e}"),
            },
            rustls::Error::AlertReceived(alert) => match alert {
                AlertDescription::CertificateRequired => {
                    "the server asks for a client certificate: give one with tls_certificate_file".into()
                }
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::DecryptError
                | AlertDescription::AccessDenied => {
                    format!("the server does not accept the client's certificate: {alert:?}")
                }
                AlertDescription::NoApplicationProtocol => {
                    "the server does not offer HTTP/2, so it is no FlowMesh server".into()
                }
                alert => format!("the server ended the TLS handshake: {alert:?}"),
            },
            e => format!("the TLS handshake failed: {e}"),
        }
    }
}

/// The rule for a server's name.
pub(crate) fn check_name(name: &str) -> std::result::Result<ServerName<'static>, &'static str> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| "must be a DNS name in ASCII, or an address: certificates have no other")
}

/// The rule for authorities, checked as far as it can be without a server.
pub(crate) fn check_authorities(pem: &[u8]) -> std::result::Result<(), String> {
    authorities(pem).map(drop)
}

/// The rule for a certificate and its key.
pub(crate) fn check_identity(certificate: &[u8], key: &[u8]) -> std::result::Result<(), String> {
    let (chain, key) = identity(certificate, key)?;
    let provider = ring::default_provider();
    let made = rustls::sign::CertifiedKey::from_der(chain, key, &provider);
    made.map(drop).map_err(|e| unusable_pair(&e))
}

fn read(pem: &Pem, name: &str) -> std::result::Result<Vec<u8>, String> {
    match pem {
        Pem::Bytes(bytes) => Ok(bytes.clone()),
        Pem::File(path) => {
            fs::read(path).map_err(|e| format!("{name} `{}`: cannot be read: {e}", path.display()))
        }
    }
}

/// Which input breaks a rule.
fn of(pem: &Option<Pem>, name: &str, rule: &str) -> String {
    match pem {
        Some(Pem::File(path)) => format!("{name}_file `{}` {rule}", path.display()),
        _ => format!("{name}_pem {rule}"),
    }
}

fn authorities(pem: &[u8]) -> std::result::Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|e| format!("holds a certificate that cannot be used: {e}"))?;
    }
    Ok(roots)
}

fn of_the_system() -> std::result::Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some systems trust certificates that nobody can read any more.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |e| format!(" ({e})"));
        return Err(format!(
            "this system trusts no authority{why}: install its ca-certificates, or give tls_ca_file"
        ));
    }
    Ok(roots)
}

fn identity(
    certificate: &[u8],
    key: &[u8],
) -> std::result::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| match e {
        pem::Error::NoItemsFound => "comes without a private key that is not encrypted, in PEM".to_owned(),
        _ => "has a key that is not well-formed PEM".to_owned(),
    })?;
    Ok((chain, key))
}

fn certificates(pem: &[u8]) -> std::result::Result<Vec<CertificateDer<'static>>, String> {
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err("must hold a certificate, in PEM".into()),
        Err(_) => Err("is not well-formed PEM".into()),
    }
}

fn unusable_pair(e: &rustls::Error) -> String {
    match e {
        rustls::Error::InconsistentKeys(_) => "does not belong to its private key".into(),
        rustls::Error::General(_) => "must have a key of RSA, ECDSA or Ed25519".into(),
        e => format!("cannot be used: {e}"),
    }
}

fn rustls_error(e: &io::Error) -> Option<&rustls::Error> {
    e.get_ref()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_never_shown() {
        let pem = || Pem::Bytes(b"-----BEGIN PRIVATE KEY-----".to_vec());
        let identity = Some(Identity { certificate: pem(), key: pem() });
        let options = TlsOptions { authorities: Some(pem()), identity, server_name: None };
        assert!(!format!("{options:?}").contains("BEGIN") && !format!("{options:?}").contains("45, 45"));
    }

    #[test]
    fn a_name_must_be_one_that_certificates_have() {
        for good in ["localhost", "a.b-c.example", "127.0.0.1", "::1", "with_underscore"] {
            assert!(Tls::new(&TlsOptions::default(), good).is_ok(), "{good}");
        }
        for bad in ["b\u{fc}cher.example", "a..b", "-a"] {
            assert!(Tls::new(&TlsOptions::default(), bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pem_is_checked_by_its_rules() {
        let of = |names: &[&str]| {
            let key = rcgen::KeyPair::generate().expect("a key");
            let params =
                rcgen::CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
            let certificate = params.expect("names").self_signed(&key).expect("signed");
            (certificate.pem(), key.serialize_pem())
        };
        let ((one, its_key), (_, other_key)) = (of(&["one"]), of(&["other"]));
        assert_eq!(check_authorities(one.as_bytes()), Ok(()));
        assert_eq!(check_identity(one.as_bytes(), its_key.as_bytes()), Ok(()));
        for (certificate, key, word) in [
            ("", its_key.as_str(), "must hold a certificate"),
            (one.as_str(), "", "private key"),
            (one.as_str(), one.as_str(), "private key"),
            (one.as_str(), other_key.as_str(), "does not belong"),
            ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", its_key.as_str(), "well-formed"),
        ] {
            let rule = check_identity(certificate.as_bytes(), key.as_bytes()).expect_err(word);
            assert!(rule.contains(word), "{rule}");
        }
        let not_x509 = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        assert!(check_authorities(not_x509.as_bytes()).is_err_and(|rule| rule.contains("cannot be used")));
    }
}
