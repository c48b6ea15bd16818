//! A world: one data directory through many lives, each ended by a cut, a crash or a close, with
//! one seeded workload and a record of what it was promised.
//!
//! One thread calls the engine. What it hands in is committed in its own thread, or as a group by
//! the committer's, while it waits; the threads in the background work while it lets them. So
//! everything that happens follows from the seed.

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use flowmesh_proto::wire::MessageView;
use rusqlite::{Connection, OpenFlags};

use super::{
    REPRODUCIBLE,
    calls::{boxed, stream_name, together},
    disk::{Ignored, LyingDisk, Worker},
    log::Log,
    random::Random,
    tables::History,
    vfs::Vfs,
};
use crate::{
    Engine, ErrorKind, FsyncPolicy,
    clock::{Clock, TestClock},
    database::{self, Database, DatabaseOptions},
    disk::Disk,
    engine::{self, Local, check_format},
    error::Error,
    streams::{LogOptions, StreamLog},
};

/// What went wrong, for people.
pub type Finding = String;
pub type Found<T> = Result<T, Finding>;

pub const STREAMS: usize = 4;
const DATA: &str = "data";
const DATABASE: &str = "data/flowmesh.db";
/// A day: the syncs of `interval` never become due by themselves.
const NEVER: Duration = Duration::from_secs(86_400);

pub struct World {
    pub(super) random: Random,
    pub(super) disk: LyingDisk,
    pub(super) clock: Arc<TestClock>,
    pub(super) fsync: FsyncPolicy,
    pub(super) streams: Log,
    pub(super) tables: History,
    pub(super) running: Option<Running>,
    /// Storage errors in a row.
    pub(super) refusals: usize,
    pub counts: Counts,
}

/// What was done, for the report.
#[derive(Default, Debug, Clone, Copy, PartialEq)]
pub struct Counts {
    pub cuts: usize,
    pub cuts_in_recovery: usize,
    pub restarts: usize,
    pub faults: u64,
    pub acknowledged: usize,
    pub failed: usize,
}

/// An open engine and what it stands on; in the order in which they go.
pub(super) struct Running {
    pub(super) engine: Engine,
    pub(super) local: Arc<Local>,
    vfs: Vfs,
}

