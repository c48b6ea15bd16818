//! Errors, and what is checked of the client.

pub(crate) mod cancel;

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// A failure; what matters here is that there is one.
#[derive(Debug)]
pub(crate) struct Error;

impl Error {
    pub fn local(_: Status, _: impl Into<String>) -> Self {
        Self
    }
}

pub(crate) struct Status;

impl Status {
    pub const CLOSED: Self = Self;
    pub const FAILED_PRECONDITION: Self = Self;
}
