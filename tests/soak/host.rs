//! The server's machine: a disk that fails and a clock that jumps, by a library that is preloaded
//! into it (`host.c`). What it is to do stands in a file that both have.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

/// What a call to the disk fails with.
#[derive(Clone, Copy)]
pub enum DiskError {
    /// Half of the data is written.
    InputOutput = 5,
    /// Nothing is.
    NoSpace = 28,
}

/// Numbers in the file, as `host.c` has them.
#[derive(Clone, Copy)]
enum Field {
    Ahead,
    FailingWrites,
    FailingSyncs,
    Error,
    Failed,
}

pub struct Host {
    library: PathBuf,
    shared: PathBuf,
    file: File,
}

impl Host {
    /// Compiles the library into `dir`.
    pub fn new(dir: &Path) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/soak/host.c");
        let (library, shared) = (dir.join("host.so"), dir.join("host"));
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-std=c11", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&library, &source])
            .status();
        assert!(compiled.expect("a C compiler, called cc").success());
        let file = File::options().read(true).write(true).create_new(true).open(&shared).expect("a file");
        file.set_len(5 * 8).expect("room");
        Self { library, shared, file }
    }

    /// Has `server` run on this machine.
    pub fn carry(&self, server: &mut Command) {
        server.env("LD_PRELOAD", &self.library).env("FLOWMESH_SOAK_HOST", &self.shared);
    }

    fn get(&self, field: Field) -> i64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, 8 * field as u64).expect("the number is there");
        i64::from_ne_bytes(bytes)
    }

    fn set(&self, field: Field, value: i64) {
        self.file.write_all_at(&value.to_ne_bytes(), 8 * field as u64).expect("the number is there");
    }

    /// The next `count` writes fail.
    pub fn fail_writes(&self, count: u64, error: DiskError) {
        self.set(Field::Error, error as i64);
        self.set(Field::FailingWrites, count as i64);
    }

    /// The next `count` syncs fail.
    pub fn fail_syncs(&self, count: u64) {
        self.set(Field::FailingSyncs, count as i64);
    }

    /// The disk works again.
    pub fn mend(&self) {
        self.set(Field::FailingWrites, 0);
        self.set(Field::FailingSyncs, 0);
    }

    /// How many writes and syncs have failed.
    pub fn failed(&self) -> u64 {
        self.get(Field::Failed) as u64
    }

    /// Moves the clock.
    pub fn jump(&self, seconds: i64) {
        self.set(Field::Ahead, self.get(Field::Ahead) + seconds);
    }
}
