//! The library's hand-over code under shuttle's scheduler, which tries many orders of events: who
//! drives the connections, what runs callbacks, how calls are cancelled.
//!
//! The files that are checked are links to the library's own. Around them stands as little as
//! they need: [`sync`] with a clock that moves when somebody sleeps, and stubs for what has no part in
//! the order of events. [`checks`] has what must hold; `tests/checks.rs` runs it. A thread that waits
//! for ever is found as a deadlock.

#![allow(dead_code, unused_imports, reason = "the library uses more of its files than the checks do")]

mod boundary;
pub mod checks;
mod client;
mod runtime;
mod sync;
