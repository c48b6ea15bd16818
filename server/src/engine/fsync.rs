//! When acknowledged writes are on disk.

use std::{fmt, str::FromStr, time::Duration};

/// When an acknowledged write is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FsyncPolicy {
    /// Before its reply: it survives a power cut.
    #[default]
    Always,
    /// At most this long after its reply; a crash of the process loses nothing.
    Interval(Duration),
    /// When the system likes; a crash of the process loses nothing.
    None,
}

/// The interval when none is named.
const DEFAULT_INTERVAL: Duration = Duration::from_millis(100);

/// `always`, `interval`, `interval:MS` or `none`.
impl FromStr for FsyncPolicy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "always" => Ok(Self::Always),
            None if text == "none" => Ok(Self::None),
            None if text == "interval" => Ok(Self::Interval(DEFAULT_INTERVAL)),
            Some(("interval", ms)) => match ms.parse() {
                Ok(ms @ 1..=60_000) => Ok(Self::Interval(Duration::from_millis(ms))),
                _ => Err("the interval must be 1 to 60000 milliseconds"),
            },
            _ => Err("want always, interval, interval:MS or none"),
        }
    }
}

impl fmt::Display for FsyncPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Interval(every) => write!(f, "interval:{}", every.as_millis()),
            Self::None => f.write_str("none"),
        }
    }
}
