//! One test per rule of the wire contract and transport, one file per subject. A test is named
//! after its rule: together, the names are the contract.

#[macro_use]
mod world;

mod access;
mod calls;
#[path = "../client/certificates.rs"]
mod certificates;
mod dead_letters;
mod durability;
mod encrypted;
mod every_rpc;
mod fields;
mod kv;
mod limits;
mod missing;
mod network;
mod ops;
mod queues;
mod raw;
mod streams;
mod subscribe;
mod wire;
