//! Checkpoints: moving pages from the WAL into the database file, off the write path.
//!
//! A thread copies the bulk while commits go on behind it. Since they do, it never quite catches
//! up, and the WAL could never start over: so the writer copies the few pages that came in
//! meanwhile, between two commits. The WAL file keeps its size and is written over, which keeps
//! syncs cheap.
//!
//! A checkpoint that does not reach the end of the WAL counts its pages as copied and leaves their
//! sync to a later one. When that sync fails, systems forget such pages, and SQLite would not copy
//! them again. So a failed sync ends checkpoints: the WAL grows and has everything, until the file
//! is opened again ([`super::reopen`]) and all of the WAL is copied.

use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread::JoinHandle,
};

use rusqlite::{Connection, wal::CheckpointMode};

use super::{
    Place,
    health::{Health, is_failed_sync},
    lock, schema,
};
use crate::commit::try_lock;

/// With this many times the pages at which the thread copies, the writer copies all of them itself:
/// the thread cannot keep up.
const LIMIT: i64 = 16;

/// The writer's side.
pub(super) struct Checkpoints {
    /// Pages in the WAL from which on the thread copies.
    start_pages: i64,
    /// Pages in the WAL after the last commit, told by SQLite.
    pages: Arc<AtomicI64>,
    /// Pages when the thread was last called, and when the writer last did it itself: what a long
    /// read holds up is not tried again at every commit.
    called_at: i64,
    done_at: i64,
    pub(super) shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// The bulk is copied, the rest is the writer's.
    copied: AtomicBool,
    /// A sync failed: what the writer has in the WAL may not be on the disk.
    failed_sync: AtomicBool,
    /// A sync failed: there must be no checkpoint before the file is opened again. Changes only while
    /// `copier` is held.
    ended: AtomicBool,
    /// Held during each checkpoint, by whoever makes it.
    pub(super) copier: Mutex<Copier>,
}

/// What the thread copies with.
#[derive(Default)]
pub(super) struct Copier {
    /// `None` while the file is closed.
    pub(super) conn: Option<Connection>,
}

#[derive(Default)]
struct State {
    wanted: bool,
    closed: bool,
    #[cfg(test)]
    busy: bool,
}

impl Checkpoints {
    /// Takes charge of the checkpoints of `place`, which `writer` writes; the thread copies from
    /// `start_pages` on.
    pub(super) fn start(
        place: &Place,
        start_pages: i64,
        writer: &mut Connection,
        health: Arc<Health>,
    ) -> rusqlite::Result<Self> {
        let pages = Arc::new(AtomicI64::new(0));
        count_pages(writer, &pages)?;
        let shared = Arc::new(Shared::default());
        lock(&shared.copier).conn = Some(schema::open_checkpointer(place)?);
        let thread = std::thread::Builder::new()
            .name("flowmesh-ckpt".to_owned())
            .spawn({
                let (shared, place) = (shared.clone(), place.clone());
                move || shared.run(&place, &health)
            })
            .map_err(|e| {
                rusqlite::Error::SqliteFailure(
                    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOMEM),
                    Some(format!("no thread for checkpoints: {e}")),
                )
            })?;
        Ok(Self { start_pages, pages, called_at: 0, done_at: 0, shared, thread: Some(thread) })
    }

    /// Whether a sync of the thread has failed since this was last asked.
    pub(super) fn take_failed_sync(&self) -> bool {
        self.shared.failed_sync.swap(false, Ordering::AcqRel) && !planted!(CheckpointTrusted)
    }

    /// To be called by the writer between two transactions.
    pub(super) fn after_commit(&mut self, writer: &Connection) -> rusqlite::Result<()> {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < self.start_pages {
            // The WAL has started over.
            self.called_at = 0;
            self.done_at = 0;
            self.shared.copied.store(false, Ordering::Relaxed);
        } else if self.shared.copied.swap(false, Ordering::Acquire)
            || pages - self.done_at >= LIMIT * self.start_pages
        {
            self.done_at = pages;
            if let Some(mut copier) = try_lock(&self.shared.copier) {
                self.shared.copy(writer, &mut copier)?;
            }
        } else if pages - self.called_at >= self.start_pages {
            self.called_at = pages;
            lock(&self.shared.state).wanted = true;
            self.shared.changed.notify_one();
        }
        Ok(())
    }

    /// Whether a failed sync has ended them.
    pub(super) fn have_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire) && !planted!(CheckpointTrusted)
    }

    /// Goes on with a file that was opened again, by `writer`.
    pub(super) fn resume(
        &mut self,
        copier: &mut Copier,
        place: &Place,
        writer: &mut Connection,
    ) -> rusqlite::Result<()> {
        count_pages(writer, &self.pages)?;
        copier.conn = Some(schema::open_checkpointer(place)?);
        self.called_at = 0;
        self.done_at = 0;
        self.shared.copied.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Ends the thread. True when the file may be closed with a checkpoint.
    pub(super) fn end(self) -> bool {
        let shared = self.shared.clone();
        drop(self);
        // The writer's connection must be the last.
        lock(&shared.copier).conn = None;
        !shared.ended.load(Ordering::Acquire)
    }
}

