//! The files with the server's certificate, its key and the authorities of its clients.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::rustls::{
    self, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::WebPkiClientVerifier,
};

use crate::operator_file;

/// Where they are; all of them PEM.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The server's certificate, then those that lead to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities of clients. With them, a client must show a certificate by one of them.
    pub client_authorities: Option<PathBuf>,
}

/// Why files are not taken. Never repeats what is in a file: a key could stand there.
#[derive(Debug, thiserror::Error)]
pub enum BadCertificates {
    /// A file cannot be read.
    #[error("{file}: {source}")]
    Unreadable {
        /// Which.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file breaks a rule.
    #[error("{file}: {rule}")]
    Refused {
        /// Which.
        file: String,
        /// What it must hold.
        rule: String,
    },
    /// Changes cannot be watched.
    #[error("{0}")]
    Unwatched(#[from] io::Error),
}

impl BadCertificates {
    fn refused(file: &Path, rule: impl Into<String>) -> Self {
        Self::Refused { file: file.display().to_string(), rule: rule.into() }
    }
}

/// What the files held at one time.
#[derive(PartialEq, Eq)]
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_authorities: Option<Vec<u8>>,
}

impl CertificateFiles {
    /// Each of them.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.certificate, &self.key].into_iter().chain(&self.client_authorities).map(PathBuf::as_path)
    }

    pub(super) fn read(&self) -> Result<Contents, BadCertificates> {
        let read = |file: &Path| {
            operator_file::read(file)
                .map_err(|source| BadCertificates::Unreadable { file: file.display().to_string(), source })
        };
        Ok(Contents {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            client_authorities: self.client_authorities.as_deref().map(read).transpose()?,
        })
    }

    /// What handshakes need, of what the files held.
    pub(super) fn config(&self, contents: &Contents) -> Result<Arc<ServerConfig>, BadCertificates> {
        let chain = certificates(&self.certificate, &contents.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|e| {
            let rule = match e {
                pem::Error::NoItemsFound => "must hold a private key that is not encrypted, in PEM",
                _ => "is not well-formed PEM",
            };
            BadCertificates::refused(&self.key, rule)
        })?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring has what TLS 1.2 and 1.3 need");
        let builder = match self.client_authorities.as_deref().zip(contents.client_authorities.as_deref()) {
            None => builder.with_no_client_auth(),
            Some((file, pem)) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(file, pem)? {
                    roots.add(certificate).map_err(|e| BadCertificates::refused(file, unusable(&e)))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                let verifier = verifier.build().map_err(|e| BadCertificates::refused(file, e.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => BadCertificates::refused(
                &self.key,
                format!("is not the key of the certificate in {}", self.certificate.display()),
            ),
            rustls::Error::General(_) => {
                BadCertificates::refused(&self.key, "must be a key of RSA, ECDSA or Ed25519")
            }
            e => BadCertificates::refused(&self.certificate, unusable(&e)),
        })?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, BadCertificates> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(BadCertificates::refused(file, "must hold a certificate, in PEM")),
        Err(_) => Err(BadCertificates::refused(file, "is not well-formed PEM")),
    }
}

fn unusable(e: &rustls::Error) -> String {
    format!("holds a certificate that cannot be used: {e}")
}
