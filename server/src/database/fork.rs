//! Forks of a process that has a database open. The child may open one of its own, but the mutexes
//! that SQLite has for the whole process would stay as they are at that moment: what another thread
//! holds, nobody releases in the child. So whoever forks takes them all first.

use std::{io, sync::OnceLock};

use rusqlite::ffi;

/// Those mutexes, in the order in which SQLite takes them where it holds several.
const MUTEXES: [i32; 7] = [
    ffi::SQLITE_MUTEX_STATIC_OPEN,
    ffi::SQLITE_MUTEX_STATIC_VFS1,
    ffi::SQLITE_MUTEX_STATIC_PRNG,
    ffi::SQLITE_MUTEX_STATIC_MAIN,
    ffi::SQLITE_MUTEX_STATIC_LRU,
    ffi::SQLITE_MUTEX_STATIC_PMEM,
    ffi::SQLITE_MUTEX_STATIC_MEM,
];

/// Has forks from now on find SQLite's mutexes free.
///
/// # Errors
/// The system has no memory left to remember it.
pub(super) fn prepare() -> io::Result<()> {
    static PREPARED: OnceLock<i32> = OnceLock::new();
    // SAFETY: the functions may be called at any time, and stay: what is loaded of this library is not
    // unloaded.
    match *PREPARED.get_or_init(|| unsafe { libc::pthread_atfork(Some(hold), Some(release), Some(release)) })
    {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

unsafe extern "C" fn hold() {
    for id in MUTEXES {
        // SAFETY: a static mutex of this number is there for good; it is no recursive one, and nobody
        // forks inside of SQLite.
        unsafe { ffi::sqlite3_mutex_enter(ffi::sqlite3_mutex_alloc(id)) };
    }
}

unsafe extern "C" fn release() {
    for id in MUTEXES.into_iter().rev() {
        // SAFETY: the thread that forks has entered it, and in the child it is that thread that goes on.
        unsafe { ffi::sqlite3_mutex_leave(ffi::sqlite3_mutex_alloc(id)) };
    }
}
