//! Segment files and their footers, into recovery and the readers behind it.
//!
//! `damaged` spoils the files of an honest log: what was acknowledged is then right, refused, or
//! (only the newest of a stream) absent. `crafted` writes files of its own, with sound checksums
//! and nonsense in them, which no disk does by itself: nothing may panic, allocate without bound or
//! change from one start to the next.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use bytes::{Bytes, BytesMut};
use flowmesh_proto::wire::{EventView, MessageHead, MessageView, encode_event, encode_message};
use flowmesh_server::{
    Error, ErrorKind,
    disk::{Disk, Memory},
    resource::{ResourceKind, ResourceName},
    streams::{LogOptions, StreamLog},
};

use crate::input::Input;

const DIR: &str = "log";
const DATA_START: usize = 8192;

fn name(text: &str) -> ResourceName {
    ResourceName::new("t", "n", ResourceKind::Stream, text)
}

fn event(payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    encode_event(&mut out, payload, std::iter::empty());
    out.freeze()
}

fn small() -> LogOptions {
    LogOptions { smallest_segment: 16 << 10, largest_segment: 64 << 10, ..LogOptions::default() }
}

fn open(disk: &Arc<Memory>) -> Result<StreamLog, Error> {
    StreamLog::open(disk.clone(), Path::new(DIR), small())
}

fn wait<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

fn path(number: u64) -> PathBuf {
    Path::new(DIR).join(format!("{number:08}.log"))
}

/// What was acknowledged: payloads by stream.
type Stored = Vec<(ResourceName, Vec<Vec<u8>>)>;

struct Honest {
    disk: Memory,
    stored: Stored,
}

/// Logs as they are: one short, one with sealed segments and long batches.
static HONEST: LazyLock<[Honest; 2]> = LazyLock::new(|| [honest(6, 20), honest(60, 700)]);

fn honest(batches: usize, size: usize) -> Honest {
    let disk = Arc::new(Memory::new());
    let log = open(&disk).expect("an empty disk");
    let mut stored: Stored = ["a", "b", "c"].map(|text| (name(text), Vec::new())).into();
    for batch in 0..batches {
        let (stream, payloads) = &mut stored[batch % 3];
        let new: Vec<Vec<u8>> =
            (0..1 + batch % 4).map(|k| format!("{batch}/{k}/").into_bytes().repeat(1 + size / 8)).collect();
        let appended = wait(log.append(stream, new.iter().map(|p| event(p)).collect()));
        appended.expect("memory takes a batch");
        payloads.extend(new);
        if batch == batches / 2 {
            log.settle();
        }
    }
    log.settle();
    drop(log);
    Honest { disk: disk.copy(), stored }
}

/// The bytes say what happens to the files of an honest log.
pub fn damaged(data: &[u8]) {
    let mut input = Input(data);
    let honest = &HONEST[usize::from(input.u8() & 1)];
    let disk = Arc::new(honest.disk.copy());
    let mut files = disk.list(Path::new(DIR)).expect("memory lists its files");
    files.sort();
    while !input.is_empty() {
        spoil(
            &disk,
            &Path::new(DIR).join(input.pick(&files.iter().map(|f| &f[..]).collect::<Vec<_>>())),
            &mut input,
        );
    }

    let log = open(&disk).expect("damage never stops the start");
    let first = check(&log, &honest.stored);
    // What is said once is said again.
    drop(log);
    let log = open(&disk).expect("damage never stops the start");
    let second = check(&log, &honest.stored);
    assert_eq!(first, second, "another start, another answer");
    for ((stream, payloads), seen) in honest.stored.iter().zip(&second) {
        match wait(log.append(stream, vec![event(b"new")])) {
            Ok(offset) => {
                let cut = seen.iter().filter(|s| **s == Seen::Absent).count();
                assert!(offset >= (payloads.len() - cut) as i64, "an offset is used again");
                let page = log.read(stream, offset, 1, 1 << 20).expect("it was just stored");
                assert_eq!(MessageView::parse(&page[0]).expect("it was just stored").payload, b"new");
            }
            Err(e) => assert_eq!(e.kind(), ErrorKind::Internal, "{e}"),
        }
    }
}

