//! A socket that notes which requests have left.
//!
//! HTTP/2 libraries do not tell whether a request was still waiting to be written when its
//! connection broke; the bytes that went out do. Only the frames' heads are looked at.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a client sends ahead of its frames: "PRI * HTTP/2.0" and "SM", in so many bytes.
const PREFACE: usize = 24;
const HEAD: usize = 9;
const HEADERS: u8 = 1;

/// The last request that has begun to leave, by the number of its stream. Numbers rise.
#[derive(Debug, Clone, Default)]
pub(super) struct Departures(Arc<AtomicU32>);

impl Departures {
    /// Whether any of the request on `stream` may have reached the peer.
    pub fn include(&self, stream: u32) -> bool {
        stream <= self.0.load(Ordering::Acquire)
    }
}

/// A socket that a client's HTTP/2 frames are written to.
pub(super) struct Watched<S> {
    socket: S,
    frames: Frames,
}

impl<S> Watched<S> {
    pub fn new(socket: S) -> (Self, Departures) {
        let departures = Departures::default();
        let frames = Frames { skip: PREFACE, head: [0; HEAD], got: 0, departures: departures.clone() };
        (Self { socket, frames }, departures)
    }
}

/// How far the outgoing frames are read.
struct Frames {
    /// Bytes until the next head.
    skip: usize,
    head: [u8; HEAD],
    /// Bytes of the head that have gone.
    got: usize,
    departures: Departures,
}

impl Frames {
    fn advance(&mut self, mut bytes: &[u8]) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let more = (HEAD - self.got).min(bytes.len());
            self.head[self.got..][..more].copy_from_slice(&bytes[..more]);
            self.got += more;
            bytes = &bytes[more..];
            if self.got == HEAD {
                self.got = 0;
                let [l0, l1, l2, kind, _, s0, s1, s2, s3] = self.head;
                self.skip = u32::from_be_bytes([0, l0, l1, l2]) as usize;
                if kind == HEADERS {
                    let stream = u32::from_be_bytes([s0, s1, s2, s3]);
                    self.departures.0.fetch_max(stream, Ordering::Release);
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = ready!(Pin::new(&mut this.socket).poll_write(cx, buf))?;
        this.frames.advance(&buf[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = ready!(Pin::new(&mut this.socket).poll_write_vectored(cx, bufs))?;
        let mut left = count;
        for buf in bufs {
            let gone = left.min(buf.len());
            this.frames.advance(&buf[..gone]);
            left -= gone;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, stream: u32, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).expect("small").to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, 0];
        frame.extend(stream.to_be_bytes());
        frame.resize(HEAD + payload, 0xff);
        frame
    }

    #[test]
    fn a_request_has_left_when_the_head_of_its_headers_has() {
        let mut sent = vec![b'P'; PREFACE];
        sent.extend(frame(4, 0, 18));
        sent.extend(frame(HEADERS, 1, 30));
        sent.extend(frame(0, 1, 300));
        let third = sent.len() + HEAD;
        sent.extend(frame(HEADERS, 3, 30));
        // However the bytes are cut.
        for step in [1, 7, 64, 1000] {
            let (mut watched, departures) = Watched::new(());
            for (at, piece) in sent.chunks(step).enumerate() {
                watched.frames.advance(piece);
                let gone = at * step + piece.len();
                assert_eq!(departures.include(3), gone >= third, "{gone} bytes, by {step}");
            }
            assert!(departures.include(1));
            assert!(!departures.include(5));
        }
    }
}
