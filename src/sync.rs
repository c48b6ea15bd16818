//! What threads meet at, for the code that the model checks in `tests/model` run as well: there,
//! these names are those of a scheduler that tries many orders of events, and of its clock.

pub(crate) use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, Weak, atomic},
    thread,
    time::Instant,
};
