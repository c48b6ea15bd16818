//! Leased jobs on their way to whoever asked for them.
//!
//! A lease that its caller never hears of keeps its jobs from everybody until it ends. So whoever
//! carries leased jobs carries a [`Delivery`] beside them, and says when they are out of its hands.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use flowmesh_proto::v1::Job;

/// Jobs that were leased for a caller.
#[derive(Debug)]
pub struct Leased {
    /// In ready order; none when nothing was due.
    pub jobs: Vec<Job>,
    /// Whether the caller gets them.
    pub delivery: Delivery,
}

impl Leased {
    /// No jobs.
    pub fn none() -> Self {
        Self { jobs: Vec::new(), delivery: Delivery(None) }
    }

    /// Jobs that `give_back` makes ready again if they are not delivered. It must not block: it runs
    /// wherever a call is dropped.
    pub fn new(jobs: Vec<Job>, give_back: impl FnOnce() + Send + Sync + 'static) -> Self {
        let pledge = Pledge { done: AtomicBool::new(false), give_back: Some(Box::new(give_back)) };
        Self { jobs, delivery: Delivery(Some(Arc::new(pledge))) }
    }

    /// The jobs, for who asked for them: from now on they are leased until the lease ends.
    pub fn taken(self) -> Vec<Job> {
        self.delivery.done();
        self.jobs
    }
}

/// Follows leased jobs to their caller. When the last clone is dropped and none was [`done`], the
/// jobs are given back: ready at once, and the attempt does not count.
///
/// [`done`]: Delivery::done
#[derive(Clone)]
pub struct Delivery(Option<Arc<Pledge>>);

struct Pledge {
    done: AtomicBool,
    /// Taken when it is used.
    give_back: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Delivery {
    /// The jobs are out of the carrier's hands.
    pub fn done(&self) {
        if let Some(pledge) = &self.0 {
            pledge.done.store(true, Ordering::Release);
        }
    }

    /// Whether there is anything to deliver.
    pub fn is_needed(&self) -> bool {
        self.0.is_some()
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = self.0.as_ref().map(|pledge| pledge.done.load(Ordering::Acquire));
        f.debug_tuple("Delivery").field(&done).finish()
    }
}

impl Drop for Pledge {
    fn drop(&mut self) {
        if !*self.done.get_mut()
            && let Some(give_back) = self.give_back.take()
        {
            give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn jobs_are_given_back_once_unless_they_were_delivered() {
        let back = Arc::new(AtomicUsize::new(0));
        let leased = || {
            let back = back.clone();
            Leased::new(Vec::new(), move || {
                back.fetch_add(1, Ordering::SeqCst);
            })
        };
        leased().taken();
        let delivery = leased().delivery;
        delivery.clone().done();
        drop(delivery);
        assert_eq!(back.load(Ordering::SeqCst), 0);
        let delivery = leased().delivery;
        drop(delivery.clone());
        assert_eq!(back.load(Ordering::SeqCst), 0, "there is another clone");
        drop(delivery);
        assert_eq!(back.load(Ordering::SeqCst), 1);
    }
}