/// How a life ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Cut,
    Crash,
    Close,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let fsync = match random.below(6) {
            0 => FsyncPolicy::None,
            1 => FsyncPolicy::Interval(NEVER),
            _ => FsyncPolicy::Always,
        };
        Self {
            disk: LyingDisk::new(random.next()),
            random,
            // Lengths of stored numbers must not depend on the day.
            clock: TestClock::at(1_700_000_000_000_000_000),
            fsync,
            streams: Log::default(),
            tables: History::default(),
            running: None,
            refusals: 0,
            counts: Counts::default(),
        }
    }

    /// A world with an open engine, in which nothing happens by itself.
    pub fn quiet(seed: u64, fsync: FsyncPolicy) -> Found<Self> {
        Self::quiet_on(seed, fsync, |_| {})
    }

    /// The same; `before` the engine is opened, the disk is nobody's.
    pub fn quiet_on(seed: u64, fsync: FsyncPolicy, before: impl FnOnce(&LyingDisk)) -> Found<Self> {
        let mut world = Self::new(seed);
        world.fsync = fsync;
        before(&world.disk);
        world.running = Some(world.try_open().map_err(|e| e.to_string())?);
        Ok(world)
    }

    /// Makes one call.
    pub fn call<T, F: Future<Output = T> + 'static>(&self, call: impl FnOnce(Engine) -> F) -> Found<T> {
        let call = boxed(call(self.running()?.engine.clone()));
        together(vec![call], ()).pop().ok_or_else(|| "no answer".to_owned())
    }

    /// The process ends, in order or not, and another one begins; `before` that, the disk is nobody's.
    pub fn restart(&mut self, in_order: bool, before: impl FnOnce(&LyingDisk)) -> Found<()> {
        if in_order {
            self.finish()?;
        } else {
            self.disk.switch_off();
        }
        if let Some(running) = self.running.take() {
            running.engine.close();
        }
        self.disk = self.disk.restarted();
        before(&self.disk);
        self.running = Some(self.try_open().map_err(|e| e.to_string())?);
        Ok(())
    }

    /// Lets the thread that makes checkpoints finish.
    pub fn checkpoint(&self) -> Found<()> {
        self.begin_checkpoint(100_000)
    }

    /// Lets the thread that makes checkpoints do so many steps.
    pub fn begin_checkpoint(&self, steps: usize) -> Found<()> {
        self.running()?.let_work(&self.disk, Worker::Checkpointer, steps);
        Ok(())
    }

    /// Whether the thread that makes checkpoints has none to make.
    pub fn has_no_checkpoint(&self) -> bool {
        self.running().is_ok_and(|running| running.local.database.checkpointer_is_idle())
    }

    /// The power goes and comes back.
    pub fn cut(&mut self) -> Found<()> {
        self.disk.switch_off();
        if let Some(running) = self.running.take() {
            running.engine.close();
        }
        self.disk = self.disk.after_cut();
        self.running = Some(self.try_open().map_err(|e| e.to_string())?);
        Ok(())
    }

    /// What the database says to a question that has one word for an answer.
    pub fn ask(&self, sql: &str) -> Found<String> {
        let database = &self.running()?.local.database;
        database.look(|conn| conn.query_row(sql, [], |row| row.get(0))).map_err(|e| e.to_string())
    }

    /// Another program that has the database open, and has read it.
    pub fn onlooker(&self) -> Found<Connection> {
        let vfs = self.running()?.vfs.name();
        let opened = Connection::open_with_flags_and_vfs(DATABASE, OpenFlags::SQLITE_OPEN_READ_ONLY, vfs);
        let conn = opened.map_err(|e| e.to_string())?;
        conn.query_row("SELECT count(*) FROM queues", [], |_| Ok(())).map_err(|e| e.to_string())?;
        Ok(conn)
    }

    pub fn ignore(&self, ignored: Ignored) {
        self.disk.ignore(ignored);
    }

    pub fn disk(&self) -> &LyingDisk {
        &self.disk
    }

    /// One life, its end, and the check of what it left; then the engine is open again.
    pub fn live(&mut self) -> Found<()> {
        if self.running.is_none() {
            self.open(true)?;
        }
        let end = match self.random.below(10) {
            0 => End::Crash,
            1 => End::Close,
            _ => End::Cut,
        };
        if end == End::Cut {
            let steps = self.random.between(1, 400);
            self.disk.cut_in(steps);
        }
        let actions = self.random.between(1, if end == End::Cut { 250 } else { 60 });
        for _ in 0..actions {
            if self.disk.is_off() {
                break;
            }
            let fired = self.disk.fired();
            self.act()?;
            if self.disk.fired() > fired && self.random.chance(20) {
                // What a fault has left behind, another process finds.
                return self.end(End::Crash);
            }
            if self.refusals > 3 && !self.disk.has_armed() {
                // It may insist on being opened again after a fault.
                return self.end(End::Crash);
            }
        }
        self.end(if self.disk.is_off() { End::Cut } else { end })
    }

    fn end(&mut self, end: End) -> Found<()> {
        if end == End::Close {
            self.finish()?;
        } else {
            self.disk.switch_off();
        }
        self.counts.faults += self.disk.fired();
        if let Some(running) = self.running.take() {
            running.engine.close();
        }
        let after_cut = end == End::Cut || self.disk.is_off() && end == End::Close;
        self.disk = if after_cut { self.disk.after_cut() } else { self.disk.restarted() };
        self.counts.cuts += usize::from(after_cut);
        self.counts.restarts += usize::from(!after_cut);
        self.open(after_cut)
    }

    /// Opens the engine, now and then with faults and cuts on the way, and checks everything.
    fn open(&mut self, mut after_cut: bool) -> Found<()> {
        for attempt in 0..4 {
            let trouble = attempt < 3 && self.random.chance(40);
            if trouble && self.random.chance(60) {
                let steps = self.random.between(1, 25);
                self.disk.cut_in(steps);
            } else if trouble {
                self.arm(20);
            }
            let opened = self.try_open();
            let cut = self.disk.is_cut();
            let fired = self.disk.fired() > 0;
            self.counts.faults += self.disk.fired();
            self.disk.disarm();
            match opened {
                Ok(running) if !self.disk.is_off() => {
                    if running.engine.is_ready() {
                        self.running = Some(running);
                        self.disk.cut_in(0);
                        return self.check(after_cut);
                    }
                    if !fired {
                        return Err("the database does not open".to_owned());
                    }
                    self.disk.switch_off();
                    running.engine.close();
                }
                Ok(running) => running.engine.close(),
                Err(e) if !cut && !fired => return Err(format!("it does not open: {e}")),
                Err(_) => {}
            }
            if cut {
                self.counts.cuts += 1;
                self.counts.cuts_in_recovery += 1;
                after_cut = true;
                self.disk = self.disk.after_cut();
            } else {
                self.disk = self.disk.restarted();
            }
        }
        Err("it does not open without a fault".to_owned())
    }

    fn try_open(&mut self) -> Result<Running, Error> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        engine::make(&*disk, Path::new(DATA))?;
        check_format(&*disk, Path::new(DATA))?;
        let vfs = Vfs::register(disk.clone());
        let log = LogOptions {
            fsync: self.fsync,
            clock: Clock::Test(self.clock.clone()),
            smallest_segment: 16 << 10,
            largest_segment: 64 << 10,
            ..LogOptions::default()
        };
        let database = DatabaseOptions {
            place: Some(database::Place::on(DATABASE, disk.clone(), vfs.name())),
            fsync: self.fsync,
            clock: Clock::Test(self.clock.clone()),
            checkpoint_pages: 40,
            ..DatabaseOptions::default()
        };
        let log = StreamLog::open(disk, Path::new("data/streams"), log)?;
        REPRODUCIBLE.set(true);
        let database = Database::open(database);
        REPRODUCIBLE.set(false);
        let database = database.inspect_err(|_| {
            // The process ends; nobody lets the threads of the log finish their work.
            self.disk.switch_off();
        })?;
        let local = Arc::new(Local::of(log, database, None));
        let running = Running { engine: Engine::of(&local), local, vfs };
        running.quiesce();
        Ok(running)
    }

    /// Before a close: what threads in the background would else be at when it comes is up to chance.
    fn finish(&self) -> Found<()> {
        self.let_all_work()?;
        // This may leave another segment to seal.
        self.running()?.local.log.end_writing();
        self.let_all_work()?;
        self.disk.set_free();
        Ok(())
    }

    fn let_all_work(&self) -> Found<()> {
        for worker in [Worker::Keeper, Worker::Checkpointer] {
            self.running()?.let_work(&self.disk, worker, 100_000);
        }
        Ok(())
    }
    pub(super) fn running(&self) -> Found<&Running> {
        self.running.as_ref().ok_or_else(|| "the engine is not open".to_owned())
    }

    pub(super) fn now(&self) -> i64 {
        Clock::Test(self.clock.clone()).now_ns()
    }
}

