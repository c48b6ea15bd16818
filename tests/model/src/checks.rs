//! What must hold, whatever the order of events.

pub mod cancel;
pub mod dispatcher;
pub mod driver;

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use shuttle::{
    Config, Runner,
    scheduler::{PctScheduler, RandomScheduler},
};

/// What a variable of the environment says, or else `default`.
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// Runs `f` in many orders: at random, and with few but ill-timed changes of the running thread. How
/// many by either, FLOWMESH_MODEL_ROUNDS says (500), and which, FLOWMESH_MODEL_SEED.
fn check(f: impl Fn() + Send + Sync + Clone + 'static) {
    let rounds = usize::try_from(number("FLOWMESH_MODEL_ROUNDS", 500)).expect("a number of rounds");
    let seed = number("FLOWMESH_MODEL_SEED", 1);
    Runner::new(RandomScheduler::new_from_seed(seed, rounds), Config::new()).run(f.clone());
    Runner::new(PctScheduler::new_from_seed(seed, 3, rounds), Config::new()).run(f);
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
