//! Single faults, each with what must follow from it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Planted,
    calls::{event, queue_name, store_name, stream_name},
    disk::{Armed, Class, LyingDisk},
    plant,
    world::World,
};
use crate::{
    Engine,
    engine::{FsyncPolicy, Lease, NewJob},
    error::{Error, ErrorKind},
    resource::ResourceName,
};

const WAL: &str = "data/flowmesh.db-wal";
const DATABASE: &str = "data/flowmesh.db";
const SEGMENT: &str = "data/streams/00000001.log";
/// The next sync fails.
const NEXT_SYNC: Armed = Armed { class: Class::Sync, after: 0, times: 1 };
/// Which pages a failed sync loses is up to the seed.
const SEEDS: std::ops::Range<u64> = 0..20;

fn queue() -> ResourceName {
    ResourceName::from_stored(queue_name(0))
}

fn store() -> ResourceName {
    ResourceName::from_stored(store_name(0))
}

fn set(world: &World, key: usize, len: usize) -> Result<(), Error> {
    let (key, value) = (format!("key {key}"), Bytes::from(vec![key as u8; len]));
    world.call(|engine| async move { engine.kv.set(&store(), &key, value, 0).await }).unwrap()
}

/// Whether [`set`] has set it.
fn get(world: &World, key: usize) -> Result<bool, Error> {
    let name = format!("key {key}");
    let value = world.call(|engine| async move { engine.kv.get(&store(), &name).await }).unwrap()?;
    Ok(value.is_some_and(|value| !value.is_empty() && value.iter().all(|byte| *byte == key as u8)))
}

fn append(world: &World, payload: &'static [u8]) -> Result<i64, Error> {
    world
        .call(|engine| async move { engine.streams.append(&stream_name(0), vec![event(payload)]).await })
        .unwrap()
}

fn read(world: &World, offset: i64) -> Result<usize, Error> {
    let read = |engine: Engine| async move { engine.streams.read(&stream_name(0), offset, 1, 1 << 20).await };
    world.call(read).unwrap().map(|messages| messages.len())
}

fn enqueue(world: &World) -> Result<(), Error> {
    let payload = Bytes::from_static(b"a job to do later");
    let job = NewJob { payload, headers: Default::default(), delay_seconds: 0 };
    world.call(|engine| async move { engine.queues.enqueue(&queue(), job).await.map(drop) }).unwrap()
}

fn lease(world: &World) -> Result<usize, Error> {
    let lease = Lease { max_jobs: 1, max_bytes: 1 << 20, visibility_seconds: 30, wait_seconds: 0 };
    let leased = world.call(|engine| async move { engine.queues.lease(&queue(), lease).await });
    leased.unwrap().map(|leased| leased.taken().len())
}

/// Leases are written and not synced: what they wrote is what a failed sync can lose.
fn with_unsynced_leases(seed: u64) -> World {
    let world = World::quiet(seed, FsyncPolicy::Always).unwrap();
    (0..8).for_each(|_| enqueue(&world).unwrap());
    (0..8).for_each(|_| assert_eq!(lease(&world).unwrap(), 1));
    assert!(!world.disk().has_stored(WAL));
    world
}

#[test]
fn after_a_failed_commit_nothing_is_promised_on_a_wal_with_gaps() {
    for seed in SEEDS {
        let world = with_unsynced_leases(seed);
        world.disk().arm(NEXT_SYNC);
        set(&world, 0, 10).unwrap_err();
        set(&world, 0, 10).unwrap();
        assert!(world.disk().has_stored(WAL));
    }
}

/// A checkpoint has failed to sync a WAL that ends in leases.
fn checkpoint_without_sync(seed: u64) -> World {
    let world = with_unsynced_leases(seed);
    // Enough for a checkpoint, whose first sync is the one that fails.
    (0..40).for_each(|key| set(&world, key, 3000).unwrap());
    (0..8).for_each(|_| enqueue(&world).unwrap());
    (0..8).for_each(|_| assert_eq!(lease(&world).unwrap(), 1));
    world.disk().arm(NEXT_SYNC);
    world.checkpoint().unwrap();
    assert_eq!(world.disk().fired(), 1);
    world
}

