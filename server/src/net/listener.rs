//! Listening sockets and the connections they accept.

use std::{convert::Infallible, fs, io, os::unix::fs::FileTypeExt, path::Path, sync::Arc, time::Duration};

use http::{Request, Response};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::watch,
    time::Instant,
};
use tokio_rustls::server::TlsStream;
use tonic::body::Body;
use tower::Service;

use super::{
    address::Address,
    bell::Bell,
    connection::{self, Terms},
    exchange::RequestBody,
    refusal::Refusal,
    tls::Certificates,
    workers::Assigner,
};
use crate::limits::{Admission, Ledger};

/// Pause after a failed accept that is not the peer's doing, such as no free descriptor: nothing
/// tells when one is free again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection over the limit has for the call by whose answer it hears so.
const REFUSAL: Duration = Duration::from_secs(2);

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A bound socket. A unix socket's file goes with it.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Address,
}

impl Listener {
    pub async fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(wanted) => {
                let socket = TcpListener::bind(wanted).await?;
                let address = Address::Tcp(socket.local_addr()?);
                Ok(Self { socket: Socket::Tcp(socket), address })
            }
            Address::Unix(path) => {
                remove_stale(path)?;
                let socket = Socket::Unix(UnixListener::bind(path)?);
                Ok(Self { socket, address: address.clone() })
            }
        }
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Accepts connections for `workers` to serve with `service`, until the sender of `stopped` is
    /// gone.
    pub async fn accept<S>(
        self,
        service: S,
        certificates: Option<Arc<Certificates>>,
        ledger: Arc<Ledger>,
        workers: Assigner,
        mut stopped: watch::Receiver<()>,
    ) where
        S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send,
    {
        let stop = stopped.clone();
        loop {
            let accepted = tokio::select! {
                _ = stopped.changed() => break,
                accepted = self.accept_one() => accepted,
            };
            let admission = match &accepted {
                Ok(_) => ledger.connections.admit(),
                Err(_) => Admission::Closed,
            };
            let (service, certificates) = (service.clone(), certificates.clone());
            let (ledger, stop) = (ledger.clone(), stop.clone());
            match accepted {
                Ok(_) if matches!(admission, Admission::Closed) => {}
                Ok(Accepted::Tcp(stream)) => workers.assign(move |bell| async move {
                    let ready_by = ledger.ready_by();
                    match (TcpStream::from_std(stream), certificates) {
                        (Ok(stream), None) => {
                            serve(stream, service, ledger, admission, ready_by, bell, stop).await;
                        }
                        (Ok(stream), Some(certificates)) => {
                            if let Some(stream) = shake(&certificates, stream, ready_by, stop.clone()).await {
                                serve(stream, service, ledger, admission, ready_by, bell, stop).await;
                            }
                        }
                        (Err(e), _) => tracing::warn!("a connection cannot be served: {e}"),
                    }
                }),
                Ok(Accepted::Unix(stream)) => workers.assign(move |bell| async move {
                    let ready_by = ledger.ready_by();
                    match UnixStream::from_std(stream) {
                        Ok(stream) => serve(stream, service, ledger, admission, ready_by, bell, stop).await,
                        Err(e) => tracing::warn!("a connection cannot be served: {e}"),
                    }
                }),
                Err(e) if of_the_peer(&e) => tracing::debug!("a connection was gone at once: {e}"),
                Err(e) => {
                    tracing::warn!("cannot accept on {}: {e}", self.address);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accept_one(&self) -> io::Result<Accepted> {
        match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, _) = socket.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream.into_std()?))
            }
            Socket::Unix(socket) => Ok(Accepted::Unix(socket.accept().await?.0.into_std()?)),
        }
    }
}

/// The connection under TLS, unless the peer fails or the server stops first.
async fn shake(
    certificates: &Certificates,
    stream: TcpStream,
    ready_by: Instant,
    mut stopped: watch::Receiver<()>,
) -> Option<TlsStream<TcpStream>> {
    let peer = stream.peer_addr().map_or_else(|e| e.to_string(), |peer| peer.to_string());
    let shaken = tokio::select! {
        _ = stopped.changed() => return None,
        shaken = certificates.shake(stream, ready_by) => shaken,
    };
    shaken.inspect_err(|e| tracing::debug!("no TLS with {peer}: {e}")).ok()
}

/// Serves a connection that was admitted, or gives it the answer that it was not.
async fn serve<I, S>(
    stream: I,
    service: S,
    ledger: Arc<Ledger>,
    admission: Admission,
    ready_by: Instant,
    bell: Arc<Bell>,
    stopped: watch::Receiver<()>,
) where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>,
{
    let terms = |refused| Terms { ledger, refused, ready_by };
    match admission {
        Admission::Open(_place) => connection::serve(stream, service, terms(false), bell, stopped).await,
        Admission::Refused(_place, status) => {
            let refusal = connection::serve(stream, Refusal(status), terms(true), bell, stopped);
            // One that calls nothing gets no answer.
            let _ = tokio::time::timeout(REFUSAL, refusal).await;
        }
        Admission::Closed => {}
    }
}

/// A connection without a runtime: it will be served on another one.
enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Address::Unix(path) = &self.address
            && let Err(e) = fs::remove_file(path)
        {
            tracing::warn!("cannot remove the socket {}: {e}", path.display());
        }
    }
}

/// Errors that concern one connection and not the listening socket.
fn of_the_peer(e: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, InvalidInput, NotConnected};
    matches!(e.kind(), ConnectionAborted | ConnectionReset | InvalidInput | NotConnected)
}

/// Removes the socket file of a server that died; refuses that of one that answers, and any
/// other file.
fn remove_stale(path: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if !kind.is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file exists and is not a socket"));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "a running server has this socket")),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(e) => Err(e),
    }
}
