//! What a log does beside the writer's path, on a thread of its own: it makes the next segment
//! ready, and it seals segments that are full.
//!
//! A spare segment is filled with zeros ahead, so that a sync of the writer has no metadata to
//! commit. The writer never waits for it: without a spare it makes a segment itself.
//!
//! Sealing adds a footer. Where the frames of many streams alternate, a reader of one would read
//! all of them; such a segment is rewritten stream by stream first. The new file takes the
//! place of the old one by a rename, so after a crash there is one or the other, each complete.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{
    catalogue::Catalogue,
    footer::{self, Part},
    frame::{self, Header, Item},
    index::{MARK_INTERVAL, Mark},
    segment::{DATA_START, Home, Segment, SegmentHeader, file_name},
};
use crate::{
    disk::File,
    error::{Error, Result},
};

const SPARE: &str = "spare.new";
const SEALED: &str = "sealed.new";
/// Zeros and sorted frames are written and synced in steps of this size: one large sync would
/// hold up the writer's small ones.
const STEP: usize = 1 << 20;
const SYNC_STEP: usize = 8 * STEP;
/// The least that a segment is made with when the disk is nearly full.
const SMALLEST: u64 = 64 << 10;
/// A segment takes at most one part in so many of what the disk has left: the database and its log
/// need space, too, and would find the disk full although most of it is only reserved.
const RESERVED_PART: u64 = 4;
const PAGE: u64 = 4096;

/// See the module.
pub struct Keeper {
    home: Home,
    catalogue: Arc<Catalogue>,
    largest: u64,
    work: Mutex<Work>,
    bell: Condvar,
}

struct Work {
    seals: VecDeque<Seal>,
    /// A spare is wanted.
    prepare: bool,
    spare: Option<(Arc<dyn File>, u64)>,
    /// Size of the next segment.
    size: u64,
    busy: bool,
    closed: bool,
}

struct Seal {
    segment: Arc<Segment>,
    end: u64,
    /// The file failed once: what it holds goes into a new one.
    rewrite: bool,
}

/// Why a job was not done.
enum Undone {
    Io(io::Error),
    Other(String),
    Closed,
}

