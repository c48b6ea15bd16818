//! Streams: a segment log.
//!
//! All streams of a data directory share one append-only log, so that their writers share its
//! syncs. [`StreamLog`] is the whole interface. It stands on its own: the catalogue of streams
//! lives in the log, so that streams work when the database beside it does not.
//!
//! - `frame`, `segment`, `footer`: what is in the files;
//! - `recovery`: opening them;
//! - `writer`: appending; `keeper`: what happens behind its back;
//! - `catalogue`, `index`: what is known in memory;
//! - `reader`, `follow`: getting messages out;
//! - `verify`, `copy`: what is done to a log that is not open here.

mod catalogue;
#[cfg(feature = "net")]
mod copy;
mod follow;
mod footer;
mod frame;
mod index;
mod keeper;
mod reader;
mod recovery;
mod segment;
#[cfg(feature = "net")]
mod verify;
mod writer;

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use bytes::Bytes;
use tokio::sync::oneshot;

pub use self::follow::StreamFollower;
use self::{
    catalogue::{Catalogue, Stream},
    keeper::Keeper,
    reader::Limits,
    segment::Home,
    writer::{Op, Target, Writer},
};
#[cfg(feature = "net")]
pub use self::{
    copy::copy,
    verify::{Checked, verify},
};
use crate::{
    clock::Clock,
    commit::Committer,
    disk::{Disk, make_dir},
    engine::FsyncPolicy,
    error::{Error, Result},
    limits::Census,
    resource::ResourceName,
};

/// How to open a log.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// When writes reach the disk.
    pub fsync: FsyncPolicy,
    /// Whether appending and following create a missing stream.
    pub create: bool,
    /// Streams that a tenant may have.
    pub max_streams: usize,
    /// Tells `created_at`.
    pub clock: Clock,
    /// Size of the first segment in bytes; each following one is twice as large ...
    pub smallest_segment: u64,
    /// ... up to this.
    pub largest_segment: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            fsync: FsyncPolicy::Always,
            create: true,
            max_streams: usize::MAX,
            clock: Clock::System,
            smallest_segment: 1 << 20,
            largest_segment: 64 << 20,
        }
    }
}

/// An open stream log.
pub struct StreamLog {
    create: bool,
    catalogue: Arc<Catalogue>,
    committer: Committer<Writer>,
    keeper: Arc<Keeper>,
    keeper_thread: Mutex<Option<JoinHandle<()>>>,
    damage: Vec<String>,
}

