//! A disk that lies: what was written and not synced is kept apart, for each file and for each
//! entry of a directory, and a power cut makes of it what a disk may.
//!
//! Every change, sync or change of a name is one step. Steps are counted, so a seed says at which
//! one the power goes, or which one fails. Threads in the background take steps only when they
//! are allowed to, so the order of steps follows from the seed as well.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{
    node::{Mood, Node},
    random::Random,
};

/// A disk, for as long as its power is on: the disk after a cut or a restart is another one.
#[derive(Clone)]
pub struct LyingDisk {
    shared: Arc<Shared>,
    /// Which life of the disk this is; those before are over.
    life: u64,
}

struct Shared {
    state: Mutex<State>,
    /// Rung when a permit is given or used up, and when the power goes.
    bell: Condvar,
}

pub(super) struct State {
    pub(super) life: u64,
    pub(super) off: bool,
    pub(super) random: Random,
    pub(super) nodes: BTreeMap<usize, Node>,
    pub(super) names: BTreeMap<PathBuf, usize>,
    pub(super) durable_names: BTreeMap<PathBuf, usize>,
    /// In order; one that is not durable keeps back all later ones of the same name.
    pub(super) changes: Vec<Change>,
    pub(super) steps: u64,
    /// The step at which the power goes.
    pub(super) cut_at: Option<u64>,
    pub(super) armed: Vec<Armed>,
    pub(super) fired: u64,
    pub(super) ignored: Option<Ignored>,
    pub(super) background: [Background; 2],
    pub(super) trace: u64,
    pub(super) verbose: bool,
}

#[derive(Clone)]
pub(super) enum Change {
    Created(PathBuf, usize),
    Renamed(PathBuf, PathBuf),
    Removed(PathBuf),
}

#[derive(Default)]
pub(super) struct Background {
    /// Steps it may take.
    permits: usize,
    waits: bool,
}

/// The threads that work behind the engine's back.
#[derive(Clone, Copy, Debug)]
pub enum Worker {
    Keeper = 0,
    Checkpointer = 1,
}

/// What can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Read,
    Write,
    /// A write or reservation that makes a file longer: there is no space.
    Space,
    Sync,
    Name,
}

/// A fault that waits for its step.
#[derive(Clone, Copy, Debug)]
pub struct Armed {
    pub class: Class,
    /// Steps of the class that still succeed.
    pub after: usize,
    /// Steps that then fail.
    pub times: usize,
}

/// Syncs that the disk claims to have done: a planted fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// Of the stream log's segments once they are in use.
    Segment,
    /// Of a segment in the making.
    NewSegment,
    /// Of a segment that was sorted.
    Sorted,
    /// Of the stream log's directory.
    StreamsDirectory,
    Database,
    WriteAheadLog,
    /// Of the directory that the database is in.
    DataDirectory,
    /// Of the one that this is in.
    Parent,
}

impl Ignored {
    pub const ALL: [Self; 8] = [
        Self::Segment,
        Self::NewSegment,
        Self::Sorted,
        Self::StreamsDirectory,
        Self::Database,
        Self::WriteAheadLog,
        Self::DataDirectory,
        Self::Parent,
    ];

    fn of(path: &Path) -> Option<Self> {
        if path == Path::new(".") {
            return Some(Self::Parent);
        }
        let name = path.file_name()?.to_str()?;
        match name {
            "next.new" | "spare.new" => Some(Self::NewSegment),
            "sealed.new" => Some(Self::Sorted),
            "streams" => Some(Self::StreamsDirectory),
            "data" => Some(Self::DataDirectory),
            _ if name.ends_with(".log") => Some(Self::Segment),
            _ if name.ends_with(".db") => Some(Self::Database),
            _ if name.ends_with("-wal") => Some(Self::WriteAheadLog),
            _ => None,
        }
    }
}

