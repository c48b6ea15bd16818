//! A descriptor that an application's event loop can watch.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

/// Readable while it is raised. Neither raising nor lowering it ever waits.
#[derive(Debug)]
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    /// One that is not raised.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Makes it readable.
    pub fn raise(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the buffer has the length given. It can only fail where the counter is full: then
        // the descriptor is readable as wanted.
        let _ = unsafe { libc::write(self.fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Makes it unreadable.
    pub fn lower(&self) {
        let mut count = [0u8; 8];
        // SAFETY: the buffer has the length given. It can only fail where the counter is zero: then
        // the descriptor is unreadable as wanted.
        let _ = unsafe { libc::read(self.fd(), count.as_mut_ptr().cast(), count.len()) };
    }

    /// The number to watch; not to be read, written or closed by others.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
