//! A private copy of a database, to look into: SQLite cannot read a file with a write-ahead log
//! without writing beside it.

use std::{
    env,
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process,
    time::SystemTime,
};

use crate::{
    disk::PRIVATE,
    error::{Error, Result},
};

/// A directory of this process alone, removed when dropped.
pub struct Private {
    dir: PathBuf,
}

/// What came of copying.
pub enum Copied {
    /// The copy is there.
    Whole,
    /// There is no such file.
    Nothing,
    /// The file cannot be read.
    Unreadable(io::Error),
}

impl Private {
    /// An empty one, where the system keeps temporary files.
    pub fn make() -> Result<Self> {
        let moment = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
        let dir = env::temp_dir().join(format!("flowmesh-verify.{}.{moment:x}", process::id()));
        // It must not exist: what stands there may be somebody else's.
        DirBuilder::new().mode(PRIVATE).create(&dir).map_err(|e| no_room(&dir, &e))?;
        Ok(Self { dir })
    }

    /// Where the copy of the database `file` is.
    pub fn place_of(&self, file: &Path) -> PathBuf {
        self.dir.join(file.file_name().unwrap_or_default())
    }

    /// Copies the database `file` with its write-ahead log, which may hold more than the file.
    pub fn copy(&self, file: &Path) -> Result<Copied> {
        match self.copy_one(file)? {
            Copied::Whole => {}
            other => return Ok(other),
        }
        let mut log = file.as_os_str().to_owned();
        log.push("-wal");
        Ok(match self.copy_one(Path::new(&log))? {
            Copied::Nothing => Copied::Whole,
            other => other,
        })
    }

    fn copy_one(&self, file: &Path) -> Result<Copied> {
        let mut from = match File::open(file) {
            Ok(from) => from,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Copied::Nothing),
            Err(e) => return Err(Error::io(file.display(), &e)),
        };
        let place = self.place_of(file);
        let mut to = File::create_new(&place).map_err(|e| no_room(&place, &e))?;
        let mut bytes = vec![0; 1 << 20];
        loop {
            match from.read(&mut bytes) {
                Ok(0) => return Ok(Copied::Whole),
                Ok(n) => to.write_all(&bytes[..n]).map_err(|e| no_room(&place, &e))?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Ok(Copied::Unreadable(e)),
            }
        }
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn no_room(place: &Path, e: &io::Error) -> Error {
    Error::io(format_args!("the check reads a copy of the database, {} (see TMPDIR)", place.display()), e)
}