impl Running {
    pub(super) fn quiesce(&self) {
        self.local.log.quiesce();
        self.local.database.quiesce();
    }

    pub(super) fn let_work(&self, disk: &LyingDisk, worker: Worker, steps: usize) {
        disk.let_work(worker, steps, || match worker {
            Worker::Keeper => self.local.log.keeper_is_idle(),
            Worker::Checkpointer => self.local.database.checkpointer_is_idle(),
        });
    }

    /// The payloads of a stream; `None` when there is none.
    pub(super) fn read(&self, stream: usize) -> Result<Option<Vec<Vec<u8>>>, Error> {
        let name = stream_name(stream);
        let mut payloads = Vec::new();
        loop {
            let page = match self.local.log.read(&name, payloads.len() as i64, 64, 1 << 20) {
                Ok(page) => page,
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(e),
            };
            if page.is_empty() {
                return Ok(Some(payloads));
            }
            for message in page {
                let view = MessageView::parse(&message).map_err(|_| Error::internal("not a message"))?;
                if view.offset != payloads.len() as i64 {
                    return Err(Error::internal(format!("offset {} at {}", view.offset, payloads.len())));
                }
                payloads.push(view.payload.to_vec());
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.disk.switch_off();
        if let Some(running) = self.running.take() {
            running.engine.close();
        }
    }
}
