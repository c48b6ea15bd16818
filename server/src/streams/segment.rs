//! Segment files: names and headers.
//!
//! A segment starts with two copies of its header, a page each, so that one damaged page costs
//! nothing. A file carries a segment's name only once its header is durable.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    disk::{Disk, File},
    error::{Error, Result},
};

/// Where the first frame starts.
pub const DATA_START: u64 = 2 * COPY as u64;
const COPY: usize = 4096;
/// Longer reads look at the length of the file first.
const LONG: u64 = 1 << 20;
const MAGIC: [u8; 8] = *b"fmstream";
const VERSION: u32 = 1;
const LEN: usize = 44;

/// The decoded header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Start value of the checksums in this file.
    pub salt: u32,
    /// Number of the segment, from 1, without gaps.
    pub number: u64,
    /// Where the frames of the segment before this one end; what follows there was abandoned.
    /// 0 in the first segment.
    pub previous_end: u64,
    /// Where the frames end, in a segment that was rewritten stream by stream; 0 in one that
    /// holds its frames in order of arrival.
    pub sorted_end: u64,
}

/// What is wrong with a header.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// A sound header of a format we do not know.
    Version(u32),
    /// Neither copy is sound.
    Damaged,
}

impl SegmentHeader {
    /// Both copies, as they stand at the start of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut copy = Vec::with_capacity(COPY);
        copy.extend_from_slice(&MAGIC);
        copy.extend_from_slice(&VERSION.to_le_bytes());
        copy.extend_from_slice(&self.salt.to_le_bytes());
        copy.extend_from_slice(&self.number.to_le_bytes());
        copy.extend_from_slice(&self.previous_end.to_le_bytes());
        copy.extend_from_slice(&self.sorted_end.to_le_bytes());
        copy.extend_from_slice(&crc32c::crc32c(&copy).to_le_bytes());
        copy.resize(COPY, 0);
        [copy.as_slice(), copy.as_slice()].concat()
    }

    /// Decodes the first sound copy.
    pub fn decode(start: &[u8]) -> std::result::Result<Self, Fault> {
        let mut fault = Fault::Damaged;
        for copy in start.chunks(COPY).take(2) {
            let Some(b) = copy.first_chunk::<LEN>() else { continue };
            let u32_at = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
            let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
            if b[..8] != MAGIC || u32_at(40) != crc32c::crc32c(&b[..40]) {
                continue;
            }
            if u32_at(8) != VERSION {
                fault = Fault::Version(u32_at(8));
                continue;
            }
            return Ok(Self {
                salt: u32_at(12),
                number: u64_at(16),
                previous_end: u64_at(24),
                sorted_end: u64_at(32),
            });
        }
        Err(fault)
    }
}

/// An open segment. Readers share it; a file that was replaced goes away with its last reader.
pub struct Segment {
    /// Its number.
    pub number: u64,
    /// Start value of its checksums.
    pub salt: u32,
    /// Where the segment before it ends.
    pub previous_end: u64,
    /// The file.
    pub file: Arc<dyn File>,
}

impl Segment {
    /// Reads a range, also one that a damaged file states.
    pub fn read(&self, from: u64, to: u64) -> Result<Vec<u8>> {
        let len = to.checked_sub(from).ok_or_else(|| self.damage(from, "the file is cut short").error())?;
        // Before memory is taken for what is not there.
        if len > LONG && self.file.len().is_ok_and(|end| end < to) {
            return Err(self.damage(from, "the file is cut short").error());
        }
        let mut buf = vec![0; len as usize];
        match self.file.read_exact_at(&mut buf, from) {
            Ok(()) => Ok(buf),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damage(from, "the file is cut short").error())
            }
            Err(e) => {
                Err(Error::io(format_args!("{}: reading at position {from}", file_name(self.number)), &e))
            }
        }
    }

    /// Damage in this file.
    pub fn damage(&self, position: u64, what: &'static str) -> Damage {
        Damage { file: file_name(self.number), position, what }
    }
}

/// A place in a file that does not hold what was stored there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    /// Name of the file in the log's directory.
    pub file: String,
    /// Where in it.
    pub position: u64,
    /// What is wrong there.
    pub what: &'static str,
}

impl Damage {
    /// The failure of a call that needs what stood there.
    pub fn error(&self) -> Error {
        Error::internal(self.to_string())
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stream log {} is damaged at position {}: {}", self.file, self.position, self.what)
    }
}

/// A directory on a disk.
#[derive(Clone)]
pub struct Home {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The log's directory.
    pub dir: PathBuf,
}

impl Home {
    /// Path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Gives a finished file its final name, durably.
    pub fn adopt(&self, temporary: &str, name: &str) -> io::Result<()> {
        self.disk.rename(&self.path(temporary), &self.path(name))?;
        self.disk.sync_dir(&self.dir)
    }

    /// Bytes that the disk has left; one that does not tell is thought to have enough.
    pub fn free(&self) -> u64 {
        self.disk.free(&self.dir).unwrap_or(u64::MAX)
    }

    /// Removes a file that nobody needs; what stays behind is removed at the next start.
    pub fn discard(&self, name: &str) {
        let _ = self.disk.remove(&self.path(name));
    }
}

/// Name of segment `number`.
pub fn file_name(number: u64) -> String {
    format!("{number:08}.log")
}

/// The number in a segment's name.
pub fn number_of(name: &str) -> Option<u64> {
    let number = Path::new(name).file_stem()?.to_str()?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}
