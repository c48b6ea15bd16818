//! The id of this process, without a system call: every call of the library asks for it, to find
//! out whether it runs in the child of a fork.
//!
//! It is kept in a page that the kernel hands empty to such a child.

use std::{
    io, process, ptr,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// As [`std::process::id`].
pub(crate) fn id() -> u32 {
    static KEPT: OnceLock<Option<&'static AtomicU32>> = OnceLock::new();
    let Some(kept) = KEPT.get_or_init(|| page().ok()) else { return process::id() };
    match kept.load(Ordering::Relaxed) {
        // No process has this id: nobody has asked yet in this one.
        0 => {
            let id = process::id();
            kept.store(id, Ordering::Relaxed);
            id
        }
        id => id,
    }
}

/// A number in a page of its own, which is 0 at first and again after a fork. It is never given back.
fn page() -> io::Result<&'static AtomicU32> {
    const LEN: usize = size_of::<AtomicU32>();
    // SAFETY: a new anonymous mapping; nobody else's memory is touched.
    let page = unsafe {
        libc::mmap(
            ptr::null_mut(),
            LEN,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping from above; the advice only says what a child gets.
    if unsafe { libc::madvise(page, LEN, libc::MADV_WIPEONFORK) } != 0 {
        let error = io::Error::last_os_error();
        // SAFETY: the mapping from above, which nobody knows yet.
        unsafe { libc::munmap(page, LEN) };
        return Err(error);
    }
    // SAFETY: page-aligned, zeroed, large enough, mapped for good, and only read and written as an atomic.
    Ok(unsafe { &*page.cast::<AtomicU32>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_id_of_this_process() {
        assert_eq!((id(), id()), (process::id(), process::id()));
    }
}
