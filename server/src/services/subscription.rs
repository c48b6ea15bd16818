//! The reply stream of Subscribe: follows a stream in batches, hands out one message at a time.
//!
//! Messages of a batch are ready at once, so that the encoder packs many into one HTTP/2 frame.
//! The next batch is fetched when the last one is used up: a slow subscriber costs one batch of
//! memory and holds up nobody. One that stalls costs nothing: its batch is given up ([`Slack`]).

use std::{
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    vec,
};

use bytes::Bytes;
use flowmesh_proto::v1::SubscribeResponse;
use futures_core::Stream;
use tonic::Status;

use super::gate;
use crate::{access::Caller, engine::Follow, error::Result, limits::Seat};

/// Bytes of the first batch, and of the first after a stall, unless one message is larger: a
/// little more than the encoder puts into a frame. Each that is used up doubles the next, up to
/// the other.
const SMALLEST_BATCH: usize = 40 << 10;
const LARGEST_BATCH: usize = 256 << 10;

struct Position {
    follow: Box<dyn Follow>,
    /// Of the first message that was not handed out.
    offset: i64,
    /// Of the next batch.
    bytes: usize,
}

type Fetch = Pin<Box<dyn Future<Output = (Position, Result<Vec<Bytes>>)> + Send>>;

/// What a subscription has fetched ahead, for the one that sends it: when the subscriber stalls,
/// it can be given up and fetched again later.
#[derive(Clone, Default)]
pub struct Slack(Arc<Ahead>);

#[derive(Default)]
struct Ahead {
    given_up: AtomicBool,
    bytes: AtomicUsize,
}

#[cfg(feature = "net")]
impl Slack {
    /// Bytes fetched ahead.
    pub fn bytes(&self) -> usize {
        self.0.bytes.load(Relaxed)
    }

    /// Gives it up. Within `poll`, polling the subscription frees what it has and yields nothing.
    pub fn give_up<T>(&self, poll: impl FnOnce() -> T) -> T {
        self.0.given_up.store(true, Relaxed);
        let polled = poll();
        self.0.given_up.store(false, Relaxed);
        polled
    }
}

/// The messages of one subscriber. Ends with the first failure.
pub struct Subscription {
    batch: vec::IntoIter<Bytes>,
    stage: Stage,
    /// The subscriber's token is void.
    ended: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    slack: Slack,
    _seat: Seat,
}

enum Stage {
    /// Handing out the batch.
    At(Position),
    /// Waiting for the next one.
    Fetching(Fetch),
    /// Failed.
    Over,
}

impl Subscription {
    /// Starts at `offset`; nothing is read before the first poll. It lasts as long as the token
    /// of its `caller`, and has its tenant's `seat` as long.
    pub fn new(follow: Box<dyn Follow>, offset: i64, caller: &Caller, seat: Seat) -> Self {
        let ended: Option<Pin<Box<dyn Future<Output = ()> + Send>>> =
            if caller.is_anybody() { None } else { Some(Box::pin(caller.ended())) };
        Self {
            batch: Vec::new().into_iter(),
            stage: Stage::At(Position { follow, offset, bytes: SMALLEST_BATCH }),
            ended,
            slack: Slack::default(),
            _seat: seat,
        }
    }

    /// What it fetches ahead.
    pub fn slack(&self) -> Slack {
        self.slack.clone()
    }

    fn set_batch(&mut self, batch: Vec<Bytes>) {
        self.slack.0.bytes.store(batch.iter().map(Bytes::len).sum(), Relaxed);
        self.batch = batch.into_iter();
    }
}

fn fetch(mut position: Position) -> Fetch {
    Box::pin(async move {
        let batch = position.follow.next(position.offset, position.bytes).await;
        position.bytes = LARGEST_BATCH.min(2 * position.bytes);
        (position, batch)
    })
}

impl Stream for Subscription {
    type Item = std::result::Result<SubscribeResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.slack.0.given_up.load(Relaxed) {
            this.set_batch(Vec::new());
            if let Stage::At(position) = &mut this.stage {
                position.bytes = SMALLEST_BATCH;
            }
            return Poll::Pending;
        }
        loop {
            if let Some(message) = this.batch.next() {
                if let Stage::At(position) = &mut this.stage {
                    // Offsets have no gaps.
                    position.offset += 1;
                }
                return Poll::Ready(Some(Ok(SubscribeResponse { message: Some(message), status: None })));
            }
            if this.ended.as_mut().is_some_and(|ended| ended.as_mut().poll(cx).is_ready()) {
                (this.ended, this.stage) = (None, Stage::Over);
                return Poll::Ready(Some(Err(gate::token_ended())));
            }
            let mut next = match mem::replace(&mut this.stage, Stage::Over) {
                Stage::At(position) => fetch(position),
                Stage::Fetching(next) => next,
                Stage::Over => return Poll::Ready(None),
            };
            let failure = match gate::catch(|| next.as_mut().poll(cx)) {
                Ok(Poll::Pending) => {
                    this.stage = Stage::Fetching(next);
                    return Poll::Pending;
                }
                Ok(Poll::Ready((position, Ok(batch)))) => {
                    this.set_batch(batch);
                    this.stage = Stage::At(position);
                    continue;
                }
                Ok(Poll::Ready((_, Err(e)))) => e.into(),
                Err(panicked) => panicked,
            };
            return Poll::Ready(Some(Err(failure)));
        }
    }
}

#[cfg(all(test, feature = "net"))]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use super::*;
    use crate::{
        limits::Tenants,
        resource::{ResourceKind, ResourceName},
    };

    /// A stream of messages that are their own offsets.
    struct Numbers;

    #[async_trait::async_trait]
    impl Follow for Numbers {
        fn latest(&self) -> i64 {
            i64::MAX
        }

        async fn next(&mut self, offset: i64, max_bytes: usize) -> Result<Vec<Bytes>> {
            let of = |n: i64| Bytes::copy_from_slice(&n.to_le_bytes().repeat(100));
            Ok((offset..).take(max_bytes / 800).map(of).collect())
        }
    }

    #[tokio::test]
    async fn what_is_given_up_comes_again_without_gap_or_repeat() {
        let name = ResourceName::new("t", "n", ResourceKind::Stream, "x");
        let seat = Tenants::unlimited().subscription(&name).ok().unwrap();
        let mut subscription = pin!(Subscription::new(Box::new(Numbers), 7, &Caller::anybody(), seat));
        let slack = subscription.slack();
        for n in 7..10_000_i64 {
            if n % 97 == 0 {
                poll_fn(|cx| {
                    assert!(slack.give_up(|| subscription.as_mut().poll_next(cx)).is_pending());
                    Poll::Ready(())
                })
                .await;
                assert_eq!(slack.bytes(), 0);
            }
            let item = poll_fn(|cx| subscription.as_mut().poll_next(cx)).await.unwrap().unwrap();
            assert_eq!(item.message.unwrap()[..8], n.to_le_bytes());
        }
    }
}
