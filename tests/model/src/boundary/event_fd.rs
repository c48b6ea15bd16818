//! A descriptor, and an event loop that watches it.

use std::{cell::RefCell, io, os::fd::RawFd};

use crate::{
    runtime::lock,
    sync::{Arc, Condvar, Mutex},
};

thread_local! {
    /// By number; shuttle's threads are all in one thread of the system.
    static ALL: RefCell<Vec<EventFd>> = const { RefCell::new(Vec::new()) };
}

/// Readable while it is raised.
#[derive(Debug, Clone)]
pub(crate) struct EventFd(Arc<Level>);

#[derive(Debug, Default)]
struct Level {
    raised: Mutex<bool>,
    bell: Condvar,
}

impl EventFd {
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::default()))
    }

    pub fn raise(&self) {
        *lock(&self.0.raised) = true;
        self.0.bell.notify_all();
    }

    pub fn lower(&self) {
        *lock(&self.0.raised) = false;
    }

    /// Whether poll(2) would say that it is readable.
    pub fn is_raised(&self) -> bool {
        *lock(&self.0.raised)
    }

    /// What poll(2) does without a timeout.
    pub fn wait(&self) {
        let mut raised = lock(&self.0.raised);
        while !*raised {
            raised = self.0.bell.wait(raised).expect("no panics");
        }
    }

    /// A number by which [`EventFd::of`] finds it.
    pub fn fd(&self) -> RawFd {
        ALL.with_borrow_mut(|all| {
            all.push(self.clone());
            RawFd::try_from(all.len() - 1).expect("few descriptors")
        })
    }

    /// The one of that number.
    pub fn of(fd: RawFd) -> Self {
        ALL.with_borrow(|all| all[usize::try_from(fd).expect("it was given out")].clone())
    }
}
