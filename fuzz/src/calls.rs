//! Calls of the C API: an interpreter over `flowmesh.h`. The bytes say which functions are called
//! and with what: handles that are alive (it never uses one that was freed), NULLs, numbers at
//! their borders, texts and structs that are good and bad.
//!
//! What must hold: no crash, no INTERNAL, no hang; on failure outputs are as they were and the
//! error tells the status; every completion comes exactly once, and user data is dropped once, last.

mod users;
mod world;

#[allow(
    missing_docs,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    unused_variables,
    reason = "generated; the arguments are what the header asks for"
)]
mod header {
    use std::ffi::c_void;

    use super::{
        users,
        world::{Field, Kind, Layout, View, World},
    };

    include!(concat!(env!("OUT_DIR"), "/header.rs"));
}

use world::World;

/// No input makes more calls.
const MOST_CALLS: usize = 64;

/// The bytes are a program of calls.
pub fn run(data: &[u8]) {
    let mut world = World::new(data);
    for _ in 0..MOST_CALLS {
        let Some(number) = world.next_call() else { break };
        header::call(&mut world, number % header::COUNT);
        world.collect();
    }
    world.end();
}
