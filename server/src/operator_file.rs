//! Files that the operator names: settings, tokens, certificates.
//!
//! They are read whole, and must be regular files: a pipe that nobody writes to would hold up the
//! start, and later the reload, for ever.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// What `file` holds.
///
/// # Errors
/// It is no regular file, or cannot be read.
pub fn read(file: &Path) -> io::Result<Vec<u8>> {
    // Without this flag, opening a pipe waits for its writer.
    let mut opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file)?;
    if !opened.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no regular file"));
    }
    let mut content = Vec::new();
    opened.read_to_end(&mut content)?;
    Ok(content)
}

/// The same, of a file that must be text.
///
/// # Errors
/// It is no regular file, cannot be read, or is not UTF-8.
pub fn read_text(file: &Path) -> io::Result<String> {
    String::from_utf8(read(file)?).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "is not UTF-8"))
}
