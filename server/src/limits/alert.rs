//! Log lines about limits that are met: often enough to be seen, too seldom to fill a disk.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Between two lines about one limit.
const PAUSE: Duration = Duration::from_secs(10);

/// One limit's lines.
#[derive(Default)]
pub struct Alert(Mutex<Said>);

#[derive(Default)]
struct Said {
    last: Option<Instant>,
    /// How often the limit was met since.
    unsaid: u64,
}

impl Alert {
    /// The limit was met; says `what` unless it was said a moment ago.
    pub fn raise(&self, what: impl std::fmt::Display) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.last.is_some_and(|last| last.elapsed() < PAUSE) {
            said.unsaid += 1;
            return;
        }
        match std::mem::take(&mut said.unsaid) {
            0 => tracing::warn!("{what}"),
            more => tracing::warn!("{what} (and {more} times since this was last said)"),
        }
        said.last = Some(Instant::now());
    }
}
