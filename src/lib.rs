//! libflowmesh: event streams, job queues and key-value storage for every program that can
//! call C.
//!
//! [`client`] is the asynchronous client in safe Rust, [`runtime`] what drives it, [`log`] where both
//! tell what an operator should know. The C API is a thin layer over them.

mod boundary;
mod capi;
pub mod client;
pub mod log;
pub mod runtime;
mod sync;
