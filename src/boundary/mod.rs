//! The unsafe blocks that serve the client: calls into the C library, each behind a safe type.

pub(crate) mod event_fd;
pub(crate) mod process;
pub(crate) mod signals;
