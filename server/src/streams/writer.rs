//! The one writer of a log: the sink of its committer.
//!
//! A batch of operations becomes frames in one buffer, one write, one sync; then readers see the
//! messages, then the callers are answered. When a write or a sync fails, nothing of the batch
//! counts, and the segment is abandoned: what it had synced stays, the log goes on in a new
//! segment whose header says where the old one ends. A file that failed is never written again.

use std::{collections::HashMap, io, sync::Arc, time::Instant};

use bytes::Bytes;
use flowmesh_proto::wire::{EventView, MessageHead, encode_message};
use tokio::sync::oneshot;

use super::{
    catalogue::{Catalogue, Stream},
    frame::{self, Header, Item},
    index::Index,
    keeper::Keeper,
    segment::{DATA_START, Damage, Home, Segment, SegmentHeader, file_name},
};
use crate::{
    clock::Clock,
    commit::Sink,
    engine::FsyncPolicy,
    error::{Error, Result},
    ids::Ids,
    limits::Census,
    resource::ResourceName,
};

/// A batch is written when it has gathered this much: larger ones only make everybody wait.
const BATCH_BYTES: usize = 2 << 20;
/// Name of a segment in the making.
pub const NEXT: &str = "next.new";

/// An operation with the means to answer it.
pub enum Op {
    /// Stores a batch of encoded events; answers the first offset.
    Append { target: Target, events: Vec<Bytes>, reply: oneshot::Sender<Result<i64>> },
    /// Makes a stream unless it is there.
    Create { name: ResourceName, reply: oneshot::Sender<Result<Arc<Stream>>> },
}

/// The stream to append to.
pub enum Target {
    /// It exists.
    Known(Arc<Stream>),
    /// It did not exist when the call was made.
    New(ResourceName),
}

/// The segment that is being filled.
pub struct Active {
    /// The segment.
    pub segment: Arc<Segment>,
    /// Where it is full.
    pub capacity: u64,
    /// Where the next frame goes.
    pub end: u64,
    /// Everything below is synced.
    pub synced: u64,
    /// A write or sync failed: nothing more goes into this file.
    pub broken: bool,
}

/// See the module.
pub struct Writer {
    home: Home,
    catalogue: Arc<Catalogue>,
    keeper: Arc<Keeper>,
    clock: Clock,
    fsync: FsyncPolicy,
    census: Census,
    ids: Ids,
    active: Option<Active>,
    next_stream: u32,
    /// Streams that nobody remembers may have stood here: new ones could take their place.
    no_creation: Option<Damage>,
    staging: Staging,
    /// When the oldest unsynced frame was written, or the last attempt to sync it failed.
    dirty_since: Option<Instant>,
}

/// A batch in the making.
#[derive(Default)]
struct Staging {
    buf: Vec<u8>,
    frames: Vec<Staged>,
    waiters: Vec<Waiter>,
    created: HashMap<ResourceName, Arc<Stream>>,
}

struct Staged {
    start: usize,
    header: Header,
    stream: Arc<Stream>,
}

enum Waiter {
    Append(oneshot::Sender<Result<i64>>, i64),
    Create(oneshot::Sender<Result<Arc<Stream>>>, Arc<Stream>),
}

/// What a writer starts from.
pub struct Start {
    /// The segment to go on in.
    pub active: Option<Active>,
    /// Id of the next stream.
    pub next_stream: u32,
    /// Damage that may have hit the creation of a stream.
    pub no_creation: Option<Damage>,
}

impl Writer {
    /// A writer that goes on where recovery ended.
    pub fn new(
        home: Home,
        catalogue: Arc<Catalogue>,
        keeper: Arc<Keeper>,
        (clock, fsync, census): (Clock, FsyncPolicy, Census),
        start: Start,
    ) -> Result<Self> {
        let ids =
            Ids::new().map_err(|e| Error::internal(format!("the system gives no random numbers: {e}")))?;
        Ok(Self {
            next_stream: start.next_stream,
            home,
            catalogue,
            keeper,
            clock,
            fsync,
            census,
            ids,
            active: start.active,
            no_creation: start.no_creation,
            staging: Staging::default(),
            dirty_since: None,
        })
    }

