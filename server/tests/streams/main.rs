//! The stream log through its public interface, on the real file system, in memory, and on disks
//! that fail.

mod basics;
mod damage;
mod faults;
mod model;

use std::{path::Path, sync::Arc};

use bytes::{Bytes, BytesMut};
use flowmesh_proto::wire::{MessageView, encode_event};
use flowmesh_server::{
    disk::Memory,
    resource::{ResourceKind, ResourceName},
    streams::{LogOptions, StreamLog},
};

/// A stream's name.
fn name(text: &str) -> ResourceName {
    ResourceName::new("t", "n", ResourceKind::Stream, text)
}

/// An encoded event.
fn event(payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    encode_event(&mut out, payload, std::iter::empty());
    out.freeze()
}

/// Options with segments so small that a test fills many.
fn small() -> LogOptions {
    LogOptions { smallest_segment: 16 << 10, largest_segment: 64 << 10, ..LogOptions::default() }
}

fn open(disk: &Arc<Memory>) -> StreamLog {
    StreamLog::open(disk.clone(), Path::new("log"), small()).unwrap()
}

/// Payloads of a whole stream, read in pages; checks offsets on the way.
fn payloads(log: &StreamLog, stream: &ResourceName) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        let page = log.read(stream, all.len() as i64, 7, 1 << 20).unwrap();
        if page.is_empty() {
            assert_eq!(log.latest(stream).unwrap(), all.len() as i64 - 1);
            return all;
        }
        for message in page {
            let view = MessageView::parse(&message).unwrap();
            assert_eq!(view.offset, all.len() as i64);
            assert_eq!(view.resource_path, stream.as_str());
            all.push(view.payload.to_vec());
        }
    }
}
