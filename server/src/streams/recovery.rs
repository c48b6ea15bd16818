//! Opening a log: find out what is stored, cut what never counted, remember what is damaged.
//!
//! Sealed segments are taken by their footers. Others are walked; only the last one can have a
//! torn tail. There, a bad frame below the highest position that any frame knows to be synced is
//! damage: it had been acknowledged. The first other bad frame begins the tail: it and all behind
//! it are cut off, they never counted. In a segment that has a successor everything up to the end
//! that the successor states was synced.
//!
//! Damage never stops the start. Lost offsets of a stream fail the calls that need them. Where
//! nobody can say whose frames were lost, every stream without a later frame is suspect: it could
//! have lost its newest messages, and must not use their offsets again.

use std::{collections::BTreeMap, sync::Arc};

use flowmesh_proto::wire::MessageView;

use super::{
    catalogue::{Catalogue, Stream},
    footer,
    frame::{self, Header, Item},
    index::Index,
    segment::{DATA_START, Damage, Fault, Home, Segment, SegmentHeader, file_name, number_of},
    writer::{Active, Start},
};
use crate::{
    error::{Error, Result},
    resource::ResourceName,
};

/// What was found.
pub struct Recovered {
    /// The streams.
    pub catalogue: Catalogue,
    /// Where the writer goes on.
    pub start: Start,
    /// Segments to seal, with their ends.
    pub unsealed: Vec<(Arc<Segment>, u64)>,
    /// Everything that is damaged.
    pub damage: Vec<Damage>,
}

/// Opens the log in `home`.
pub fn recover(home: &Home) -> Result<Recovered> {
    let mut found = Found::default();
    let mut numbers = Vec::new();
    for name in home.disk.list(&home.dir).map_err(|e| Error::io(home.dir.display(), &e))? {
        match number_of(&name) {
            Some(number) => numbers.push(number),
            // What was in the making when the process ended; its content stands elsewhere.
            None if name.ends_with(".new") => home.discard(&name),
            None => {}
        }
    }
    numbers.sort_unstable();
    let mut files = Vec::new();
    for &number in &numbers {
        files.push((number, open(home, number)?));
    }
    let mut expected = 1;
    let mut unsealed = Vec::new();
    let mut active = None;
    for (i, (number, opened)) in files.iter().enumerate() {
        for missing in expected..*number {
            found.gap(
                missing,
                0,
                Damage { file: file_name(missing), position: 0, what: "the file is missing" },
            );
        }
        expected = number + 1;
        let last = i + 1 == files.len();
        let Some((segment, header)) = opened else {
            found.gap(
                *number,
                0,
                Damage { file: file_name(*number), position: 0, what: "the header is damaged" },
            );
            if last {
                active = Some(unusable(home, *number)?);
            }
            continue;
        };
        let end = match files.get(i + 1) {
            _ if header.sorted_end > 0 => Some(header.sorted_end),
            Some((next, Some((successor, _)))) if *next == number + 1 => Some(successor.previous_end),
            _ => None,
        };
        if let Some(parts) = end.and_then(|end| footer::read(segment, end)) {
            found.sealed(segment, parts);
            if last {
                let end = end.unwrap_or_default();
                active =
                    Some(Active { segment: segment.clone(), capacity: end, end, synced: end, broken: false });
            }
            continue;
        }
        let damaged = found.damage.len();
        let extent = found.walk(segment, end, header.sorted_end > 0)?;
        let sound = found.damage.len() == damaged;
        if last {
            active = Some(resume(segment, extent, sound && end.is_none())?);
        } else if sound && end.is_some() && extent.end > DATA_START {
            unsealed.push((segment.clone(), extent.end));
        }
    }
    for damage in &found.damage {
        tracing::error!("{damage}");
    }
    if !planted!(NamesTrusted) {
        // The process before this one may have ended between the rename of a segment and its sync.
        let failed = |e| Error::io(format_args!("{}: syncing", home.dir.display()), &e);
        home.disk.sync_dir(&home.dir).map_err(failed)?;
    }
    Ok(found.finish(active, unsealed))
}

pub(super) type Opened = Option<(Arc<Segment>, SegmentHeader)>;

/// Segment `number`; `None` when its header is damaged.
pub(super) fn open(home: &Home, number: u64) -> Result<Opened> {
    let name = file_name(number);
    let path = home.path(&name);
    let file = home.disk.open(&path).map_err(|e| Error::io(path.display(), &e))?;
    let len = file.len().map_err(|e| Error::io(path.display(), &e))?;
    let mut start = vec![0; len.min(DATA_START) as usize];
    file.read_exact_at(&mut start, 0).map_err(|e| Error::io(path.display(), &e))?;
    match SegmentHeader::decode(&start) {
        Ok(header) if header.number == number => {
            let segment = Segment { number, salt: header.salt, previous_end: header.previous_end, file };
            Ok(Some((Arc::new(segment), header)))
        }
        Ok(_) | Err(Fault::Damaged) => Ok(None),
        Err(Fault::Version(version)) => Err(Error::new(
            crate::ErrorKind::FailedPrecondition,
            format!(
                "{}: stream log format {version} is unknown, this version reads format 1",
                path.display()
            ),
        )),
    }
}

