//! Reading pages. Every frame that is used is checked; nothing is cached beside the system's own
//! page cache.

use bytes::Bytes;

use super::{
    catalogue::Stream,
    frame::{self, Item},
    index::Place,
    segment::{Damage, Segment},
};
use crate::error::Result;

/// What a page may hold, and what becomes of one that meets damage.
#[derive(Clone, Copy)]
pub struct Limits {
    /// At most this many messages.
    pub messages: usize,
    /// Cut before this many bytes, unless the first message alone is larger.
    pub bytes: usize,
    /// End the page before lost messages, and fail only where it would be empty. Otherwise a
    /// page that needs them fails: a short one would look like the end of the stream.
    pub stop_at_damage: bool,
}

/// The messages of `stream` from `offset` on; none past its end.
pub fn read(stream: &Stream, offset: i64, limits: Limits) -> Result<Vec<Bytes>> {
    let next = stream.next();
    let mut page = Page { messages: Vec::new(), bytes: 0, offset, next, full: false, limits };
    while page.offset < page.next && !page.full {
        if let Err(e) = page.extend(stream) {
            if limits.stop_at_damage && !page.messages.is_empty() {
                return Ok(page.messages);
            }
            return Err(e);
        }
    }
    match stream.suspect.get() {
        Some(damage) if !page.full && (page.messages.is_empty() || !limits.stop_at_damage) => {
            Err(damage.error())
        }
        _ => Ok(page.messages),
    }
}

struct Page {
    messages: Vec<Bytes>,
    bytes: usize,
    /// The next offset wanted.
    offset: i64,
    /// The end of the stream when the page was begun.
    next: i64,
    full: bool,
    limits: Limits,
}

impl Page {
    /// Reads one span of frames.
    fn extend(&mut self, stream: &Stream) -> Result<()> {
        let messages = self.limits.messages - self.messages.len();
        let bytes = self.limits.bytes.saturating_sub(self.bytes);
        let place = stream.index().locate(self.offset, messages, bytes);
        match place {
            Some(Place::Span(segment, from, to)) => {
                let span = Bytes::from(segment.read(from, to)?);
                self.take(stream.id, &segment, from, &span)
            }
            Some(Place::Lost(damage)) => Err(damage.error()),
            None => Err(crate::Error::internal(format!(
                "stream {}: offset {} is not in its index",
                stream.name, self.offset
            ))),
        }
    }

    fn take(&mut self, stream: u32, segment: &Segment, from: u64, span: &Bytes) -> Result<()> {
        let before = self.offset;
        let mut damage: Option<Damage> = None;
        for item in frame::walk(span, 0, segment.salt) {
            let (at, header) = match item {
                Item::Frame(at, header) => (at, header),
                Item::Gap(at, _) => {
                    damage.get_or_insert(segment.damage(from + at as u64, "no frame where one was stored"));
                    continue;
                }
            };
            if !header.has_messages() || header.stream != stream || header.next() <= self.offset {
                continue;
            }
            if header.first > self.offset {
                break;
            }
            if header.body(&span[at..], segment.salt).is_none() && !planted!(MessagesUnchecked) {
                return Err(segment
                    .damage(from + at as u64, "the checksum of a batch does not match")
                    .error());
            }
            let skip = (self.offset - header.first) as usize;
            for message in frame::shared_messages(span, at, &header).skip(skip) {
                if !self.push(message) {
                    return Ok(());
                }
            }
        }
        if self.offset > before {
            return Ok(());
        }
        Err(damage
            .unwrap_or_else(|| segment.damage(from, "the messages that belong here are missing"))
            .error())
    }

    /// Adds a message; false when the page is full, be it with or without this one.
    fn push(&mut self, message: Bytes) -> bool {
        let bytes = self.bytes.saturating_add(message.len());
        let fits = self.messages.len() < self.limits.messages
            && (self.messages.is_empty() || bytes <= self.limits.bytes);
        if fits && self.offset < self.next {
            self.bytes = bytes;
            self.offset += 1;
            self.messages.push(message);
            self.full = self.messages.len() >= self.limits.messages;
        } else {
            self.full = true;
        }
        !self.full
    }
}
