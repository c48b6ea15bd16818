//! Damaged files: cut where nothing counted, refused where something did, never silently wrong.

use std::{path::Path, sync::Arc};

use flowmesh_proto::wire::MessageView;
use flowmesh_server::{
    ErrorKind,
    disk::{Disk, File, Memory},
    resource::ResourceName,
    streams::StreamLog,
};

use crate::{event, name, open, payloads};

fn file(disk: &Memory, number: u64) -> Arc<dyn File> {
    disk.open(&Path::new("log").join(format!("{number:08}.log"))).unwrap()
}

fn content(file: &dyn File) -> Vec<u8> {
    let mut all = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut all, 0).unwrap();
    all
}

/// Where the frames of a small log end.
fn end_of_data(file: &dyn File) -> u64 {
    content(file).iter().rposition(|&b| b != 0).unwrap() as u64 + 1
}

fn flip(file: &dyn File, position: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], position).unwrap();
}

/// What was acknowledged: streams with their payloads.
type Stored = Vec<(ResourceName, Vec<Vec<u8>>)>;

/// Two streams in turn, batches of one to three.
async fn fill(log: &StreamLog, batches: usize, size: usize) -> Stored {
    let mut stored: Stored = ["a", "b"].map(|s| (name(s), Vec::new())).into();
    for batch in 0..batches {
        let (stream, payloads) = &mut stored[batch % 2];
        let new: Vec<Vec<u8>> =
            (0..1 + batch % 3).map(|k| format!("{batch}/{k}/").into_bytes().repeat(1 + size)).collect();
        let first = log.append(stream, new.iter().map(|p| event(p)).collect()).await.unwrap();
        assert_eq!(first, payloads.len() as i64);
        payloads.extend(new);
    }
    stored
}

#[derive(Debug, PartialEq)]
enum Seen {
    /// Every message is there.
    Whole,
    /// The newest ones are gone, without an error.
    Cut,
    /// Some calls fail.
    Refused,
}

/// Reads every message by itself. Each must be right or refused with INTERNAL naming the file;
/// only the newest may be absent. Then appends: no acknowledged offset is used again.
async fn check(log: &StreamLog, stored: &Stored) -> Seen {
    let mut seen = Seen::Whole;
    for (stream, payloads) in stored {
        let mut absent = false;
        for (offset, payload) in payloads.iter().enumerate() {
            match log.read(stream, offset as i64, 1, 1 << 20) {
                Ok(page) if page.is_empty() => (absent, seen) = (true, Seen::Cut),
                Ok(page) => {
                    let view = MessageView::parse(&page[0]).unwrap();
                    assert!(!absent, "a message behind an absent one");
                    assert_eq!((view.offset, view.payload), (offset as i64, &payload[..]));
                }
                Err(e) if e.kind() == ErrorKind::NotFound => (absent, seen) = (true, Seen::Cut),
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::Internal);
                    assert!(e.message().contains(".log is damaged at position "), "{e}");
                    seen = Seen::Refused;
                }
            }
        }
    }
    for (stream, payloads) in stored {
        match log.append(stream, vec![event(b"new")]).await {
            Ok(offset) if seen != Seen::Cut => assert!(offset >= payloads.len() as i64),
            Ok(_) => {}
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Internal);
                seen = Seen::Refused;
            }
        }
    }
    seen
}

#[tokio::test]
async fn every_cut_inside_the_last_batches_leaves_whole_batches() {
    let disk = Arc::new(Memory::new());
    let log = open(&disk);
    let stream = name("s");
    let mut ends = Vec::new();
    for i in 0..8 {
        log.append(&stream, vec![event(&[b'0' + i; 30]); 3]).await.unwrap();
        ends.push(end_of_data(&*file(&disk, 1)));
    }
    drop(log);
    for cut in ends[3]..=ends[7] {
        // Ends are given without the zeros that pad a frame.
        let whole = 3 * ends.iter().filter(|&&end| end <= cut).count() as i64;
        for short in [true, false] {
            let disk = Arc::new(disk.copy());
            let log = file(&disk, 1);
            if short {
                log.set_len(cut).unwrap();
            } else {
                log.write_zeros(cut, ends[7] - cut).unwrap();
            }
            let log = open(&disk);
            let found = payloads(&log, &stream).len() as i64;
            // A file that is cut inside a frame's padding has lost that padding, and its frame.
            assert!(found == whole || (short && found == whole - 3), "cut at {cut}: {found} of {whole}");
            assert!(log.damage().is_empty());
            assert_eq!(log.append(&stream, vec![event(b"next")]).await.unwrap(), found);
            drop(log);
            assert_eq!(payloads(&open(&disk), &stream).len() as i64, found + 1);
        }
    }
}

