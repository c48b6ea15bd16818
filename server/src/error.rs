//! What can go wrong in the engine, in the terms of the contract.

use std::fmt;

/// Result of engine calls.
pub type Result<T> = std::result::Result<T, Error>;

/// The kinds of failure that the contract tells apart; the services turn each into the gRPC
/// code of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A field breaks a rule of the contract.
    InvalidArgument,
    /// A resource, job or key does not exist.
    NotFound,
    /// The state does not permit the call.
    FailedPrecondition,
    /// The system does not let this process at the storage.
    PermissionDenied,
    /// The storage is full.
    ResourceExhausted,
    /// The engine is closing.
    Unavailable,
    /// Storage failed or is damaged.
    Internal,
}

/// A failed engine call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    /// An error of `kind`; the message names what was tried and which rule or file is concerned.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A field breaks a rule.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// Something does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// Storage failed or is damaged.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The engine is closing.
    pub fn closing() -> Self {
        Self::new(ErrorKind::Unavailable, "the server is shutting down")
    }

    /// A failed file operation: RESOURCE_EXHAUSTED when space or quota ran out, else INTERNAL.
    pub fn io(what: impl fmt::Display, e: &std::io::Error) -> Self {
        let kind = match e.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                ErrorKind::ResourceExhausted
            }
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                ErrorKind::PermissionDenied
            }
            _ => ErrorKind::Internal,
        };
        Self::new(kind, format!("{what}: {e}"))
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The text for people.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
