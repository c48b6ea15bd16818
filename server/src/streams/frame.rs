//! Frames: what a segment holds. This module knows bytes, not files.
//!
//! A frame is a header and a body, padded to 8 bytes. All integers are little endian.
//!
//! ```text
//!  0  kind         u32   PART, EVENTS or CREATED; each is also a magic by which a scan finds frames
//!  4  header crc   u32   crc32c of kind and bytes 8..40
//!  8  body length  u32   without the padding
//! 12  body crc     u32
//! 16  stream       u32   id of the stream in this log
//! 20  count        u32   messages in the body, 0 in CREATED
//! 24  first        i64   offset of the first message, 0 in CREATED
//! 32  synced       u64   everything in this segment below this position was synced when the
//!                        frame was written
//! ```
//!
//! The body of EVENTS and PART holds messages: per message its length (u32) and its wire form. A
//! batch is one EVENTS, with PARTs before it when it is long, so that who reads a few messages
//! need not read, and check, all of it; it counts only as a whole. The body of CREATED is the
//! name of a new stream. Both checksums start from the segment's random salt, so that no payload
//! can pass for a frame.

use bytes::Bytes;

/// Bytes of a header.
pub const HEADER_LEN: usize = 40;
/// The end of a batch of messages, mostly all of it.
pub const EVENTS: u32 = 0xE7A1_5EF0;
/// Messages of a batch that goes on in the next frame.
pub const PART: u32 = 0x9A27_1AF0;
/// A frame is ended when its body has this many bytes.
pub const PART_BYTES: usize = 16 << 10;
/// The birth of a stream.
pub const CREATED: u32 = 0xC7EA_7ED0;

/// Before each message in a body stands its length.
const LENGTH_BYTES: u32 = 4;

/// The largest id of a stream; there is always a next one.
pub const MAX_STREAM: u32 = u32::MAX - 1;

/// A decoded header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// [`EVENTS`], [`PART`] or [`CREATED`].
    pub kind: u32,
    /// Length of the body without padding.
    pub body_len: u32,
    /// Checksum of the body.
    pub body_crc: u32,
    /// Id of the stream.
    pub stream: u32,
    /// Messages in the body.
    pub count: u32,
    /// Offset of the first message.
    pub first: i64,
    /// Everything below this position was synced when the frame was written.
    pub synced: u64,
}

impl Header {
    /// Decodes the header at the start of `bytes`; `None` when there is no sound one.
    pub fn decode(bytes: &[u8], salt: u32) -> Option<Self> {
        let b: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        let u32_at = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let kind = u32_at(0);
        if !is_kind(kind) || u32_at(4) != header_crc(b, salt) {
            return None;
        }
        let header = Self {
            kind,
            body_len: u32_at(8),
            body_crc: u32_at(12),
            stream: u32_at(16),
            count: u32_at(20),
            first: u64_at(24) as i64,
            synced: u64_at(32),
        };
        header.is_possible().then_some(header)
    }

    /// Whether a log could have written it: sums of its numbers do not overflow, its messages have room
    /// for their lengths, and only the birth of a stream has none.
    fn is_possible(&self) -> bool {
        self.first >= 0
            && self.first.checked_add(self.count.into()).is_some()
            && self.stream <= MAX_STREAM
            && self.count <= self.body_len / LENGTH_BYTES
            && (self.count == 0) == (self.kind == CREATED)
    }

    fn encode(&self, out: &mut [u8; HEADER_LEN], salt: u32) {
        out[0..4].copy_from_slice(&self.kind.to_le_bytes());
        out[8..12].copy_from_slice(&self.body_len.to_le_bytes());
        out[12..16].copy_from_slice(&self.body_crc.to_le_bytes());
        out[16..20].copy_from_slice(&self.stream.to_le_bytes());
        out[20..24].copy_from_slice(&self.count.to_le_bytes());
        out[24..32].copy_from_slice(&self.first.to_le_bytes());
        out[32..40].copy_from_slice(&self.synced.to_le_bytes());
        let crc = header_crc(out, salt);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Whether the body holds messages.
    pub fn has_messages(&self) -> bool {
        self.kind != CREATED
    }

    /// Bytes of the whole frame.
    pub fn frame_len(&self) -> usize {
        padded(HEADER_LEN + self.body_len as usize)
    }

    /// Offset after the last message.
    pub fn next(&self) -> i64 {
        self.first + i64::from(self.count)
    }

    /// The body of the frame that starts `frame`; `None` when it is cut short or damaged.
    pub fn body<'a>(&self, frame: &'a [u8], salt: u32) -> Option<&'a [u8]> {
        let body = frame.get(HEADER_LEN..HEADER_LEN + self.body_len as usize)?;
        (crc32c::crc32c_append(salt, body) == self.body_crc).then_some(body)
    }
}

