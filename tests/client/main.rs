//! The client through its Rust interface: what the C API is built on.

mod certificates;
mod connections;
mod embedded;
mod endpoints;
mod fake;
mod faults;
mod observe;
mod outcomes;
mod producers;
mod servers;
mod subscriptions;
mod tls;
mod tokens;
mod workers;

use flowmesh::client::{Client, ClientOptions};

fn open(endpoint: &str) -> Client {
    Client::open(ClientOptions { endpoint: Some(endpoint.into()), ..ClientOptions::default() })
        .expect("opening does no I/O")
}
