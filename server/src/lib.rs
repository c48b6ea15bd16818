//! The FlowMesh engine and its gRPC services.
//!
//! [`Engine`] stores streams, queues and KV values in one data directory (or in memory);
//! [`services`] speaks the wire contract on top of it. The server binary puts the services on
//! sockets, the client library calls them in its own process (`embedded:`).

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
pub mod resource;
pub mod services;
pub mod streams;

pub use engine::{Engine, EngineOptions, FsyncPolicy};
pub use error::{Error, ErrorKind};
