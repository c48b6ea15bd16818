//! What HTTP/2 goes over: a socket, encrypted where the target says so.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    connect::{ConnectError, Socket},
    tls::{Encrypted, Tls},
};

/// A connection that is ready for use.
pub(crate) enum Link {
    Plain(Socket),
    Encrypted(Box<Private>),
}

/// An encrypted one.
pub(crate) struct Private {
    stream: Encrypted,
    tls: Arc<Tls>,
    /// Whether the server has said anything since the handshake.
    heard: bool,
}

impl Link {
    /// Over a socket that has just been connected. How long the handshake may take is the caller's
    /// affair.
    pub async fn over(mut socket: Socket) -> Result<Self, ConnectError> {
        let Some(tls) = socket.tls().cloned() else {
            socket.establish();
            return Ok(Self::Plain(socket));
        };
        let mut stream = tls.shake(socket).await?;
        stream.get_mut().0.get_mut().establish();
        Ok(Self::Encrypted(Box::new(Private { stream, tls, heard: false })))
    }
}

impl Private {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        self.heard |= result.is_ok();
        Poll::Ready(result.map_err(|e| self.tls.explained(e)))
    }

    /// What came of writing. The client ends its part of the handshake first and writes on; a server
    /// that does not accept the client's certificate says so and closes. Then the write fails, and
    /// why is still to be read.
    fn told(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match ready!(result) {
            Err(e) if !self.heard => {
                let mut byte = [0];
                match ready!(self.poll_read(cx, &mut ReadBuf::new(&mut byte))) {
                    Err(reason) => Poll::Ready(Err(reason)),
                    Ok(()) => Poll::Ready(Err(e)),
                }
            }
            result => Poll::Ready(result),
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Encrypted(link) => link.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Encrypted(link) => {
                let result = Pin::new(&mut link.stream).poll_write(cx, buf);
                link.told(cx, result)
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Self::Encrypted(link) => {
                let result = Pin::new(&mut link.stream).poll_write_vectored(cx, bufs);
                link.told(cx, result)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Encrypted(link) => link.stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Encrypted(link) => {
                let result = Pin::new(&mut link.stream).poll_flush(cx).map_ok(|()| 0);
                link.told(cx, result).map_ok(|_| ())
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Encrypted(link) => Pin::new(&mut link.stream).poll_shutdown(cx),
        }
    }
}
