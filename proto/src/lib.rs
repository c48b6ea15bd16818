//! The wire contract `flowmesh.v1` as Rust types: messages, clients and (feature `server`)
//! service traits, generated from `flowmesh/v1/flowmesh.proto`.
//!
//! This crate knows the wire and nothing else: no validation, no storage, no transport.

pub mod codec;
pub mod requests;
pub mod wire;

/// Messages and clients, one module per service client.
pub mod v1 {
    #![allow(
        missing_docs,
        clippy::all,
        clippy::undocumented_unsafe_blocks,
        reason = "it is generated: nobody edits it"
    )]
    pub use crate::wire::{ReadStreamResponse, SubscribeResponse, WriteEventsRequest};
    tonic::include_proto!("flowmesh.v1");
}

/// Service traits and servers. A request that cannot be decoded is INVALID_ARGUMENT here.
#[cfg(feature = "server")]
pub mod server {
    #![allow(
        missing_docs,
        clippy::all,
        clippy::undocumented_unsafe_blocks,
        reason = "it is generated: nobody edits it"
    )]
    include!(concat!(env!("OUT_DIR"), "/server/flowmesh.v1.rs"));
}

/// The encoded `FileDescriptorSet`, for gRPC server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// By this key of its metadata a failed call says when to try again; a negative number means never.
pub const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";