/// A last segment whose header is lost: its number and length are all that is known.
fn unusable(home: &Home, number: u64) -> Result<Active> {
    let path = home.path(&file_name(number));
    let file = home.disk.open(&path).map_err(|e| Error::io(path.display(), &e))?;
    let end = file.len().map_err(|e| Error::io(path.display(), &e))?;
    let salt = getrandom::u32().map_err(|e| Error::internal(format!("no random salt: {e}")))?;
    let segment = Arc::new(Segment { number, salt, previous_end: 0, file });
    Ok(Active { segment, capacity: end, end, synced: end, broken: false })
}

/// Cuts the tail off and makes the rest durable: readers are about to see it. The process before this
/// one may have ended after a failed sync, so what is not known to be synced is written again.
fn resume(segment: &Arc<Segment>, extent: Extent, go_on: bool) -> Result<Active> {
    let Extent { synced, end, len, tail_is_zero } = extent;
    let go_on = go_on && len >= DATA_START;
    let prepare = || {
        if !tail_is_zero && go_on {
            segment.file.set_len(end)?;
            // The cut must be durable before new frames make old bytes behind them look valid.
            segment.file.sync_data()?;
        }
        let from = if planted!(TailTrusted) { end } else { synced.max(DATA_START).min(end) };
        segment.file.rewrite(from, end)
    };
    prepare().map_err(|e| Error::io(format_args!("{}: syncing", file_name(segment.number)), &e))?;
    let reserved = tail_is_zero || (go_on && segment.file.allocate(len).is_ok());
    let capacity = if go_on && reserved { len } else { end };
    Ok(Active { segment: segment.clone(), capacity, end, synced: end, broken: false })
}

/// How far a segment goes.
struct Extent {
    /// Where what is known to be synced ends.
    synced: u64,
    end: u64,
    len: u64,
    tail_is_zero: bool,
}

/// What the walk has gathered.
#[derive(Default)]
struct Found {
    streams: BTreeMap<u32, Gathered>,
    damage: Vec<Damage>,
    /// The last damage of which nobody knows whose messages it hit: segment and position.
    gap: Option<(u64, u64, Damage)>,
}

#[derive(Default)]
struct Gathered {
    name: Option<ResourceName>,
    index: Index,
    /// Segment and position of its last frame.
    seen: (u64, u64),
}

impl Found {
    fn gap(&mut self, segment: u64, position: u64, damage: Damage) {
        self.damage.push(damage.clone());
        self.gap = Some((segment, position, damage));
    }

    fn sealed(&mut self, segment: &Arc<Segment>, parts: Vec<footer::Part>) {
        let missing = self.gap.as_ref().map(|(_, _, damage)| damage);
        for part in parts {
            let stream = self.streams.entry(part.stream).or_default();
            stream.seen = (segment.number, part.start);
            stream.name.get_or_insert_with(|| ResourceName::from_stored(part.name.clone()));
            if part.count > 0 && part.first >= stream.index.next() {
                stream.index.push_part(segment, part, missing);
            }
        }
    }

