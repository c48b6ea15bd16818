//! The bearer token of a client: where it comes from, and whether it may go where calls go.

use std::{
    fs::{self, File},
    io::Read,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use tokio::runtime::Handle;
use tonic::metadata::{Ascii, MetadataValue};

use super::{
    endpoint::Endpoint,
    environment,
    error::{Error, Result, Status},
    options::ClientOptions,
};
use crate::runtime::lock;

/// More is no token.
const MOST_BYTES: u64 = 16 << 10;

/// What a client presents with its calls.
pub(crate) enum Token {
    None,
    Given(MetadataValue<Ascii>),
    File(Arc<TokenFile>),
}

/// A token in a file: read by the first call, and again when the server refuses what it held.
pub(crate) struct TokenFile {
    path: PathBuf,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    value: Option<MetadataValue<Ascii>>,
    /// The server has refused it: the file is read again before the next call.
    refused: bool,
    /// How many different values there were.
    version: u64,
}

impl Token {
    /// The token that `options`, or else the environment, give for `endpoint`. No file is read.
    pub fn of(endpoint: &Endpoint, options: &ClientOptions) -> Result<Self> {
        let token = match (&options.auth_token, &options.auth_token_file) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid("auth_token and auth_token_file must not both be given"));
            }
            (Some(token), None) if token.reveal().is_empty() => return Ok(Self::None),
            (Some(_), _) | (_, Some(_)) if endpoint.is_embedded() => {
                return Err(Error::invalid(format!(
                    "auth_token must not be given for the endpoint `{endpoint}`: an embedded engine takes none"
                )));
            }
            (Some(token), None) => Self::Given(
                bearer(token.reveal()).map_err(|rule| Error::invalid(format!("auth_token {rule}")))?,
            ),
            (None, Some(path)) => Self::in_file(path),
            (None, None) if endpoint.is_embedded() => return Ok(Self::None),
            (None, None) => match environment::text("FLOWMESH_AUTH_TOKEN")? {
                Some(token) => Self::Given(bearer(&token).map_err(|rule| {
                    Error::invalid(format!("the environment's FLOWMESH_AUTH_TOKEN {rule}"))
                })?),
                None => match environment::path("FLOWMESH_AUTH_TOKEN_FILE") {
                    Some(path) => Self::in_file(&path),
                    None => return Ok(Self::None),
                },
            },
        };
        let allowed = options.allow_plaintext_token || environment::flag("FLOWMESH_ALLOW_PLAINTEXT_TOKEN")?;
        match endpoint {
            Endpoint::Tcp { host, .. } if !is_loopback(host) && !allowed => Err(Error::invalid(format!(
                "endpoint `{endpoint}`: a token does not go unencrypted to another machine: use https://, or \
                 allow it with allow_plaintext_token"
            ))),
            _ => Ok(token),
        }
    }

    fn in_file(path: &Path) -> Self {
        Self::File(Arc::new(TokenFile { path: path.to_owned(), held: Mutex::default() }))
    }

    /// What goes with a call. A file is read on a thread of `runtime` for that, as reading may take
    /// longer than the call has time.
    pub async fn present(
        &self,
        runtime: impl FnOnce() -> Result<Handle>,
    ) -> Result<Option<MetadataValue<Ascii>>> {
        let file = match self {
            Self::None => return Ok(None),
            Self::Given(value) => return Ok(Some(value.clone())),
            Self::File(file) => file,
        };
        if let Some(value) = file.at_hand() {
            return Ok(Some(value));
        }
        let reader = file.clone();
        let read = runtime()?.spawn_blocking(move || reader.read()).await;
        let value = read.unwrap_or_else(|e| Err(file.failed(&format!("cannot be read: {e}"))))?;
        file.hold(value.clone());
        Ok(Some(value))
    }

    /// Whether it is in a file, where another one may stand at any time.
    pub fn may_change(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Which of a file's tokens is presented.
    pub fn version(&self) -> u64 {
        match self {
            Self::None | Self::Given(_) => 0,
            Self::File(file) => lock(&file.held).version,
        }
    }

    /// The server has refused `version`: the next call looks for another one.
    pub fn refuse(&self, version: u64) {
        if let Self::File(file) = self {
            let mut held = lock(&file.held);
            held.refused |= held.version == version;
        }
    }
}

impl TokenFile {
    /// What was read before, unless it was refused since.
    fn at_hand(&self) -> Option<MetadataValue<Ascii>> {
        let held = lock(&self.held);
        held.value.clone().filter(|_| !held.refused)
    }

    fn hold(&self, value: MetadataValue<Ascii>) {
        let mut held = lock(&self.held);
        held.refused = false;
        if held.value.as_ref() != Some(&value) {
            held.version += u64::from(held.value.is_some());
            held.value = Some(value);
        }
    }

    fn failed(&self, what: &str) -> Error {
        let path = self.path.display();
        Error::local(Status::FAILED_PRECONDITION, format!("auth_token_file `{path}`: {what}"))
    }

