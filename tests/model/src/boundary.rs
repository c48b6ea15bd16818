//! Stubs of what the system gives the library.

pub(crate) mod event_fd;
pub(crate) mod process;
pub(crate) mod signals;
