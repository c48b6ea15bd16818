//! Engines and names that the measurements use.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use flowmesh_proto::wire::encode_event;
use flowmesh_server::{
    Engine, EngineOptions, FsyncPolicy,
    resource::{ResourceKind, ResourceName},
};

/// Bytes of payload in every event, job and value.
pub const PAYLOAD: usize = 256;

/// A name in the benchmark's own namespace.
pub fn name(kind: ResourceKind, name: &str) -> ResourceName {
    ResourceName::new("bench", "engine", kind, name)
}

/// `count` streams.
pub fn streams(count: usize) -> Arc<[ResourceName]> {
    (0..count).map(|i| name(ResourceKind::Stream, &format!("s{i:03}"))).collect()
}

/// Opens the engine in `dir`.
pub fn open(dir: &Path, fsync: FsyncPolicy) -> Engine {
    Engine::open(&EngineOptions { fsync, ..EngineOptions::directory(dir) })
        .unwrap_or_else(|e| panic!("the engine in {} opens: {e}", dir.display()))
}

/// A payload that does not compress and whose first 8 bytes are `stamp`.
pub fn payload(stamp: u64) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(PAYLOAD);
    bytes.extend_from_slice(&stamp.to_le_bytes());
    while bytes.len() < PAYLOAD {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.into()
}

/// An encoded `Event` around [`payload`].
pub fn event(stamp: u64) -> Bytes {
    let mut out = BytesMut::new();
    encode_event(&mut out, &payload(stamp), std::iter::empty());
    out.freeze()
}

/// A batch of `count` encoded events.
pub fn events(count: usize) -> Vec<Bytes> {
    vec![event(0); count]
}

/// A directory that is removed with its contents at the end.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// Makes one below `base`.
    pub fn new(base: &Path) -> Self {
        std::fs::create_dir_all(base).unwrap_or_else(|e| panic!("{}: {e}", base.display()));
        Self(tempfile::tempdir_in(base).unwrap_or_else(|e| panic!("{}: {e}", base.display())))
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}
