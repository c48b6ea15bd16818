//! Requests put into wire form piece by piece, straight from what the caller has: for senders that
//! gather many small messages. A request starts with its path, made once ([`path`]).

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint},
};

use crate::{
    v1::{ResourcePath, WriteEventsRequest},
    wire::{self, Header},
};

const WRITE_EVENTS: u32 = 2;
const ENQUEUE_PAYLOAD: u32 = 2;
const ENQUEUE_DELAY: u32 = 3;
const ENQUEUE_HEADERS: u32 = 4;

/// The field `resource_path`, which every request has as its first.
pub fn path(path: ResourcePath) -> Bytes {
    WriteEventsRequest { resource_path: Some(path), events: Vec::new() }.encode_to_vec().into()
}

/// Appends an event to a `WriteEventsRequest`.
pub fn put_event<'a>(out: &mut BytesMut, payload: &[u8], headers: impl Iterator<Item = Header<'a>> + Clone) {
    encode_key(WRITE_EVENTS, WireType::LengthDelimited, out);
    encode_varint(wire::event_len(payload, headers.clone()) as u64, out);
    wire::encode_event(out, payload, headers);
}

/// How many bytes [`put_event`] will append.
pub fn event_len<'a>(payload: &[u8], headers: impl Iterator<Item = Header<'a>>) -> usize {
    wire::field_len(WRITE_EVENTS, wire::event_len(payload, headers))
}

/// Appends a whole `EnqueueRequest`.
pub fn put_enqueue<'a>(
    out: &mut BytesMut,
    path: &[u8],
    payload: &[u8],
    delay_seconds: i64,
    headers: impl Iterator<Item = Header<'a>>,
) {
    out.put_slice(path);
    wire::put_bytes(out, ENQUEUE_PAYLOAD, payload);
    wire::put_varint(out, ENQUEUE_DELAY, delay_seconds as u64);
    wire::put_headers(out, ENQUEUE_HEADERS, headers);
}

/// How many bytes [`put_enqueue`] will append.
pub fn enqueue_len<'a>(
    path: &[u8],
    payload: &[u8],
    delay_seconds: i64,
    headers: impl Iterator<Item = Header<'a>>,
) -> usize {
    path.len()
        + wire::bytes_len(ENQUEUE_PAYLOAD, payload.len())
        + wire::varint_len(ENQUEUE_DELAY, delay_seconds as u64)
        + wire::headers_len(ENQUEUE_HEADERS, headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::EnqueueRequest;

    fn names() -> ResourcePath {
        ResourcePath {
            tenant: "t".into(),
            namespace: "n".into(),
            resource_type: "stream".into(),
            name: "s".into(),
        }
    }

    const HEADERS: [Header<'static>; 2] =
        [Header { key: "k", value: "v" }, Header { key: "empty", value: "" }];

    #[test]
    fn a_write_made_in_pieces_is_the_request_that_prost_makes() {
        let mut out = BytesMut::from(&path(names())[..]);
        let mut events = Vec::new();
        for payload in [&b"a"[..], &[7; 300]] {
            let before = out.len();
            put_event(&mut out, payload, HEADERS.iter().copied());
            assert_eq!(out.len() - before, event_len(payload, HEADERS.iter().copied()));
            let mut event = BytesMut::new();
            wire::encode_event(&mut event, payload, HEADERS.iter().copied());
            events.push(event.freeze());
        }
        let whole = WriteEventsRequest { resource_path: Some(names()), events };
        assert_eq!(out, whole.encode_to_vec());
    }

    #[test]
    fn an_enqueue_made_in_pieces_is_the_request_that_prost_makes() {
        let (path, mut out) = (path(names()), BytesMut::new());
        put_enqueue(&mut out, &path, b"work", 70_000, HEADERS.iter().copied());
        assert_eq!(out.len(), enqueue_len(&path, b"work", 70_000, HEADERS.iter().copied()));
        let whole = EnqueueRequest {
            resource_path: Some(names()),
            payload: Bytes::from_static(b"work"),
            delay_seconds: 70_000,
            headers: HEADERS.iter().map(|h| (h.key.into(), h.value.into())).collect(),
        };
        assert_eq!(EnqueueRequest::decode(out), Ok(whole));
    }
}
