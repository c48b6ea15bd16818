//! A connection to the server: what a peer sends, into HTTP/2, gRPC and the services.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::LazyLock,
    time::Duration,
};

use flowmesh_server::{
    Engine, EngineOptions,
    limits::Limits,
    net::{Address, Server},
};
use tempfile::TempDir;

use crate::{
    frames::{self, Side},
    input::Input,
};

/// The server ends a connection whose peer has left, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// A rpc of each kind, and what is none.
const PATHS: [&str; 24] = [
    "/flowmesh.v1.StreamService/WriteEvents",
    "/flowmesh.v1.StreamService/ReadStream",
    "/flowmesh.v1.StreamService/Subscribe",
    "/flowmesh.v1.StreamService/CommitOffset",
    "/flowmesh.v1.StreamService/GetConsumerGroupState",
    "/flowmesh.v1.QueueService/Enqueue",
    "/flowmesh.v1.QueueService/Reserve",
    "/flowmesh.v1.QueueService/Receive",
    "/flowmesh.v1.QueueService/ACK",
    "/flowmesh.v1.QueueService/NACK",
    "/flowmesh.v1.QueueService/GetQueueStats",
    "/flowmesh.v1.QueueService/SetRetryPolicy",
    "/flowmesh.v1.QueueService/GetRetryPolicy",
    "/flowmesh.v1.QueueService/ListDLQJobs",
    "/flowmesh.v1.QueueService/ReplayDLQJob",
    "/flowmesh.v1.KVService/Set",
    "/flowmesh.v1.KVService/Get",
    "/flowmesh.v1.KVService/Delete",
    "/flowmesh.v1.KVService/ListKeys",
    "/flowmesh.v1.HealthService/ReadinessCheck",
    "/grpc.health.v1.Health/Check",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/flowmesh.v1.SchemaService/GetSchema",
    "no path",
];

/// A server for this process, with an engine in memory.
static SOCKET: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("socket");
    let address = Address::Unix(socket.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let engine = Engine::open(&EngineOptions::memory()).expect("an engine in memory");
    let server = runtime.block_on(Server::bind(&[address])).expect("a unix socket");
    std::thread::spawn(move || {
        runtime.block_on(server.serve(engine, Limits::default(), None, std::future::pending()))
    });
    (dir, socket)
});

/// The bytes are, or describe, what a peer sends.
pub fn run(data: &[u8]) {
    let script = frames::script(Input(data), &Side::Client(&PATHS));
    talk(&[script.opening, script.rest].concat(), script.framed);
}

fn talk(sent: &[u8], framed: bool) {
    let mut peer = UnixStream::connect(&SOCKET.1).expect("the server listens");
    peer.set_read_timeout(Some(PATIENCE)).expect("a timeout is set");
    peer.set_write_timeout(Some(PATIENCE)).expect("a timeout is set");
    // The server may end the connection before it has read all: then so be it.
    let _ = peer.write_all(sent);
    if framed {
        let mut ping = Vec::new();
        frames::frame(&mut ping, frames::PING, 0, 0, b"fuzzing!");
        let _ = peer.write_all(&ping);
    } else if peer.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let mut received = Vec::new();
    let mut part = [0; 4096];
    loop {
        match peer.read(&mut part) {
            Ok(0) => return,
            Ok(n) => received.extend_from_slice(&part[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("the server neither answered nor ended the connection")
            }
            // Reset: it was ended with bytes unread.
            Err(_) => return,
        }
        if received.windows(8).any(|bytes| bytes == b"fuzzing!") {
            // It has read everything. It ends its side when we end ours.
            if peer.shutdown(Shutdown::Write).is_err() {
                return;
            }
            received.clear();
        }
    }
}