    /// The stream called `name`, staged if it has to be made.
    fn stream(&mut self, name: ResourceName) -> Result<Arc<Stream>> {
        if let Some(known) = self.catalogue.get(&name).or_else(|| self.staging.created.get(&name).cloned()) {
            return Ok(known);
        }
        if let Some(damage) = &self.no_creation {
            return Err(Error::internal(format!("{name}: a stream of this name may be lost: {damage}")));
        }
        if self.next_stream > frame::MAX_STREAM {
            return Err(Error::internal(format!("{name}: there are no numbers for new streams left")));
        }
        let tenant = name.tenant_and_namespace().0;
        let created = self.staging.created.keys().filter(|other| other.tenant_and_namespace().0 == tenant);
        self.census.admit(&name, created.count())?;
        let stream = Arc::new(Stream::new(self.next_stream, name.clone(), Index::default()));
        self.next_stream += 1;
        let start = frame::begin(&mut self.staging.buf);
        self.staging.buf.extend_from_slice(name.as_str().as_bytes());
        self.staging.frame(start, frame::CREATED, &stream, 0, 0);
        self.staging.created.insert(name, stream.clone());
        Ok(stream)
    }

    fn stage(&mut self, op: Op) {
        match op {
            Op::Create { name, reply } => match self.stream(name) {
                Ok(stream) => self.staging.waiters.push(Waiter::Create(reply, stream)),
                Err(e) => drop(reply.send(Err(e))),
            },
            Op::Append { target, events, reply } => {
                let stream = match target {
                    Target::Known(stream) => Ok(stream),
                    Target::New(name) => self.stream(name),
                };
                match stream.and_then(|stream| self.stage_events(&stream, &events)) {
                    Ok(first) => self.staging.waiters.push(Waiter::Append(reply, first)),
                    Err(e) => drop(reply.send(Err(e))),
                }
            }
        }
    }