impl LyingDisk {
    pub fn new(seed: u64) -> Self {
        let state = State {
            life: 0,
            off: false,
            random: Random::new(seed),
            nodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            steps: 0,
            cut_at: None,
            armed: Vec::new(),
            fired: 0,
            ignored: None,
            background: Default::default(),
            trace: 0,
            verbose: std::env::var_os("FLOWMESH_STEPS").is_some(),
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), bell: Condvar::new() }), life: 0 }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same disk in the eyes of a new process: nothing is lost, old handles are dead.
    pub fn restarted(&self) -> Self {
        let mut state = self.state();
        state.begin_life();
        self.shared.bell.notify_all();
        Self { shared: self.shared.clone(), life: state.life }
    }

    /// The disk after a power cut.
    pub fn after_cut(&self) -> Self {
        let mut state = self.state();
        state.cut();
        state.begin_life();
        self.shared.bell.notify_all();
        Self { shared: self.shared.clone(), life: state.life }
    }

    /// Has the power go `steps` from now; 0 for never.
    pub fn cut_in(&self, steps: usize) {
        let mut state = self.state();
        state.cut_at = (steps > 0).then(|| state.steps + steps as u64);
    }

    /// Switches the power off now.
    pub fn switch_off(&self) {
        self.state().off = true;
        self.shared.bell.notify_all();
    }

    /// Whether the power went at the step that was told.
    pub fn is_cut(&self) -> bool {
        let state = self.state();
        state.off && state.cut_at.is_some_and(|at| state.steps >= at)
    }

    /// From now on the threads in the background work as they like.
    pub fn set_free(&self) {
        self.state().background.iter_mut().for_each(|background| background.permits = usize::MAX);
        self.shared.bell.notify_all();
    }

    pub fn is_off(&self) -> bool {
        self.state().off
    }

    pub fn arm(&self, armed: Armed) {
        self.state().armed.push(armed);
    }

    /// No armed fault fires any more.
    pub fn disarm(&self) {
        self.state().armed.clear();
    }

    pub fn has_armed(&self) -> bool {
        !self.state().armed.is_empty()
    }

    /// How many faults have fired in this life.
    pub fn fired(&self) -> u64 {
        self.state().fired
    }

    /// From now on the disk lies about these syncs.
    pub fn ignore(&self, ignored: Ignored) {
        self.state().ignored = Some(ignored);
    }

    /// Whether what is read of a file is on the platter.
    pub fn has_stored(&self, path: &str) -> bool {
        let state = self.state();
        let node = state.names.get(Path::new(path)).and_then(|id| state.nodes.get(id));
        node.is_some_and(Node::is_stored)
    }

    /// Tells those who look at the steps what is going on.
    pub fn say(&self, what: impl FnOnce() -> String) {
        let state = self.state();
        if state.verbose {
            eprintln!("{} {}", state.steps, what());
        }
    }

    /// Two runs of one seed have the same: it is made of every step.
    pub fn trace(&self) -> u64 {
        self.state().trace
    }

    /// The length of a file, 0 when there is none.
    pub fn len(&self, path: &str) -> usize {
        let state = self.state();
        let node = state.names.get(Path::new(path)).and_then(|id| state.nodes.get(id));
        node.map_or(0, |node| node.content().len())
    }

    /// Lets `worker` take `steps`; returns when it has, or when it is `idle`.
    pub fn let_work(&self, worker: Worker, steps: usize, idle: impl Fn() -> bool) {
        self.state().background[worker as usize].permits = steps;
        self.shared.bell.notify_all();
        loop {
            {
                let state = self.state();
                let background = &state.background[worker as usize];
                if state.off || state.life != self.life || (background.permits == 0 && background.waits) {
                    return;
                }
            }
            if idle() {
                self.state().background[worker as usize].permits = 0;
                return;
            }
            std::thread::sleep(std::time::Duration::from_micros(20));
        }
    }

    /// Flips a bit of stored data: in the last occurrence of `needle`. False if there is none.
    pub fn rot(&self, needle: &[u8]) -> bool {
        let mut state = self.state();
        let names: Vec<usize> = state.names.values().copied().collect();
        let mut hit = false;
        for node in names {
            let Some(node) = state.nodes.get_mut(&node) else { continue };
            let mut content = node.content().to_vec();
            if let Some(at) = content.windows(needle.len()).rposition(|window| window == needle) {
                content[at + needle.len() / 2] ^= 0x20;
                *node = Node::stored(content);
                hit = true;
            }
        }
        hit
    }

    /// Waits until this thread may take a step, and takes it off what it may.
    pub(super) fn turn(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        let worker = match std::thread::current().name() {
            Some("flowmesh-keeper") => Worker::Keeper,
            Some("flowmesh-ckpt") => Worker::Checkpointer,
            _ => return state,
        } as usize;
        while state.is_alive(self.life) && state.background[worker].permits == 0 {
            state.background[worker].waits = true;
            state = self.shared.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.background[worker].waits = false;
        }
        if state.is_alive(self.life) {
            state.background[worker].permits -= 1;
        }
        state
    }

    /// Counts a step; with the fault that hits it, if one does.
    pub(super) fn step(&self, class: Class, path: &Path) -> io::Result<(MutexGuard<'_, State>, bool)> {
        let mut state = self.turn();
        if !state.is_alive(self.life) {
            return Err(power_is_off());
        }
        if class != Class::Read {
            state.steps += 1;
            state.note(class, path);
            if state.cut_at.is_some_and(|at| state.steps >= at) {
                state.off = true;
                self.shared.bell.notify_all();
            }
        }
        let fails = state.fails(class);
        Ok((state, fails))
    }
}