impl StreamLog {
    /// Opens the log in `dir` on `disk`, made when missing (its parent must exist). Nobody else
    /// may have it open.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: LogOptions) -> Result<Self> {
        make_dir(&*disk, dir).map_err(|e| Error::io(dir.display(), &e))?;
        let home = Home { disk, dir: dir.to_owned() };
        let found = recovery::recover(&home)?;
        let catalogue = Arc::new(found.catalogue);
        let last = found.start.active.as_ref().map(|active| active.capacity);
        let sizes = (options.smallest_segment, options.largest_segment);
        let keeper = Arc::new(Keeper::new(home.clone(), catalogue.clone(), sizes, last));
        for (segment, end) in found.unsealed {
            keeper.seal(segment, end, false);
        }
        let mut census = Census::new("streams", options.max_streams);
        catalogue.count(&mut census);
        let policy = (options.clock, options.fsync, census);
        let writer = Writer::new(home, catalogue.clone(), keeper.clone(), policy, found.start)?;
        let failed = |e| Error::io("starting a thread of the stream log", &e);
        let committer = Committer::start("flowmesh-log", writer).map_err(failed)?;
        let thread = std::thread::Builder::new().name("flowmesh-keeper".to_owned()).spawn({
            let keeper = keeper.clone();
            move || keeper.run()
        });
        Ok(Self {
            create: options.create,
            catalogue,
            committer,
            keeper,
            keeper_thread: Mutex::new(Some(thread.map_err(failed)?)),
            damage: found.damage.iter().map(ToString::to_string).collect(),
        })
    }

    /// Appends `events` (encoded and checked `Event` messages, at least one) as one batch, whole
    /// or not at all; returns the first offset. Answers when they are stored under the policy.
    pub async fn append(&self, name: &ResourceName, events: Vec<Bytes>) -> Result<i64> {
        let target = match self.catalogue.get(name) {
            Some(stream) => Target::Known(stream),
            None if self.create => Target::New(name.clone()),
            None => return Err(missing(name)),
        };
        let (reply, answer) = oneshot::channel();
        self.committer.submit(Op::Append { target, events, reply }).map_err(|_| Error::closing())?;
        answer.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Up to `max_messages` encoded `Message`s from `offset` on, cut before `max_bytes` unless
    /// the first alone is larger. Past the end: empty.
    pub fn read(
        &self,
        name: &ResourceName,
        offset: i64,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>> {
        let limits = Limits { messages: max_messages, bytes: max_bytes, stop_at_damage: false };
        reader::read(&*self.stream(name)?, offset, limits)
    }

    /// Offset of the newest readable message, -1 when empty.
    pub fn latest(&self, name: &ResourceName) -> Result<i64> {
        let stream = self.stream(name)?;
        match stream.suspect.get() {
            Some(damage) => Err(damage.error()),
            None => Ok(stream.next() - 1),
        }
    }

    /// Opens a stream for following, creating it where creation is on.
    pub async fn follow(&self, name: &ResourceName) -> Result<StreamFollower> {
        let stream = match self.catalogue.get(name) {
            Some(stream) => stream,
            None if self.create => {
                let (reply, answer) = oneshot::channel();
                self.committer
                    .submit(Op::Create { name: name.clone(), reply })
                    .map_err(|_| Error::closing())?;
                answer.await.unwrap_or_else(|_| Err(lost()))?
            }
            None => return Err(missing(name)),
        };
        Ok(StreamFollower::new(stream, self.catalogue.clone()))
    }

    /// Whether the stream exists.
    pub fn exists(&self, name: &ResourceName) -> bool {
        self.catalogue.get(name).is_some()
    }

    /// What was found damaged when the log was opened, for people.
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    /// Waits until full segments are sealed and the next one is ready: for tests and benchmarks,
    /// nothing depends on it.
    pub fn settle(&self) {
        self.keeper.settle();
    }

    /// Stores what was handed in, syncs it, and ends every wait with UNAVAILABLE. Reads go on
    /// working.
    pub fn close(&self) {
        self.committer.close();
        self.catalogue.close();
        self.keeper.close();
        let thread = self.keeper_thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic there was reported by the runtime; the log does without it.
            let _ = thread.join();
        }
    }

    #[cfg(test)]
    pub(crate) fn keeper_is_idle(&self) -> bool {
        self.keeper.is_idle()
    }

    #[cfg(test)]
    pub(crate) fn hold(&self) -> impl Sized + '_ {
        self.committer.hold()
    }

    #[cfg(test)]
    pub(crate) fn quiesce(&self) {
        self.committer.quiesce();
    }

    /// The first half of [`StreamLog::close`].
    #[cfg(test)]
    pub(crate) fn end_writing(&self) {
        self.committer.close();
    }

    fn stream(&self, name: &ResourceName) -> Result<Arc<Stream>> {
        self.catalogue.get(name).ok_or_else(|| missing(name))
    }
}

impl Drop for StreamLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for StreamLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamLog")
            .field("create", &self.create)
            .field("damage", &self.damage)
            .finish_non_exhaustive()
    }
}

fn missing(name: &ResourceName) -> Error {
    Error::not_found(format!("stream {name} does not exist"))
}

fn lost() -> Error {
    Error::internal("the stream log failed while it stored the batch")
}