    fn stage_events(&mut self, stream: &Arc<Stream>, events: &[Bytes]) -> Result<i64> {
        if let Some(damage) = stream.suspect.get() {
            return Err(Error::internal(format!(
                "{}: its newest messages may be lost: {damage}",
                stream.name
            )));
        }
        let (first, whole) = (stream.staged(), self.staging.mark());
        // Only a log that was tampered with comes near.
        if i64::try_from(events.len()).ok().and_then(|count| first.checked_add(count)).is_none() {
            return Err(Error::internal(format!("{}: its offsets are used up at {first}", stream.name)));
        }
        let mut start = frame::begin(&mut self.staging.buf);
        let (mut part, mut offset) = (first, first);
        for event in events {
            if self.staging.buf.len() - start >= frame::PART_BYTES {
                self.staging.frame(start, frame::PART, stream, part, (offset - part) as u32);
                start = frame::begin(&mut self.staging.buf);
                part = offset;
            }
            let Ok(view) = EventView::parse(event) else {
                self.staging.reset(whole);
                return Err(Error::invalid(format!("events[{}] is not an encoded event", offset - first)));
            };
            let buf = &mut self.staging.buf;
            let length_at = buf.len();
            buf.extend_from_slice(&[0; 4]);
            let id = self.ids.next_id();
            let head = MessageHead {
                id: id.as_str(),
                resource_path: stream.name.as_str(),
                offset,
                created_at: self.clock.now_ns(),
                schema_version: 0,
            };
            encode_message(buf, &head, &view);
            let length = (buf.len() - length_at - 4) as u32;
            buf[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
            offset += 1;
        }
        stream.stage(offset);
        self.staging.frame(start, frame::EVENTS, stream, part, (offset - part) as u32);
        Ok(first)
    }

    /// Commits what is staged and answers everybody concerned.
    fn flush(&mut self) {
        if self.staging.frames.is_empty() && self.staging.waiters.is_empty() {
            return;
        }
        if planted!(LogAnswersEarly) {
            self.staging.waiters.drain(..).for_each(Waiter::succeed);
        }
        match self.commit() {
            Ok(position) => {
                self.publish(position);
                for waiter in self.staging.waiters.drain(..) {
                    waiter.succeed();
                }
            }
            Err(e) => {
                self.unstage();
                for waiter in self.staging.waiters.drain(..) {
                    waiter.fail(e.clone());
                }
            }
        }
        self.staging.clear();
    }

    /// Takes back the offsets that were given out and did not become messages.
    fn unstage(&mut self) {
        for staged in &self.staging.frames {
            staged.stream.stage(staged.stream.next());
        }
    }

    /// Stores the staged frames; returns the position of the first.
    fn commit(&mut self) -> Result<u64> {
        let len = self.staging.buf.len() as u64;
        if len == 0 {
            return Ok(0);
        }
        if self.active.as_ref().is_none_or(|a| a.broken || a.end + len > a.capacity) {
            self.roll(len)?;
        }
        let Some(active) = &mut self.active else {
            return Err(Error::internal("the stream log has no segment"));
        };
        for staged in &self.staging.frames {
            let header = Header { synced: active.synced, ..staged.header };
            frame::finish(&mut self.staging.buf[staged.start..], header, active.segment.salt);
        }
        let position = active.end;
        if let Err(e) = active.segment.file.write_all_at(&self.staging.buf, position) {
            active.abandon();
            return Err(Error::io(format_args!("{}: writing at position {position}", active.name()), &e));
        }
        if self.fsync == FsyncPolicy::Always {
            if let Err(e) = active.segment.file.sync_data() {
                active.abandon();
                return Err(Error::io(format_args!("{}: syncing", active.name()), &e));
            }
            active.synced = position + len;
        } else if matches!(self.fsync, FsyncPolicy::Interval(_)) {
            self.dirty_since.get_or_insert_with(Instant::now);
        }
        active.end = position + len;
        Ok(position)
    }

    fn publish(&mut self, position: u64) {
        let Some(active) = &self.active else { return };
        for Staged { start, header, stream } in &self.staging.frames {
            if header.kind == frame::CREATED {
                self.catalogue.insert(stream.clone());
                self.census.count(&stream.name);
                continue;
            }
            let at = position + *start as u64;
            stream.index_mut().push(
                &active.segment,
                header.first,
                header.count,
                at,
                header.frame_len(),
                None,
            );
            if header.kind == frame::EVENTS {
                stream.publish(header.next());
            }
        }
    }

    /// Goes on in a new segment with room for `need` bytes.
    fn roll(&mut self, need: u64) -> Result<()> {
        if let Some(active) = self.active.as_mut().filter(|a| !a.broken && a.synced < a.end) {
            // The new header will say that the old segment holds good up to its end.
            match active.segment.file.sync_data() {
                Ok(()) => active.synced = active.end,
                Err(_) => active.abandon(),
            }
        }
        let carried = self.active.as_ref().map_or(Ok(Vec::new()), Active::unsynced)?;
        let (number, salt, previous_end) = match &self.active {
            Some(a) => (a.segment.number + 1, a.segment.salt, a.synced),
            None => (1, getrandom::u32().map_err(|e| Error::internal(format!("no random salt: {e}")))?, 0),
        };
        let header = SegmentHeader { salt, number, previous_end, sorted_end: 0 };
        let wanted = DATA_START + carried.len() as u64 + need;
        let (file, temporary, capacity) = self.keeper.take_spare(wanted).map_or_else(
            || self.keeper.make(NEXT, wanted).map(|(file, capacity)| (file, NEXT, capacity)),
            |(file, name, capacity)| Ok((file, name, capacity)),
        )?;
        let name = file_name(number);
        let begin = || -> io::Result<()> {
            file.write_all_at(&header.encode(), 0)?;
            file.write_all_at(&carried, DATA_START)?;
            file.sync_data()
        };
        let begun = begin().and_then(|()| {
            self.home.adopt(temporary, &name).inspect_err(|_| {
                // It may have its name all the same, and then says where the old segment ends:
                // nothing more may go in there.
                if let Some(active) = &mut self.active {
                    active.abandon();
                }
            })
        });
        if let Err(e) = begun {
            self.home.discard(temporary);
            return Err(Error::io(format_args!("stream log {name}: beginning it"), &e));
        }
        let segment = Arc::new(Segment { number, salt, previous_end, file });
        let end = DATA_START + carried.len() as u64;
        let old = self.active.replace(Active {
            segment: segment.clone(),
            capacity,
            end,
            synced: end,
            broken: false,
        });
        self.dirty_since = None;
        // First the spare: the writer may need it soon.
        self.keeper.prepare(capacity);
        if let Some(old) = old {
            for item in frame::walk(&carried, 0, salt) {
                let Item::Frame(_, header) = item else { continue };
                if let Some(stream) = self.catalogue.by_id(header.stream) {
                    stream.index_mut().relocate(old.segment.number, old.synced, &segment, DATA_START);
                }
            }
            self.keeper.seal(old.segment, old.synced, old.broken);
        }
        Ok(())
    }

    /// Syncs what was written before its interval ends; a failure is tried again after the next.
    fn sync(&mut self) {
        let Some(active) = &mut self.active else { return };
        if !active.broken && active.synced < active.end {
            match active.segment.file.sync_data() {
                Ok(()) => active.synced = active.end,
                Err(e) => {
                    tracing::error!("{}: syncing: {e}; going on in a new segment", active.name());
                    active.abandon();
                }
            }
        }
        self.dirty_since = None;
        if active.synced < active.end
            && let Err(e) = self.roll(0)
        {
            tracing::error!("stream log: {e}");
            self.dirty_since = Some(Instant::now());
        }
    }

    fn sync_due(&self) -> Option<Instant> {
        match self.fsync {
            FsyncPolicy::Interval(interval) => self.dirty_since.and_then(|since| since.checked_add(interval)),
            _ => None,
        }
    }
}

impl Sink for Writer {
    type Op = Op;

