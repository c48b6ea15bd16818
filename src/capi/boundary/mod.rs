//! Where C's pointers become Rust values and back: the only `unsafe` of the C API.
//!
//! C keeps the contract that flowmesh.h states: a pointer that is not NULL points to what its
//! type says, alive for the call (a handle until its free). Everything else that C can get wrong
//! is checked here: NULL, lengths, sizes of structs, UTF-8.

pub mod batch;
pub mod callback;
pub mod completion;
pub mod guard;
pub mod handle;
pub mod jobs;
pub mod nullable;
pub mod options;
pub mod reports;
pub mod view;
