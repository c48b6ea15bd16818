//! Cancelling calls.

use super::check;
use crate::{client::cancel::CancelToken, runtime::park, sync::thread};

/// Whoever waits for a token learns that it was cancelled, whenever that happens.
pub fn no_cancel_is_missed() {
    check(|| {
        let token = CancelToken::new();
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let token = token.clone();
                thread::spawn(move || park::wait(token.event().wait()))
            })
            .collect();
        let other = token.clone();
        let cancelling = thread::spawn(move || other.cancel());
        token.cancel();
        for thread in waiting.into_iter().chain([cancelling]) {
            thread.join().expect("no panics");
        }
        assert!(token.is_cancelled());
    });
}