    fn run(&mut self, batch: &mut Vec<Op>) {
        for op in batch.drain(..) {
            let room = self.active.as_ref().map_or(0, |a| a.capacity.saturating_sub(a.end)) as usize;
            if self.staging.buf.len() + op.max_len() > room.min(BATCH_BYTES) {
                self.flush();
            }
            self.stage(op);
        }
        self.flush();
        if self.sync_due().is_some_and(|due| due <= Instant::now()) {
            self.sync();
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        self.sync_due()
    }

    fn recover(&mut self) {
        // Nobody knows what was written; what was published stands below `end`.
        self.unstage();
        self.staging.waiters.clear();
        self.staging.clear();
        if let Some(active) = &mut self.active {
            active.abandon();
        }
    }

    fn close(&mut self) {
        if self.active.as_ref().is_some_and(|a| a.synced < a.end) {
            self.sync();
        }
    }
}

impl Active {
    fn name(&self) -> String {
        format!("stream log {}", file_name(self.segment.number))
    }

    /// Gives the file up and, as far as it can, the space behind its frames.
    fn abandon(&mut self) {
        self.broken = true;
        let _ = self.segment.file.set_len(self.end);
    }

    /// The frames of a broken segment that readers have seen and that were never synced.
    fn unsynced(&self) -> Result<Vec<u8>> {
        let mut frames = self.segment.read(self.synced, self.end)?;
        let salt = self.segment.salt;
        let items: Vec<Item> = frame::walk(&frames, 0, salt).collect();
        for item in items {
            let (at, what) = match item {
                Item::Frame(at, header) if header.body(&frames[at..], salt).is_some() => {
                    // A position in the old file proves nothing about the new one.
                    frame::finish(&mut frames[at..], Header { synced: 0, ..header }, salt);
                    continue;
                }
                Item::Frame(at, _) => (at, "the checksum of a batch does not match"),
                Item::Gap(at, _) => (at, "no frame where one was stored"),
            };
            return Err(self.segment.damage(self.synced + at as u64, what).error());
        }
        Ok(frames)
    }
}

impl Staging {
    /// Ends the frame that starts at `start`.
    fn frame(&mut self, start: usize, kind: u32, stream: &Arc<Stream>, first: i64, count: u32) {
        let body_len = frame::end(&mut self.buf, start) as u32;
        let header = Header { kind, body_len, body_crc: 0, stream: stream.id, count, first, synced: 0 };
        self.frames.push(Staged { start, header, stream: stream.clone() });
    }

    /// Where it stands, to come back to.
    fn mark(&self) -> (usize, usize) {
        (self.buf.len(), self.frames.len())
    }

    fn reset(&mut self, (bytes, frames): (usize, usize)) {
        self.buf.truncate(bytes);
        self.frames.truncate(frames);
    }

    fn clear(&mut self) {
        self.frames.clear();
        self.created.clear();
        self.buf.clear();
        self.buf.shrink_to(2 * BATCH_BYTES);
    }
}

impl Op {
    /// An upper bound for what it takes in a segment.
    fn max_len(&self) -> usize {
        // Field keys, lengths, offset, time and id of a message; header, padding of a frame.
        const MESSAGE: usize = 96;
        const FRAME: usize = frame::HEADER_LEN + 8;
        match self {
            Self::Create { name, .. } => FRAME + name.as_str().len(),
            Self::Append { target, events, .. } => {
                let name = match target {
                    Target::Known(stream) => stream.name.as_str().len(),
                    Target::New(name) => name.as_str().len(),
                };
                let events: usize = events.iter().map(|e| e.len() + name + MESSAGE).sum();
                (2 + events / frame::PART_BYTES) * FRAME + name + events
            }
        }
    }
}

impl Waiter {
    // A caller that has gone away no longer wants its answer.
    fn succeed(self) {
        match self {
            Self::Append(reply, first) => drop(reply.send(Ok(first))),
            Self::Create(reply, stream) => drop(reply.send(Ok(stream))),
        }
    }

    fn fail(self, e: Error) {
        match self {
            Self::Append(reply, _) => drop(reply.send(Err(e))),
            Self::Create(reply, _) => drop(reply.send(Err(e))),
        }
    }
}