    fn read(&self) -> Result<MetadataValue<Ascii>> {
        let failed = |what: &str| self.failed(what);
        // Opening anything else may wait for ever.
        let is_file = fs::metadata(&self.path).map(|metadata| metadata.is_file());
        if !is_file.map_err(|e| failed(&format!("cannot be read: {e}")))? {
            return Err(failed("must be a regular file"));
        }
        let mut text = String::new();
        File::open(&self.path)
            .and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut text))
            .map_err(|e| failed(&format!("cannot be read: {e}")))?;
        match text.trim() {
            "" => Err(failed("must hold a token, and is empty")),
            _ if text.len() as u64 > MOST_BYTES => Err(failed("is larger than any token")),
            token => bearer(token).map_err(failed),
        }
    }
}

/// The metadata that carries `token`; the error is the rule that it breaks.
fn bearer(token: &str) -> std::result::Result<MetadataValue<Ascii>, &'static str> {
    if !token.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return Err("must be printable ASCII: it travels in a header");
    }
    let mut value: MetadataValue<Ascii> =
        format!("Bearer {token}").parse().map_err(|_| "must be printable ASCII: it travels in a header")?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether what is sent to `host` stays on this machine.
fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Secret;

    fn of(endpoint: &str, change: impl FnOnce(&mut ClientOptions)) -> Result<Token> {
        let mut options = ClientOptions { auth_token: Some("fm_secret".into()), ..ClientOptions::default() };
        change(&mut options);
        Token::of(&Endpoint::parse(endpoint)?, &options)
    }

    #[test]
    fn no_token_goes_unencrypted_to_another_machine() {
        for local in ["localhost:1", "LOCALHOST:1", "127.0.0.1:1", "http://127.9.9.9:1", "[::1]:1", "unix:/s"]
        {
            assert!(of(local, |_| ()).is_ok(), "{local}");
        }
        assert!(of("https://example.org:1", |_| ()).is_ok());
        for remote in ["example.org:1", "http://10.0.0.1:1", "[fe80::1]:1", "localhost.example.org:1"] {
            let error = of(remote, |_| ()).err().expect(remote);
            assert_eq!(error.status(), Status::INVALID_ARGUMENT);
            assert!(error.message().contains("allow_plaintext_token"), "{error}");
            assert!(!error.to_string().contains("fm_secret"), "{error}");
            assert!(of(remote, |o| o.allow_plaintext_token = true).is_ok());
            assert!(of(remote, |o| o.auth_token = Some(Secret::from(""))).is_ok());
            let file = of(remote, |o| (o.auth_token, o.auth_token_file) = (None, Some("/t".into())));
            assert!(file.is_err(), "{remote}");
        }
    }

    #[tokio::test]
    async fn a_file_is_read_when_it_is_needed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("token");
        let token = of("unix:/s", |o| (o.auth_token, o.auth_token_file) = (None, Some(path.clone())));
        let token = token.expect("nothing is read yet");
        let present = async || token.present(|| Ok(Handle::current())).await;
        // What a call does that was refused.
        let is_renewed = async |version| {
            token.refuse(version);
            present().await.is_ok() && token.version() != version
        };
        let missing = present().await.expect_err("no file");
        assert!(missing.message().contains("auth_token_file"), "{missing}");
        std::fs::write(&path, "fm_one\n").expect("written");
        let (one, version) = (present().await.expect("read"), token.version());
        assert_eq!(one.expect("a token"), "Bearer fm_one");
        assert!(!is_renewed(version).await);
        std::fs::write(&path, "fm_two").expect("written");
        assert_eq!(present().await.expect("held").expect("a token"), "Bearer fm_one");
        assert!(is_renewed(version).await && is_renewed(version).await);
        let (two, version) = (present().await.expect("held"), token.version());
        assert_eq!(two.expect("a token"), "Bearer fm_two");
        for bad in ["", "  \n", "fm_a\nfm_b", "fm_\u{fc}"] {
            std::fs::write(&path, bad).expect("written");
            assert!(!is_renewed(version).await, "{bad:?}");
        }
        std::fs::remove_file(&path).expect("removed");
        std::fs::create_dir(&path).expect("made");
        let no_file = present().await.expect_err("a directory");
        assert!(no_file.message().contains("must be a regular file"), "{no_file}");
    }

    #[test]
    fn nothing_shows_a_token() {
        let options = ClientOptions { auth_token: Some("fm_secret".into()), ..ClientOptions::default() };
        assert!(!format!("{options:?}").contains("fm_secret"));
        let Ok(Token::Given(value)) = of("unix:/s", |_| ()) else { panic!("a token") };
        assert!(!format!("{value:?}").contains("fm_secret"));
        let bad = of("unix:/s", |o| o.auth_token = Some("fm_sec\nret".into())).err().expect("a rule");
        assert!(!bad.to_string().contains("fm_sec"), "{bad}");
    }
}
