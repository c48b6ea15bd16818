//! Power cuts and failing disks under the whole engine, by the thousand.
//!
//! Streams, queues, KV values and commits run over [`disk::LyingDisk`], SQLite by way of [`vfs`].
//! After every cut the engine is opened again and everything is compared with what it had
//! acknowledged ([`log`], [`tables`]). Compiled into tests only; so is what plants faults in the
//! engine, to show that they are found.
//!
//! `FLOWMESH_CUTS` says how many cuts, `FLOWMESH_SEED` where to begin; a finding names its seed, from
//! which everything follows. `FLOWMESH_STEPS` shows what happens, step by step.

mod calls;
mod check;
mod disk;
mod faults;
mod file;
mod log;
mod node;
mod random;
mod tables;
mod vfs;
mod work;
mod world;

use std::cell::Cell;

use self::{
    disk::Ignored,
    world::{Counts, Finding, World},
};

/// A fault in the engine itself.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Planted {
    /// The log answers a batch before it is stored.
    LogAnswersEarly,
    /// The database answers a transaction before it is stored.
    DatabaseAnswersEarly,
    /// Recovery takes the frames of a torn tail without looking at their bodies.
    TailUnchecked,
    /// Readers take messages as they come.
    MessagesUnchecked,
    /// Values are given out as they are stored.
    ValuesUnchecked,
    /// So are jobs.
    JobsUnchecked,
    /// Opening the log takes its tail for synced, although a sync may have failed before.
    TailTrusted,
    /// And the names of its segments.
    NamesTrusted,
    /// Opening the database does so with its WAL.
    WalTrusted,
    /// The writer of the database takes no notice of syncs that failed in the background.
    CheckpointTrusted,
    /// After a sync that failed in a checkpoint there are others.
    CheckpointRepeated,
    /// Opening takes a directory that is there for durable.
    DirectoriesTrusted,
    /// Opening the database takes no notice when it cannot have a WAL.
    AnyJournal,
}

thread_local! {
    static PLANTED: Cell<Option<Planted>> = const { Cell::new(None) };
    /// A world is opening its engine.
    static REPRODUCIBLE: Cell<bool> = const { Cell::new(false) };
}

/// Whether what this thread does must follow from a seed.
pub(crate) fn is_reproducible() -> bool {
    REPRODUCIBLE.get()
}

/// Whether `fault` is planted in this thread.
pub(crate) fn is_planted(fault: Planted) -> bool {
    PLANTED.get() == Some(fault)
}

/// Plants a fault while `f` runs.
fn plant<R>(fault: Planted, f: impl FnOnce() -> R) -> R {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }
    PLANTED.set(Some(fault));
    let _reset = Reset;
    f()
}

/// Lives that one data directory sees.
const LIVES: usize = 12;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, it is {text:?}")))
}

/// Worlds from `seed` on until there were `cuts`; the first finding ends it.
fn run(seed: u64, cuts: usize, prepare: impl Fn(&World)) -> Result<Counts, (u64, Finding, Counts)> {
    let mut total = Counts::default();
    for seed in seed.. {
        let mut world = World::new(seed);
        prepare(&world);
        let mut result = Ok(());
        for _ in 0..LIVES {
            result = world.live();
            if result.is_err() {
                break;
            }
        }
        total.cuts += world.counts.cuts;
        total.cuts_in_recovery += world.counts.cuts_in_recovery;
        total.restarts += world.counts.restarts;
        total.faults += world.counts.faults;
        total.acknowledged += world.counts.acknowledged;
        total.failed += world.counts.failed;
        if let Err(finding) = result {
            return Err((seed, finding, total));
        }
        if total.cuts >= cuts {
            break;
        }
    }
    Ok(total)
}

#[test]
fn what_was_acknowledged_survives_every_cut() {
    let cuts = number("FLOWMESH_CUTS").unwrap_or(200) as usize;
    let seed = number("FLOWMESH_SEED").unwrap_or(1);
    match run(seed, cuts, |_| {}) {
        Ok(counts) => eprintln!("power cuts: {counts:?}"),
        Err((seed, finding, counts)) => {
            panic!("after {} cuts: {finding}\nagain with: make powercut CUTS=1 SEED={seed}", counts.cuts)
        }
    }
}

#[test]
fn a_seed_says_everything_that_happens() {
    for seed in 1000..1012 {
        let run = || {
            let mut world = World::new(seed);
            let lives: Result<Vec<()>, Finding> = (0..4).map(|_| world.live()).collect();
            (lives, world.disk().trace(), world.counts)
        };
        assert_eq!(run(), run(), "seed {seed}");
    }
}

/// Cuts after which a planted fault must have been found.
const PATIENCE: usize = 400;

#[test]
fn a_sync_that_is_left_out_is_found() {
    for ignored in Ignored::ALL {
        match run(1, PATIENCE, |world| world.ignore(ignored)) {
            Ok(_) => panic!("{ignored:?}: not found in {PATIENCE} cuts"),
            Err((seed, finding, counts)) => {
                eprintln!("{ignored:?}: found after {} cuts, seed {seed}: {finding}", counts.cuts);
            }
        }
    }
}

/// The other ones are in [`faults`].
#[test]
fn an_early_answer_and_a_tail_taken_unseen_are_found() {
    for fault in [Planted::LogAnswersEarly, Planted::DatabaseAnswersEarly, Planted::TailUnchecked] {
        match plant(fault, || run(1, PATIENCE, |_| {})) {
            Ok(_) => panic!("{fault:?}: not found in {PATIENCE} cuts"),
            Err((seed, finding, counts)) => {
                eprintln!("{fault:?}: found after {} cuts, seed {seed}: {finding}", counts.cuts);
            }
        }
    }
}
