//! Stream messages in wire form.
//!
//! Streams move many small messages. A `Message` is stored in the form in which it is sent, and
//! an `Event` travels from caller to log without becoming an object: in the three types below
//! the nested messages are `Bytes` (on the wire a nested message and a bytes field look the
//! same). [`MessageView`] and [`EventView`] read them in place.

use bytes::{Bytes, BytesMut};
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint,
    skip_field,
};

use crate::v1::{ResourcePath, Status};

/// `flowmesh.v1.WriteEventsRequest` with its events in wire form.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WriteEventsRequest {
    /// The stream.
    #[prost(message, optional, tag = "1")]
    pub resource_path: Option<ResourcePath>,
    /// The batch: encoded `Event` messages.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub events: Vec<Bytes>,
}

/// `flowmesh.v1.ReadStreamResponse` with its messages in wire form.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadStreamResponse {
    /// Code 0.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// Encoded `Message`s in ascending offset.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub messages: Vec<Bytes>,
}

/// `flowmesh.v1.SubscribeResponse` with its message in wire form.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SubscribeResponse {
    /// One encoded `Message`.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub message: Option<Bytes>,
    /// Left unset by our server; some servers report an error here and end the call.
    #[prost(message, optional, tag = "2")]
    pub status: Option<Status>,
}

/// Why bytes are not the message they should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// One header of an event, message or job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Name.
    pub key: &'a str,
    /// Value.
    pub value: &'a str,
}

/// The fields of an encoded `Event`, borrowed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventView<'a> {
    /// The payload.
    pub payload: &'a [u8],
    wire: &'a [u8],
}

/// The fields of an encoded `Message`, borrowed from it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MessageView<'a> {
    /// Message id.
    pub id: &'a str,
    /// Canonical path of the stream.
    pub resource_path: &'a str,
    /// Partition.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// The payload.
    pub payload: &'a [u8],
    /// Server clock, unix ns.
    pub created_at: i64,
    /// Schema version the payload was checked against, 0 = none.
    pub schema_version: i32,
    /// How many header entries the message has on the wire.
    pub header_entries: usize,
    wire: &'a [u8],
}

const EVENT_HEADERS: u32 = 2;
const MESSAGE_HEADERS: u32 = 6;

impl<'a> EventView<'a> {
    /// Reads `wire`; every header is checked for UTF-8.
    pub fn parse(wire: &'a [u8]) -> Result<Self, Malformed> {
        let mut payload: &[u8] = &[];
        for field in Fields(wire) {
            let (tag, value) = field?;
            match tag {
                1 => payload = value.bytes()?,
                EVENT_HEADERS => drop(header(value.bytes()?)?),
                _ => {}
            }
        }
        Ok(Self { payload, wire })
    }

    /// Headers in wire order; of entries with one key the last counts.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        headers(self.wire, EVENT_HEADERS)
    }

    /// The header entries as they stand on the wire (each an encoded map entry).
    pub fn header_entries(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        entries(self.wire, EVENT_HEADERS)
    }
}

impl<'a> MessageView<'a> {
    /// Reads `wire`; every string is checked for UTF-8.
    pub fn parse(wire: &'a [u8]) -> Result<Self, Malformed> {
        let mut view = Self { wire, ..Self::default() };
        for field in Fields(wire) {
            let (tag, value) = field?;
            match tag {
                1 => view.id = value.text()?,
                2 => view.resource_path = value.text()?,
                3 => view.partition = value.varint()? as i32,
                4 => view.offset = value.varint()? as i64,
                5 => view.payload = value.bytes()?,
                MESSAGE_HEADERS => {
                    header(value.bytes()?)?;
                    view.header_entries += 1;
                }
                7 => view.created_at = value.varint()? as i64,
                8 => view.schema_version = value.varint()? as i32,
                _ => {}
            }
        }
        Ok(view)
    }

    /// Headers in wire order; of entries with one key the last counts.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        headers(self.wire, MESSAGE_HEADERS)
    }
}

/// Appends an encoded `Event` (without a length in front) to `out`.
pub fn encode_event<'a>(out: &mut BytesMut, payload: &[u8], headers: impl Iterator<Item = Header<'a>>) {
    put_bytes(out, 1, payload);
    put_headers(out, EVENT_HEADERS, headers);
}

/// How many bytes [`encode_event`] will append.
pub fn event_len<'a>(payload: &[u8], headers: impl Iterator<Item = Header<'a>>) -> usize {
    bytes_len(1, payload.len()) + headers_len(EVENT_HEADERS, headers)
}

/// The fields of a `Message` that do not depend on its event.
#[derive(Debug, Clone, Copy)]
pub struct MessageHead<'a> {
    /// Message id.
    pub id: &'a str,
    /// Canonical path of the stream.
    pub resource_path: &'a str,
    /// Offset.
    pub offset: i64,
    /// Server clock, unix ns.
    pub created_at: i64,
    /// Schema version, 0 = none.
    pub schema_version: i32,
}

