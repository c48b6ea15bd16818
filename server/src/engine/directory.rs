//! A data directory: made when missing, owned by one process, of one format.
//!
//! ```text
//! LOCK          held by the process that owns the directory
//! FORMAT        the version of the layout
//! streams/      the segment log
//! flowmesh.db   queues, KV values and commits
//! ```

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

#[cfg(feature = "net")]
use crate::disk::ReadOnly;
use crate::{
    disk::{Disk, FileSystem, make_dir},
    error::{Error, ErrorKind, Result},
};

const FORMAT: &str = "flowmesh-data 1\n";
const FORMAT_FILE: &str = "FORMAT";
const LOCK_FILE: &str = "LOCK";

/// An owned data directory; released when dropped.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    /// The lock lives as long as this file is open.
    _lock: Option<File>,
}

impl DataDirectory {
    /// Takes `path` for this process, making the directory when its parent exists.
    pub fn open(path: &Path) -> Result<Self> {
        make(&FileSystem, path)?;
        let lock = lock(path)?;
        check_format(&FileSystem, path)?;
        Ok(Self { path: path.to_owned(), _lock: Some(lock) })
    }

    /// Takes the directory at `path`, which must be one already, and changes nothing in it.
    #[cfg(feature = "net")]
    pub fn hold(path: &Path) -> Result<Self> {
        is_one(path)?;
        let lock = match File::open(path.join(LOCK_FILE)) {
            Ok(file) => Some(take(file, path)?),
            // No server has had it since it was made, as with a backup.
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(unusable("has an unreadable LOCK file", path, &e)),
        };
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where the segment log lives.
    pub fn streams(&self) -> PathBuf {
        streams(&self.path)
    }

    /// The database file.
    pub fn database(&self) -> PathBuf {
        database(&self.path)
    }
}

/// Where the segment log lives in the data directory at `path`.
pub fn streams(path: &Path) -> PathBuf {
    path.join("streams")
}

/// The database file of the data directory at `path`.
pub fn database(path: &Path) -> PathBuf {
    path.join("flowmesh.db")
}

/// Whether `path` is a data directory of this format.
#[cfg(feature = "net")]
pub fn is_one(path: &Path) -> Result<()> {
    match read_text(&ReadOnly, &path.join(FORMAT_FILE)) {
        Ok(text) if text == FORMAT => Ok(()),
        Ok(text) => Err(other_format(path, &text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::not_found(format!(
            "{} is no data directory: it has no {FORMAT_FILE} file",
            path.display()
        ))),
        Err(e) => Err(unusable("has an unreadable FORMAT file", path, &e)),
    }
}

/// Makes `path` a data directory of this format, once all else is in it.
#[cfg(feature = "net")]
pub fn declare(path: &Path) -> Result<()> {
    write_format(&FileSystem, path).map_err(|e| unusable("is not writable", path, &e))
}

/// Makes `path` a directory, durably, when its parent exists.
pub(crate) fn make(disk: &dyn Disk, path: &Path) -> Result<()> {
    match make_dir(disk, path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(Error::new(
            ErrorKind::FailedPrecondition,
            format!("data directory {} is a file", path.display()),
        )),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::not_found(format!(
            "data directory {}: its parent does not exist (only the last component is made)",
            path.display()
        ))),
        Err(e) => Err(unusable("cannot be made", path, &e)),
    }
}

fn lock(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join(LOCK_FILE))
        .map_err(|e| unusable("is not writable", path, &e))?;
    take(file, path)
}

fn take(file: File, path: &Path) -> Result<File> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::new(
            ErrorKind::FailedPrecondition,
            format!("data directory {} is in use by another process", path.display()),
        )),
        Err(TryLockError::Error(e)) => Err(unusable("cannot be locked", path, &e)),
    }
}

/// Reads the format of `path`, or writes ours into a fresh directory: to a side file first, so
/// that a crash never leaves half a line.
pub(crate) fn check_format(disk: &dyn Disk, path: &Path) -> Result<()> {
    match read_text(disk, &path.join(FORMAT_FILE)) {
        Ok(text) if text == FORMAT => Ok(()),
        Ok(text) => Err(other_format(path, &text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            write_format(disk, path).map_err(|e| unusable("is not writable", path, &e))
        }
        Err(e) => Err(unusable("has an unreadable FORMAT file", path, &e)),
    }
}

fn write_format(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let side = path.join("FORMAT.new");
    let file = disk.create(&side)?;
    file.write_all_at(FORMAT.as_bytes(), 0)?;
    file.sync_data()?;
    disk.rename(&side, &path.join(FORMAT_FILE))?;
    disk.sync_dir(path)
}

fn other_format(path: &Path, text: &str) -> Error {
    Error::new(
        ErrorKind::FailedPrecondition,
        format!(
            "data directory {} has format {:?}, this version knows only {:?}",
            path.display(),
            text.trim_end(),
            FORMAT.trim_end()
        ),
    )
}

/// The text of a short file; what is not UTF-8 is replaced, what is too long is cut.
fn read_text(disk: &dyn Disk, path: &Path) -> io::Result<String> {
    const LONGEST: u64 = 256;
    let file = disk.open(path)?;
    let mut text = vec![0; file.len()?.min(LONGEST) as usize];
    file.read_exact_at(&mut text, 0)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn unusable(what: &str, path: &Path, e: &io::Error) -> Error {
    let kind = match e.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::ResourceExhausted,
        _ => ErrorKind::FailedPrecondition,
    };
    Error::new(kind, format!("data directory {} {what}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn refused(path: &Path) -> Error {
        DataDirectory::open(path).expect_err("must be refused")
    }

    #[test]
    fn a_directory_is_made_owned_and_released() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("data");
        let owned = DataDirectory::open(&path).unwrap();
        let second = refused(&path);
        assert_eq!(second.kind(), ErrorKind::FailedPrecondition);
        assert!(second.message().contains("in use by another process"), "{second}");
        drop(owned);
        DataDirectory::open(&path).unwrap();
    }

    #[test]
    fn a_missing_parent_is_not_made() {
        let base = tempfile::tempdir().unwrap();
        let e = refused(&base.path().join("a/b"));
        assert_eq!(e.kind(), ErrorKind::NotFound);
        assert!(!base.path().join("a").exists());
    }

    #[test]
    fn a_file_and_another_format_are_refused() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("file"), "x").unwrap();
        assert_eq!(refused(&base.path().join("file")).kind(), ErrorKind::FailedPrecondition);

        let path = base.path().join("data");
        drop(DataDirectory::open(&path).unwrap());
        fs::write(path.join("FORMAT"), "flowmesh-data 2\n").unwrap();
        let e = refused(&path);
        assert_eq!(e.kind(), ErrorKind::FailedPrecondition);
        assert!(e.message().contains("flowmesh-data 2"), "{e}");
    }
}
