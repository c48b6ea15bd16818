//! What an operator hears of a producer: that it fails, that it gave messages up, that it delivers
//! again. Once per outage each, however many messages it concerns; never what is in them.

use super::{buffer::Shared, reports::Reports};
use crate::{
    client::error::{Error, Status},
    log::log,
    runtime::lock,
};

/// From the first failure to the next success.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// It was told that the producer fails.
    failing: bool,
    /// Messages that have failed since.
    failed: usize,
}

impl<T: Send + 'static> Shared<T> {
    /// An attempt failed, and another follows.
    pub fn tries_again(&self, error: &Error) {
        let begins = !std::mem::replace(&mut lock(&self.outage).failing, true);
        if begins {
            log!(Warn, "producer", self.target.client().id(), "{}: {error}; trying again", self.what());
        }
    }

    /// These messages have their outcome.
    pub fn log_outcome(&self, reports: &Reports<T>) {
        // What the server does not want for what is in it is no outage: its sender is told.
        let (failed, first) = reports.failures(|error| error.status() != Status::INVALID_ARGUMENT);
        let stored = reports.failures(|_| true).0 < reports.len();
        let client = self.target.client().id();
        if let Some(first) = first {
            let before = {
                let mut outage = lock(&self.outage);
                outage.failing = true;
                outage.failed += failed;
                outage.failed - failed
            };
            if before == 0 {
                log!(Warn, "producer", client, "{}: gave up {failed} messages: {first}", self.what());
            }
        }
        if stored {
            let over = std::mem::take(&mut *lock(&self.outage));
            if over.failing {
                let failed = over.failed;
                log!(Info, "producer", client, "{}: delivers again, gave up {failed} messages", self.what());
            }
        }
    }

    /// The producer was closed: the last words on an outage that lasts.
    pub fn log_end(&self) {
        let failed = std::mem::take(&mut *lock(&self.outage)).failed;
        if failed > 0 {
            let client = self.target.client().id();
            log!(Warn, "producer", client, "{}: closed, gave up {failed} messages", self.what());
        }
    }
}
