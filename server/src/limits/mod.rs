//! The limits of a server: what a peer or a tenant can make it hold, and for how long.
//!
//! [`Limits`] are the values; [`Ledger`] is what is held against them at this moment. Where a limit
//! is met is decided by those who hold something: the network (connections, calls, frames, memory)
//! and the services (what waits, by tenant). Nothing here knows of sockets or of storage. Who is
//! refused is told which limit it was, and the flag that sets it.

#[cfg(feature = "net")]
mod alert;
mod census;
#[cfg(feature = "net")]
mod connections;
#[cfg(feature = "net")]
mod memory;
#[cfg(feature = "net")]
mod pace;
mod tenants;

#[cfg(feature = "net")]
pub(crate) use alert::Alert;
pub(crate) use census::Census;
#[cfg(feature = "net")]
pub(crate) use connections::{Admission, Connections};
#[cfg(feature = "net")]
pub(crate) use memory::{Account, Charge, Memory};
#[cfg(feature = "net")]
pub(crate) use pace::{Pace, kind};
pub(crate) use tenants::{Seat, Tenants};

#[cfg(feature = "net")]
use std::{sync::Arc, time::Duration};

use tonic::Status;

/// The values, with the defaults that `--help` tells.
#[cfg(feature = "net")]
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest request message, in bytes.
    pub max_message_bytes: usize,
    /// Largest head of a request, in bytes as HTTP/2 counts them: 32 per field beside its text.
    pub max_header_bytes: u32,
    /// Open connections of all listeners.
    pub max_connections: usize,
    /// Calls of one connection that are not answered yet: subscriptions and long polls count as
    /// long as they last.
    pub max_calls: u32,
    /// Open subscriptions of one tenant.
    pub max_subscriptions: usize,
    /// Long polls of one tenant that wait.
    pub max_waiters: usize,
    /// Bytes that peers make the server hold: replies that they do not take, requests that they do
    /// not finish.
    pub max_buffered_bytes: usize,
    /// HTTP/2 frames without content (PING, SETTINGS, RST_STREAM, empty DATA and the like) that a
    /// connection may send per second; ten times as many at once.
    pub max_control_frames: u32,
    /// Time for a connection to get ready for its first call.
    pub handshake_timeout: Duration,
    /// How long a connection may have no call before it is asked to go; `None` for ever.
    pub idle_timeout: Option<Duration>,
    /// How long a peer may be silent before it is asked whether it lives; `None` for ever.
    pub keepalive: Option<Duration>,
}

#[cfg(feature = "net")]
impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: crate::services::DEFAULT_MAX_MESSAGE_BYTES,
            max_header_bytes: 16 << 10,
            max_connections: 10_000,
            max_calls: 1024,
            max_subscriptions: 10_000,
            max_waiters: 10_000,
            max_buffered_bytes: 256 << 20,
            max_control_frames: 1000,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Some(Duration::from_secs(3600)),
            keepalive: Some(Duration::from_secs(120)),
        }
    }
}

/// What is held at this moment. Shared by every connection of a server.
#[cfg(feature = "net")]
pub(crate) struct Ledger {
    pub limits: Limits,
    pub connections: Arc<Connections>,
    pub memory: Arc<Memory>,
    pub tenants: Arc<Tenants>,
    /// For connections closed because of what they sent.
    pub floods: Alert,
}

#[cfg(feature = "net")]
impl Ledger {
    /// When a connection that comes now must be ready for its first call.
    pub fn ready_by(&self) -> tokio::time::Instant {
        tokio::time::Instant::now() + self.limits.handshake_timeout
    }

    pub fn new(limits: Limits) -> Self {
        Self {
            connections: Arc::new(Connections::new(limits.max_connections)),
            memory: Arc::new(Memory::new(limits.max_buffered_bytes)),
            tenants: Arc::new(Tenants::new(limits.max_subscriptions, limits.max_waiters)),
            floods: Alert::default(),
            limits,
        }
    }
}

/// The answer to whom a limit stops: `what` there is too much of, and the flag that says how much
/// there may be.
pub(crate) fn exhausted(what: impl std::fmt::Display, flag: &str, limit: impl std::fmt::Display) -> Status {
    Status::resource_exhausted(format!("{what}: the limit of the server is {limit} ({flag})"))
}
