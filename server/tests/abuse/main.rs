//! What a hostile peer can do to the server while a well-behaved client works beside it: its calls
//! all succeed, and memory stays bounded. Every attack runs against the server binary.
//!
//! `FLOWMESH_ABUSE_SECONDS` says how long each attack lasts (2), `FLOWMESH_ABUSE_CONNECTIONS` how
//! many idle subscribers connect (500), `FLOWMESH_ABUSE_SERVER` which binary is attacked, and
//! `FLOWMESH_ABUSE_FIGURES` names a file for a row of figures per attack.

mod fairness;
mod floods;
mod frames;
mod heads;
mod idle;
mod memory;
mod neighbour;
mod process;
mod refusals;
mod timeouts;

use std::time::Duration;

/// How long an attack lasts.
fn duration() -> Duration {
    Duration::from_secs(number("FLOWMESH_ABUSE_SECONDS", 2))
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect(variable))
}