impl From<io::Error> for Undone {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

impl Keeper {
    /// A keeper that makes segments from `smallest` bytes, doubling, up to `largest`; the newest
    /// one there is has `last`.
    pub fn new(
        home: Home,
        catalogue: Arc<Catalogue>,
        (smallest, largest): (u64, u64),
        last: Option<u64>,
    ) -> Self {
        let size = last.map_or(smallest, |last| last * 2).clamp(smallest, largest.max(smallest));
        let work =
            Work { seals: VecDeque::new(), prepare: false, spare: None, size, busy: false, closed: false };
        Self { home, catalogue, largest: largest.max(smallest), work: Mutex::new(work), bell: Condvar::new() }
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The spare segment, if it is ready and has room for `wanted` bytes.
    pub fn take_spare(&self, wanted: u64) -> Option<(Arc<dyn File>, &'static str, u64)> {
        self.work()
            .spare
            .take_if(|(_, capacity)| *capacity >= wanted)
            .map(|(file, capacity)| (file, SPARE, capacity))
    }

    /// Makes an empty file with room for at least `wanted` bytes: as large as is due, or as
    /// large as the disk permits.
    pub fn make(&self, name: &str, wanted: u64) -> Result<(Arc<dyn File>, u64)> {
        let least = wanted.next_multiple_of(PAGE);
        let mut size = self.due(least);
        loop {
            match self.create(name, size) {
                Ok(file) => return Ok((file, size)),
                Err(e) => {
                    self.home.discard(name);
                    let e = Error::io(format_args!("stream log: making a segment of {size} bytes"), &e);
                    if e.kind() != crate::ErrorKind::ResourceExhausted || size == least {
                        return Err(e);
                    }
                    if self.work().spare.take().is_some() {
                        self.home.discard(SPARE);
                    } else {
                        size = if size / 2 < SMALLEST { least } else { (size / 2).max(least) };
                    }
                }
            }
        }
    }

    /// The size that the next segment ought to have, with room for at least `least` bytes.
    fn due(&self, least: u64) -> u64 {
        let permitted = self.home.free() / RESERVED_PART / PAGE * PAGE;
        self.work().size.min(permitted.max(SMALLEST)).max(least)
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn File>> {
        let file = self.home.disk.create(&self.home.path(name))?;
        file.allocate(size)?;
        Ok(file)
    }

    /// A segment of `last` bytes was begun: have the next one ready.
    pub fn prepare(&self, last: u64) {
        let mut work = self.work();
        work.size = work.size.max(last.saturating_mul(2).min(self.largest));
        work.prepare = work.spare.is_none();
        self.bell.notify_all();
    }

    /// Has a full segment sealed; with `rewrite`, in a new file whatever its order.
    pub fn seal(&self, segment: Arc<Segment>, end: u64, rewrite: bool) {
        self.work().seals.push_back(Seal { segment, end, rewrite });
        self.bell.notify_all();
    }

    /// Has the thread end soon; what is undone is done after the next start.
    pub fn close(&self) {
        self.work().closed = true;
        self.bell.notify_all();
    }

    /// Waits until there is nothing to do.
    pub fn settle(&self) {
        let mut work = self.work();
        while !work.closed && (work.busy || work.prepare || !work.seals.is_empty()) {
            work = self.bell.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether there is nothing to do.
    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        let work = self.work();
        work.closed || !(work.busy || work.prepare || !work.seals.is_empty())
    }

    fn still_open(&self) -> std::result::Result<(), Undone> {
        if self.work().closed { Err(Undone::Closed) } else { Ok(()) }
    }

    /// The thread.
    pub fn run(&self) {
        let mut work = self.work();
        loop {
            work.busy = false;
            if work.closed {
                return;
            }
            #[cfg(test)]
            if work.prepare || !work.seals.is_empty() {
                drop(work);
                self.home.disk.await_turn();
                work = self.work();
            }
            // It may have been asked for again while one was in the making, and the file of a spare
            // that waits for the writer must not be touched.
            if std::mem::take(&mut work.prepare) && work.spare.is_none() {
                work.busy = true;
                drop(work);
                let size = self.due(PAGE);
                let spare = self.make_spare(size);
                if spare.is_err() {
                    // The writer will make a segment itself, and report what prevents it. It must not
                    // wait for this: the lock is not held.
                    self.home.discard(SPARE);
                }
                work = self.work();
                work.spare = spare.ok().map(|file| (file, size));
            } else if let Some(job) = work.seals.pop_front() {
                work.busy = true;
                drop(work);
                let name = file_name(job.segment.number);
                match self.seal_now(&job) {
                    Ok(()) | Err(Undone::Closed) => {}
                    Err(Undone::Io(e)) => tracing::warn!("stream log {name}: not sealed: {e}"),
                    Err(Undone::Other(e)) => tracing::error!("stream log {name}: not sealed: {e}"),
                }
                work = self.work();
            } else {
                self.bell.notify_all();
                work = self.bell.wait(work).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn make_spare(&self, size: u64) -> std::result::Result<Arc<dyn File>, Undone> {
        let file = self.create(SPARE, size)?;
        let mut at = 0;
        while at < size {
            self.still_open()?;
            let n = (SYNC_STEP as u64).min(size - at);
            file.write_zeros(at, n)?;
            file.sync_data()?;
            at += n;
        }
        Ok(file)
    }

    fn seal_now(&self, job: &Seal) -> std::result::Result<(), Undone> {
        let Seal { segment, end, rewrite } = job;
        let bytes = segment.read(DATA_START, *end).map_err(|e| Undone::Other(e.to_string()))?;
        let streams = by_stream(&bytes, segment)?;
        let (segment, parts) = if *rewrite || spread_out(&streams) {
            self.rewrite(segment, *end, &bytes, &streams)?
        } else {
            let parts = self.parts(&streams, |at| DATA_START + at as u64)?;
            let footer = footer::encode(&parts, *end, segment.salt);
            segment.file.write_all_at(&footer, *end)?;
            segment.file.set_len(*end + footer.len() as u64)?;
            segment.file.sync_data()?;
            (segment.clone(), parts)
        };
        for part in parts {
            if part.count > 0
                && let Some(stream) = self.catalogue.by_id(part.stream)
            {
                stream.index_mut().replace(&segment, part);
            }
        }
        Ok(())
    }

    /// Writes the frames into a new file, stream by stream.
    fn rewrite(
        &self,
        old: &Segment,
        end: u64,
        bytes: &[u8],
        streams: &Streams,
    ) -> std::result::Result<(Arc<Segment>, Vec<Part>), Undone> {
        let mut positions = BTreeMap::new();
        let mut position = DATA_START;
        for (at, header) in streams.values().flatten() {
            positions.insert(*at, position);
            position += header.frame_len() as u64;
        }
        let parts = self.parts(streams, |at| positions[&at])?;

        let file = self.home.disk.create(&self.home.path(SEALED))?;
        let header = SegmentHeader {
            salt: old.salt,
            number: old.number,
            previous_end: old.previous_end,
            sorted_end: end,
        };
        let mut out = Output { file: &*file, buf: header.encode(), position: 0, unsynced: 0 };
        for (at, header) in streams.values().flatten() {
            out.buf.extend_from_slice(&bytes[*at..at + header.frame_len()]);
            if out.buf.len() >= STEP {
                self.still_open()?;
                out.write()?;
            }
        }
        out.buf.extend_from_slice(&footer::encode(&parts, end, old.salt));
        out.write()?;
        file.sync_data()?;
        self.home.adopt(SEALED, &file_name(old.number))?;
        let Segment { number, salt, previous_end, .. } = *old;
        Ok((Arc::new(Segment { number, salt, previous_end, file }), parts))
    }

    /// The footer's entries, for frames that stand where `position` says.
    fn parts(
        &self,
        streams: &Streams,
        position: impl Fn(usize) -> u64,
    ) -> std::result::Result<Vec<Part>, Undone> {
        let mut parts = Vec::with_capacity(streams.len());
        for (&stream, frames) in streams {
            let Some(known) = self.catalogue.by_id(stream) else {
                return Err(Undone::Other(format!("the name of stream {stream} is lost")));
            };
            let name = known.name.as_str().to_owned();
            let mut part = Part { stream, name, first: 0, count: 0, start: 0, end: 0, marks: Vec::new() };
            for (at, header) in frames.iter().filter(|(_, header)| header.has_messages()) {
                let at = position(*at);
                if part.count == 0 {
                    (part.first, part.start) = (header.first, at);
                } else if header.first != part.next() {
                    return Err(Undone::Other(format!("stream {stream} has a gap at position {at}")));
                }
                if part.marks.last().is_none_or(|mark| at >= mark.position() + MARK_INTERVAL) {
                    part.marks
                        .push(Mark { first: (header.first - part.first) as u32, position: (at / 8) as u32 });
                }
                part.count += u64::from(header.count);
                part.end = at + header.frame_len() as u64;
            }
            parts.push(part);
        }
        Ok(parts)
    }
}

/// The frames of each stream, as positions in the buffer, in order of arrival.
type Streams = BTreeMap<u32, Vec<(usize, Header)>>;

fn by_stream(bytes: &[u8], segment: &Segment) -> std::result::Result<Streams, Undone> {
    let mut streams = Streams::new();
    for item in frame::walk(bytes, 0, segment.salt) {
        match item {
            Item::Frame(at, header) if header.body(&bytes[at..], segment.salt).is_some() => {
                streams.entry(header.stream).or_default().push((at, header));
            }
            Item::Frame(at, _) | Item::Gap(at, _) => {
                let damage = segment.damage(DATA_START + at as u64, "a stored frame cannot be read");
                return Err(Undone::Other(damage.to_string()));
            }
        }
    }
    Ok(streams)
}

/// Whether readers of single streams would read over a quarter more than they use.
fn spread_out(streams: &Streams) -> bool {
    let (mut used, mut read) = (0, 0);
    for frames in streams.values() {
        let mut events = frames.iter().filter(|(_, header)| header.has_messages());
        used += events.clone().map(|(_, header)| header.frame_len()).sum::<usize>();
        if let Some(first) = events.next() {
            let (last, header) = events.next_back().unwrap_or(first);
            read += last + header.frame_len() - first.0;
        }
    }
    read > used + used / 4
}

struct Output<'a> {
    file: &'a dyn File,
    buf: Vec<u8>,
    position: u64,
    unsynced: usize,
}

impl Output<'_> {
    fn write(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buf, self.position)?;
        self.position += self.buf.len() as u64;
        self.unsynced += self.buf.len();
        self.buf.clear();
        if self.unsynced >= SYNC_STEP {
            self.unsynced = 0;
            self.file.sync_data()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Memory;

    #[test]
    fn a_spare_that_waits_is_not_made_again() {
        let home = Home { disk: Arc::new(Memory::new()), dir: "log".into() };
        home.disk.create_dir(&home.dir).unwrap();
        let keeper = Arc::new(Keeper::new(home, Arc::default(), (1 << 16, 1 << 16), None));
        let thread = std::thread::spawn({
            let keeper = keeper.clone();
            move || keeper.run()
        });
        let spare = || {
            keeper.work().prepare = true;
            keeper.bell.notify_all();
            keeper.settle();
            keeper.work().spare.clone().unwrap().0
        };
        assert!(Arc::ptr_eq(&spare(), &spare()), "the same file is still the spare");
        keeper.close();
        thread.join().unwrap();
    }
}
