//! Files, as the stream log sees them: the real file system or memory.
//!
//! All file access of the log goes through these two traits, so that a test can put a disk
//! underneath that fills up, fails or loses power. They promise what POSIX promises and no more:
//! nothing is durable before a sync, and a new or renamed file not before its directory's.

#[cfg(feature = "net")]
mod read_only;

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs, io,
    mem::MaybeUninit,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, FileExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

#[cfg(feature = "net")]
pub use read_only::ReadOnly;

/// The mode of directories that are made: payloads are their owner's business, whatever the umask.
pub const PRIVATE: u32 = 0o700;

/// A place for files.
pub trait Disk: Send + Sync {
    /// Makes `dir` when it is missing; its parent must exist. True when it was. See [`make_dir`].
    fn create_dir(&self, dir: &Path) -> io::Result<bool>;
    /// Names of the files in `dir`, in no particular order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes an empty file, in place of one that may be there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Renames a file, in place of one that may be there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; whoever has it open can go on reading.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that may still be taken in `dir`. A disk without an end has the largest number.
    fn free(&self, _dir: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    /// Called by threads in the background before they look what there is to do, so that a test can
    /// say when.
    #[cfg(test)]
    fn await_turn(&self) {}
}

/// An open file. Positions are in bytes from its start.
#[allow(clippy::len_without_is_empty)] // nobody asks
pub trait File: Send + Sync {
    /// Its length.
    fn len(&self) -> io::Result<u64>;
    /// Fills `buf`; `UnexpectedEof` when the file ends before.
    fn read_exact_at(&self, buf: &mut [u8], position: u64) -> io::Result<()>;
    /// Writes all of `data`. After a failure any part of it may be there.
    fn write_all_at(&self, data: &[u8], position: u64) -> io::Result<()>;
    /// Makes the content, and the length where it matters, durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts the file or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Extends the file to `len` with zeros and reserves the space, where the file system can.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Writes zeros over a range, so that later writes to it change no metadata.
    fn write_zeros(&self, position: u64, len: u64) -> io::Result<()>;