#[test]
fn after_a_failed_checkpoint_nothing_is_promised_on_a_wal_with_gaps() {
    let promised_on_a_gap = |seed| {
        let world = checkpoint_without_sync(seed);
        set(&world, 0, 10).unwrap();
        !world.disk().has_stored(WAL)
    };
    assert!(!SEEDS.into_iter().any(promised_on_a_gap));
    assert!(plant(Planted::CheckpointTrusted, || SEEDS.into_iter().any(promised_on_a_gap)));
}

/// Sets keys, 0 to what is returned, and has two checkpoints: one that copies, and one that fails to sync
/// what the first has copied.
fn lose_a_checkpoint(world: &World) -> usize {
    // Until a checkpoint is due.
    let keys = (1..).take_while(|key| {
        set(world, *key, 3000).unwrap();
        world.has_no_checkpoint()
    });
    let keys = keys.count();
    // The thread sees how far it has to go; then there is more, so it will not sync.
    world.begin_checkpoint(8).unwrap();
    set(world, 0, 3000).unwrap();
    world.checkpoint().unwrap();
    assert!(!world.disk().has_stored(DATABASE));
    // After the commit and the sync of the WAL, the sync of the file is the one to fail.
    world.disk().arm(Armed { class: Class::Sync, after: 2, times: 1 });
    set(world, 0, 3000).unwrap();
    assert_eq!(world.disk().fired(), 1);
    keys
}

#[test]
fn what_a_failed_checkpoint_lost_is_copied_again() {
    let all_is_there = |in_order: bool| {
        SEEDS.into_iter().all(|seed| {
            let mut world = World::quiet(seed, FsyncPolicy::Always).unwrap();
            let keys = lose_a_checkpoint(&world);
            // The WAL starts over if it is thought to be copied.
            for _ in 0..4 {
                set(&world, 0, 3000).unwrap();
                (0..20).for_each(|_| enqueue(&world).unwrap());
                world.checkpoint().unwrap();
            }
            if in_order {
                world.restart(true, |_| {}).unwrap();
            }
            world.cut().is_ok()
                && world.ask("PRAGMA integrity_check").is_ok_and(|text| text == "ok")
                && (0..=keys).all(|key| get(&world, key).is_ok_and(|v| v))
        })
    };
    for in_order in [false, true] {
        assert!(all_is_there(in_order));
        assert!(!plant(Planted::CheckpointRepeated, || all_is_there(in_order)));
    }
}

/// Sets keys 0 to 9, and until there is a checkpoint to make; fails its first sync.
fn fail_checkpoint(world: &World) {
    (0..10).for_each(|key| set(world, key, 3000).unwrap());
    let mut keys = (0..10).cycle();
    while world.has_no_checkpoint() {
        set(world, keys.next().unwrap(), 3000).unwrap();
    }
    world.disk().arm(NEXT_SYNC);
    world.checkpoint().unwrap();
    assert_eq!(world.disk().fired(), 1);
}

#[test]
fn after_a_failed_checkpoint_the_wal_starts_over_again() {
    let grows = |seed| {
        let mut world = World::quiet(seed, FsyncPolicy::Always).unwrap();
        let fill = |world: &World, times| {
            for _ in 0..times {
                (0..10).for_each(|key| set(world, key, 3000).unwrap());
                world.checkpoint().unwrap();
            }
        };
        fill(&world, 10);
        let before = world.disk().len(WAL);
        fail_checkpoint(&world);
        fill(&world, 30);
        let after = world.disk().len(WAL);
        world.cut().unwrap();
        assert_eq!(world.ask("PRAGMA integrity_check").unwrap(), "ok");
        assert!((0..10).all(|key| get(&world, key).unwrap()));
        after > 2 * before
    };
    assert!(!SEEDS.into_iter().any(grows));
    assert!(plant(Planted::CheckpointTrusted, || SEEDS.into_iter().all(grows)));
}

#[test]
fn nothing_is_read_after_a_failed_checkpoint_before_the_file_was_opened_again() {
    let read_in_doubt = |seed| {
        let world = checkpoint_without_sync(seed);
        assert!(get(&world, 7).unwrap());
        !world.disk().has_stored(WAL)
    };
    assert!(!SEEDS.into_iter().any(read_in_doubt));
}

