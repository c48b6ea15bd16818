//! The C API: one file per noun, in the order in which the header shows them.
//!
//! An export converts its arguments through `boundary`, calls the client, and converts what comes
//! back; it knows no transport and holds no `unsafe`. Its doc comment is its page in the manual.

#![allow(non_camel_case_types, reason = "types carry the names that C sees")]

/// cbindgen:ignore
mod boundary;
/// cbindgen:ignore
mod dispatch;
/// cbindgen:ignore
mod queue_calls;

pub mod cancel;
pub mod client;
pub mod client_access;
pub mod client_async;
pub mod dispatcher;
pub mod error;
pub mod job;
pub mod kv;
pub mod log;
pub mod message;
pub mod operation;
pub mod process;
pub mod producer;
pub mod queue;
pub mod queue_async;
pub mod reader;
pub mod retry_policy;
pub mod statistics;
pub mod status;
pub mod stream;
pub mod stream_async;
pub mod subscription;
pub mod subscription_async;
pub mod view;
pub mod worker;
