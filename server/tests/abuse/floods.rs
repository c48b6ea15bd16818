//! Floods of cheap frames: each ends the connection with ENHANCE_YOUR_CALM, as often as the peer
//! comes back.

use crate::{
    frames::{END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Peer, REFUSED_STREAM, frame, head, kind, message},
    neighbour::{beside, resource},
    process::Process,
};

/// What a flood may add to the server's memory.
const GROWTH: u64 = 48 << 20;
/// More frames than any connection may send at once.
const ENOUGH: usize = 1_000_000;

/// Sends what `more` appends, again and again, over a connection after the other.
fn flood(name: &str, flags: &[&str], more: impl Fn(&mut Vec<u8>, &mut u32) + Sync) {
    let server = Process::start(flags);
    let (ended, told) = beside(name, &server, GROWTH, |clock| {
        let (mut ended, mut told) = (0, 0);
        // The last word of a connection can be lost with it, but not always.
        while clock.runs() || told == 0 {
            let mut peer = Peer::connect(server.address);
            // Streams of a client have odd numbers.
            let mut stream = 1;
            for _ in 0..ENOUGH / 50 {
                let mut bytes = Vec::new();
                for _ in 0..50 {
                    more(&mut bytes, &mut stream);
                }
                // Who does not read the answers cannot read the last one either.
                peer.arrived();
                if peer.send(&bytes).is_err() {
                    break;
                }
            }
            let code = peer.end();
            assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{name}: {code:?}");
            ended += 1;
            told += usize::from(code.is_some());
        }
        (ended, told)
    });
    println!("{name}: {ended} connections were ended, {told} were told why");
}

fn get() -> Vec<u8> {
    let resource_path = resource("bad", "kv", "k");
    message(&flowmesh_proto::v1::GetRequest { resource_path, key: "k".into() })
}

const GET: &str = "/flowmesh.v1.KVService/Get";
const WRITE: &str = "/flowmesh.v1.StreamService/WriteEvents";

#[test]
fn rapid_reset() {
    let (head, body) = (head(GET), get());
    flood("rapid reset", &[], |bytes, stream| {
        frame(bytes, kind::HEADERS, END_HEADERS, *stream, &head);
        frame(bytes, kind::DATA, END_STREAM, *stream, &body);
        frame(bytes, kind::RST_STREAM, 0, *stream, &8_u32.to_be_bytes());
        *stream += 2;
    });
}

#[test]
fn rapid_reset_of_calls_that_wait() {
    let head = head(WRITE);
    flood("rapid reset, unfinished calls", &[], |bytes, stream| {
        frame(bytes, kind::HEADERS, END_HEADERS, *stream, &head);
        frame(bytes, kind::RST_STREAM, 0, *stream, &8_u32.to_be_bytes());
        *stream += 2;
    });
}

#[test]
fn pings() {
    flood("pings", &[], |bytes, _| frame(bytes, kind::PING, 0, 0, b"12345678"));
}

#[test]
fn settings() {
    flood("settings", &[], |bytes, _| frame(bytes, kind::SETTINGS, 0, 0, &[]));
}

#[test]
fn priorities() {
    flood("priorities", &[], |bytes, _| frame(bytes, kind::PRIORITY, 0, 1, &[0, 0, 0, 3, 7]));
}

#[test]
fn window_updates() {
    flood("window updates", &[], |bytes, _| {
        frame(bytes, kind::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes());
    });
}

/// Begins a request of four million bytes, once.
fn begin(bytes: &mut Vec<u8>, stream: &mut u32) {
    if *stream == 1 {
        frame(bytes, kind::HEADERS, END_HEADERS, 1, &head(WRITE));
        frame(bytes, kind::DATA, 0, 1, &[&[0][..], &4_000_000_u32.to_be_bytes()].concat());
        *stream = 3;
    }
}

#[test]
fn tiny_data() {
    flood("data of a byte", &[], |bytes, stream| {
        begin(bytes, stream);
        frame(bytes, kind::DATA, 0, 1, b"x");
    });
}

#[test]
fn empty_data() {
    flood("empty data", &[], |bytes, stream| {
        begin(bytes, stream);
        frame(bytes, kind::DATA, 0, 1, b"");
    });
}

#[test]
fn too_many_calls() {
    let head = head(WRITE);
    flood("calls without end", &["--max-calls", "100"], |bytes, stream| {
        frame(bytes, kind::HEADERS, END_HEADERS, *stream, &head);
        *stream += 2;
    });
}

#[test]
fn a_call_over_the_limit_is_refused_as_not_begun() {
    let server = Process::start(&["--max-calls", "3"]);
    let mut peer = Peer::connect(server.address);
    for stream in [1, 3, 5, 7] {
        peer.call(stream, WRITE, b"", false).expect("the server listens");
    }
    let refused = loop {
        let frame = peer.next().expect("the connection stays");
        if let Some(code) = frame.reset() {
            break (frame.stream, code);
        }
    };
    assert_eq!(refused, (7, REFUSED_STREAM));
}