#[tokio::test]
async fn a_long_batch_that_is_cut_anywhere_is_gone() {
    let disk = Arc::new(Memory::new());
    let log = StreamLog::open(disk.clone(), Path::new("log"), Default::default()).unwrap();
    let stream = name("s");
    log.append(&stream, vec![event(b"before")]).await.unwrap();
    let before = end_of_data(&*file(&disk, 1));
    let long: Vec<_> = (0..200).map(|i| event(&[i as u8 + 1; 1000])).collect();
    log.append(&stream, long).await.unwrap();
    assert_eq!(payloads(&log, &stream).len(), 201);
    drop(log);
    let end = end_of_data(&*file(&disk, 1));
    for cut in (before.next_multiple_of(8)..end).step_by(104) {
        let disk = Arc::new(disk.copy());
        if cut % 16 == 0 {
            file(&disk, 1).set_len(cut).unwrap();
        } else {
            file(&disk, 1).write_zeros(cut, 1000.min(end - cut)).unwrap();
        }
        let log = StreamLog::open(disk.clone(), Path::new("log"), Default::default()).unwrap();
        assert_eq!(log.latest(&stream).unwrap(), 0, "cut at {cut}");
        assert!(log.damage().is_empty());
        if cut % 1024 < 104 {
            assert_eq!(log.append(&stream, vec![event(b"next")]).await.unwrap(), 1);
            drop(log);
            assert_eq!(payloads(&open(&disk), &stream).len(), 2);
        }
    }
}

#[tokio::test]
async fn a_flip_anywhere_in_an_open_segment_is_cut_or_refused() {
    let disk = Arc::new(Memory::new());
    let log = open(&disk);
    let stored = fill(&log, 9, 0).await;
    let last_synced = end_of_data(&*file(&disk, 1)).next_multiple_of(8);
    log.append(&stored[0].0, vec![event(b"the last batch")]).await.unwrap();
    drop(log);
    let end = end_of_data(&*file(&disk, 1));
    let mut harmless = 0;
    for position in 8192..end {
        let disk = Arc::new(disk.copy());
        flip(&*file(&disk, 1), position);
        let log = open(&disk);
        let seen = check(&log, &stored).await;
        if position < last_synced {
            if seen == Seen::Whole {
                harmless += 1;
                continue;
            }
            assert_eq!(seen, Seen::Refused, "flip at {position}");
            assert!(!log.damage().is_empty());
            drop(log);
            // What was said once is said again.
            assert_eq!(check_reads(&open(&disk), &stored), Seen::Refused, "flip at {position}");
        } else {
            assert!(log.damage().is_empty());
            assert_eq!(seen, Seen::Whole, "flip at {position}");
        }
    }
    // Padding holds nothing, and the names of streams stand in their messages too: at most the
    // padding of eleven frames and two whole frames of a creation.
    assert!(harmless < 11 * 7 + 2 * 56, "{harmless}");
}

/// The reading half of [`check`], for a log that was appended to.
fn check_reads(log: &StreamLog, stored: &Stored) -> Seen {
    let mut seen = Seen::Whole;
    for (stream, payloads) in stored {
        for (offset, payload) in payloads.iter().enumerate() {
            match log.read(stream, offset as i64, 1, 1 << 20) {
                Ok(page) => assert_eq!(MessageView::parse(&page[0]).unwrap().payload, &payload[..]),
                Err(_) => seen = Seen::Refused,
            }
        }
        if log.latest(stream).is_err() {
            seen = Seen::Refused;
        }
    }
    match seen {
        Seen::Whole if !log.damage().is_empty() => Seen::Refused,
        seen => seen,
    }
}

#[tokio::test]
async fn a_zeroed_page_is_refused_where_it_was_acknowledged() {
    let disk = Arc::new(Memory::new());
    let log = StreamLog::open(disk.clone(), Path::new("log"), Default::default()).unwrap();
    let stored = fill(&log, 60, 60).await;
    let last_frame = end_of_data(&*file(&disk, 1)).next_multiple_of(8);
    log.append(&name("a"), vec![event(&[1; 9000])]).await.unwrap();
    drop(log);
    let end = end_of_data(&*file(&disk, 1));
    for page in (8192..end).step_by(4096) {
        let disk = Arc::new(disk.copy());
        file(&disk, 1).write_zeros(page, 4096.min(end - page)).unwrap();
        let seen = check(&open(&disk), &stored).await;
        // It is the header of the last frame that proves the one before it.
        let expected = match page {
            _ if page + 4096 <= last_frame => Seen::Refused,
            _ if page < last_frame => Seen::Cut,
            _ => Seen::Whole,
        };
        assert_eq!(seen, expected, "page {page}");
    }
}

#[tokio::test]
async fn one_damaged_header_page_costs_nothing_and_two_cost_the_segment() {
    let disk = Arc::new(Memory::new());
    let log = open(&disk);
    let stored = fill(&log, 9, 0).await;
    drop(log);
    for page in [0, 4096] {
        let disk = Arc::new(disk.copy());
        file(&disk, 1).write_zeros(page, 4096).unwrap();
        assert_eq!(check(&open(&disk), &stored).await, Seen::Whole);
    }
    file(&disk, 1).write_zeros(0, 8192).unwrap();
    let log = open(&disk);
    assert_eq!(log.damage().len(), 1);
    let refused = log.append(&name("a"), vec![event(b"x")]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Internal);
}

