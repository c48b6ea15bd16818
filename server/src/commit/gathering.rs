//! Commits for all tasks of a runtime that has its thread to itself.
//!
//! What its tasks hand in is gathered until those have had their turn that are ready. A lone
//! operation is committed here, which saves its caller two hand-overs; the other tasks wait so long.
//! Several are for the committer's thread: this one goes on with its tasks meanwhile.

use std::{
    cell::RefCell,
    future::poll_fn,
    sync::Arc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

/// A commit that takes longer than this is not for a thread that others wait for.
pub(super) const SLOW: Duration = Duration::from_millis(2);
/// After a slow commit, a thread leaves commits to the committer's for this many times as long: slow
/// commits hold up its other tasks for a tenth of the time at most.
const PAUSE: u32 = 10;

thread_local! {
    static GATHERED: RefCell<Option<Gathered>> = const { RefCell::new(None) };
}

/// What the tasks of a thread have handed in and nobody was called for yet.
struct Gathered {
    committers: Vec<Arc<dyn Commit>>,
    /// Of the task that commits.
    waker: Waker,
    /// A commit was slow: until then, operations go to the committer's thread at once.
    paused_until: Option<Instant>,
}

/// Has what other tasks of this thread hand in committed, for ever. A slow commit they wait for once;
/// while commits are slow, the committer's thread does them all.
pub async fn gathering() {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            let gathered = GATHERED.take();
            gathered.into_iter().flat_map(|gathered| gathered.committers).for_each(|c| c.call());
        }
    }
    let _leave = Leave;
    poll_fn(|cx| {
        let committers = GATHERED.with_borrow_mut(|gathered| match gathered {
            Some(gathered) => {
                gathered.waker.clone_from(cx.waker());
                std::mem::take(&mut gathered.committers)
            }
            None => {
                let waker = cx.waker().clone();
                *gathered = Some(Gathered { committers: Vec::new(), waker, paused_until: None });
                Vec::new()
            }
        });
        for committer in committers {
            let start = Instant::now();
            committer.commit_gathered();
            let took = start.elapsed();
            if took > SLOW {
                let until = Instant::now() + took * PAUSE;
                GATHERED.with_borrow_mut(|g| g.iter_mut().for_each(|g| g.paused_until = Some(until)));
            }
        }
        Poll::Pending
    })
    .await
}

/// Leaves `committer` to this thread's [`gathering`]; false when there is none.
pub(super) fn gather(committer: &Arc<impl Commit + 'static>) -> bool {
    GATHERED.with_borrow_mut(|gathered| {
        let Some(gathered) = gathered else { return false };
        if gathered.paused_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        gathered.paused_until = None;
        if gathered.committers.is_empty() {
            gathered.waker.wake_by_ref();
        }
        let known = |other: &Arc<dyn Commit>| std::ptr::addr_eq(Arc::as_ptr(other), Arc::as_ptr(committer));
        if !gathered.committers.iter().any(known) {
            gathered.committers.push(committer.clone());
        }
        true
    })
}

/// A committer, whatever it feeds.
pub(super) trait Commit {
    /// Has committed what was handed in: a lone operation here unless somebody has the sink, several
    /// by the thread.
    fn commit_gathered(&self);
    /// Has the thread commit it.
    fn call(&self);
}
