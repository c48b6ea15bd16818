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
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};

pub use files::{BadCertificates, CertificateFiles};
pub use keeper::keep;

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
    pub(super) async fn shake<S>(&self, socket: S, ready_by: Instant) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = TlsAcceptor::from(self.in_force()).accept(socket);
        timeout_at(ready_by, handshake).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificates")
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn soon() -> Instant {
        Instant::now() + std::time::Duration::from_secs(10)
    }

    fn certificates() -> Certificates {
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new([]).unwrap().self_signed(&key).unwrap();
        let files = CertificateFiles {
            certificate: dir.path().join("cert"),
            key: dir.path().join("key"),
            client_authorities: None,
        };
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        Certificates::read(&files).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_shake_hands_is_not_kept() {
        let (mut near, far) = duplex(1 << 16);
        // The beginning of a record that never comes to its end.
        near.write_all(&[0x16, 3, 1, 1, 0]).await.unwrap();
        let error = certificates().shake(far, soon()).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn clear_text_is_answered_by_an_alert() {
        let (mut near, far) = duplex(1 << 16);
        near.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        assert!(certificates().shake(far, soon()).await.is_err());
        let mut said = Vec::new();
        near.read_to_end(&mut said).await.unwrap();
        assert_eq!(said.first(), Some(&0x15));
    }
}
