//! Heads of calls that are too large, or never end.

use tonic::{Code, Request, metadata::MetadataValue};

use crate::{
    frames::{END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Peer, frame, head, kept_field, kind},
    neighbour::{beside, channel, resource},
    process::Process,
};

const GET: &str = "/flowmesh.v1.KVService/Get";
const GROWTH: u64 = 48 << 20;

/// Sends a head that goes on for ever, in steps of `part`.
fn endless(name: &str, part: &[u8]) {
    let server = Process::start(&[]);
    beside(name, &server, GROWTH, |clock| {
        let mut told = 0;
        while clock.runs() || told == 0 {
            let mut peer = Peer::connect(server.address);
            let mut bytes = Vec::new();
            frame(&mut bytes, kind::HEADERS, 0, 1, &head(GET));
            while peer.send(&bytes).is_ok() {
                bytes.clear();
                frame(&mut bytes, kind::CONTINUATION, 0, 1, part);
            }
            let code = peer.end();
            assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{name}: {code:?}");
            told += usize::from(code.is_some());
        }
    });
}

#[test]
fn continuations_without_end() {
    let mut field = Vec::new();
    crate::frames::field(&mut field, b"x-padding", &[b'x'; 1000]);
    endless("continuations", &field);
}

#[test]
fn empty_continuations_without_end() {
    endless("empty continuations", &[]);
}

/// A field that the server keeps, named a thousand times in each call: a few kilobytes that stand
/// for megabytes.
#[test]
fn header_bomb() {
    let server = Process::start(&[]);
    beside("header bomb", &server, GROWTH, |clock| {
        let mut calls = 0;
        while clock.runs() || calls < 20 {
            let mut peer = Peer::connect(server.address);
            let mut block = head(GET);
            kept_field(&mut block, b"x-bomb", &[b'x'; 3000]);
            // Each is refused, or all at once by the end of the connection.
            for stream in (1..200).step_by(2) {
                let mut bytes = Vec::new();
                // Number 62 is the newest of what was kept.
                block.resize(block.len() + 1000, 0x80 | 62);
                frame(&mut bytes, kind::HEADERS, END_HEADERS | END_STREAM, stream, &block);
                calls += 1;
                if peer.send(&bytes).is_err() || !answered(&mut peer, stream) {
                    break;
                }
                block = head(GET);
            }
        }
    });
}

/// Waits for an answer to a call; false when the connection ends before.
fn answered(peer: &mut Peer, stream: u32) -> bool {
    while let Some(frame) = peer.next() {
        if frame.stream == stream {
            return true;
        }
    }
    false
}

#[test]
fn a_head_over_the_limit_is_refused_by_name() {
    let server = Process::start(&["--max-header-bytes", "4096"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let kv = flowmesh_proto::v1::kv_service_client::KvServiceClient::new(channel(server.address).await);
        let get = |size: usize| {
            let resource_path = resource("t", "kv", "k");
            let mut request = Request::new(flowmesh_proto::v1::GetRequest { resource_path, key: "k".into() });
            let value = MetadataValue::try_from("x".repeat(size)).expect("a value");
            request.metadata_mut().insert("x-padding", value);
            let mut kv = kv.clone();
            async move { kv.get(request).await.expect_err("there is no such key") }
        };
        assert_eq!(get(3000).await.code(), Code::NotFound);
        let refusal = get(4096).await;
        assert_eq!(refusal.code(), Code::ResourceExhausted);
        assert_eq!(
            refusal.message(),
            "the headers of the call are too large: the limit of the server is 4096 (--max-header-bytes)"
        );
    });
}
