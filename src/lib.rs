//! libflowmesh: event streams, job queues and key-value storage for every program that can
//! call C.
//!
//! [`client`] is the asynchronous client in safe Rust, [`runtime`] what drives it. The C API is a
//! thin layer over the two.

mod boundary;
mod capi;
pub mod client;
pub mod runtime;
