//! Texts from outside: token and settings files, flags, endpoints, addresses, trace contexts,
//! durations.

use std::{fs, path::PathBuf, sync::LazyLock};

use clap::Parser;
use flowmesh::client::{Endpoint, TraceContext};
use flowmesh_server::{access, net::Address};
use tempfile::TempDir;

use crate::{cli::Cli, input::Input, settings::Settings};

/// A file for this process, in memory where the system has such a place.
static FILE: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
    let file = dir.path().join("file");
    (dir, file)
});

fn in_file<R>(data: &[u8], read: impl FnOnce(&PathBuf) -> R) -> R {
    fs::write(&FILE.1, data).expect("a file can be written");
    read(&FILE.1)
}

/// The bytes are a token file. An error never shows what could be a token.
pub fn tokens(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match access::parse(text) {
        Ok(entries) => {
            let text: String = entries.iter().map(|e| format!("[[token]]\n{}", access::to_toml(e))).collect();
            assert_eq!(access::parse(&text).expect("what we write, we read"), entries);
        }
        Err(e) => {
            let error = e.to_string();
            let long_words = data.split(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')));
            for word in long_words.filter(|word| word.len() >= 24) {
                let word = String::from_utf8_lossy(word);
                assert!(!error.contains(&*word), "{error:?} shows {word:?}");
            }
        }
    }
}

/// The bytes are a file of settings.
pub fn config(data: &[u8]) {
    if let Ok(settings) = in_file(data, |file| Settings::read(file)) {
        let text = settings.in_force().to_toml();
        let again = in_file(text.as_bytes(), |file| Settings::read(file)).expect("what we write, we read");
        assert_eq!(again.in_force().to_toml(), text);
    }
}

/// The bytes are flags, separated by NUL.
pub fn flags(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let flags = std::iter::once("flowmesh-server").chain(text.split('\0').filter(|flag| !flag.is_empty()));
    if let Ok(cli) = Cli::try_parse_from(flags) {
        let _ = cli.settings.in_force().to_toml();
    }
}

/// The bytes are an endpoint, an address to listen on, or a trace context.
pub fn texts(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.u8();
    let text = String::from_utf8_lossy(input.0);
    match kind % 3 {
        0 => {
            if let Ok(endpoint) = Endpoint::parse(&text) {
                assert_eq!(Endpoint::parse(&endpoint.to_string()), Ok(endpoint));
            }
        }
        1 => {
            if let Ok(address) = text.parse::<Address>() {
                let again = address.to_string().parse();
                assert_eq!(again, Ok(address));
            }
        }
        _ => {
            let (parent, state) = text.split_once('\n').map_or((&*text, None), |(p, s)| (p, Some(s)));
            if TraceContext::new(parent, state).is_ok() {
                assert!(well_formed(parent), "{parent:?}");
            }
        }
    }
}

/// The form of the standard, told another way.
fn well_formed(parent: &str) -> bool {
    let parts: Vec<&str> = parent.split('-').collect();
    let hex = |text: &str, len| {
        text.len() == len && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let [version, trace, span, flags, rest @ ..] = &parts[..] else { return false };
    hex(version, 2)
        && *version != "ff"
        && hex(trace, 32)
        && trace.bytes().any(|b| b != b'0')
        && hex(span, 16)
        && span.bytes().any(|b| b != b'0')
        && hex(flags, 2)
        && (*version != "00" || rest.is_empty())
}
