//! Fewer writes for small replies: a socket that keeps small parts until they are flushed.
//!
//! A reply is three HTTP/2 frames. To a socket that takes several buffers at once, the frame
//! encoder hands a body of 256 bytes without copying it, and flushes before it goes on: two writes
//! and two packets for what fits in one. To a socket that does not, it copies bodies below a
//! kilobyte. This one tells that it does not, and joins the head of a larger body with the body.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is copied at most to save a write.
const SMALL: usize = 1024;
/// What is kept at most.
const KEPT: usize = 16 << 10;

/// A socket that keeps what is small until it is flushed, or until something large comes.
pub struct Cork<I> {
    socket: I,
    kept: BytesMut,
}

impl<I> Cork<I> {
    pub fn new(socket: I) -> Self {
        Self { socket, kept: BytesMut::new() }
    }
}

impl<I: AsyncWrite + Unpin> Cork<I> {
    /// Writes what is kept.
    fn poll_empty(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.kept))?;
            self.advance(written)?;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.kept.advance(written);
        Ok(())
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Cork<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if data.len() < SMALL {
            if this.kept.len() + data.len() > KEPT {
                ready!(this.poll_empty(cx))?;
            }
            this.kept.extend_from_slice(data);
            return Poll::Ready(Ok(data.len()));
        }
        while !this.kept.is_empty() {
            let both = [IoSlice::new(&this.kept), IoSlice::new(data)];
            let written = ready!(Pin::new(&mut this.socket).poll_write_vectored(cx, &both))?;
            match written.checked_sub(this.kept.len()) {
                Some(of_data @ 1..) => {
                    this.kept.clear();
                    return Poll::Ready(Ok(of_data));
                }
                _ => this.advance(written)?,
            }
        }
        Pin::new(&mut this.socket).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Cork<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, into)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn everything_arrives_in_order_through_a_narrow_pipe() {
        let sizes = [1, 700, 5000, 1023, 1024, 30, 20_000, 1000, 1000, 9];
        let sent: Vec<u8> = (0..sizes.iter().sum()).map(|n: usize| (n % 251) as u8).collect();
        // Less than most parts, so that writes are cut anywhere.
        let (near, mut far) = duplex(333);
        let writer = tokio::spawn({
            let sent = sent.clone();
            async move {
                let mut cork = Cork::new(near);
                let mut rest = &sent[..];
                for size in sizes {
                    let (part, later) = rest.split_at(size);
                    cork.write_all(part).await.unwrap();
                    rest = later;
                }
                cork.shutdown().await.unwrap();
            }
        });
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        writer.await.unwrap();
        assert!(received == sent);
    }

    #[tokio::test]
    async fn what_is_small_waits_for_the_flush() {
        let (near, mut far) = duplex(1 << 16);
        let mut cork = Cork::new(near);
        cork.write_all(&[1; 600]).await.unwrap();
        cork.write_all(&[2; 600]).await.unwrap();
        cork.flush().await.unwrap();
        let mut received = [0; 2000];
        assert_eq!(far.read(&mut received).await.unwrap(), 1200);
    }
}
