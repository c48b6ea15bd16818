//! TLS on the sockets of other machines: the certificates in force, and handshakes.
//!
//! A connection keeps the certificates with which it began; new ones get those in force. So a
//! reload ends nothing. What a session may resume goes with its certificates: whoever the new
//! authorities do not vouch for cannot come in by an old session.

mod files;
mod keeper;

use std::{
    io,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};

pub use files::{BadCertificates, CertificateFiles};
pub use keeper::keep;

/// How long a peer may take for a handshake. It holds a connection and little else meanwhile.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// What the server shows and asks for in handshakes. Shared by every listener.
pub struct Certificates(RwLock<Arc<ServerConfig>>);

impl Certificates {
    /// Those of `files`.
    ///
    /// # Errors
    /// A file is not good, or they do not fit together.
    pub fn read(files: &CertificateFiles) -> Result<Self, BadCertificates> {
        files.config(&files.read()?).map(Self::new)
    }

    fn new(config: Arc<ServerConfig>) -> Self {
        Self(RwLock::new(config))
    }

    fn replace(&self, config: Arc<ServerConfig>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    fn in_force(&self) -> Arc<ServerConfig> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shakes hands with a peer that has just connected.
    pub(super) async fn shake<S>(&self, socket: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = TlsAcceptor::from(self.in_force()).accept(socket);
        timeout(HANDSHAKE_TIME, handshake).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificates")
    }
}
