//! SQLite on a lying disk: a VFS over the engine's own [`Disk`].
//!
//! SQLite takes files through a table of C functions, so this needs `unsafe`; it is compiled into
//! tests only. Locks and the index of the write-ahead log are kept in memory, shared by the
//! connections of one [`Vfs`]: a process that dies loses them, and so does a new `Vfs`.

use std::{
    collections::HashMap,
    ffi::{CStr, CString, OsStr, c_char, c_int, c_void},
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    ptr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering, fence},
    },
};

use rusqlite::ffi;

use crate::disk::{Disk, File};

/// A VFS, registered until it is dropped. No connection may outlive it.
pub struct Vfs {
    table: *mut ffi::sqlite3_vfs,
    name: CString,
}

/// What the C functions find behind `pAppData`.
struct Home {
    disk: Arc<dyn Disk>,
    files: Mutex<HashMap<PathBuf, Arc<Mutex<Shared>>>>,
}

/// What connections to one database share.
#[derive(Default)]
struct Shared {
    readers: usize,
    reserved: bool,
    pending: bool,
    exclusive: bool,
    /// Regions of the index of the write-ahead log, and who has them mapped.
    regions: Vec<*mut [u64]>,
    mapped: usize,
    slots: [Slot; ffi::SQLITE_SHM_NLOCK as usize],
}

#[derive(Default, Clone, Copy)]
struct Slot {
    shared: usize,
    exclusive: bool,
}

// SAFETY: the regions are plain memory; SQLite's own protocol decides who touches them when.
unsafe impl Send for Shared {}

/// An open file as SQLite sees it: it allocates, we fill in.
#[repr(C)]
struct Handle {
    base: ffi::sqlite3_file,
    open: *mut Open,
}

struct Open {
    home: Arc<Home>,
    path: PathBuf,
    file: Arc<dyn File>,
    /// The entry of a new journal becomes durable with its first sync.
    sync_entry: bool,
    delete: bool,
    shared: Arc<Mutex<Shared>>,
    level: c_int,
    mapped: bool,
    held: [Slot; ffi::SQLITE_SHM_NLOCK as usize],
}

impl Vfs {
    /// Registers a VFS whose files are on `disk`.
    pub fn register(disk: Arc<dyn Disk>) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("lying-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let name = CString::new(name).unwrap_or_default();
        let home = Arc::new(Home { disk, files: Mutex::default() });
        let table = Box::new(ffi::sqlite3_vfs {
            iVersion: 2,
            szOsFile: size_of::<Handle>() as c_int,
            mxPathname: 512,
            pNext: ptr::null_mut(),
            zName: name.as_ptr(),
            pAppData: Arc::into_raw(home).cast_mut().cast(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_pathname),
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            xRandomness: Some(randomness),
            xSleep: Some(sleep),
            xCurrentTime: Some(current_time),
            xGetLastError: Some(last_error),
            xCurrentTimeInt64: Some(current_time_int64),
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        });
        let table = Box::into_raw(table);
        // SAFETY: the table and the name stay where they are until `drop` has unregistered them.
        let result = unsafe { ffi::sqlite3_vfs_register(table, 0) };
        assert_eq!(result, ffi::SQLITE_OK);
        Self { table, name }
    }

    /// The name under which connections find it.
    pub fn name(&self) -> &str {
        self.name.to_str().unwrap_or_default()
    }
}

impl Drop for Vfs {
    fn drop(&mut self) {
        // SAFETY: made by `register`; no connection is left that uses it.
        unsafe {
            ffi::sqlite3_vfs_unregister(self.table);
            let table = Box::from_raw(self.table);
            drop(Arc::from_raw(table.pAppData.cast_const().cast::<Home>()));
        }
    }
}

// SAFETY: the table is only read after it was registered.
unsafe impl Send for Vfs {}

impl Drop for Shared {
    fn drop(&mut self) {
        for region in self.regions.drain(..) {
            // SAFETY: made by `Box::into_raw` in `shm_map`; nobody has it mapped any more.
            drop(unsafe { Box::from_raw(region) });
        }
    }
}