    /// Walks over a segment that has no footer. `end` is where its successor, or the segment
    /// itself when it was sorted, says that its frames end.
    fn walk(&mut self, segment: &Arc<Segment>, end: Option<u64>, sorted: bool) -> Result<Extent> {
        let name = file_name(segment.number);
        let len = segment.file.len().map_err(|e| Error::io(&name, &e))?;
        let limit = end.map_or(len, |end| end.min(len));
        let bytes = segment.read(DATA_START.min(limit), limit)?;
        if let Some(stated) = end.filter(|&end| end > len) {
            self.gap(segment.number, len, segment.damage(len, "the file is cut short"));
            tracing::error!("stream log {name}: {len} bytes where {stated} were stored");
        }
        let salt = segment.salt;
        // Bodies are checked when they are read; here only where a tail may be torn.
        let sound = |item: &Item| match item {
            Item::Frame(at, header) => {
                end.is_some() || planted!(TailUnchecked) || header.body(&bytes[*at..], salt).is_some()
            }
            Item::Gap(..) => false,
        };
        let items: Vec<Item> = frame::walk(&bytes, 0, salt).collect();
        let synced = match end {
            Some(end) => end,
            None => items.iter().map(|item| item.synced()).max().unwrap_or(0),
        };
        // Where the batch begins of which only parts have been met.
        let mut unfinished = None;
        let mut stop = limit;
        for item in &items {
            let position = DATA_START + item.at() as u64;
            if !sound(item) && position >= synced {
                stop = position;
                break;
            }
            unfinished = match item {
                Item::Frame(_, header) if header.kind == frame::PART => unfinished.or(Some(position)),
                _ => None,
            };
        }
        if end.is_none() {
            // Nothing of it counts, and nothing behind it was synced.
            stop = unfinished.unwrap_or(stop);
        }
        for item in &items {
            let position = DATA_START + item.at() as u64;
            if position >= stop {
                break;
            }
            let sound = sound(item);
            match item {
                Item::Frame(at, header) => {
                    let place = Place { segment, position, sorted };
                    self.frame(place, header, &bytes[*at..], sound);
                }
                Item::Gap(..) => {
                    self.gap(
                        segment.number,
                        position,
                        segment.damage(position, "no frame where one was stored"),
                    );
                }
            }
        }
        let tail = &bytes[(stop.max(DATA_START) - DATA_START) as usize..];
        let tail_is_zero = tail.iter().all(|&b| b == 0);
        if !tail_is_zero {
            tracing::warn!("stream log {name}: cut an unfinished write at position {stop}");
        }
        Ok(Extent { synced, end: stop, len, tail_is_zero })
    }

    fn frame(&mut self, place: Place<'_>, header: &Header, frame: &[u8], sound: bool) {
        let Place { segment, position, sorted } = place;
        let missing = self.gap.as_ref().map(|(_, _, damage)| damage);
        let stream = self.streams.entry(header.stream).or_default();
        // In a sorted segment positions say nothing about order.
        stream.seen = (segment.number, if sorted { 0 } else { position });
        if stream.name.is_none() {
            stream.name = header.body(frame, segment.salt).and_then(|body| name(header, body));
        }
        if header.kind == frame::CREATED {
            if !sound {
                self.damage.push(segment.damage(position, "the checksum of a stream's name does not match"));
            }
            return;
        }
        if header.first < stream.index.next() {
            self.damage.push(segment.damage(position, "a frame repeats offsets that were stored before"));
        } else if sound && stream.index.takes(segment, header.next()) {
            stream.index.push(segment, header.first, header.count, position, header.frame_len(), missing);
        } else {
            let what = match sound {
                true => "a frame skips more offsets than a segment can have",
                false => "the checksum of a batch does not match",
            };
            let damage = segment.damage(position, what);
            if header.first > stream.index.next() {
                stream.index.lose(header.first, missing.unwrap_or(&damage).clone());
            }
            stream.index.lose(header.next(), damage.clone());
            self.damage.push(damage);
        }
    }

    fn finish(self, active: Option<Active>, unsealed: Vec<(Arc<Segment>, u64)>) -> Recovered {
        let catalogue = Catalogue::default();
        let next_stream = self.streams.last_key_value().map_or(1, |(id, _)| id.saturating_add(1));
        for (id, found) in self.streams {
            // A stream without a name cannot be asked for; its id stays taken.
            let Some(name) = found.name else { continue };
            let stream = Stream::new(id, name, found.index);
            if let Some((segment, position, damage)) = &self.gap
                && found.seen < (*segment, *position)
            {
                let _ = stream.suspect.set(damage.clone());
            }
            catalogue.insert(Arc::new(stream));
        }
        let no_creation = self.gap.map(|(_, _, damage)| damage);
        let start = Start { active, next_stream, no_creation };
        Recovered { catalogue, start, unsealed, damage: self.damage }
    }
}

/// Where a frame stands.
struct Place<'a> {
    segment: &'a Arc<Segment>,
    position: u64,
    sorted: bool,
}

/// The name of a frame's stream: what its creation says, or else any of its messages.
fn name(header: &Header, body: &[u8]) -> Option<ResourceName> {
    let text = if header.kind == frame::CREATED {
        std::str::from_utf8(body).ok()?
    } else {
        let (from, to) = frame::messages(body).next()?;
        MessageView::parse(&body[from..to]).ok()?.resource_path
    };
    Some(ResourceName::from_stored(text.to_owned()))
}

impl Item {
    fn at(&self) -> usize {
        match self {
            Self::Frame(at, _) | Self::Gap(at, _) => *at,
        }
    }

    /// What it knows to be synced. A frame is written after that, so never more than what is before it:
    /// a claim about what a start cuts off would be held against the next start.
    pub(super) fn synced(&self) -> u64 {
        match self {
            Self::Frame(at, header) => header.synced.min(DATA_START + *at as u64),
            Self::Gap(..) => 0,
        }
    }
}
