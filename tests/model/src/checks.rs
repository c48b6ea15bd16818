//! What must hold, whatever the order of events.

pub mod cancel;
pub mod dispatcher;
pub mod driver;

use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// How many orders each check tries, by either scheduler: FLOWMESH_MODEL_ROUNDS, or 500.
fn rounds() -> usize {
    let set = std::env::var("FLOWMESH_MODEL_ROUNDS").ok();
    set.map_or(500, |rounds| rounds.parse().expect("FLOWMESH_MODEL_ROUNDS is a number"))
}

/// Runs `f` in many orders: at random, and with few but ill-timed changes of the running thread.
fn check(f: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(f.clone(), rounds());
    shuttle::check_pct(f, rounds(), 3);
}

/// Is woken once, then ready.
#[derive(Default)]
struct OneWake(bool);

impl Future for OneWake {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