#[test]
fn a_file_that_somebody_else_has_open_is_opened_again_later() {
    let mut world = World::quiet(1, FsyncPolicy::Always).unwrap();
    let onlooker = world.onlooker().unwrap();
    let keys = lose_a_checkpoint(&world);
    let fill = |world: &World| {
        for _ in 0..10 {
            (0..10).for_each(|key| set(world, key, 3000).unwrap());
            world.checkpoint().unwrap();
        }
        world.disk().len(WAL)
    };
    let grown = fill(&world);
    assert!(fill(&world) > grown, "nothing is copied while the index cannot be trusted");
    drop(onlooker);
    world.clock.advance(Duration::from_secs(11));
    let settled = fill(&world);
    assert_eq!(fill(&world), settled);
    world.cut().unwrap();
    assert!((0..=keys).all(|key| get(&world, key).unwrap()));
}

#[test]
fn a_database_that_does_not_open_again_is_tried_again() {
    for (class, after) in [(Class::Sync, 0), (Class::Write, 0), (Class::Read, 0), (Class::Read, 5)] {
        for by_a_call in [true, false] {
            let mut world = World::quiet(1, FsyncPolicy::Always).unwrap();
            enqueue(&world).unwrap();
            fail_checkpoint(&world);
            world.disk().arm(Armed { class, after, times: 3 });
            let refused = set(&world, 50, 10).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Internal, "{refused}");
            assert!(!world.running().unwrap().engine.is_ready(), "{class:?} {after}");
            assert_eq!(get(&world, 0).unwrap_err().kind(), ErrorKind::Unavailable);
            world.disk().disarm();
            if by_a_call {
                set(&world, 51, 10).unwrap();
            } else {
                world.clock.advance(Duration::from_secs(11));
                world.running().unwrap().quiesce();
            }
            assert!(world.running().unwrap().engine.is_ready());
            assert!((0..10).all(|key| get(&world, key).unwrap()));
            assert!(!get(&world, 50).unwrap(), "its caller was told that it failed");
            assert_eq!(lease(&world).unwrap(), 1);
            world.cut().unwrap();
            assert!((0..10).all(|key| get(&world, key).unwrap()));
        }
    }
}

