//! Fuzz targets: what comes from outside, as bytes, into the code that reads it.
//!
//! A target is a function of bytes that panics when something is wrong. `fuzz/run` has libFuzzer
//! call it; the tests replay the seeds, and changes of them. A target knows what must hold (an
//! oracle): that nothing panics is the least of it.

mod input;

mod calls;
mod client;
mod frames;
mod log;
mod messages;
mod server;
mod texts;

// A binary cannot be linked: its modules are compiled in once more.
#[allow(dead_code, reason = "only what reads texts is used here")]
#[path = "../../server/src/cli.rs"]
mod cli;
#[allow(dead_code, reason = "only what reads texts is used here")]
#[path = "../../server/src/settings.rs"]
mod settings;

/// Something that reads bytes from outside.
#[derive(Debug)]
pub struct Target {
    /// Its name, and that of the directory with its seeds.
    pub name: &'static str,
    /// Panics when the bytes do harm.
    pub run: fn(&[u8]),
    /// How many changed seeds its test tries.
    pub tries: usize,
}

/// Every target.
pub const TARGETS: [Target; 10] = [
    Target { name: "messages", run: messages::run, tries: 20_000 },
    Target { name: "server", run: server::run, tries: 500 },
    Target { name: "client", run: client::run, tries: 500 },
    Target { name: "damage", run: log::damaged, tries: 200 },
    Target { name: "log", run: log::crafted, tries: 500 },
    Target { name: "tokens", run: texts::tokens, tries: 1_000 },
    Target { name: "config", run: texts::config, tries: 1_000 },
    Target { name: "flags", run: texts::flags, tries: 500 },
    Target { name: "texts", run: texts::texts, tries: 5_000 },
    Target { name: "calls", run: calls::run, tries: 100 },
];

/// The target with this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
