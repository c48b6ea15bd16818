//! The client through its Rust interface: what the C API is built on.

mod endpoints;