fn spoil(disk: &Memory, path: &Path, input: &mut Input<'_>) {
    let Ok(file) = disk.open(path) else { return };
    let len = file.len().expect("memory knows its length");
    let at = u64::from(input.u32()) % len.max(1);
    let n = (u64::from(input.u8()) + 1).min(len - at);
    let edit = match input.u8() % 6 {
        0 => file.set_len(at),
        1 => file.set_len(len + at),
        2 => file.write_zeros(at, n),
        3 => {
            let bytes = input.take(n as usize);
            file.write_all_at(&bytes[..bytes.len().min(n as usize)], at)
        }
        4 => {
            if input.u8().is_multiple_of(4) {
                disk.remove(path)
            } else {
                Ok(())
            }
        }
        _ => {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).and_then(|()| {
                byte[0] ^= 1 << (input.u8() % 8);
                file.write_all_at(&byte, at)
            })
        }
    };
    // Only an empty file has nothing to spoil.
    assert!(edit.is_ok() || len == 0);
}

/// What reading one message gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Right,
    Absent,
    Refused,
}

fn check(log: &StreamLog, stored: &Stored) -> Vec<Vec<Seen>> {
    let check_one = |stream: &ResourceName, offset: usize, payload: &[u8]| match log.read(
        stream,
        offset as i64,
        1,
        1 << 20,
    ) {
        Ok(page) if page.is_empty() => Seen::Absent,
        Ok(page) => {
            let view = MessageView::parse(&page[0]).expect("a message in wire form");
            assert_eq!((view.offset, view.payload), (offset as i64, payload));
            Seen::Right
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Seen::Absent,
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Internal, "{e}");
            assert!(e.message().contains(".log"), "{e}");
            Seen::Refused
        }
    };
    let check_all = |(stream, payloads): &(ResourceName, Vec<Vec<u8>>)| {
        let seen: Vec<Seen> =
            payloads.iter().enumerate().map(|(offset, payload)| check_one(stream, offset, payload)).collect();
        let absent = seen.iter().position(|s| *s == Seen::Absent).unwrap_or(seen.len());
        assert!(!seen[absent..].contains(&Seen::Right), "a message behind an absent one: {seen:?}");
        seen
    };
    stored.iter().map(check_all).collect()
}

/// The bytes describe segment files, frame by frame.
pub fn crafted(data: &[u8]) {
    let mut input = Input(data);
    let disk = Arc::new(Memory::new());
    let mut number = 0;
    while !input.is_empty() && number < 6 {
        number += 1 + u64::from(input.u8() % 8 == 7);
        let content = segment(number, &mut input);
        let file = disk.create(&path(number)).expect("memory makes files");
        file.write_all_at(&content, 0).expect("memory takes bytes");
    }

    // Formats that are unknown, and disks that fail, are refused.
    let Ok(log) = open(&disk) else { return };
    let before = read_all(&log);
    drop(log);
    let log = open(&disk).expect("it opened before");
    let again = read_all(&log);
    assert_eq!(before, again, "another start, another answer");
    for (stream, _) in &before {
        if let Ok(offset) = wait(log.append(stream, vec![event(b"new")])) {
            assert!(offset >= 0);
            let page = log.read(stream, offset, 1, 1 << 20).expect("it was just stored");
            assert_eq!(MessageView::parse(&page[0]).expect("it was just stored").payload, b"new");
        }
    }
    drop(log);
    let log = open(&disk).expect("it opened before");
    read_all(&log);
}

/// Per stream, what a few reads gave: messages, or the error's text.
type Reads = Vec<(ResourceName, Vec<Result<Vec<Bytes>, String>>)>;

fn read_all(log: &StreamLog) -> Reads {
    ["a", "b"]
        .map(|text| {
            let stream = name(text);
            let offsets = [0, 1, 2, 7, 1 << 20, i64::from(u32::MAX), i64::MAX];
            let mut reads: Vec<_> = offsets
                .iter()
                .map(|&offset| log.read(&stream, offset, 3, 1 << 20).map_err(|e| e.to_string()))
                .collect();
            reads.push(
                log.latest(&stream)
                    .map(|offset| vec![Bytes::from(offset.to_string())])
                    .map_err(|e| e.to_string()),
            );
            (stream, reads)
        })
        .into()
}

fn put(out: &mut Vec<u8>, number: u64, bytes: usize) {
    out.extend_from_slice(&number.to_le_bytes()[..bytes]);
}