#[test]
fn a_periodic_sync_that_failed_is_made_up_for_without_a_call() {
    for seed in SEEDS {
        let world = World::quiet(seed, FsyncPolicy::Interval(Duration::from_millis(1))).unwrap();
        world.disk().arm(NEXT_SYNC);
        set(&world, 0, 20_000).unwrap();
        let give_up = Instant::now() + Duration::from_secs(60);
        while world.disk().fired() == 0 || !world.disk().has_stored(WAL) {
            assert!(Instant::now() < give_up, "what was written is still not on the disk");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_database_without_a_wal_does_not_open() {
    let modes = || {
        let fault = |class, after| move |disk: &LyingDisk| disk.arm(Armed { class, after, times: 1 });
        let worlds = [Class::Read, Class::Write, Class::Space, Class::Sync, Class::Name]
            .into_iter()
            .flat_map(|class| (0..80).map(move |after| (class, after)))
            .filter_map(|(class, after)| World::quiet_on(1, FsyncPolicy::Always, fault(class, after)).ok());
        worlds.map(|world| world.ask("PRAGMA journal_mode").unwrap()).collect::<BTreeSet<_>>()
    };
    assert_eq!(modes(), BTreeSet::from(["wal".to_owned()]));
    assert!(plant(Planted::AnyJournal, modes).contains("delete"));
}

#[test]
fn what_a_process_could_not_sync_the_next_one_writes_again() {
    let log_is_stored = |seed| {
        let mut world = World::quiet(seed, FsyncPolicy::None).unwrap();
        append(&world, &[7; 20_000]).unwrap();
        // The second process reads the tail of the log, fails to sync it, and ends.
        let after_the_directories = Armed { after: 2, ..NEXT_SYNC };
        world.restart(false, |disk| disk.arm(after_the_directories)).unwrap_err();
        world.restart(false, |_| {}).unwrap();
        world.disk().has_stored(SEGMENT)
    };
    assert!(SEEDS.into_iter().all(log_is_stored));
    assert!(!plant(Planted::TailTrusted, || SEEDS.into_iter().all(log_is_stored)));
    let wal_is_stored = |seed| {
        let mut world = World::quiet(seed, FsyncPolicy::Always).unwrap();
        set(&world, 0, 5000).unwrap();
        world.disk().arm(NEXT_SYNC);
        set(&world, 0, 20_000).unwrap_err();
        world.restart(false, |_| {}).unwrap();
        world.disk().has_stored(WAL)
    };
    assert!(SEEDS.into_iter().all(wal_is_stored));
    assert!(!plant(Planted::WalTrusted, || SEEDS.into_iter().all(wal_is_stored)));
}

#[test]
fn a_segment_that_the_next_process_goes_on_with_keeps_its_name() {
    let is_kept = |(seed, after)| {
        let mut world = World::quiet(seed, FsyncPolicy::Always).unwrap();
        // One of these is the sync of the name of the first segment.
        world.disk().arm(Armed { class: Class::Sync, after, times: 10 });
        let _ = append(&world, b"by the first process");
        world.restart(false, |_| {}).unwrap();
        let offset = append(&world, b"acknowledged").unwrap();
        world.cut().unwrap();
        read(&world, offset).is_ok_and(|messages| messages == 1)
    };
    let mut all = SEEDS.flat_map(|seed| (0..4).map(move |after| (seed, after)));
    assert!(all.clone().all(is_kept));
    assert!(!plant(Planted::NamesTrusted, || all.all(is_kept)));
}

#[test]
fn a_directory_that_the_process_before_could_not_sync_stays() {
    let is_kept = |seed| {
        // The first process makes the directory, fails to sync its name, and ends.
        let mut world = World::new(seed);
        world.fsync = FsyncPolicy::Always;
        world.restart(false, |disk| disk.arm(NEXT_SYNC)).unwrap_err();
        world.restart(false, |_| {}).unwrap();
        set(&world, 0, 10).unwrap();
        world.cut().unwrap();
        get(&world, 0).unwrap()
    };
    assert!(SEEDS.into_iter().all(is_kept));
    assert!(!plant(Planted::DirectoriesTrusted, || SEEDS.into_iter().all(is_kept)));
}

#[test]
fn a_log_that_failed_to_sync_takes_nothing_more_into_that_file() {
    let world = World::quiet(1, FsyncPolicy::Always).unwrap();
    append(&world, b"before").unwrap();
    world.disk().arm(NEXT_SYNC);
    append(&world, b"lost").unwrap_err();
    assert_eq!(append(&world, b"after").unwrap(), 1);
    assert!(world.disk().has_stored("data/streams/00000002.log"));
}

/// What callers get of a message, a value and a job after a bit of each has flipped.
fn rotten() -> [bool; 3] {
    let mut world = World::quiet(1, FsyncPolicy::Always).unwrap();
    append(&world, b"a message to keep").unwrap();
    // The last batch of a log has nothing behind it that vouches for it.
    append(&world, b"another").unwrap();
    enqueue(&world).unwrap();
    set(&world, 42, 30).unwrap();
    assert!(world.disk().rot(b"a message to keep"));
    let message = read(&world, 0).is_ok();
    world
        .restart(true, |disk| {
            assert!(disk.rot(b"a job to do later"));
            assert!(disk.rot(&[42; 30]));
        })
        .unwrap();
    assert!(read(&world, 0).is_err(), "the log knows it after opening");
    let value = world.call(|engine| async move { engine.kv.get(&store(), "key 42").await }).unwrap();
    [message, value.is_ok(), lease(&world).unwrap() > 0]
}

#[test]
fn rot_is_reported_and_a_skipped_checksum_is_found() {
    assert_eq!(rotten(), [false; 3]);
    assert_eq!(plant(Planted::MessagesUnchecked, rotten), [true, false, false]);
    assert_eq!(plant(Planted::ValuesUnchecked, rotten), [false, true, false]);
    assert_eq!(plant(Planted::JobsUnchecked, rotten), [false, false, true]);
}