/// How many bytes [`encode_message`] will append.
pub fn message_len(head: &MessageHead<'_>, event: &EventView<'_>) -> usize {
    bytes_len(1, head.id.len())
        + bytes_len(2, head.resource_path.len())
        + varint_len(4, head.offset as u64)
        + bytes_len(5, event.payload.len())
        + event.header_entries().map(|e| field_len(MESSAGE_HEADERS, e.len())).sum::<usize>()
        + varint_len(7, head.created_at as u64)
        + varint_len(8, head.schema_version as u64)
}

/// Appends the encoded `Message` that stores `event` (without a length in front) to `out`.
pub fn encode_message(out: &mut impl bytes::BufMut, head: &MessageHead<'_>, event: &EventView<'_>) {
    put_bytes(out, 1, head.id.as_bytes());
    put_bytes(out, 2, head.resource_path.as_bytes());
    put_varint(out, 4, head.offset as u64);
    put_bytes(out, 5, event.payload);
    for entry in event.header_entries() {
        encode_key(MESSAGE_HEADERS, WireType::LengthDelimited, out);
        encode_varint(entry.len() as u64, out);
        out.put_slice(entry);
    }
    put_varint(out, 7, head.created_at as u64);
    put_varint(out, 8, head.schema_version as u64);
}

/// Appends headers as entries of the map `tag`.
pub(crate) fn put_headers<'a>(out: &mut BytesMut, tag: u32, headers: impl Iterator<Item = Header<'a>>) {
    for h in headers {
        encode_key(tag, WireType::LengthDelimited, out);
        encode_varint(entry_len(&h) as u64, out);
        put_bytes(out, 1, h.key.as_bytes());
        put_bytes(out, 2, h.value.as_bytes());
    }
}

/// How many bytes [`put_headers`] will append.
pub(crate) fn headers_len<'a>(tag: u32, headers: impl Iterator<Item = Header<'a>>) -> usize {
    headers.map(|h| field_len(tag, entry_len(&h))).sum()
}

fn entry_len(h: &Header<'_>) -> usize {
    bytes_len(1, h.key.len()) + bytes_len(2, h.value.len())
}

pub(crate) fn put_bytes(out: &mut impl bytes::BufMut, tag: u32, value: &[u8]) {
    if !value.is_empty() {
        encode_key(tag, WireType::LengthDelimited, out);
        encode_varint(value.len() as u64, out);
        out.put_slice(value);
    }
}

pub(crate) fn put_varint(out: &mut impl bytes::BufMut, tag: u32, value: u64) {
    if value != 0 {
        encode_key(tag, WireType::Varint, out);
        encode_varint(value, out);
    }
}

pub(crate) fn field_len(tag: u32, len: usize) -> usize {
    encoded_len_varint(u64::from(tag) << 3) + encoded_len_varint(len as u64) + len
}

pub(crate) fn bytes_len(tag: u32, len: usize) -> usize {
    if len == 0 { 0 } else { field_len(tag, len) }
}

pub(crate) fn varint_len(tag: u32, value: u64) -> usize {
    if value == 0 { 0 } else { encoded_len_varint(u64::from(tag) << 3) + encoded_len_varint(value) }
}

/// A field's value; which kind it must be, the reader of the tag knows.
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Other,
}

impl<'a> Value<'a> {
    fn varint(self) -> Result<u64, Malformed> {
        if let Self::Varint(v) = self { Ok(v) } else { Err(Malformed("a field has the wrong wire type")) }
    }

    fn bytes(self) -> Result<&'a [u8], Malformed> {
        if let Self::Bytes(b) = self { Ok(b) } else { Err(Malformed("a field has the wrong wire type")) }
    }

    fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("a string is not UTF-8"))
    }
}

/// Iterates over the fields of an encoded message; ends after the first malformed one.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or(Malformed("the message is cut short or not protobuf")))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let (tag, wire_type) = decode_key(&mut self.0).ok()?;
        let value = match wire_type {
            WireType::Varint => Value::Varint(decode_varint(&mut self.0).ok()?),
            WireType::LengthDelimited => {
                let len = usize::try_from(decode_varint(&mut self.0).ok()?).ok()?;
                let (head, rest) = self.0.split_at_checked(len)?;
                self.0 = rest;
                Value::Bytes(head)
            }
            other => {
                skip_field(other, tag, &mut self.0, DecodeContext::default()).ok()?;
                Value::Other
            }
        };
        Some((tag, value))
    }
}

fn header(entry: &[u8]) -> Result<Header<'_>, Malformed> {
    let mut header = Header { key: "", value: "" };
    for field in Fields(entry) {
        let (tag, value) = field?;
        match tag {
            1 => header.key = value.text()?,
            2 => header.value = value.text()?,
            _ => {}
        }
    }
    Ok(header)
}

/// The header entries of a message that has been parsed once already.
fn entries(wire: &[u8], headers_tag: u32) -> impl Iterator<Item = &[u8]> {
    Fields(wire).filter_map(move |field| match field {
        Ok((tag, Value::Bytes(entry))) if tag == headers_tag => Some(entry),
        _ => None,
    })
}

fn headers(wire: &[u8], headers_tag: u32) -> impl Iterator<Item = Header<'_>> {
    entries(wire, headers_tag).filter_map(|entry| header(entry).ok())
}
