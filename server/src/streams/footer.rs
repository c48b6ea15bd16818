//! The footer of a sealed segment: per stream, where its frames are. It only repeats what the
//! frames say, so a damaged one costs a scan and nothing else.
//!
//! ```text
//! entries   per stream: id u32, name length u32, name, first i64, count u64, start u64, end u64,
//!           marks u32, then per mark first u32, position / 8 u32
//! trailer   magic u64, position of the entries u64, their length u64, their crc32c u32, crc32c
//!           of the trailer u32; the last bytes of the file
//! ```

use super::{
    frame::MAX_STREAM,
    index::Mark,
    segment::{DATA_START, Segment},
};

const MAGIC: u64 = u64::from_le_bytes(*b"fmfooter");
const TRAILER_LEN: usize = 32;

/// One stream in one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Id of the stream.
    pub stream: u32,
    /// Its name.
    pub name: String,
    /// Offset of its first message here.
    pub first: i64,
    /// Messages, 0 when only its creation is here.
    pub count: u64,
    /// Position of its first frame.
    pub start: u64,
    /// Where its last frame ends; frames of others may lie between.
    pub end: u64,
    /// Frames to start from, in ascending order, the first one included.
    pub marks: Vec<Mark>,
}

impl Part {
    /// Offset after its last message here.
    pub fn next(&self) -> i64 {
        self.first + self.count as i64
    }

    /// Whether frames that end at `end` can be told like that.
    fn is_possible(&self, end: u64) -> bool {
        if self.count == 0 {
            return self.marks.is_empty() && self.stream <= MAX_STREAM;
        }
        let messages = i64::try_from(self.count).ok().and_then(|count| self.first.checked_add(count));
        let inside = |mark: &Mark| (self.start..self.end).contains(&mark.position());
        self.stream <= MAX_STREAM
            && self.first >= 0
            && messages.is_some()
            && (DATA_START <= self.start && self.start <= self.end && self.end <= end)
            && self.marks.first().is_some_and(|mark| mark.first == 0)
            && self.marks.iter().all(inside)
            && self.marks.is_sorted_by(|a, b| a.first < b.first && a.position < b.position)
    }
}

/// The footer for frames that end at `end`.
pub fn encode(parts: &[Part], end: u64, salt: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        out.extend_from_slice(&part.stream.to_le_bytes());
        out.extend_from_slice(&(part.name.len() as u32).to_le_bytes());
        out.extend_from_slice(part.name.as_bytes());
        for number in [part.first as u64, part.count, part.start, part.end] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&(part.marks.len() as u32).to_le_bytes());
        for mark in &part.marks {
            out.extend_from_slice(&mark.first.to_le_bytes());
            out.extend_from_slice(&mark.position.to_le_bytes());
        }
    }
    let crc = crc32c::crc32c_append(salt, &out);
    let len = out.len() as u64;
    let trailer = out.len();
    for number in [MAGIC, end, len] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&crc.to_le_bytes());
    let crc = crc32c::crc32c_append(salt, &out[trailer..]);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// Reads the footer of a segment whose frames end at `end`; `None` when it has no sound one.
pub fn read(segment: &Segment, end: u64) -> Option<Vec<Part>> {
    let len = segment.file.len().ok()?;
    let entries_end = len.checked_sub(TRAILER_LEN as u64).filter(|&at| at >= end)?;
    let trailer = segment.read(entries_end, len).ok()?;
    let (fields, crc) = trailer.split_at(TRAILER_LEN - 4);
    let mut input = Input(&trailer);
    let sound = input.u64()? == MAGIC
        && input.u64()? == end
        && input.u64()? == entries_end - end
        && crc == crc32c::crc32c_append(segment.salt, fields).to_le_bytes();
    if !sound {
        return None;
    }
    let entries = segment.read(end, entries_end).ok()?;
    if crc32c::crc32c_append(segment.salt, &entries) != input.u32()? {
        return None;
    }
    let mut input = Input(&entries);
    let mut parts = Vec::new();
    while !input.0.is_empty() {
        parts.push(input.part().filter(|part| part.is_possible(end))?);
    }
    Some(parts)
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn part(&mut self) -> Option<Part> {
        let stream = self.u32()?;
        let name_len = self.u32()? as usize;
        let name = String::from_utf8(self.take(name_len)?.to_vec()).ok()?;
        let (first, count, start, end) = (self.u64()? as i64, self.u64()?, self.u64()?, self.u64()?);
        let marks = (0..self.u32()?)
            .map(|_| Some(Mark { first: self.u32()?, position: self.u32()? }))
            .collect::<Option<Vec<_>>>()?;
        Some(Part { stream, name, first, count, start, end, marks })
    }
}
