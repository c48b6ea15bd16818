//! How often one request is tried, how long, and what may be said of it afterwards.

use std::time::{Duration, Instant};

use super::buffer::Shared;
use crate::client::{
    backoff::Backoff,
    call::End,
    error::{Error, Outcome, Result, Status},
    options::{CallOptions, Timeout},
};

/// No attempt is begun with less time left, or less than a quarter of the delivery timeout: it would
/// hardly be answered in time, and leave in doubt whether its messages are stored.
const LEAST_TIME: Duration = Duration::from_millis(50);

/// The attempts to deliver one request.
#[derive(Debug)]
pub(super) struct Attempts {
    /// How many were made.
    pub count: u32,
    /// One of them may have been stored.
    in_doubt: bool,
    /// When to give up.
    deadline: Option<Instant>,
    /// How much time before that an attempt needs.
    least: Duration,
}

impl Attempts {
    /// For a request whose oldest message was accepted at `since`.
    pub fn new(since: Instant, delivery_timeout: Option<Duration>) -> Self {
        let deadline = delivery_timeout.and_then(|time| since.checked_add(time));
        let least = delivery_timeout.map_or(Duration::ZERO, |time| LEAST_TIME.min(time / 4));
        Self { count: 0, in_doubt: false, deadline, least }
    }

    /// For a part of the same request.
    pub fn of_part(&self) -> Self {
        Self { ..*self }
    }

    /// Tries until an attempt succeeds, fails for good, or there is no time left. What `is_final`
    /// accepts is not tried again.
    pub async fn run<T, R, F>(
        &mut self,
        shared: &Shared<T>,
        is_final: impl Fn(&Error) -> bool,
        attempt: impl Fn(CallOptions) -> F,
    ) -> Result<R>
    where
        T: Send + 'static,
        F: Future<Output = Result<R>>,
    {
        let client = shared.target.client();
        let mut backoff = Backoff::default();
        let mut last = None;
        loop {
            if shared.give_up.is_cancelled() {
                return Err(self.judged(shared.closed_error()));
            }
            if client.is_closed() {
                return Err(self.judged(client.inner().closed_error()));
            }
            let left = self.left();
            if left.is_some_and(|left| left <= self.least) {
                return Err(self.judged(last.unwrap_or_else(|| too_late(shared))));
            }
            let time = [left, client.inner().options().timeout].into_iter().flatten().min();
            let options = CallOptions {
                timeout: time.map_or(Timeout::Never, Timeout::After),
                cancel: Some(shared.give_up.clone()),
                ..CallOptions::default()
            };
            self.count += 1;
            let error = match attempt(options.clone()).await {
                Ok(result) => return Ok(result),
                Err(error) if error.status() == Status::CANCELLED && shared.give_up.is_cancelled() => {
                    let outcome = error.outcome();
                    return Err(self.judged(shared.closed_error().with_outcome(outcome)));
                }
                Err(error) => error,
            };
            let may_repeat = match error.outcome() {
                Outcome::NotApplied => true,
                Outcome::Unknown => shared.options.retry_unknown,
                Outcome::Applied => false,
            };
            let delay = backoff.next();
            let in_time = self.left().is_none_or(|left| delay + self.least < left);
            if !may_repeat || !error.is_retryable() || is_final(&error) || !in_time {
                return Err(self.judged(error));
            }
            self.in_doubt |= error.outcome() == Outcome::Unknown;
            shared.tries_again(&error);
            last = Some(error);
            match client.until_ended(&options, None, tokio::time::sleep(delay)).await {
                Ok(()) => {}
                Err(End::Closed) => return Err(self.judged(client.inner().closed_error())),
                Err(_) => return Err(self.judged(shared.closed_error())),
            }
        }
    }

    /// How much of the delivery timeout is left.
    fn left(&self) -> Option<Duration> {
        self.deadline.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// An error as the outcome of all attempts.
    fn judged(&self, error: Error) -> Error {
        match error.outcome() {
            Outcome::NotApplied if self.in_doubt => error.with_outcome(Outcome::Unknown),
            _ => error,
        }
    }
}

fn too_late<T: Send + 'static>(shared: &Shared<T>) -> Error {
    let text = format!("{}: not sent within the delivery timeout", shared.what());
    Error::local(Status::DEADLINE_EXCEEDED, text).retryable()
}
