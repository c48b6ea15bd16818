//! As much of tokio as the library's hand-over code asks for, under shuttle's scheduler.
//!
//! [`runtime`] does what tokio's current-thread runtime promises to threads that call `block_on` at
//! the same time: one of them has the core and runs the tasks, the others poll their own futures
//! and take over when the core is let go. It must not promise more, or the checks prove nothing.

pub mod runtime;
pub mod task;

/// The real one: it calls wakers with none of its locks held, so nothing is hidden from the
/// scheduler.
pub use tokio::sync;