    /// Writes what can be read of a range again, and syncs it: for a file of which a sync may have
    /// failed before. Systems then take pages for written that are not, and only a new write has
    /// them written after all.
    fn rewrite(&self, from: u64, to: u64) -> io::Result<()> {
        const STEP: u64 = 1 << 20;
        let mut at = from;
        while at < to {
            let mut bytes = vec![0; STEP.min(to - at) as usize];
            self.read_exact_at(&mut bytes, at)?;
            self.write_all_at(&bytes, at)?;
            at += bytes.len() as u64;
        }
        self.sync_data()
    }
}

/// Makes `dir` when it is missing, durably. One that is there is made durable, too: whoever made it may
/// have ended before it was.
pub fn make_dir(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let made = disk.create_dir(dir)?;
    if !made && planted!(DirectoriesTrusted) {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    match disk.sync_dir(parent.unwrap_or(Path::new("."))) {
        // Who may not read the parent cannot sync it. It was made by somebody who answers for it.
        Err(e) if !made && e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// The file system.
#[derive(Debug, Default, Clone, Copy)]
pub struct FileSystem;

impl Disk for FileSystem {
    fn create_dir(&self, dir: &Path) -> io::Result<bool> {
        match fs::DirBuilder::new().mode(PRIVATE).create(dir) {
            Ok(()) => Ok(true),
            Err(_) if dir.is_dir() => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Arc::new(SystemFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(SystemFile(fs::File::options().read(true).write(true).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        let dir = CString::new(dir.as_os_str().as_bytes())?;
        let mut found = MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: the path ends in a zero byte, and there is room for one result.
        if unsafe { libc::statvfs(dir.as_ptr(), found.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so it has filled the result.
        let found = unsafe { found.assume_init() };
        #[allow(clippy::useless_conversion, reason = "the types differ between systems")]
        Ok(u64::from(found.f_bavail).saturating_mul(u64::from(found.f_frsize)))
    }
}

struct SystemFile(fs::File);

impl File for SystemFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_exact_at(&self, buf: &mut [u8], position: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, position)
    }

    fn write_all_at(&self, data: &[u8], position: u64) -> io::Result<()> {
        self.0.write_all_at(data, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    #[cfg(target_os = "linux")]
    fn allocate(&self, len: u64) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let len = libc::off_t::try_from(len).map_err(io::Error::other)?;
        // SAFETY: the descriptor is open as long as `self` lives; the call touches no memory.
        if unsafe { libc::fallocate(self.0.as_raw_fd(), 0, 0, len) } == 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            // A file system that cannot reserve space still works, without the guarantee.
            e if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => {
                self.0.set_len(len as u64)
            }
            e => Err(e),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn write_zeros(&self, position: u64, len: u64) -> io::Result<()> {
        static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
        let mut done = 0;
        while done < len {
            let n = ZEROS.len().min((len - done) as usize);
            self.0.write_all_at(&ZEROS[..n], position + done)?;
            done += n as u64;
        }
        Ok(())
    }
}

/// Files in memory: for engines without a directory, and for tests.
#[derive(Default)]
pub struct Memory {
    files: Mutex<BTreeMap<PathBuf, Arc<MemoryFile>>>,
}

impl Memory {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// An independent disk with the same files.
    pub fn copy(&self) -> Self {
        let files =
            lock(&self.files).iter().map(|(path, file)| (path.clone(), Arc::new(file.copy()))).collect();
        Self { files: Mutex::new(files) }
    }

    fn find(&self, path: &Path) -> io::Result<Arc<MemoryFile>> {
        lock(&self.files).get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk for Memory {
    fn create_dir(&self, _dir: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let in_dir = |path: &PathBuf| {
            (path.parent() == Some(dir))
                .then(|| path.file_name().unwrap_or_default().to_string_lossy().into_owned())
        };
        Ok(lock(&self.files).keys().filter_map(in_dir).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = Arc::new(MemoryFile::default());
        lock(&self.files).insert(path.to_owned(), file.clone());
        Ok(file)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.find(path)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = lock(&self.files);
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        lock(&self.files).remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
}

const CHUNK: usize = 1 << 16;
type Chunk = Box<[u8; CHUNK]>;

/// Chunks that were never written take no memory and read as zeros.
#[derive(Default)]
struct MemoryFile(RwLock<Content>);

#[derive(Default, Clone)]
struct Content {
    len: u64,
    chunks: Vec<Option<Chunk>>,
}

impl MemoryFile {
    fn copy(&self) -> Self {
        Self(RwLock::new(self.0.read().unwrap_or_else(PoisonError::into_inner).clone()))
    }

    fn edit<R>(&self, f: impl FnOnce(&mut Content) -> R) -> R {
        f(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Splits a range at chunk borders: (chunk, from, bytes).
fn pieces(position: u64, len: u64) -> impl Iterator<Item = (usize, usize, usize)> {
    let end = position + len;
    let mut at = position;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let from = (at % CHUNK as u64) as usize;
            let n = ((CHUNK - from) as u64).min(end - at) as usize;
            let chunk = (at / CHUNK as u64) as usize;
            at += n as u64;
            (chunk, from, n)
        })
    })
}

impl Content {
    fn resize(&mut self, len: u64) {
        if len < self.len {
            self.fill_zeros(len, self.len - len);
        }
        self.len = len;
        self.chunks.resize_with(len.div_ceil(CHUNK as u64) as usize, || None);
    }

    fn fill_zeros(&mut self, position: u64, len: u64) {
        for (chunk, from, n) in pieces(position, len) {
            if n == CHUNK {
                self.chunks[chunk] = None;
            } else if let Some(chunk) = &mut self.chunks[chunk] {
                chunk[from..from + n].fill(0);
            }
        }
    }
}

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).len)
    }

    fn read_exact_at(&self, mut buf: &mut [u8], position: u64) -> io::Result<()> {
        let content = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if position + buf.len() as u64 > content.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (chunk, from, n) in pieces(position, buf.len() as u64) {
            let (head, rest) = buf.split_at_mut(n);
            match &content.chunks[chunk] {
                Some(chunk) => head.copy_from_slice(&chunk[from..from + n]),
                None => head.fill(0),
            }
            buf = rest;
        }
        Ok(())
    }

    fn write_all_at(&self, mut data: &[u8], position: u64) -> io::Result<()> {
        self.edit(|content| {
            let end = position + data.len() as u64;
            if end > content.len {
                content.resize(end);
            }
            for (chunk, from, n) in pieces(position, data.len() as u64) {
                let (head, rest) = data.split_at(n);
                let chunk = content.chunks[chunk].get_or_insert_with(|| {
                    // Made on the heap: a chunk is too large for some threads' stacks.
                    vec![0; CHUNK]
                        .into_boxed_slice()
                        .try_into()
                        .unwrap_or_else(|_| unreachable!("its length is CHUNK"))
                });
                chunk[from..from + n].copy_from_slice(head);
                data = rest;
            }
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.edit(|content| content.resize(len));
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.edit(|content| content.resize(len.max(content.len)));
        Ok(())
    }

    fn write_zeros(&self, position: u64, len: u64) -> io::Result<()> {
        self.edit(|content| {
            content.resize(content.len.max(position + len));
            content.fill_zeros(position, len);
        });
        Ok(())
    }
}