fn segment(number: u64, input: &mut Input<'_>) -> Vec<u8> {
    let shape = input.u8();
    let salt = 7 + number as u32;
    let mut out = Vec::new();
    out.extend_from_slice(b"fmstream");
    put(&mut out, if shape == 255 { 2 } else { 1 }, 4);
    put(&mut out, salt.into(), 4);
    put(&mut out, number, 8);
    // Where the segment before ends, by its own account: mostly a plausible place.
    put(&mut out, plausible(input, DATA_START as u64), 8);
    put(&mut out, if shape & 1 == 0 { 0 } else { plausible(input, DATA_START as u64) }, 8);
    let crc = crc32c::crc32c(&out);
    put(&mut out, crc.into(), 4);
    out.resize(4096, 0);
    out.extend_from_within(..);
    for _ in 0..input.u8() % 8 {
        frame(&mut out, salt, input);
    }
    let end = out.len() as u64;
    if shape & 2 != 0 {
        footer(&mut out, end, salt, input);
    }
    if shape & 4 != 0 {
        out.resize(out.len() + usize::from(input.u8()), 0);
    }
    if shape & 8 != 0 {
        let len = out.len().saturating_sub(usize::from(input.u16()));
        out.truncate(len);
    }
    out
}

/// A position, mostly a multiple of 8 above `base`.
fn plausible(input: &mut Input<'_>, base: u64) -> u64 {
    match input.u8() {
        255 => input.u64(),
        254 => input.number(),
        n => base + 8 * u64::from(n),
    }
}

fn frame(out: &mut Vec<u8>, salt: u32, input: &mut Input<'_>) {
    let kind: u32 = input.pick(&[0xE7A1_5EF0, 0xE7A1_5EF0, 0x9A27_1AF0, 0xC7EA_7ED0, 0]);
    let stream = if input.u8() < 250 { u64::from(input.u8() % 3) } else { input.number() };
    let (first, synced) = (input.number(), plausible(input, 0));
    let mut count = 0;
    let mut body = Vec::new();
    if kind == 0xC7EA_7ED0 {
        body.extend_from_slice(name(input.pick(&["a", "b"])).as_str().as_bytes());
    } else {
        for _ in 0..input.u8() % 4 {
            let mut message = BytesMut::new();
            let payload = event(input.bytes());
            let stream = name(input.pick(&["a", "b"]));
            let head = MessageHead {
                id: "id",
                resource_path: stream.as_str(),
                offset: first.wrapping_add(count) as i64,
                created_at: 1,
                schema_version: 0,
            };
            encode_message(&mut message, &head, &EventView::parse(&payload).expect("our own event"));
            put(&mut body, message.len() as u64, 4);
            body.extend_from_slice(&message);
            count += 1;
        }
    }
    match input.u8() {
        255 => count = input.number(),
        254 => body = input.bytes().to_vec(),
        _ => {}
    }
    let body_len = if input.u8() == 255 { input.number() } else { body.len() as u64 };
    let mut rest = Vec::new();
    put(&mut rest, body_len, 4);
    put(&mut rest, crc32c::crc32c_append(salt, &body).into(), 4);
    put(&mut rest, stream, 4);
    put(&mut rest, count, 4);
    put(&mut rest, first, 8);
    put(&mut rest, synced, 8);
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(salt, &kind.to_le_bytes()), &rest);
    put(out, kind.into(), 4);
    put(out, crc.into(), 4);
    out.extend_from_slice(&rest);
    out.extend_from_slice(&body);
    out.resize(out.len().next_multiple_of(8), 0);
}

fn footer(out: &mut Vec<u8>, end: u64, salt: u32, input: &mut Input<'_>) {
    let entries = out.len();
    for _ in 0..input.u8() % 4 {
        put(out, u64::from(input.u8() % 3), 4);
        let name = name(input.pick(&["a", "b"]));
        put(out, name.as_str().len() as u64, 4);
        out.extend_from_slice(name.as_str().as_bytes());
        put(out, input.number(), 8);
        put(out, input.number(), 8);
        put(out, plausible(input, DATA_START as u64), 8);
        put(out, plausible(input, DATA_START as u64), 8);
        let marks = input.u8() % 4;
        put(out, marks.into(), 4);
        for _ in 0..marks {
            put(out, input.number(), 4);
            put(out, plausible(input, DATA_START as u64) / 8, 4);
        }
    }
    let crc = crc32c::crc32c_append(salt, &out[entries..]);
    let len = (out.len() - entries) as u64;
    let trailer = out.len();
    put(out, u64::from_le_bytes(*b"fmfooter"), 8);
    put(out, end, 8);
    put(out, len, 8);
    put(out, crc.into(), 4);
    let crc = crc32c::crc32c_append(salt, &out[trailer..]);
    put(out, crc.into(), 4);
}
