//! Closing a client without waiting for it.

use std::pin::pin;

use futures_util::future::{Either, select};

use super::{
    cancel::CancelToken,
    client::Client,
    error::{Error, Result, Status},
    options::Timeout,
};
use crate::runtime::{Dispatcher, Expected, Once, deadline_after, park::until};

/// The group of completions of a close: not that of the client, whose completions it waits for.
const OF_NO_CLIENT: usize = 0;

impl Client {
    /// Begins to close; `done` is called on the client's dispatcher when every other callback of
    /// the client has returned, or `timeout` is over, or `token` was cancelled: the client is
    /// closed all the same. On failure nothing was begun, and `done` is dropped.
    pub(crate) fn start_close<D>(&self, timeout: Timeout, token: Option<CancelToken>, done: D) -> Result<()>
    where
        D: FnOnce(Result<()>) + Send + 'static,
    {
        let dispatcher = self.dispatcher()?;
        let driver = self.inner().driver()?;
        let pin = driver.pin()?;
        self.inner().closed().set();
        let expected = dispatcher.expect(OF_NO_CLIENT);
        let mut closing = Closing { dispatcher, _expected: expected, done: Some(done) };
        let client = self.clone();
        driver.handle().spawn(async move {
            let result = client.close_within(timeout, token).await;
            closing.end(result);
            drop(pin);
        });
        Ok(())
    }

    async fn close_within(&self, timeout: Timeout, token: Option<CancelToken>) -> Result<()> {
        let deadline = deadline_after(timeout);
        let closing = pin!(async {
            self.close(timeout).await?;
            let rested = pin!(async {
                for dispatcher in self.dispatchers() {
                    dispatcher.rested(self.identity()).await;
                }
            });
            match select(rested, pin!(until(deadline))).await {
                Either::Left(_) => Ok(()),
                Either::Right(_) => Err(self.callback_still_runs()),
            }
        });
        let cancelled = pin!(async {
            match &token {
                Some(token) => token.event().wait().await,
                None => std::future::pending().await,
            }
        });
        match select(closing, cancelled).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => Err(Error::local(
                Status::CANCELLED,
                format!("close {}: the caller does not wait for it any more", self.endpoint()),
            )),
        }
    }

    /// Why a close was not all that it should be.
    pub(crate) fn callback_still_runs(&self) -> Error {
        Error::local(
            Status::DEADLINE_EXCEEDED,
            format!(
                "close {}: callbacks were still running, or still to come, at the timeout",
                self.endpoint()
            ),
        )
    }
}

/// Completes a close, also when the runtime ends under it.
struct Closing<D: FnOnce(Result<()>) + Send + 'static> {
    dispatcher: Dispatcher,
    _expected: Expected,
    done: Option<D>,
}

impl<D: FnOnce(Result<()>) + Send + 'static> Closing<D> {
    fn end(&mut self, result: Result<()>) {
        if let Some(done) = self.done.take() {
            let once: Once = Box::new(move || done(result));
            self.dispatcher.post(OF_NO_CLIENT, [once]);
        }
    }
}

impl<D: FnOnce(Result<()>) + Send + 'static> Drop for Closing<D> {
    fn drop(&mut self) {
        self.end(Err(crate::runtime::shut_down()));
    }
}
