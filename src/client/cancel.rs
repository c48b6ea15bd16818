//! Ending calls from outside: by the caller's token, or because the client closes.

use std::pin::pin;

use tokio::sync::Notify;

use crate::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Ends calls from another thread. Clones are one token; once cancelled it stays so, and every
/// call that has it ends with CANCELLED.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<Event>);

impl CancelToken {
    /// A token that nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends every call, present and future, that was given this token.
    pub fn cancel(&self) {
        self.0.set();
    }

    /// Whether [`CancelToken::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_set()
    }

    pub(crate) fn event(&self) -> &Event {
        &self.0
    }
}

/// Something that happens once.
#[derive(Debug, Default)]
pub(crate) struct Event {
    happened: AtomicBool,
    waiting: Notify,
}

impl Event {
    pub fn is_set(&self) -> bool {
        self.happened.load(Ordering::Acquire)
    }

    /// True for the first call.
    pub fn set(&self) -> bool {
        let first = !self.happened.swap(true, Ordering::AcqRel);
        self.waiting.notify_waiters();
        first
    }

    /// Resolves when it has happened.
    pub async fn wait(&self) {
        let mut waiting = pin!(self.waiting.notified());
        // Enlist before looking, so that a `set` in between is not missed.
        waiting.as_mut().enable();
        if !self.is_set() {
            waiting.await;
        }
    }
}
