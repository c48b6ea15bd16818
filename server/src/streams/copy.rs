//! Copying a log that somebody may be writing to.
//!
//! Segments with a successor are complete: nobody appends to them, and one that is sealed meanwhile
//! is replaced by a rename, so that whatever is opened under its name holds all of its frames. Of the
//! last one, the copy takes the frames that are whole, up to the first that is not: what is
//! acknowledged when the copy begins is among them.
//!
//! That the last one has no successor must hold of the file that is read. After a failed sync the
//! writer carries what it acknowledged and could not sync (policies other than `always`) to a new
//! segment, and the old one is replaced by a file without it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use super::{
    frame::{self, Item},
    segment::{DATA_START, SegmentHeader, file_name, number_of},
};
use crate::{
    disk::{self, Disk, ReadOnly},
    error::{Error, Result},
};

/// Copies the log in `from` to the new directory `to`, durably.
///
/// # Errors
/// A file cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    copy_on(&ReadOnly, from, to)
}

fn copy_on(disk: &dyn Disk, from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to).map_err(|e| Error::io(to.display(), &e))?;
    let (numbers, last) = segments(disk, from).map_err(|e| Error::io(from.display(), &e))?;
    for number in numbers {
        let name = file_name(number);
        let (source, target) = (from.join(&name), to.join(&name));
        let copied = match &last {
            Some((last, file)) if *last == number => copy_last(&**file, &target),
            _ => fs::copy(&source, &target).and_then(|_| File::open(&target)?.sync_all()),
        };
        copied.map_err(|e| Error::io(format_args!("copying {}", source.display()), &e))?;
    }
    File::open(to).and_then(|dir| dir.sync_all()).map_err(|e| Error::io(to.display(), &e))
}

type Last = Option<(u64, Arc<dyn disk::File>)>;

/// The numbers of the segments, and the last one, open.
///
/// It is opened before the list that it ends is made: as it had no successor then, the file held all of
/// its frames when it was opened. It is replaced only after the successor has its name and what is
/// carried, and who has it open keeps the old file.
fn segments(disk: &dyn Disk, dir: &Path) -> io::Result<(BTreeSet<u64>, Last)> {
    let mut opened: Last = None;
    loop {
        let names = disk.list(dir)?;
        let numbers: BTreeSet<u64> = names.iter().filter_map(|name| number_of(name)).collect();
        let last = numbers.last().copied();
        if last == opened.as_ref().map(|(number, _)| *number) {
            return Ok((numbers, opened));
        }
        opened = match last {
            Some(number) => Some((number, disk.open(&dir.join(file_name(number)))?)),
            None => None,
        };
    }
}

/// The last segment: its frames, without what may be half written.
fn copy_last(file: &dyn disk::File, target: &Path) -> io::Result<()> {
    let mut bytes = read(file)?;
    let header = SegmentHeader::decode(&bytes[..bytes.len().min(DATA_START as usize)]);
    if let Ok(header) = header
        && header.sorted_end == 0
        && bytes.len() as u64 > DATA_START
    {
        // Frames tell how far the segment was synced when they were written. What lies below was
        // whole by then, but this reading may have passed there earlier: hence a second one.
        let claimed = synced(&bytes, header.salt);
        bytes = read(file)?;
        let end = whole(&bytes[DATA_START as usize..], header.salt, claimed);
        bytes.truncate(DATA_START as usize + end);
    }
    let mut copy = File::create_new(target)?;
    copy.write_all(&bytes)?;
    copy.sync_all()
}

fn read(file: &dyn disk::File) -> io::Result<Vec<u8>> {
    loop {
        let len = file.len()?;
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        match file.read_exact_at(&mut bytes, 0) {
            // What is behind its frames was cut off meanwhile.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && file.len()? < len => {}
            read => return read.map(|()| bytes),
        }
    }
}

/// The highest position in the file that a frame knows to be synced.
fn synced(bytes: &[u8], salt: u32) -> u64 {
    frame::walk(&bytes[DATA_START as usize..], 0, salt).map(|item| item.synced()).max().unwrap_or(0)
}

