//! Where the messages of a stream are.
//!
//! An [`Index`] lists, in ascending offset, the pieces of one stream: at most one per segment.
//! In a segment that is still in order of arrival a piece knows every frame; in a sealed one, a
//! mark every few KiB, between which the reader walks. Nothing here touches a file.

use std::sync::Arc;

use super::{
    footer::Part,
    segment::{Damage, Segment},
};

/// The pieces of one stream.
#[derive(Default)]
pub struct Index {
    pieces: Vec<Piece>,
    holes: Vec<Hole>,
    next: i64,
}

struct Piece {
    segment: Arc<Segment>,
    first: i64,
    next: i64,
    frames: Frames,
}

enum Frames {
    /// Every frame of the stream in this segment.
    Each(Vec<FrameAt>),
    /// Frames between the marks and up to `end`, with none missing.
    Marked { marks: Vec<Mark>, end: u64 },
}

/// A frame; positions are divided by the alignment of 8 to fit.
struct FrameAt {
    first: u32,
    position: u32,
    len: u32,
}

/// The start of a frame of a sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Its first offset, counted from the first one of the stream in this segment.
    pub first: u32,
    /// Its position divided by 8.
    pub position: u32,
}

impl Mark {
    /// The position in bytes.
    pub fn position(&self) -> u64 {
        u64::from(self.position) * 8
    }
}

/// Offsets whose messages are lost.
struct Hole {
    first: i64,
    next: i64,
    damage: Damage,
}

/// Where to read next.
pub enum Place {
    /// Whole frames that begin at or before the wanted offset.
    Span(Arc<Segment>, u64, u64),
    /// The offset is lost.
    Lost(Damage),
}

impl Index {
    /// Offset after the last message, lost ones included.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// Whether a frame of `segment` that ends before `next` can be added: offsets are counted from the
    /// first one that the stream has in the segment, and no log skips so many that this overflows.
    pub fn takes(&self, segment: &Segment, next: i64) -> bool {
        let piece = self.pieces.last().filter(|piece| piece.segment.number == segment.number);
        piece.is_none_or(|piece| u32::try_from(next - piece.first).is_ok())
    }

    /// Adds a frame at the end, in a segment in order of arrival. Offsets that it leaves out
    /// are lost to `missing`.
    pub fn push(
        &mut self,
        segment: &Arc<Segment>,
        first: i64,
        count: u32,
        position: u64,
        len: usize,
        missing: Option<&Damage>,
    ) {
        if first > self.next {
            let unknown = || segment.damage(position, "the messages before this frame are missing");
            self.lose(first, missing.cloned().unwrap_or_else(unknown));
        }
        self.next = first + i64::from(count);
        if self.pieces.last().is_none_or(|p| p.segment.number != segment.number) {
            let frames = Frames::Each(Vec::new());
            self.pieces.push(Piece { segment: segment.clone(), first, next: first, frames });
        }
        if let Some(Piece { first: start, next, frames: Frames::Each(frames), .. }) = self.pieces.last_mut() {
            let first = (first - *start) as u32;
            frames.push(FrameAt { first, position: (position / 8) as u32, len: (len / 8) as u32 });
            *next = self.next;
        }
    }

    /// Records that the offsets from the end up to `next` are lost.
    pub fn lose(&mut self, next: i64, damage: Damage) {
        self.holes.push(Hole { first: self.next, next, damage });
        self.next = next;
    }

    /// Adds what the footer of a sealed segment says, at the end.
    pub fn push_part(&mut self, segment: &Arc<Segment>, part: Part, missing: Option<&Damage>) {
        if part.first > self.next {
            let unknown = || segment.damage(part.start, "the messages before this frame are missing");
            self.lose(part.first, missing.cloned().unwrap_or_else(unknown));
        }
        self.next = part.next();
        self.pieces.push(Piece::sealed(segment, part));
    }

    /// Takes the sealed form of a segment for the one in order of arrival.
    pub fn replace(&mut self, segment: &Arc<Segment>, part: Part) {
        if let Some(piece) = self.pieces.iter_mut().rev().find(|p| p.segment.number == segment.number) {
            *piece = Piece::sealed(segment, part);
        }
    }

    /// The frames from position `from` on in segment `old` now stand in `new`, at `to`.
    pub fn relocate(&mut self, old: u64, from: u64, new: &Arc<Segment>, to: u64) {
        let Some(Piece { segment, first: start, next, frames: Frames::Each(frames) }) =
            self.pieces.last_mut()
        else {
            return;
        };
        let at = frames.partition_point(|f| u64::from(f.position) * 8 < from);
        if segment.number != old || at == frames.len() {
            return;
        }
        let (shift, first) = (frames[at].first, *start + i64::from(frames[at].first));
        let moved = frames.split_off(at).into_iter().map(|f| FrameAt {
            first: f.first - shift,
            position: ((u64::from(f.position) * 8 - from + to) / 8) as u32,
            len: f.len,
        });
        let piece = Piece { segment: new.clone(), first, next: *next, frames: Frames::Each(moved.collect()) };
        *next = first;
        if at == 0 {
            self.pieces.pop();
        }
        self.pieces.push(piece);
    }

    /// Where `offset` is, with what follows it there, as far as `messages` and `bytes` go.
    /// `offset` must be below [`Index::next`].
    pub fn locate(&self, offset: i64, messages: usize, bytes: usize) -> Option<Place> {
        if let Some(hole) = self.holes.iter().find(|h| (h.first..h.next).contains(&offset)) {
            return Some(Place::Lost(hole.damage.clone()));
        }
        let piece = &self.pieces[self.pieces.partition_point(|p| p.first <= offset).checked_sub(1)?];
        if offset >= piece.next {
            return None;
        }
        let wanted = (offset - piece.first) as u32;
        let limit = wanted.saturating_add(u32::try_from(messages).unwrap_or(u32::MAX));
        let (from, to) = match &piece.frames {
            Frames::Each(frames) => {
                let at = frames.partition_point(|f| f.first <= wanted).checked_sub(1)?;
                let from = u64::from(frames[at].position);
                let mut to = from;
                let adjacent = |f: &&FrameAt| {
                    let fits =
                        u64::from(f.position) == to && (f.first < limit) && (to - from) * 8 < bytes as u64;
                    to += u64::from(f.len);
                    fits
                };
                let n = frames[at..].iter().take_while(adjacent).count().max(1);
                let last = &frames[at + n - 1];
                (from * 8, (u64::from(last.position) + u64::from(last.len)) * 8)
            }
            Frames::Marked { marks, end } => {
                let at = marks.partition_point(|m| m.first <= wanted).checked_sub(1)?;
                let from = marks[at].position();
                // What lies between the mark and the offset is read on top of `bytes`.
                let enough = marks[at + 1..].iter().find(|m| {
                    m.first >= limit || m.position() - from >= (bytes as u64).saturating_add(MARK_INTERVAL)
                });
                (from, enough.map_or(*end, Mark::position))
            }
        };
        Some(Place::Span(piece.segment.clone(), from, to))
    }
}

/// Bytes between two marks, at least.
pub const MARK_INTERVAL: u64 = 16 << 10;

impl Piece {
    fn sealed(segment: &Arc<Segment>, part: Part) -> Self {
        Self {
            segment: segment.clone(),
            first: part.first,
            next: part.next(),
            frames: Frames::Marked { marks: part.marks, end: part.end },
        }
    }
}
