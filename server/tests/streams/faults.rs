//! A disk that fills up, fails, or stops between any two operations.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use flowmesh_server::{
    ErrorKind, FsyncPolicy,
    disk::{Disk, File, Memory},
    resource::ResourceName,
    streams::{LogOptions, StreamLog},
};

use crate::{event, name, open, payloads, small};

/// Memory with faults.
#[derive(Default)]
pub struct Faulty {
    pub memory: Memory,
    pub control: Arc<Control>,
}

/// Which faults.
#[derive(Default)]
pub struct Control {
    /// No space for anything.
    pub full: AtomicBool,
    /// What is said to be left, where something is said.
    pub free: Mutex<Option<u64>>,
    /// This many syncs of files fail.
    pub failing_syncs: AtomicUsize,
    /// This many syncs of directories fail; what they were to make durable may be so all the same.
    pub failing_dir_syncs: AtomicUsize,
    /// This many writes leave half of their data and fail.
    pub failing_writes: AtomicUsize,
    /// Called before every change to the disk.
    before: Mutex<Option<Box<dyn Fn() + Send>>>,
}

impl Control {
    fn change(&self) {
        if let Some(before) = &*self.before.lock().unwrap() {
            before();
        }
    }

    fn space(&self) -> io::Result<()> {
        if self.full.load(SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

fn counted_down(counter: &AtomicUsize) -> bool {
    counter.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok()
}

impl Disk for Faulty {
    fn create_dir(&self, dir: &Path) -> io::Result<bool> {
        self.memory.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.memory.list(dir)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.control.change();
        let file = self.memory.create(path)?;
        Ok(Arc::new(FaultyFile { file, control: self.control.clone() }))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(FaultyFile { file: self.memory.open(path)?, control: self.control.clone() }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.control.change();
        self.memory.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.control.change();
        self.memory.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if counted_down(&self.control.failing_dir_syncs) {
            return Err(io::Error::other("input/output error"));
        }
        self.memory.sync_dir(dir)
    }
    fn free(&self, _: &Path) -> io::Result<u64> {
        Ok(self.control.free.lock().unwrap().unwrap_or(u64::MAX))
    }
}

struct FaultyFile {
    file: Arc<dyn File>,
    control: Arc<Control>,
}

impl File for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read_exact_at(&self, buf: &mut [u8], position: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, position)
    }
    fn write_all_at(&self, data: &[u8], position: u64) -> io::Result<()> {
        self.control.change();
        if counted_down(&self.control.failing_writes) {
            self.file.write_all_at(&data[..data.len() / 2], position)?;
            return Err(io::Error::other("input/output error"));
        }
        if position + data.len() as u64 > self.file.len()? {
            self.control.space()?;
        }
        self.file.write_all_at(data, position)
    }
    fn sync_data(&self) -> io::Result<()> {
        if counted_down(&self.control.failing_syncs) {
            return Err(io::Error::other("input/output error"));
        }
        self.file.sync_data()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.control.change();
        self.file.set_len(len)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.control.change();
        self.control.space()?;
        self.file.allocate(len)
    }
    fn write_zeros(&self, position: u64, len: u64) -> io::Result<()> {
        self.control.change();
        self.file.write_zeros(position, len)
    }
}

fn start(disk: &Arc<Faulty>, options: LogOptions) -> StreamLog {
    StreamLog::open(disk.clone(), Path::new("log"), options).unwrap()
}

fn reopened(disk: &Faulty) -> StreamLog {
    let log = open(&Arc::new(disk.memory.copy()));
    assert!(log.damage().is_empty(), "{:?}", log.damage());
    log
}

fn segments_of(disk: &Faulty) -> usize {
    disk.list(Path::new("log")).unwrap().iter().filter(|name| name.ends_with(".log")).count()
}

#[tokio::test]
async fn a_failed_sync_is_never_ok_and_the_log_goes_on_in_a_new_segment() {
    let disk = Arc::new(Faulty::default());
    let log = start(&disk, small());
    let stream = name("s");
    log.append(&stream, vec![event(b"a")]).await.unwrap();
    for faults in [&disk.control.failing_syncs, &disk.control.failing_writes] {
        let before = payloads(&log, &stream);
        log.settle();
        let segments = segments_of(&disk);
        faults.store(1, SeqCst);
        let failed = log.append(&stream, vec![event(b"lost")]).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Internal);
        assert!(failed.message().contains(".log"));
        assert_eq!(payloads(&log, &stream), before);
        assert_eq!(log.append(&stream, vec![event(b"b")]).await.unwrap(), before.len() as i64);
        assert!(segments_of(&disk) > segments);
        let after = payloads(&log, &stream);
        assert_eq!(payloads(&reopened(&disk), &stream), after);
        log.settle();
        assert_eq!(payloads(&log, &stream), after);
        assert_eq!(payloads(&reopened(&disk), &stream), after);
    }
}

/// The segment that could not be begun may be there after a crash, and says where the one before ends.
#[tokio::test]
async fn nothing_is_acknowledged_behind_the_end_that_a_successor_may_state() {
    let disk = Arc::new(Faulty::default());
    let log = start(&disk, small());
    let stream = name("s");
    log.append(&stream, vec![event(b"a")]).await.unwrap();
    log.settle();
    disk.control.failing_dir_syncs.store(1, SeqCst);
    let too_large_for_the_first = vec![b'x'; small().smallest_segment as usize];
    log.append(&stream, vec![event(&too_large_for_the_first)]).await.unwrap_err();
    assert_eq!(disk.control.failing_dir_syncs.load(SeqCst), 0, "it was to be a new segment");
    assert_eq!(log.append(&stream, vec![event(b"b")]).await.unwrap(), 1);
    assert_eq!(payloads(&reopened(&disk), &stream), [b"a", b"b"]);
}

#[tokio::test]
async fn a_failed_creation_leaves_no_stream() {
    let disk = Arc::new(Faulty::default());
    let log = start(&disk, small());
    log.append(&name("other"), vec![event(b"a")]).await.unwrap();
    log.settle();
    disk.control.failing_syncs.store(1, SeqCst);
    assert!(log.append(&name("s"), vec![event(b"a")]).await.is_err());
    assert!(!log.exists(&name("s")));
    assert!(!reopened(&disk).exists(&name("s")));
    assert_eq!(log.append(&name("s"), vec![event(b"a")]).await.unwrap(), 0);
    assert_eq!(payloads(&reopened(&disk), &name("s")), [b"a"]);
}

#[tokio::test]
async fn a_full_disk_refuses_writes_loses_nothing_and_resumes() {
    let disk = Arc::new(Faulty::default());
    let log = start(&disk, small());
    let stream = name("s");
    disk.control.full.store(true, SeqCst);
    assert_eq!(
        log.append(&stream, vec![event(b"x")]).await.unwrap_err().kind(),
        ErrorKind::ResourceExhausted
    );
    disk.control.full.store(false, SeqCst);
    let mut stored = Vec::new();
    for round in 0..5u8 {
        for i in 0..40u8 {
            stored.push([round, i, 1].repeat(100));
            log.append(&stream, vec![event(stored.last().unwrap())]).await.unwrap();
        }
        log.settle();
        disk.control.full.store(true, SeqCst);
        // What is reserved can still be used, then nothing more.
        let refused = loop {
            match log.append(&stream, vec![event(&[9; 300])]).await {
                Ok(_) => stored.push(vec![9; 300]),
                Err(e) => break e,
            }
        };
        assert_eq!(refused.kind(), ErrorKind::ResourceExhausted);
        assert_eq!(payloads(&log, &stream), stored);
        assert_eq!(payloads(&reopened(&disk), &stream), stored);
        disk.control.full.store(false, SeqCst);
    }
}

#[tokio::test]
async fn reserved_segments_leave_most_of_the_space_to_others() {
    let disk = Arc::new(Faulty::default());
    *disk.control.free.lock().unwrap() = Some(1 << 20);
    let log = start(&disk, LogOptions::default());
    log.append(&name("s"), vec![event(b"x")]).await.unwrap();
    log.settle();
    let size = |file: &String| disk.open(&Path::new("log").join(file)).unwrap().len().unwrap();
    let files = disk.list(Path::new("log")).unwrap();
    assert_eq!(files.iter().map(size).collect::<Vec<_>>(), [1 << 18; 2], "a segment and a spare: {files:?}");
}

#[tokio::test]
async fn an_interval_sync_that_fails_moves_what_was_acknowledged() {
    let disk = Arc::new(Faulty::default());
    let log = start(&disk, LogOptions { fsync: FsyncPolicy::Interval(Duration::from_millis(5)), ..small() });
    let streams = [name("a"), name("b")];
    let mut stored = vec![Vec::new(); 2];
    for stream in &streams {
        log.follow(stream).await.unwrap();
    }
    let before = segments_of(&disk);
    for i in 0..20usize {
        log.settle();
        disk.control.failing_syncs.store(1, SeqCst);
        // Until the fault has hit a sync, which only follows a write.
        while disk.control.failing_syncs.load(SeqCst) > 0 {
            let payload = vec![i as u8; 50];
            if log.append(&streams[i % 2], vec![event(&payload)]).await.is_ok() {
                stored[i % 2].push(payload);
            }
            std::thread::yield_now();
        }
        assert_eq!(payloads(&log, &streams[i % 2]), stored[i % 2]);
    }
    assert!(segments_of(&disk) > before + 10);
    log.close();
    let log = reopened(&disk);
    for (stream, stored) in streams.iter().zip(&stored) {
        assert_eq!(payloads(&log, stream), *stored);
    }
}

/// Stops the process between any two changes to the disk, the keeper's included.
#[tokio::test]
async fn a_crash_at_any_step_loses_nothing_acknowledged() {
    let disk = Arc::new(Faulty::default());
    // What was acknowledged, and a copy of the disk, before every change.
    type Stored = Vec<Vec<Vec<u8>>>;
    let acknowledged: Arc<Mutex<Stored>> = Arc::new(Mutex::new(vec![Vec::new(); 3]));
    let snapshots: Arc<Mutex<Vec<(Stored, Memory)>>> = Arc::default();
    *disk.control.before.lock().unwrap() = Some(Box::new({
        let (acknowledged, snapshots) = (acknowledged.clone(), snapshots.clone());
        let disk = Arc::downgrade(&disk);
        move || {
            if let Some(disk) = disk.upgrade() {
                let acknowledged = acknowledged.lock().unwrap().clone();
                snapshots.lock().unwrap().push((acknowledged, disk.memory.copy()));
            }
        }
    }));
    let streams: Vec<ResourceName> = ["a", "b", "c"].map(name).into();
    let log = start(&disk, small());
    for i in 0..120usize {
        let payload = vec![i as u8; 700];
        log.append(&streams[i % 3], vec![event(&payload)]).await.unwrap();
        acknowledged.lock().unwrap()[i % 3].push(payload);
    }
    log.settle();
    drop(log);
    *disk.control.before.lock().unwrap() = None;
    let snapshots = std::mem::take(&mut *snapshots.lock().unwrap());
    assert!(snapshots.len() > 150);
    for (acknowledged, memory) in snapshots {
        let memory = Arc::new(memory);
        let log = open(&memory);
        assert!(log.damage().is_empty(), "{:?}", log.damage());
        for (stream, stored) in streams.iter().zip(&acknowledged) {
            if !stored.is_empty() {
                let found = payloads(&log, stream);
                assert!(found.starts_with(stored));
                assert!(found.len() <= stored.len() + 1);
            }
        }
    }
}
