//! Watches the leases: who overruns one is told when it ends.

use std::{pin::pin, sync::Arc, task::Poll, time::Instant};

use tokio::sync::Notify;

use super::{super::lease::Lease, shared::Shared};
use crate::runtime::park::Sleep;

/// Watches until no lease can matter any more.
pub(super) async fn run(shared: Arc<Shared>) {
    let clock_moves = shared.queue.client().test_clock_moves();
    loop {
        let mut moved = pin!(clock_moves.as_deref().map(Notify::notified));
        if let Some(moved) = moved.as_mut().as_pin_mut() {
            // Enlist before looking, so that no move of the clock is missed.
            moved.enable();
        }
        let next = match look(&shared) {
            Look::Next(lease) => Some(lease),
            Look::None => None,
            Look::Over => return,
        };
        // A test clock does not tell how long it stands still.
        let left = next.filter(|_| clock_moves.is_none()).map(|lease| shared.left(&lease));
        let mut end = left.and_then(|left| Instant::now().checked_add(left)).map(Sleep::until).map(Box::pin);
        let mut changed = pin!(shared.leases.notified());
        std::future::poll_fn(|cx| {
            let moved = moved.as_mut().as_pin_mut().is_some_and(|moved| moved.poll(cx).is_ready());
            if moved || changed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            end.as_mut().map_or(Poll::Pending, |end| end.as_mut().poll(cx))
        })
        .await;
    }
}

enum Look {
    /// This lease ends next.
    Next(Lease),
    None,
    /// No lease can begin any more.
    Over,
}

/// Gives up the leases that are over.
fn look(shared: &Arc<Shared>) -> Look {
    let mut state = shared.lock();
    let (mut next, mut lost) = (state.next_to_end(), false);
    while let Some((number, lease)) = next
        && shared.left(&lease).is_zero()
    {
        state.lose(number, None);
        (next, lost) = (state.next_to_end(), true);
    }
    let over = state.nothing_to_send();
    // Only then: it rings the bell that this task waits for.
    if lost {
        shared.dispatch(state);
    }
    match next {
        Some((_, lease)) => Look::Next(lease),
        None if over => Look::Over,
        None => Look::None,
    }
}
