//! How many connections there may be, and who tells the others that there are too many.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tonic::Status;

use super::{Alert, exhausted};

/// Connections over the limit that are told so at the same time. The rest are closed unanswered.
const REFUSALS: usize = 64;

/// The connections of a server.
pub struct Connections {
    max: usize,
    open: AtomicUsize,
    refused: AtomicUsize,
    alert: Alert,
}

/// What becomes of a connection that comes in.
pub enum Admission {
    /// It is served.
    Open(Place),
    /// It gets this answer to its first call, and goes.
    Refused(Place, Status),
    /// It is closed: many are being told already.
    Closed,
}

/// Held while the connection lasts.
pub struct Place {
    connections: Arc<Connections>,
    refused: bool,
}

impl Connections {
    pub fn new(max: usize) -> Self {
        Self { max, open: AtomicUsize::new(0), refused: AtomicUsize::new(0), alert: Alert::default() }
    }

    /// Counts a connection in.
    pub fn admit(self: &Arc<Self>) -> Admission {
        let place = |refused| Place { connections: self.clone(), refused };
        if take(&self.open, self.max) {
            return Admission::Open(place(false));
        }
        self.alert.raise(format_args!("connections are refused: there are {} (--max-connections)", self.max));
        if take(&self.refused, REFUSALS) {
            let status = exhausted("too many connections", "--max-connections", self.max);
            return Admission::Refused(place(true), status);
        }
        Admission::Closed
    }
}

fn take(count: &AtomicUsize, max: usize) -> bool {
    count.fetch_update(Relaxed, Relaxed, |n| (n < max).then_some(n + 1)).is_ok()
}

impl Drop for Place {
    fn drop(&mut self) {
        let count = if self.refused { &self.connections.refused } else { &self.connections.open };
        count.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let connections = Arc::new(Connections::new(2));
        let held: Vec<_> = (0..2).map(|_| connections.admit()).collect();
        assert!(held.iter().all(|a| matches!(a, Admission::Open(_))));
        let refused: Vec<_> = (0..REFUSALS).map(|_| connections.admit()).collect();
        assert!(refused.iter().all(|a| matches!(a, Admission::Refused(..))));
        assert!(matches!(connections.admit(), Admission::Closed));
        drop(held);
        assert!(matches!(connections.admit(), Admission::Open(_)));
        drop(refused);
        let _both = [connections.admit(), connections.admit()];
        assert!(matches!(connections.admit(), Admission::Refused(..)));
    }
}
