//! Turns `flowmesh.proto` into Rust without protoc: protox parses, tonic-prost-build writes.

use std::{env, fs, path::PathBuf};

/// Messages whose nested messages stay bytes, so that they are neither copied nor rebuilt
/// on their way through (`src/wire.rs`).
const IN_WIRE_FORM: [&str; 3] = ["WriteEventsRequest", "ReadStreamResponse", "SubscribeResponse"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = "flowmesh/v1/flowmesh.proto";
    println!("cargo::rerun-if-changed={proto}");
    let descriptors = protox::compile([proto], ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;

    let mut client = tonic_prost_build::configure()
        .build_server(false)
        .codec_path("crate::codec::ClientCodec")
        .bytes(".")
        .btree_map(".");
    for message in IN_WIRE_FORM {
        client = client.extern_path(format!(".flowmesh.v1.{message}"), format!("crate::wire::{message}"));
    }
    client.compile_fds(descriptors.clone())?;

    let servers = out.join("server");
    fs::create_dir_all(&servers)?;
    tonic_prost_build::configure()
        .build_client(false)
        .codec_path("crate::codec::ServerCodec")
        .extern_path(".flowmesh.v1", "crate::v1")
        .out_dir(servers)
        .compile_fds(descriptors)?;
    Ok(())
}