/// Has `pages` tell how many are in the WAL after each commit of `writer`.
fn count_pages(writer: &mut Connection, pages: &Arc<AtomicI64>) -> rusqlite::Result<()> {
    let pages = pages.clone();
    writer.wal_hook(Some(move |_: &mut _, count| {
        pages.store(i64::from(count), Ordering::Relaxed);
        Ok(())
    }))
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        lock(&self.shared.state).closed = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It ends by returning; a panic in it has nothing to tell us here.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
impl Shared {
    /// Marks the thread as busy until the result is dropped.
    fn busy<'a>(&'a self, state: &mut State) -> impl Sized + 'a {
        struct Busy<'a>(&'a Shared);
        impl Drop for Busy<'_> {
            fn drop(&mut self) {
                lock(&self.0.state).busy = false;
            }
        }
        state.busy = true;
        Busy(self)
    }

    /// Whether the thread has nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        let state = lock(&self.state);
        state.closed || !(state.wanted || state.busy)
    }
}

impl Shared {
    /// Whether a sync of the thread has failed and the writer has not noticed yet.
    pub(super) fn has_failed_sync(&self) -> bool {
        self.failed_sync.load(Ordering::Acquire)
    }

    /// A checkpoint by `conn`; false when there must be none.
    fn copy(&self, conn: &Connection, copier: &mut Copier) -> rusqlite::Result<bool> {
        if self.ended.load(Ordering::Acquire) {
            return Ok(false);
        }
        let (_, _) = conn.wal_checkpoint_v2(Some(c"main"), CheckpointMode::PASSIVE).inspect_err(|e| {
            if is_failed_sync(e) && !planted!(CheckpointRepeated) {
                self.set_ended(copier, true);
                tracing::error!("a sync failed in a checkpoint: the file has to be opened again");
            }
        })?;
        Ok(true)
    }

    pub(super) fn set_ended(&self, _held: &mut Copier, ended: bool) {
        self.ended.store(ended, Ordering::Release);
    }

    /// A checkpoint by the thread; false when there must be none.
    fn copy_bulk(&self) -> rusqlite::Result<bool> {
        let mut copier = lock(&self.copier);
        let Some(conn) = copier.conn.take() else { return Ok(false) };
        let copied = self.copy(&conn, &mut copier);
        copier.conn = Some(conn);
        copied
    }

    /// Waits until a checkpoint is wanted; false when the thread has to end.
    fn await_work(&self) -> bool {
        let mut state = lock(&self.state);
        while !state.wanted && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.closed
    }

    fn run(&self, place: &Place, health: &Health) {
        while self.await_work() {
            place.await_turn();
            let mut state = lock(&self.state);
            if state.closed {
                return;
            }
            state.wanted = false;
            #[cfg(test)]
            let _busy = self.busy(&mut state);
            drop(state);
            match self.copy_bulk() {
                Ok(copied) => self.copied.store(copied, Ordering::Release),
                // Nothing is lost: the pages stay in the WAL, for the next round or the next opening.
                Err(e) => {
                    self.failed_sync.fetch_or(is_failed_sync(&e), Ordering::AcqRel);
                    tracing::warn!(file = health.file(), error = %e, "a checkpoint failed");
                }
            }
        }
    }
}