fn is_kind(kind: u32) -> bool {
    kind == EVENTS || kind == PART || kind == CREATED
}

fn header_crc(b: &[u8; HEADER_LEN], salt: u32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(salt, &b[0..4]), &b[8..])
}

/// Rounded up to the alignment of frames.
pub fn padded(len: usize) -> usize {
    len.next_multiple_of(8)
}

/// Starts a frame at the end of `out`; the body is then appended by the caller.
pub fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.resize(start + HEADER_LEN, 0);
    start
}

/// Ends the body of the frame at `start`; the header is still missing. Returns the body's length.
pub fn end(out: &mut Vec<u8>, start: usize) -> usize {
    let body_len = out.len() - start - HEADER_LEN;
    out.resize(start + padded(HEADER_LEN + body_len), 0);
    body_len
}

/// Writes the header of the frame that starts `frame`, computing both checksums.
pub fn finish(frame: &mut [u8], mut header: Header, salt: u32) {
    let (head, rest) = frame.split_at_mut(HEADER_LEN);
    header.body_crc = crc32c::crc32c_append(salt, &rest[..header.body_len as usize]);
    if let Ok(head) = head.try_into() {
        header.encode(head, salt);
    }
}

/// Position of the first sound frame header in `bytes[from..]`, whose frame ends inside `bytes`.
pub fn find(bytes: &[u8], from: usize, salt: u32) -> Option<(usize, Header)> {
    let from = padded(from);
    bytes.get(from..)?.chunks_exact(8).enumerate().find_map(|(i, word)| {
        let kind = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        if !is_kind(kind) {
            return None;
        }
        let at = from + i * 8;
        let header = Header::decode(&bytes[at..], salt)?;
        (at + header.frame_len() <= bytes.len()).then_some((at, header))
    })
}

/// What a walk over a segment meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A frame with a sound header.
    Frame(usize, Header),
    /// Bytes that are no frame: from, to.
    Gap(usize, usize),
}

/// Walks over `bytes` from `from` on, which must be where a frame starts; after bytes that are
/// no frame it goes on at the next sound header.
pub fn walk(bytes: &[u8], from: usize, salt: u32) -> impl Iterator<Item = Item> + '_ {
    let mut at = from;
    std::iter::from_fn(move || {
        if at >= bytes.len() {
            return None;
        }
        match Header::decode(&bytes[at..], salt).filter(|h| at + h.frame_len() <= bytes.len()) {
            Some(header) => {
                let item = Item::Frame(at, header);
                at += header.frame_len();
                Some(item)
            }
            None => {
                let to = find(bytes, at + 8, salt).map_or(bytes.len(), |(next, _)| next);
                let item = Item::Gap(at, to);
                at = to;
                Some(item)
            }
        }
    })
}

/// The messages in a sound body, as (from, to) inside it.
pub fn messages(body: &[u8]) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let len = u32::from_le_bytes(*body.get(at..)?.first_chunk()?) as usize;
        let from = at + 4;
        at = from + len;
        (at <= body.len()).then_some((from, at))
    })
}

/// The messages of the frame at `at` in `bytes`, shared with it; for a header whose body was
/// found sound.
pub fn shared_messages<'a>(bytes: &'a Bytes, at: usize, header: &Header) -> impl Iterator<Item = Bytes> + 'a {
    let body = at + HEADER_LEN;
    messages(&bytes[body..body + header.body_len as usize])
        .map(move |(from, to)| bytes.slice(body + from..body + to))
}