#[tokio::test]
async fn a_flip_in_a_sealed_segment_fails_the_reads_that_need_it() {
    let disk = Arc::new(Memory::new());
    let log = open(&disk);
    let stored = fill(&log, 400, 20).await;
    log.settle();
    drop(log);
    for number in [1, 2] {
        let len = file(&disk, number).len().unwrap();
        for position in (8192..len).step_by(61) {
            let disk = Arc::new(disk.copy());
            // Once before the log is opened, once behind its back.
            let before = position % 2 == 0;
            if before {
                flip(&*file(&disk, number), position);
            }
            let log = open(&disk);
            if !before {
                flip(&*file(&disk, number), position);
            }
            let bad: usize = stored
                .iter()
                .map(|(stream, payloads)| {
                    let fails = |o: &usize| log.read(stream, *o as i64, 1, 1 << 20).is_err();
                    (0..payloads.len()).filter(fails).count()
                })
                .sum();
            // A batch at most; nothing when it hit padding or the footer.
            assert!(bad <= 3, "flip at {position} of {number}: {bad} messages");
            assert_ne!(check(&log, &stored).await, Seen::Cut);
        }
    }
}

#[tokio::test]
async fn a_missing_segment_is_damage() {
    let disk = Arc::new(Memory::new());
    let log = open(&disk);
    let stored = fill(&log, 400, 20).await;
    log.settle();
    drop(log);
    disk.remove(Path::new("log/00000002.log")).unwrap();
    let log = open(&disk);
    assert!(log.damage()[0].contains("00000002.log"));
    assert_eq!(check(&log, &stored).await, Seen::Refused);
    let refused = log.append(&name("new"), vec![event(b"x")]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Internal);
}

#[tokio::test]
async fn a_page_that_needs_lost_messages_fails_and_a_follower_gets_up_to_them() {
    use flowmesh_server::engine::Follow;
    let disk = Arc::new(Memory::new());
    let log = open(&disk);
    let stream = name("s");
    let mut starts = Vec::new();
    for i in 0..10u8 {
        log.append(&stream, vec![event(&[i; 100])]).await.unwrap();
        starts.push(end_of_data(&*file(&disk, 1)).next_multiple_of(8));
    }
    drop(log);
    // A byte of the fifth batch's payload.
    flip(&*file(&disk, 1), starts[3] + 100);
    let log = open(&disk);
    assert_eq!(log.read(&stream, 0, 4, 1 << 20).unwrap().len(), 4);
    let failed = log.read(&stream, 0, 100, 1 << 20).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Internal);
    assert!(
        failed.message().contains(&format!("00000001.log is damaged at position {}", starts[3])),
        "{failed}"
    );
    assert_eq!(log.read(&stream, 5, 100, 1 << 20).unwrap().len(), 5);
    let mut follower = log.follow(&stream).await.unwrap();
    assert_eq!(follower.next(0, 1 << 20).await.unwrap().len(), 4);
    assert!(follower.next(4, 1 << 20).await.is_err());
    assert_eq!(log.append(&stream, vec![event(b"on")]).await.unwrap(), 10);
}

#[tokio::test]
async fn a_segment_that_was_cut_inside_its_header_is_left_alone_by_later_starts() {
    let disk = Arc::new(Memory::new());
    let stream = name("s");
    let log = open(&disk);
    log.append(&stream, vec![event(b"lost")]).await.unwrap();
    drop(log);
    // Less than both copies of the header: no frame can be there.
    file(&disk, 1).set_len(5000).unwrap();
    for _ in 0..3 {
        let log = open(&disk);
        log.append(&stream, vec![event(b"kept")]).await.unwrap();
        // Waits for the keeper, which has a segment of no frames to think about.
        log.settle();
    }
    assert_eq!(payloads(&open(&disk), &stream), [b"kept"; 3]);
}

#[test]
fn an_unknown_format_is_refused() {
    let disk = Arc::new(Memory::new());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let log = open(&disk);
    runtime.block_on(log.append(&name("s"), vec![event(b"x")])).unwrap();
    drop(log);
    let log = file(&disk, 1);
    for copy in [0, 4096] {
        let mut header = [0; 44];
        log.read_exact_at(&mut header, copy).unwrap();
        header[8] = 2;
        let crc = crc32c::crc32c(&header[..40]);
        header[40..].copy_from_slice(&crc.to_le_bytes());
        log.write_all_at(&header, copy).unwrap();
    }
    let refused = StreamLog::open(disk, Path::new("log"), Default::default()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FailedPrecondition);
    assert!(refused.message().contains("00000001.log") && refused.message().contains("format 2"));
}
