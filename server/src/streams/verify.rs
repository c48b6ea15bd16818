//! Checking a log that nobody has open: every frame, every message, every footer.
//!
//! Nothing is changed: recovery itself runs first, over a disk that ignores what it would change, so
//! that what it would cut off or miss is told in its own words. Then each segment is read from end
//! to end, which recovery leaves to readers.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use flowmesh_proto::wire::MessageView;

use super::{
    footer,
    frame::{self, Header, Item},
    recovery::{self, Recovered},
    segment::{DATA_START, Damage, Home, Segment, file_name, number_of},
};
use crate::{
    disk::ReadOnly,
    error::{Error, Result},
};

/// What the check of a log found.
#[derive(Debug, Default)]
pub struct Checked {
    /// Segment files.
    pub segments: u64,
    /// Frames that are sound.
    pub frames: u64,
    /// Messages in them.
    pub messages: u64,
    /// What does not hold what was stored there.
    pub damage: Vec<String>,
    /// What is worth knowing and harms nobody.
    pub notes: Vec<String>,
}

/// Checks the log in `dir`.
///
/// # Errors
/// It cannot be read, or has an unknown format. Damage is no error.
pub fn verify(dir: &Path) -> Result<Checked> {
    let home = Home { disk: Arc::new(ReadOnly), dir: dir.to_owned() };
    let found = recovery::recover(&home)?;
    let mut check = Check { damage: found.damage.iter().cloned().collect(), ..Check::default() };
    check.segments(&home, &found)?;
    Ok(Checked { damage: check.damage.iter().map(ToString::to_string).collect(), ..check.checked })
}

#[derive(Default)]
struct Check {
    checked: Checked,
    /// A place may be found by recovery and by the reading again.
    damage: BTreeSet<Damage>,
}

/// What the frames of a segment say of a stream: its first offset here, and how many messages.
type Streams = BTreeMap<u32, (i64, u64)>;

impl Check {
    fn segments(&mut self, home: &Home, found: &Recovered) -> Result<()> {
        let names = home.disk.list(&home.dir).map_err(|e| Error::io(home.dir.display(), &e))?;
        let numbers: BTreeSet<u64> = names.iter().filter_map(|name| number_of(name)).collect();
        let mut headers = BTreeMap::new();
        for &number in &numbers {
            // One whose header is damaged, recovery has told.
            if let Some(opened) = recovery::open(home, number)? {
                headers.insert(number, opened);
            }
        }
        for (number, (segment, header)) in &headers {
            self.checked.segments += 1;
            let successor = headers.get(&(number + 1)).map(|(_, header)| header.previous_end);
            let active = found.start.active.as_ref().filter(|active| active.segment.number == *number);
            let stated = if header.sorted_end > 0 { Some(header.sorted_end) } else { successor };
            let Some(end) = stated.or(active.map(|active| active.end)) else {
                // Its successor is gone, which recovery has told.
                continue;
            };
            let len = segment.file.len().map_err(|e| Error::io(file_name(*number), &e))?;
            if len < end {
                self.damage.insert(segment.damage(len, "the file is cut short"));
            }
            let end = end.min(len);
            if end < DATA_START {
                continue;
            }
            let bytes = segment.read(DATA_START, end)?;
            let streams = self.frames(segment, &bytes);
            if stated.is_some() {
                self.footer(segment, end, &streams);
            }
        }
        Ok(())
    }

    fn frames(&mut self, segment: &Segment, bytes: &[u8]) -> Streams {
        let mut streams = Streams::new();
        for item in frame::walk(bytes, 0, segment.salt) {
            let (at, header) = match item {
                Item::Frame(at, header) => (at, header),
                Item::Gap(at, _) => {
                    self.add(segment, at, "no frame where one was stored");
                    continue;
                }
            };
            let Some(body) = header.body(&bytes[at..], segment.salt) else {
                let what = match header.kind {
                    frame::CREATED => "the checksum of a stream's name does not match",
                    _ => "the checksum of a batch does not match",
                };
                self.add(segment, at, what);
                continue;
            };
            if header.has_messages() && !fits(&header, body) {
                self.add(segment, at, "a batch does not hold the messages that its header names");
                continue;
            }
            self.checked.frames += 1;
            self.checked.messages += u64::from(header.count);
            let (_, count) = streams.entry(header.stream).or_insert((header.first, 0));
            *count += u64::from(header.count);
        }
        streams
    }

    /// A footer only repeats what the frames say; readers believe it.
    fn footer(&mut self, segment: &Segment, end: u64, streams: &Streams) {
        let Some(parts) = footer::read(segment, end) else {
            let name = file_name(segment.number);
            self.checked.notes.push(format!("stream log {name} has no sound footer: it is scanned instead"));
            return;
        };
        let as_stated = parts.iter().all(|part| {
            let (first, count) = streams.get(&part.stream).copied().unwrap_or((0, 0));
            count == part.count && (count == 0 || first == part.first)
        });
        if !as_stated || parts.len() != streams.len() {
            self.damage.insert(segment.damage(end, "the footer does not say what the frames say"));
        }
    }

    fn add(&mut self, segment: &Segment, at: usize, what: &'static str) {
        self.damage.insert(segment.damage(DATA_START + at as u64, what));
    }
}

/// Whether the body of a frame holds its messages, with their offsets.
fn fits(header: &Header, body: &[u8]) -> bool {
    let mut expected = header.first;
    for (from, to) in frame::messages(body) {
        match MessageView::parse(&body[from..to]) {
            Ok(message) if message.offset == expected => expected += 1,
            _ => return false,
        }
    }
    expected == header.next()
}
