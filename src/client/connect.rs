//! Sockets: resolving, connecting, and bytes in and out.
//!
//! Writes never raise SIGPIPE in the host: they go through sendmsg(2) with MSG_NOSIGNAL.

use std::{
    fmt,
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};

use super::{endpoint::write_authority, statistics::Statistics, tls::Tls};
use crate::log::log;

/// How long a connection may be silent before the kernel asks whether the peer still lives, and
/// how long it waits between and after its questions.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Where to connect to.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Tcp { host: Arc<str>, port: u16, tls: Option<Arc<Tls>> },
    Unix(Arc<PathBuf>),
}

impl Target {
    /// Whether TLS protects what goes there.
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tcp { tls: Some(_), .. })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, tls } => {
                f.write_str(if tls.is_some() { "https://" } else { "" })?;
                write_authority(f, host, *port)
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// No connection could be made.
#[derive(Debug, Clone)]
pub(crate) struct ConnectError {
    text: String,
    explained: bool,
}

impl ConnectError {
    /// `text` says what was tried and what went wrong.
    pub fn new(text: impl fmt::Display) -> Self {
        Self { text: text.to_string(), explained: false }
    }

    /// `text` says what to do, too.
    pub fn explained(text: String) -> Self {
        Self { text, explained: true }
    }

    /// Whether the text says what to do.
    pub fn is_explained(&self) -> bool {
        self.explained
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ConnectError {}

/// What TLS says when it is greeted in clear text begins with one of these bytes and a 3. Of HTTP/2
/// that would be a frame above any limit.
const TLS_RECORDS: std::ops::RangeInclusive<u8> = 0x14..=0x17;

/// Connects to where `target` says. How long that may take is the caller's affair.
pub(crate) async fn connect(target: Target, statistics: Arc<Statistics>) -> Result<Socket, ConnectError> {
    let stream = open(&target).await?;
    Ok(Socket { stream, target, statistics, heard: false, state: State::New })
}

async fn open(target: &Target) -> Result<Stream, ConnectError> {
    match target {
        Target::Tcp { host, port, .. } => {
            let mut refused = Vec::new();
            for address in resolve(host, *port).await? {
                match tcp(address).await {
                    Ok(stream) => return Ok(Stream::Tcp(stream)),
                    Err(e) => refused.push(format!("{address}: {e}")),
                }
            }
            Err(ConnectError::new(format_args!("cannot connect to {}", refused.join(", "))))
        }
        Target::Unix(path) => match UnixStream::connect(path.as_path()).await {
            Ok(stream) => Ok(Stream::Unix(stream)),
            Err(e) => Err(ConnectError::new(format_args!("cannot connect to {}: {e}", path.display()))),
        },
    }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    let found = tokio::net::lookup_host((host, port))
        .await
        .map_err(|e| ConnectError::new(format_args!("the host name `{host}` cannot be resolved: {e}")))?;
    let addresses: Vec<_> = found.collect();
    if addresses.is_empty() {
        return Err(ConnectError::new(format_args!("the host name `{host}` has no address")));
    }
    Ok(addresses)
}

async fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 6).with_retries(6);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

/// A connected socket that counts what goes through it.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Stream,
    target: Target,
    statistics: Arc<Statistics>,
    /// Whether the peer has said anything.
    heard: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Not ready for use: why it does not become so, tells whoever makes it.
    New,
    Established,
    /// We ended it.
    Ours,
    /// The peer did, or the way to it.
    Lost(io::Error),
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        let (before, room) = (buf.filled().len(), buf.remaining());
        let result = ready!(match &mut socket.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        });
        let count = buf.filled().len() - before;
        socket.statistics.bytes_received.add(count as u64);
        match &result {
            Err(error) => socket.lost(copy(error)),
            Ok(()) if count == 0 && room > 0 => {
                socket.lost(io::Error::other("the peer closed the connection"));
            }
            Ok(()) if socket.hears_tls(&buf.filled()[before..]) => {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the server speaks TLS: its endpoint is https:// and not http://",
                )));
            }
            Ok(()) => {}
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, |socket| socket.send_with_flags(buf, libc::MSG_NOSIGNAL))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, |socket| socket.send_vectored_with_flags(bufs, libc::MSG_NOSIGNAL))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        if matches!(socket.state, State::Established) {
            socket.state = State::Ours;
        }
        match &mut socket.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl Socket {
    /// What must protect the connection, if anything.
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        match &self.target {
            Target::Tcp { tls, .. } => tls.as_ref(),
            Target::Unix(_) => None,
        }
    }

    /// The connection is ready for use: from now on its end is news.
    pub fn establish(&mut self) {
        self.state = State::Established;
        self.statistics.connections_made.add(1);
        log!(Info, "connection", self.statistics.client, "connected to {}", self.target);
    }

    /// Whether the first that comes over a socket without TLS is TLS.
    fn hears_tls(&mut self, bytes: &[u8]) -> bool {
        let first = !std::mem::replace(&mut self.heard, true);
        first
            && matches!(self.target, Target::Tcp { tls: None, .. })
            && matches!(bytes, [kind, 3, ..] if TLS_RECORDS.contains(kind))
    }

    /// Sends as soon as the socket takes bytes.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        send: impl Fn(SockRef<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let result = ready!(self.stream.poll_send(cx, send));
        match &result {
            Ok(count) => self.statistics.bytes_sent.add(*count as u64),
            Err(error) => self.lost(copy(error)),
        }
        Poll::Ready(result)
    }

    /// The peer, or the way to it, ended the connection.
    fn lost(&mut self, error: io::Error) {
        if matches!(self.state, State::Established) {
            self.state = State::Lost(error);
            self.statistics.connections_lost.add(1);
        }
    }
}

impl Drop for Socket {
    /// Told only now: whoever reads or writes may hold locks.
    fn drop(&mut self) {
        let (client, target) = (self.statistics.client, &self.target);
        match &self.state {
            State::Lost(error) => {
                log!(Warn, "connection", client, "lost the connection to {target}: {error}");
            }
            State::Established | State::Ours => {
                log!(Info, "connection", client, "disconnected from {target}")
            }
            State::New => {}
        }
    }
}

/// An error like this one, to keep.
fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

impl Stream {
    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        send: impl Fn(SockRef<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let sent = match self {
                Self::Tcp(stream) => {
                    ready!(stream.poll_write_ready(cx))?;
                    stream.try_io(Interest::WRITABLE, || send(SockRef::from(&stream.as_fd())))
                }
                Self::Unix(stream) => {
                    ready!(stream.poll_write_ready(cx))?;
                    stream.try_io(Interest::WRITABLE, || send(SockRef::from(&stream.as_fd())))
                }
            };
            match sent {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}
