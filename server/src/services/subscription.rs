//! The reply stream of Subscribe: follows a stream in batches, hands out one message at a time.
//!
//! Messages of a batch are ready at once, so that the encoder packs many into one HTTP/2 frame.
//! The next batch is fetched when the last one is used up: a slow subscriber costs one batch of
//! memory and holds up nobody.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    vec,
};

use bytes::Bytes;
use flowmesh_proto::v1::SubscribeResponse;
use futures_core::Stream;
use tonic::Status;

use super::gate;
use crate::{access::Caller, engine::Follow, error::Result};

/// Bytes per batch, unless one message is larger.
const BATCH_BYTES: usize = 256 << 10;

struct Position {
    follow: Box<dyn Follow>,
    offset: i64,
}

type Fetch = Pin<Box<dyn Future<Output = (Position, Result<Vec<Bytes>>)> + Send>>;

/// The messages of one subscriber. Ends with the first failure.
pub struct Subscription {
    batch: vec::IntoIter<Bytes>,
    /// `None` after a failure.
    fetch: Option<Fetch>,
    /// The subscriber's token is void.
    ended: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Subscription {
    /// Starts at `offset`; nothing is read before the first poll. It lasts as long as the token
    /// of its `caller`.
    pub fn new(follow: Box<dyn Follow>, offset: i64, caller: &Caller) -> Self {
        let ended: Option<Pin<Box<dyn Future<Output = ()> + Send>>> =
            if caller.is_anybody() { None } else { Some(Box::pin(caller.ended())) };
        Self { batch: Vec::new().into_iter(), fetch: Some(fetch(Position { follow, offset })), ended }
    }
}

fn fetch(mut position: Position) -> Fetch {
    Box::pin(async move {
        let batch = position.follow.next(position.offset, BATCH_BYTES).await;
        (position, batch)
    })
}

impl Stream for Subscription {
    type Item = std::result::Result<SubscribeResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(message) = self.batch.next() {
                return Poll::Ready(Some(Ok(SubscribeResponse { message: Some(message), status: None })));
            }
            let this = &mut *self;
            if this.ended.as_mut().is_some_and(|ended| ended.as_mut().poll(cx).is_ready()) {
                (this.ended, this.fetch) = (None, None);
                return Poll::Ready(Some(Err(gate::token_ended())));
            }
            let Some(next) = &mut self.fetch else { return Poll::Ready(None) };
            let failure = match gate::catch(|| next.as_mut().poll(cx)) {
                Ok(polled) => match ready!(polled) {
                    (mut position, Ok(batch)) => {
                        // Offsets have no gaps.
                        position.offset += batch.len() as i64;
                        self.batch = batch.into_iter();
                        self.fetch = Some(fetch(position));
                        continue;
                    }
                    (_, Err(e)) => e.into(),
                },
                Err(panicked) => panicked,
            };
            self.fetch = None;
            return Poll::Ready(Some(Err(failure)));
        }
    }
}
