//! The FlowMesh engine and its gRPC services.
//!
//! [`Engine`] stores streams, queues and KV values in one data directory (or in memory);
//! [`services`] speaks the wire contract on top of it. The server binary puts the services on
//! sockets, the client library calls them in its own process (`embedded:`).

/// Whether a fault is planted in this thread, for tests that must find it; never outside of tests.
macro_rules! planted {
    ($fault:ident) => {{
        #[cfg(test)]
        let planted = crate::powercut::is_planted(crate::powercut::Planted::$fault);
        #[cfg(not(test))]
        let planted = false;
        planted
    }};
}

pub mod access;
pub mod clock;
pub mod commit;
pub mod database;
pub mod disk;
pub mod engine;
pub mod error;
pub mod ids;
pub mod limits;
#[cfg(feature = "net")]
pub mod net;
#[cfg(feature = "net")]
pub mod offline;
#[cfg(feature = "net")]
pub mod operator_file;
#[cfg(test)]
mod powercut;
pub mod resource;
pub mod services;
pub mod streams;
#[cfg(feature = "net")]
mod watch;

pub use engine::{Engine, EngineOptions, FsyncPolicy};
pub use error::{Error, ErrorKind};
