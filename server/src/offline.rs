//! What an operator does to a data directory beside the server that owns it: check it, copy it.
//!
//! Nothing here changes the directory, or needs to: it may belong to somebody else, on a disk that
//! can only be read. A check wants it for itself; a copy can be made while a server works in it.

mod private;

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use private::{Copied, Private};

use crate::{
    database,
    disk::PRIVATE,
    engine::directory::{self, DataDirectory},
    error::{Error, ErrorKind, Result},
    streams,
};

/// What the check of a data directory found.
#[derive(Debug)]
pub struct Checked {
    /// Of the segment log.
    pub streams: streams::Checked,
    /// Of the database.
    pub database: database::Checked,
}

impl Checked {
    /// What is not as it was stored: each names its file and, in the log, the position.
    pub fn damage(&self) -> impl Iterator<Item = &str> {
        self.streams.damage.iter().chain(&self.database.damage).map(String::as_str)
    }

    /// What is worth knowing and harms nobody.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.streams.notes.iter().chain(&self.database.notes).map(String::as_str)
    }
}

/// Reads all of the data directory at `path`, which nobody else may have open, and checks it.
///
/// # Errors
/// It is no data directory, is in use, or cannot be read. Damage is no error.
pub fn verify(path: &Path) -> Result<Checked> {
    let held = DataDirectory::hold(path)?;
    Ok(Checked { streams: streams::verify(&held.streams())?, database: verify_database(&held.database())? })
}

/// Checks a database without touching it.
fn verify_database(file: &Path) -> Result<database::Checked> {
    let private = Private::make()?;
    let copy = private.place_of(file);
    let as_found = |text: String| text.replace(&copy.display().to_string(), &file.display().to_string());
    let mut checked = match private.copy(file)? {
        Copied::Whole | Copied::Nothing => {
            database::verify(&copy).map_err(|e| Error::new(e.kind(), as_found(e.message().to_owned())))?
        }
        Copied::Unreadable(e) => {
            database::Checked { damage: vec![format!("{}: {e}", file.display())], ..Default::default() }
        }
    };
    checked.damage = checked.damage.into_iter().map(as_found).collect();
    Ok(checked)
}

/// Copies the data directory at `from` to the new directory `to`, and checks the copy. Everything that
/// was acknowledged when it begins is in the copy; what comes meanwhile may be. `to` appears
/// when it is complete, and can be used, or copied back, as a data directory.
///
/// # Errors
/// `from` is no data directory or cannot be read, `to` exists, is inside of `from` or cannot be
/// written.
pub fn back_up(from: &Path, to: &Path) -> Result<Checked> {
    directory::is_one(from)?;
    if to.symlink_metadata().is_ok() {
        return Err(Error::new(
            ErrorKind::FailedPrecondition,
            format!("{} exists: a backup makes its directory itself", to.display()),
        ));
    }
    let real = |path: &Path| path.canonicalize().map_err(|e| Error::io(path.display(), &e));
    if real(parent(to))?.starts_with(real(from)?) {
        return Err(Error::new(
            ErrorKind::FailedPrecondition,
            format!("{} is inside of {}, which it is to be a copy of", to.display(), from.display()),
        ));
    }
    let making = beside(to)?;
    let made = copy(from, &making).and_then(|()| check_copy(&making)).and_then(|checked| {
        fs::rename(&making, to)
            .and_then(|()| File::open(parent(to))?.sync_all())
            .map_err(|e| Error::io(to.display(), &e))?;
        Ok(checked)
    });
    if made.is_err() {
        // What stays behind says by its name that it is no backup.
        let _ = fs::remove_dir_all(&making);
    }
    made
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    DirBuilder::new().mode(PRIVATE).create(to).map_err(|e| Error::io(to.display(), &e))?;
    // The database first: a commit of a consumer group must not name a message that is not there.
    database::copy(&directory::database(from), &directory::database(to))?;
    streams::copy(&directory::streams(from), &directory::streams(to))?;
    directory::declare(to)
}

/// Checks a copy that nobody else knows of, so that SQLite may work beside it.
fn check_copy(path: &Path) -> Result<Checked> {
    let file = directory::database(path);
    let checked =
        Checked { streams: streams::verify(&directory::streams(path))?, database: database::verify(&file)? };
    // What it leaves has served its purpose: the copy has no write-ahead log.
    for suffix in ["-shm", "-wal"] {
        let mut left = file.clone().into_os_string();
        left.push(suffix);
        match fs::remove_file(&left) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(Path::new(&left).display(), &e)),
        }
    }
    Ok(checked)
}

/// Where a backup is made before it gets its name.
fn beside(to: &Path) -> Result<PathBuf> {
    let name =
        to.file_name().ok_or_else(|| Error::invalid(format!("{} names no directory", to.display())))?;
    let mut name = name.to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    Ok(to.with_file_name(name))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
