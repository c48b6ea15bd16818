//! The floor under every durable append: a file of zeros written ahead, in the place of the
//! engine, behind the same group commit (`flowmesh_server::commit`), so that the two differ in
//! nothing but what they store. It keeps no index, opens no second file and cannot be read.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use bytes::Bytes;
use flowmesh_server::commit::{Committer, Sink};
use tokio::sync::oneshot;

/// Written ahead; a run that needs more goes round, which costs a raw file nothing.
const AHEAD: u64 = 512 << 20;

/// A log without anything that a log needs but durability.
pub struct RawLog {
    committer: Committer<RawSink>,
}

struct Append {
    stream: u32,
    events: Vec<Bytes>,
    reply: oneshot::Sender<i64>,
}

struct RawSink {
    file: File,
    at: u64,
    next_offset: Vec<i64>,
    buffer: Vec<u8>,
    replies: Vec<(oneshot::Sender<i64>, i64)>,
}

impl RawLog {
    /// Makes the file in `dir` for `streams` streams, zeros included.
    pub fn create(dir: &Path, streams: usize) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(dir.join("raw.log"))?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..AHEAD >> 20 {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        let sink =
            RawSink { file, at: 0, next_offset: vec![0; streams], buffer: Vec::new(), replies: Vec::new() };
        Ok(Self { committer: Committer::start("raw-commit", sink)? })
    }

    /// Appends a batch; returns its first offset once it is synced.
    pub async fn append(&self, stream: u32, events: Vec<Bytes>) -> i64 {
        let (reply, answered) = oneshot::channel();
        self.committer.submit(Append { stream, events, reply }).expect("the raw log is open");
        answered.await.expect("the raw file takes the write")
    }
}

impl RawSink {
    /// One frame: length, CRC32C, stream, count, first offset, then each event with its length.
    fn encode(&mut self, append: &Append) -> i64 {
        let first = self.next_offset[append.stream as usize];
        self.next_offset[append.stream as usize] += append.events.len() as i64;
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 8]);
        self.buffer.extend_from_slice(&append.stream.to_le_bytes());
        self.buffer.extend_from_slice(&(append.events.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(&first.to_le_bytes());
        for event in &append.events {
            self.buffer.extend_from_slice(&(event.len() as u32).to_le_bytes());
            self.buffer.extend_from_slice(event);
        }
        let frame = &mut self.buffer[start..];
        let crc = crc32c::crc32c(&frame[8..]);
        let len = frame.len() as u32;
        frame[..4].copy_from_slice(&len.to_le_bytes());
        frame[4..8].copy_from_slice(&crc.to_le_bytes());
        first
    }
}

impl Sink for RawSink {
    type Op = Append;

    fn run(&mut self, batch: &mut Vec<Append>) {
        if batch.is_empty() {
            return;
        }
        self.buffer.clear();
        for append in batch.drain(..) {
            let first = self.encode(&append);
            self.replies.push((append.reply, first));
        }
        if self.at + self.buffer.len() as u64 > AHEAD {
            self.at = 0;
        }
        self.file.write_all_at(&self.buffer, self.at).expect("the raw file takes the write");
        self.file.sync_data().expect("the raw file can be synced");
        self.at += self.buffer.len() as u64;
        for (reply, first) in self.replies.drain(..) {
            // A caller that is gone needs no answer.
            let _ = reply.send(first);
        }
    }

    fn recover(&mut self) {
        self.replies.clear();
    }
}