/// The lock that a checkpoint takes first.
const CHECKPOINT_SLOT: c_int = 1;

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// SQLite's word for how an operation ended.
fn code(result: io::Result<()>, otherwise: c_int) -> c_int {
    match result {
        Ok(()) => ffi::SQLITE_OK,
        Err(e) if e.kind() == io::ErrorKind::StorageFull => ffi::SQLITE_FULL,
        Err(_) => otherwise,
    }
}

/// # Safety
/// `vfs` must be one that [`Vfs::register`] made.
unsafe fn home<'a>(vfs: *mut ffi::sqlite3_vfs) -> &'a Home {
    // SAFETY: `pAppData` is the home for as long as the VFS is registered.
    unsafe { &*(*vfs).pAppData.cast::<Home>() }
}

/// # Safety
/// `file` must be one that [`open`] has opened and [`close`] has not closed.
unsafe fn opened<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Open {
    // SAFETY: SQLite uses a file from one thread at a time.
    unsafe { &mut *(*file.cast::<Handle>()).open }
}

/// # Safety
/// `name` must be a C string or null.
unsafe fn path(name: *const c_char) -> Option<PathBuf> {
    // SAFETY: as the caller says.
    (!name.is_null()).then(|| unsafe { OsStr::from_bytes(CStr::from_ptr(name).to_bytes()) }.into())
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes the VFS, a name, room for a `Handle` and room for the flags or null.
    unsafe {
        (*file).pMethods = ptr::null();
        // Temporary files are kept in memory by our settings.
        let Some(path) = path(name) else { return ffi::SQLITE_CANTOPEN };
        Arc::increment_strong_count((*vfs).pAppData.cast::<Home>());
        let home = Arc::from_raw((*vfs).pAppData.cast::<Home>());
        let mut is_new = false;
        let found = home.disk.open(&path).or_else(|e| {
            if e.kind() != io::ErrorKind::NotFound || flags & ffi::SQLITE_OPEN_CREATE == 0 {
                return Err(e);
            }
            is_new = true;
            home.disk.create(&path)
        });
        let Ok(found) = found else { return ffi::SQLITE_CANTOPEN };
        let journal = ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL;
        let shared = guard(&home.files).entry(path.clone()).or_default().clone();
        let open = Box::new(Open {
            path,
            file: found,
            sync_entry: is_new && flags & journal != 0,
            delete: flags & ffi::SQLITE_OPEN_DELETEONCLOSE != 0,
            shared,
            home,
            level: ffi::SQLITE_LOCK_NONE,
            mapped: false,
            held: Default::default(),
        });
        (*file.cast::<Handle>()).open = Box::into_raw(open);
        (*file).pMethods = &METHODS;
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite closes what it has opened, once.
    unsafe {
        unlock(file, ffi::SQLITE_LOCK_NONE);
        shm_unmap(file, 0);
        let open = Box::from_raw((*file.cast::<Handle>()).open);
        (*file).pMethods = ptr::null();
        if open.delete {
            // It goes with the directory if not now.
            let _ = open.home.disk.remove(&open.path);
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync_dir: c_int) -> c_int {
    // SAFETY: SQLite passes the VFS and a name.
    let (home, path) = unsafe { (home(vfs), path(name)) };
    let Some(path) = path else { return ffi::SQLITE_IOERR_DELETE };
    match home.disk.remove(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => ffi::SQLITE_IOERR_DELETE_NOENT,
        Ok(()) if sync_dir != 0 => code(home.disk.sync_dir(parent(&path)), ffi::SQLITE_IOERR_DIR_FSYNC),
        result => code(result, ffi::SQLITE_IOERR_DELETE),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

unsafe extern "C" fn access(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    _flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes the VFS, a name and room for the answer.
    unsafe {
        let Some(path) = path(name) else { return ffi::SQLITE_IOERR_ACCESS };
        // An empty journal counts as none, as with SQLite's own.
        *out = match home(vfs).disk.open(&path).and_then(|file| file.len()) {
            Ok(len) => c_int::from(len > 0),
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(_) => return ffi::SQLITE_IOERR_ACCESS,
        };
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_pathname(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    size: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: SQLite passes a name and `size` bytes of room.
    unsafe {
        let name = CStr::from_ptr(name).to_bytes_with_nul();
        if name.len() > size as usize {
            return ffi::SQLITE_CANTOPEN;
        }
        ptr::copy_nonoverlapping(name.as_ptr().cast(), out, name.len());
    }
    ffi::SQLITE_OK
}

/// The system's VFS, for what has nothing to do with files.
fn system() -> *mut ffi::sqlite3_vfs {
    // SAFETY: no arguments to get wrong; SQLite always has a default VFS.
    unsafe { ffi::sqlite3_vfs_find(ptr::null()) }
}

unsafe extern "C" fn randomness(_vfs: *mut ffi::sqlite3_vfs, n: c_int, out: *mut c_char) -> c_int {
    // SAFETY: passed on as they came.
    unsafe { (*system()).xRandomness.map_or(0, |random| random(system(), n, out)) }
}

unsafe extern "C" fn sleep(_vfs: *mut ffi::sqlite3_vfs, micros: c_int) -> c_int {
    // Who waits for a thread that stands still waits in vain: no time passes.
    micros
}

unsafe extern "C" fn current_time(_vfs: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    // SAFETY: passed on as it came.
    unsafe { (*system()).xCurrentTime.map_or(ffi::SQLITE_ERROR, |time| time(system(), out)) }
}

unsafe extern "C" fn current_time_int64(_vfs: *mut ffi::sqlite3_vfs, out: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: passed on as it came.
    unsafe { (*system()).xCurrentTimeInt64.map_or(ffi::SQLITE_ERROR, |time| time(system(), out)) }
}

unsafe extern "C" fn last_error(_vfs: *mut ffi::sqlite3_vfs, _n: c_int, _out: *mut c_char) -> c_int {
    0
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    out: *mut c_void,
    n: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite passes an open file and `n` bytes of room.
    let (open, out) = unsafe { (opened(file), std::slice::from_raw_parts_mut(out.cast::<u8>(), n as usize)) };
    let Ok(len) = open.file.len() else { return ffi::SQLITE_IOERR_READ };
    let there = len.saturating_sub(at as u64).min(n as u64) as usize;
    let (found, missing) = out.split_at_mut(there);
    if !found.is_empty() && open.file.read_exact_at(found, at as u64).is_err() {
        return ffi::SQLITE_IOERR_READ;
    }
    missing.fill(0);
    if missing.is_empty() { ffi::SQLITE_OK } else { ffi::SQLITE_IOERR_SHORT_READ }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    data: *const c_void,
    n: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite passes an open file and `n` bytes.
    let (open, data) = unsafe { (opened(file), std::slice::from_raw_parts(data.cast::<u8>(), n as usize)) };
    code(open.file.write_all_at(data, at as u64), ffi::SQLITE_IOERR_WRITE)
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, len: ffi::sqlite3_int64) -> c_int {
    // SAFETY: SQLite passes an open file.
    let open = unsafe { opened(file) };
    code(open.file.set_len(len as u64), ffi::SQLITE_IOERR_TRUNCATE)
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    let open = unsafe { opened(file) };
    let result = code(open.file.sync_data(), ffi::SQLITE_IOERR_FSYNC);
    if result != ffi::SQLITE_OK || !open.sync_entry {
        return result;
    }
    open.sync_entry = false;
    // SQLite's own VFS does not look at the result either.
    let _ = open.home.disk.sync_dir(parent(&open.path));
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, out: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: SQLite passes an open file and room for the answer.
    unsafe {
        match opened(file).file.len() {
            Ok(len) => *out = len as ffi::sqlite3_int64,
            Err(_) => return ffi::SQLITE_IOERR_FSTAT,
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    let open = unsafe { opened(file) };
    let mut shared = guard(&open.shared);
    if level <= open.level {
        return ffi::SQLITE_OK;
    }
    match level {
        ffi::SQLITE_LOCK_SHARED => {
            if shared.pending || shared.exclusive {
                return ffi::SQLITE_BUSY;
            }
            shared.readers += 1;
        }
        ffi::SQLITE_LOCK_RESERVED => {
            if shared.reserved || shared.pending {
                return ffi::SQLITE_BUSY;
            }
            shared.reserved = true;
        }
        _ => {
            let others_reserved = shared.reserved && open.level < ffi::SQLITE_LOCK_RESERVED;
            if others_reserved || (shared.pending && open.level < ffi::SQLITE_LOCK_PENDING) {
                return ffi::SQLITE_BUSY;
            }
            shared.reserved = true;
            shared.pending = true;
            open.level = ffi::SQLITE_LOCK_PENDING;
            if shared.readers > 1 {
                return ffi::SQLITE_BUSY;
            }
            shared.exclusive = true;
        }
    }
    open.level = level;
    ffi::SQLITE_OK
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    let open = unsafe { opened(file) };
    let mut shared = guard(&open.shared);
    if level >= open.level {
        return ffi::SQLITE_OK;
    }
    if open.level >= ffi::SQLITE_LOCK_RESERVED {
        shared.reserved = false;
    }
    if open.level >= ffi::SQLITE_LOCK_PENDING {
        (shared.pending, shared.exclusive) = (false, false);
    }
    if level == ffi::SQLITE_LOCK_NONE {
        shared.readers -= 1;
    }
    open.level = level;
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: SQLite passes an open file and room for the answer.
    unsafe { *out = c_int::from(guard(&opened(file).shared).reserved) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_file: *mut ffi::sqlite3_file, _op: c_int, _arg: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_file: *mut ffi::sqlite3_file) -> c_int {
    // What SQLite assumes of every disk.
    4096
}

unsafe extern "C" fn device_characteristics(_file: *mut ffi::sqlite3_file) -> c_int {
    // Also what it assumes by default: a torn write damages nothing beside it.
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: SQLite passes an open file and room for the pointer.
    unsafe {
        let open = opened(file);
        let mut shared = guard(&open.shared);
        if !open.mapped {
            open.mapped = true;
            shared.mapped += 1;
        }
        while extend != 0 && shared.regions.len() <= region as usize {
            let memory = vec![0_u64; size as usize / size_of::<u64>()].into_boxed_slice();
            shared.regions.push(Box::into_raw(memory));
        }
        *out = shared.regions.get(region as usize).map_or(ptr::null_mut(), |region| region.cast());
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_lock(file: *mut ffi::sqlite3_file, offset: c_int, n: c_int, flags: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    let open = unsafe { opened(file) };
    if flags & ffi::SQLITE_SHM_LOCK != 0 && offset == CHECKPOINT_SLOT {
        // A step on the disk: which commits a checkpoint sees must not depend on when its thread was
        // scheduled.
        let _ = open.file.len();
    }
    let mut shared = guard(&open.shared);
    let slots = offset as usize..(offset + n) as usize;
    if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        for slot in slots {
            let held = std::mem::take(&mut open.held[slot]);
            shared.slots[slot].shared -= held.shared;
            shared.slots[slot].exclusive &= !held.exclusive;
        }
        return ffi::SQLITE_OK;
    }
    let exclusive = flags & ffi::SQLITE_SHM_EXCLUSIVE != 0;
    let taken = |slot: usize| {
        let (all, own) = (shared.slots[slot], open.held[slot]);
        (all.exclusive && !own.exclusive) || (exclusive && all.shared > own.shared)
    };
    if slots.clone().any(taken) {
        return ffi::SQLITE_BUSY;
    }
    for slot in slots {
        if exclusive {
            (shared.slots[slot].exclusive, open.held[slot].exclusive) = (true, true);
        } else if open.held[slot].shared == 0 {
            shared.slots[slot].shared += 1;
            open.held[slot].shared = 1;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_barrier(_file: *mut ffi::sqlite3_file) {
    fence(Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, _delete: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    let open = unsafe { opened(file) };
    let mut shared = guard(&open.shared);
    if std::mem::take(&mut open.mapped) {
        for slot in 0..open.held.len() {
            let held = std::mem::take(&mut open.held[slot]);
            shared.slots[slot].shared -= held.shared;
            shared.slots[slot].exclusive &= !held.exclusive;
        }
        shared.mapped -= 1;
        if shared.mapped == 0 {
            for region in shared.regions.drain(..) {
                // SAFETY: made by `Box::into_raw` in `shm_map`; nobody has it mapped any more.
                drop(unsafe { Box::from_raw(region) });
            }
        }
    }
    ffi::SQLITE_OK
}
