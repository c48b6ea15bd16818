//! Copying a log that somebody may be writing to.
//!
//! Segments with a successor are complete: nobody appends to them, and one that is sealed meanwhile
//! is replaced by a rename, so that whatever is opened under its name holds all of its frames. Of the
//! last one, the copy takes the frames that are whole, up to the first that is not: what is
//! acknowledged when the copy begins is among them.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use super::{
    frame::{self, Item},
    segment::{DATA_START, SegmentHeader, file_name, number_of},
};
use crate::{
    disk::{Disk, ReadOnly},
    error::{Error, Result},
};

/// Copies the log in `from` to the new directory `to`, durably.
///
/// # Errors
/// A file cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to).map_err(|e| Error::io(to.display(), &e))?;
    let names = ReadOnly.list(from).map_err(|e| Error::io(from.display(), &e))?;
    let numbers: BTreeSet<u64> = names.iter().filter_map(|name| number_of(name)).collect();
    for &number in &numbers {
        let name = file_name(number);
        let (source, target) = (from.join(&name), to.join(&name));
        let copied = if Some(&number) == numbers.last() {
            copy_last(&source, &target)
        } else {
            fs::copy(&source, &target).and_then(|_| File::open(&target)?.sync_all())
        };
        copied.map_err(|e| Error::io(format_args!("copying {}", source.display()), &e))?;
    }
    File::open(to).and_then(|dir| dir.sync_all()).map_err(|e| Error::io(to.display(), &e))
}

/// The last segment: its frames, without what may be half written.
fn copy_last(source: &Path, target: &Path) -> io::Result<()> {
    let file = ReadOnly.open(source)?;
    let mut bytes = read(&*file)?;
    let header = SegmentHeader::decode(&bytes[..bytes.len().min(DATA_START as usize)]);
    if let Ok(header) = header
        && header.sorted_end == 0
        && bytes.len() as u64 > DATA_START
    {
        // Frames tell how far the segment was synced when they were written. What lies below was
        // whole by then, but this reading may have passed there earlier: hence a second one.
        let claimed = synced(&bytes, header.salt);
        bytes = read(&*file)?;
        let end = whole(&bytes[DATA_START as usize..], header.salt, claimed);
        bytes.truncate(DATA_START as usize + end);
    }
    let mut copy = File::create_new(target)?;
    copy.write_all(&bytes)?;
    copy.sync_all()
}

fn read(file: &dyn crate::disk::File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// The highest position in the file that a frame knows to be synced.
fn synced(bytes: &[u8], salt: u32) -> u64 {
    let frames = frame::walk(&bytes[DATA_START as usize..], 0, salt);
    frames
        .map(|item| match item {
            Item::Frame(_, header) => header.synced,
            Item::Gap(..) => 0,
        })
        .max()
        .unwrap_or(0)
}

/// Where the first frame begins that is not whole and that nobody knows to have been.
fn whole(frames: &[u8], salt: u32, claimed: u64) -> usize {
    let bad = |item: &Item| match item {
        Item::Frame(at, header) => header.body(&frames[*at..], salt).is_none().then_some(*at),
        Item::Gap(at, _) => Some(*at),
    };
    frame::walk(frames, 0, salt)
        .find_map(|item| bad(&item).filter(|at| DATA_START + *at as u64 >= claimed))
        .unwrap_or(frames.len())
}