pub(super) fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

pub(super) fn fault() -> io::Error {
    // EIO: what a system says when a disk fails.
    io::Error::from_raw_os_error(libc::EIO)
}

impl State {
    fn is_alive(&self, life: u64) -> bool {
        self.life == life && !self.off
    }

    fn begin_life(&mut self) {
        self.life += 1;
        if self.verbose {
            eprintln!("{} life {}", self.steps, self.life);
        }
        self.off = false;
        self.cut_at = None;
        self.armed.clear();
        self.fired = 0;
        self.background = Default::default();
    }

    fn note(&mut self, class: Class, path: &Path) {
        if self.verbose {
            let thread = std::thread::current();
            eprintln!("{} {class:?} {} {}", self.steps, path.display(), thread.name().unwrap_or_default());
        }
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        for byte in name.iter().copied().chain([class as u8]) {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }

    fn fails(&mut self, class: Class) -> bool {
        let Some(at) = self.armed.iter().position(|armed| armed.class == class) else { return false };
        let armed = &mut self.armed[at];
        if armed.after > 0 {
            armed.after -= 1;
            return false;
        }
        armed.times -= 1;
        if armed.times == 0 {
            self.armed.remove(at);
        }
        self.fired += 1;
        if self.verbose {
            eprintln!("{} the next {class:?} fails", self.steps);
        }
        true
    }

    /// A new node by the name of `path`: a file, or a directory, which holds nothing itself.
    pub(super) fn make(&mut self, path: &Path) -> usize {
        let id = self.nodes.keys().last().map_or(0, |id| id + 1);
        self.nodes.insert(id, Node::default());
        self.names.insert(path.to_owned(), id);
        self.changes.push(Change::Created(path.to_owned(), id));
        id
    }

    pub(super) fn path_of(&self, id: usize) -> Option<&Path> {
        self.names.iter().find(|(_, node)| **node == id).map(|(path, _)| path.as_path())
    }

    pub(super) fn lies_about(&self, path: &Path) -> bool {
        self.ignored.is_some() && self.ignored == Ignored::of(path)
    }

    fn cut(&mut self) {
        let mood = Mood::draw(&mut self.random, self.steps);
        if self.verbose {
            eprintln!("{} the power goes: {mood:?}", self.steps);
        }
        let mut kept_back = Vec::new();
        let mut names = std::mem::take(&mut self.durable_names);
        for change in std::mem::take(&mut self.changes) {
            let stays = change.paths().iter().all(|path| !kept_back.contains(*path))
                && match mood {
                    Mood::Forgetful => false,
                    Mood::Eager => true,
                    _ => self.random.chance(50),
                };
            if stays {
                change.apply(&mut names);
            } else {
                kept_back.extend(change.paths().into_iter().cloned());
            }
        }
        let names = reachable(names);
        let mut nodes = BTreeMap::new();
        for id in names.values() {
            let Some(node) = self.nodes.get(id) else { continue };
            nodes.insert(*id, Node::stored(node.after_cut(mood, &mut self.random)));
        }
        self.nodes = nodes;
        self.names = names.clone();
        self.durable_names = names;
    }
}

/// What a directory that is not there held cannot be found any more.
fn reachable(names: BTreeMap<PathBuf, usize>) -> BTreeMap<PathBuf, usize> {
    let mut found = BTreeMap::new();
    // In this order a directory comes before what it holds.
    for (path, id) in names {
        let parent = path.parent().unwrap_or(Path::new(""));
        if parent.as_os_str().is_empty() || found.contains_key(parent) {
            found.insert(path, id);
        }
    }
    found
}

impl Change {
    fn paths(&self) -> Vec<&PathBuf> {
        match self {
            Self::Created(path, _) | Self::Removed(path) => vec![path],
            Self::Renamed(from, to) => vec![from, to],
        }
    }

    pub(super) fn is_in(&self, dir: &Path) -> bool {
        self.paths().iter().any(|path| path.parent() == Some(dir))
    }

    pub(super) fn apply(self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Created(path, id) => drop(names.insert(path, id)),
            Self::Removed(path) => drop(names.remove(&path)),
            Self::Renamed(from, to) => {
                if let Some(id) = names.remove(&from) {
                    names.insert(to, id);
                }
            }
        }
    }
}
