//! What goes through a connection, frame by frame: who sends too much of nothing, who is silent,
//! and whose turn has been long enough.
//!
//! [`Metered`] stands between the HTTP/2 library and the socket and reads the heads of frames as
//! they pass; it changes no byte. What it saw, the connection's task finds in its [`Traffic`].

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::{Account, Pace, kind};

/// Bytes before a client's first frame.
const PREFACE: u32 = 24;
const HEAD: usize = 9;

/// What one connection may read before others have their turn. A turn that is cut goes on as soon
/// as they have had theirs.
const TURN_FRAMES: u32 = 512;
const TURN_BYTES: usize = 1 << 20;

/// What has gone through a connection so far. Only its own task looks at it.
pub struct Traffic {
    pace: Pace,
    /// When something came in last.
    pub heard: Instant,
    /// The peer has sent its settings: it speaks HTTP/2.
    pub settled: bool,
    /// The peer has sent more frames without content than it may.
    pub flood: bool,
    /// Streams that the peer has reset since this was last emptied, which is once a turn.
    pub resets: Vec<u32>,
    frames: u32,
    bytes: usize,
}

/// The same, for the two that need it.
#[derive(Clone)]
pub struct Gauge(Arc<Mutex<Traffic>>);

impl Gauge {
    pub fn new(control_frames_per_second: u32) -> Self {
        let heard = Instant::now();
        let pace = Pace::new(control_frames_per_second, heard);
        let (settled, flood, resets) = (false, false, Vec::new());
        Self(Arc::new(Mutex::new(Traffic { pace, heard, settled, flood, resets, frames: 0, bytes: 0 })))
    }

    pub fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new turn begins.
    pub fn begin_turn(&self) {
        let mut traffic = self.traffic();
        (traffic.frames, traffic.bytes) = (0, 0);
    }
}

/// Finds the heads of frames in a sequence of bytes, wherever it is cut.
struct Scanner {
    /// Bytes to the next head.
    skip: u32,
    head: [u8; HEAD],
    filled: usize,
}

impl Scanner {
    fn after(skip: u32) -> Self {
        Self { skip, head: [0; HEAD], filled: 0 }
    }

    /// Calls `seen` with type, flags, length and stream of every frame whose head ends in `bytes`.
    fn scan(&mut self, mut bytes: &[u8], mut seen: impl FnMut(u8, u8, u32, u32)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = bytes.len().min(self.skip as usize);
                self.skip -= skipped as u32;
                bytes = &bytes[skipped..];
                continue;
            }
            let part = bytes.len().min(HEAD - self.filled);
            self.head[self.filled..self.filled + part].copy_from_slice(&bytes[..part]);
            self.filled += part;
            bytes = &bytes[part..];
            if self.filled == HEAD {
                self.filled = 0;
                let [a, b, c, kind, flags, s, t, u, v] = self.head;
                self.skip = u32::from_be_bytes([0, a, b, c]);
                // The highest bit is reserved.
                seen(kind, flags, self.skip, u32::from_be_bytes([s & 0x7f, t, u, v]));
            }
        }
    }
}

/// A socket whose traffic is measured.
pub struct Metered<I> {
    socket: I,
    gauge: Gauge,
    account: Arc<Account>,
    inbound: Scanner,
    outbound: Scanner,
}

impl<I> Metered<I> {
    pub fn new(socket: I, gauge: Gauge, account: Arc<Account>) -> Self {
        Self { socket, gauge, account, inbound: Scanner::after(PREFACE), outbound: Scanner::after(0) }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Metered<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut traffic = this.gauge.traffic();
        // A flood is ended by the connection's task, which wakes up for it.
        if traffic.flood || traffic.frames >= TURN_FRAMES || traffic.bytes >= TURN_BYTES {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, into))?;
        let bytes = &into.filled()[before..];
        if !bytes.is_empty() {
            let now = Instant::now();
            let traffic = &mut *traffic;
            traffic.heard = now;
            traffic.bytes += bytes.len();
            this.inbound.scan(bytes, |of, flags, len, stream| {
                traffic.frames += 1;
                if of == kind::RST_STREAM {
                    traffic.resets.push(stream);
                }
                traffic.settled |= of == kind::SETTINGS;
                traffic.flood |= !traffic.pace.received(of, flags, len, || now);
            });
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Metered<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.socket).poll_write(cx, data);
        this.account.set_blocked(written.is_pending());
        let written = ready!(written)?;
        let mut traffic = this.gauge.traffic();
        this.outbound.scan(&data[..written], |kind, _, len, _| traffic.pace.sent(kind, len));
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.account.set_blocked(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_wherever_the_bytes_are_cut() {
        let mut bytes = vec![b'p'; PREFACE as usize];
        let frames =
            [(4, 0, 0, 0), (0, 1, 300, 1), (6, 0, 8, 0), (0, 0, 0, 3), (1, 5, 70_000, 5), (3, 0, 4, 259)];
        for (kind, flags, len, stream) in frames {
            let length = u32::to_be_bytes(len);
            bytes.extend([length[1], length[2], length[3], kind, flags]);
            bytes.extend(u32::to_be_bytes(stream | 1 << 31));
            bytes.resize(bytes.len() + len as usize, 0xff);
        }
        for step in [1, 2, 7, 9, 10, 1000, bytes.len()] {
            let mut scanner = Scanner::after(PREFACE);
            let mut seen = Vec::new();
            for part in bytes.chunks(step) {
                scanner.scan(part, |kind, flags, len, stream| seen.push((kind, flags, len, stream)));
            }
            assert_eq!(seen, frames, "in steps of {step}");
        }
    }
}