/// Where the first frame begins that is not whole and that nobody knows to have been.
fn whole(frames: &[u8], salt: u32, claimed: u64) -> usize {
    let bad = |item: &Item| match item {
        Item::Frame(at, header) => header.body(&frames[*at..], salt).is_none().then_some(*at),
        Item::Gap(at, _) => Some(*at),
    };
    frame::walk(frames, 0, salt)
        .find_map(|item| bad(&item).filter(|at| DATA_START + *at as u64 >= claimed))
        .unwrap_or(frames.len())
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Mutex,
            atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        },
        time::Duration,
    };

    use super::*;
    use crate::{
        FsyncPolicy,
        disk::FileSystem,
        resource::{ResourceKind, ResourceName},
        streams::{LogOptions, StreamLog},
    };

    /// The file system; the next sync of a file fails when it is told to.
    #[derive(Default)]
    struct Failing {
        next_sync: Arc<AtomicBool>,
    }

    struct FailingFile {
        file: Arc<dyn disk::File>,
        next_sync: Arc<AtomicBool>,
    }

    impl Failing {
        fn file(&self, file: io::Result<Arc<dyn disk::File>>) -> io::Result<Arc<dyn disk::File>> {
            Ok(Arc::new(FailingFile { file: file?, next_sync: self.next_sync.clone() }))
        }
    }

    impl Disk for Failing {
        fn create_dir(&self, dir: &Path) -> io::Result<bool> {
            FileSystem.create_dir(dir)
        }
        fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
            FileSystem.list(dir)
        }
        fn create(&self, path: &Path) -> io::Result<Arc<dyn disk::File>> {
            self.file(FileSystem.create(path))
        }
        fn open(&self, path: &Path) -> io::Result<Arc<dyn disk::File>> {
            self.file(FileSystem.open(path))
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            FileSystem.rename(from, to)
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            FileSystem.remove(path)
        }
        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            FileSystem.sync_dir(dir)
        }
    }

    impl disk::File for FailingFile {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }
        fn read_exact_at(&self, buf: &mut [u8], position: u64) -> io::Result<()> {
            self.file.read_exact_at(buf, position)
        }
        fn write_all_at(&self, data: &[u8], position: u64) -> io::Result<()> {
            self.file.write_all_at(data, position)
        }
        fn sync_data(&self) -> io::Result<()> {
            if self.next_sync.swap(false, SeqCst) {
                return Err(io::Error::other("input/output error"));
            }
            self.file.sync_data()
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.file.set_len(len)
        }
        fn allocate(&self, len: u64) -> io::Result<()> {
            self.file.allocate(len)
        }
        fn write_zeros(&self, position: u64, len: u64) -> io::Result<()> {
            self.file.write_zeros(position, len)
        }
    }

    /// What a copy reads from, with something that happens after its n-th step.
    struct Watched<F> {
        steps: AtomicU64,
        meanwhile: F,
    }

    impl<F: Fn(u64) + Send + Sync> Watched<F> {
        fn after<T>(&self, result: T) -> T {
            (self.meanwhile)(self.steps.fetch_add(1, SeqCst));
            result
        }
    }

    impl<F: Fn(u64) + Send + Sync> Disk for Watched<F> {
        fn create_dir(&self, dir: &Path) -> io::Result<bool> {
            ReadOnly.create_dir(dir)
        }
        fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
            self.after(ReadOnly.list(dir))
        }
        fn create(&self, path: &Path) -> io::Result<Arc<dyn disk::File>> {
            ReadOnly.create(path)
        }
        fn open(&self, path: &Path) -> io::Result<Arc<dyn disk::File>> {
            self.after(ReadOnly.open(path))
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            ReadOnly.rename(from, to)
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            ReadOnly.remove(path)
        }
        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            ReadOnly.sync_dir(dir)
        }
    }

    const SEGMENT: u64 = 64 << 10;

    fn append(log: &StreamLog, stream: &ResourceName, payload: &[u8]) -> Result<i64> {
        let mut event = bytes::BytesMut::new();
        flowmesh_proto::wire::encode_event(&mut event, payload, std::iter::empty());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(log.append(stream, vec![event.freeze()]))
    }

    fn options(fsync: FsyncPolicy) -> LogOptions {
        LogOptions { fsync, smallest_segment: SEGMENT, largest_segment: SEGMENT, ..LogOptions::default() }
    }

    /// The last segment fails and is sealed without what could not be synced, between any two steps of
    /// the copy, once or again and again.
    #[test]
    fn what_a_failed_sync_carries_to_a_new_segment_is_in_the_copy() {
        let policies =
            [FsyncPolicy::Always, FsyncPolicy::None, FsyncPolicy::Interval(Duration::from_secs(3600))];
        for (fsync, steps) in
            policies.iter().flat_map(|p| [0..1, 1..2, 2..3, 0..2, 0..4].map(|steps| (*p, steps)))
        {
            let dir = tempfile::tempdir().unwrap();
            let source = dir.path().join("source");
            let disk = Arc::new(Failing::default());
            let log = StreamLog::open(disk.clone(), &source, options(fsync)).unwrap();
            let stream = ResourceName::new("t", "n", ResourceKind::Stream, "s");
            let mut acknowledged: Vec<Vec<u8>> = Vec::new();
            for i in 0..10u8 {
                acknowledged.push(vec![i; 100]);
                append(&log, &stream, &acknowledged[usize::from(i)]).unwrap();
            }
            let segments = |disk: &dyn Disk| {
                disk.list(&source).unwrap().iter().filter(|name| number_of(name).is_some()).count()
            };
            let meanwhile = |step| {
                if !steps.contains(&step) {
                    return;
                }
                // It has no room for this, so it is synced and left. Where that fails, what was not
                // synced before is carried.
                log.settle();
                let before = segments(&*disk);
                disk.next_sync.store(true, SeqCst);
                // Under `always` it is this that fails.
                let _ = append(&log, &stream, &vec![b'x'; SEGMENT as usize / 2]);
                let _ = append(&log, &stream, &vec![b'x'; SEGMENT as usize / 2]);
                log.settle();
                assert!(!disk.next_sync.load(SeqCst), "the sync was tried");
                assert!(segments(&*disk) > before);
            };
            let target = dir.path().join("target");
            copy_on(&Watched { steps: AtomicU64::new(0), meanwhile }, &source, &target).unwrap();
            let copied = StreamLog::open(Arc::new(FileSystem), &target, options(fsync)).unwrap();
            assert!(copied.damage().is_empty(), "{:?}", copied.damage());
            let messages = copied.read(&stream, 0, acknowledged.len(), 1 << 20).unwrap();
            let payload =
                |m: &bytes::Bytes| flowmesh_proto::wire::MessageView::parse(m).unwrap().payload.to_vec();
            let found: Vec<_> = messages.iter().map(payload).collect();
            assert!(found == acknowledged, "{fsync:?}, {steps:?}: {} messages", found.len());
        }
    }

    /// As the writer does with a segment that failed, and the keeper with one that is full.
    #[test]
    fn a_file_that_is_cut_while_it_is_read_is_read_to_its_new_end() {
        struct Shrinking(Mutex<Vec<u64>>);
        impl disk::File for Shrinking {
            fn len(&self) -> io::Result<u64> {
                let mut lengths = self.0.lock().unwrap();
                Ok(if lengths.len() > 1 { lengths.remove(0) } else { lengths[0] })
            }
            fn read_exact_at(&self, buf: &mut [u8], _: u64) -> io::Result<()> {
                let whole = buf.len() as u64 <= self.0.lock().unwrap()[0];
                if whole { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
            }
            fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
                unreachable!()
            }
            fn sync_data(&self) -> io::Result<()> {
                unreachable!()
            }
            fn set_len(&self, _: u64) -> io::Result<()> {
                unreachable!()
            }
            fn allocate(&self, _: u64) -> io::Result<()> {
                unreachable!()
            }
            fn write_zeros(&self, _: u64, _: u64) -> io::Result<()> {
                unreachable!()
            }
        }
        assert_eq!(read(&Shrinking(Mutex::new(vec![100, 60]))).unwrap().len(), 60);
    }
}
