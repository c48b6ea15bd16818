//! Where a database file lives: its path, and what stands between it and the disk.
//!
//! SQLite reaches its files through a VFS of its own; what the engine does to them besides
//! (making directory entries durable, the periodic sync) goes through the same [`Disk`] as the
//! stream log. A test puts a disk that fails under both.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::{Connection, OpenFlags};

use crate::disk::{Disk, File, FileSystem};

/// A database file.
#[derive(Clone)]
pub struct Place {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    /// The SQLite VFS to use, by name; `None` for the system's.
    vfs: Option<String>,
}

impl Place {
    /// A file on the system's disks.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), disk: Arc::new(FileSystem), vfs: None }
    }

    /// A file on `disk`, which SQLite reaches through the VFS registered as `vfs`.
    #[cfg(test)]
    pub(crate) fn on(path: impl Into<PathBuf>, disk: Arc<dyn Disk>, vfs: &str) -> Self {
        Self { path: path.into(), disk, vfs: Some(vfs.to_owned()) }
    }

    /// The path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn connect(&self, flags: OpenFlags) -> rusqlite::Result<Connection> {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        match &self.vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(&self.path, flags, vfs.as_str()),
            None => Connection::open_with_flags(&self.path, flags),
        }
    }

    /// Makes the entries of the file and its WAL in their directory durable.
    pub(super) fn sync_entries(&self) -> io::Result<()> {
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        self.disk.sync_dir(dir.unwrap_or(Path::new(".")))
    }

    /// Waits until the disk of a test lets this thread go on; there is nothing to wait for otherwise.
    pub(super) fn await_turn(&self) {
        #[cfg(test)]
        self.disk.await_turn();
    }

    fn wal(&self) -> io::Result<Arc<dyn File>> {
        let mut name = self.path.as_os_str().to_owned();
        name.push("-wal");
        self.disk.open(Path::new(&name))
    }

    /// Syncs the write-ahead log.
    pub(super) fn sync_wal(&self) -> io::Result<()> {
        self.wal()?.sync_data()
    }

    /// Cuts off what the write-ahead log holds behind its first `len` bytes.
    pub(super) fn cut_wal(&self, len: u64) -> io::Result<()> {
        let file = self.wal()?;
        if file.len()? > len { file.set_len(len) } else { Ok(()) }
    }

    /// Puts on the disk what can be read of the write-ahead log. After a failed sync the system
    /// takes pages for written that are not, and later syncs leave them out: so they are written
    /// again. Nobody else may write to it meanwhile.
    pub(super) fn rewrite_wal(&self) -> io::Result<()> {
        match self.wal() {
            Ok(file) => file.rewrite(0, file.len()?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("path", &self.path).field("vfs", &self.vfs).finish_non_exhaustive()
    }
}
