//! Open files: each connection takes a descriptor, and systems permit a process few of them until
//! it asks for more.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the storage and the listeners may need beside the connections.
const OTHERS: u64 = 256;

/// Asks for as many descriptors as `connections` need, and says so if there are fewer.
pub fn provide(connections: u64) {
    let needed = connections + OTHERS;
    let there = getrlimit(Resource::Nofile);
    if there.current.is_none_or(|current| current >= needed) {
        return;
    }
    let most = there.maximum.map_or(needed, |maximum| maximum.min(needed));
    let current = match setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..there }) {
        Ok(()) => most,
        Err(_) => there.current.unwrap_or(0),
    };
    if current < needed {
        tracing::warn!(
            "the system permits {current} open files: {connections} connections (--max-connections) need \
             {needed}"
        );
    }
}
