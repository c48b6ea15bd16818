//! The rules for arguments that hold before anything is sent, each once.
//!
//! The server checks them too. They are here because only the library can name the argument of
//! the C function, and because not every server refuses what ours refuses.

use bytes::Bytes;

use super::error::{Error, Result};

const MAX_NAME_BYTES: usize = 255;
const MAX_KEY_BYTES: usize = 1024;
const MAX_DELAY_SECONDS: i64 = 31_536_000;
const MAX_VISIBILITY_SECONDS: i64 = 43_200;

/// A tenant or namespace.
pub(crate) fn part(argument: &str, text: &str) -> Result<()> {
    name(argument, text)?;
    if text.contains('/') {
        return Err(Error::invalid(format!("{argument} must not contain `/`")));
    }
    Ok(())
}

/// The name of a resource.
pub(crate) fn name(argument: &str, text: &str) -> Result<()> {
    group(argument, text)?;
    if text.trim().is_empty() {
        return Err(Error::invalid(format!("{argument} must not be only white space")));
    }
    Ok(())
}

/// A consumer group.
pub(crate) fn group(argument: &str, text: &str) -> Result<()> {
    length(argument, text, MAX_NAME_BYTES)?;
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(format!("{argument} must not contain control characters")));
    }
    Ok(())
}

/// A key.
pub(crate) fn key(text: &str) -> Result<()> {
    length("key", text, MAX_KEY_BYTES)
}

/// Something that must not be empty: payload, value, job id.
pub(crate) fn not_empty(argument: &str, bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() { Err(Error::invalid(format!("{argument} must not be empty"))) } else { Ok(()) }
}

/// The events of a write.
pub(crate) fn events(events: &[Bytes]) -> Result<()> {
    if events.is_empty() { Err(Error::invalid("events must hold at least one event")) } else { Ok(()) }
}

/// A position that is at least `min`.
pub(crate) fn position(argument: &str, value: i64, min: i64) -> Result<()> {
    if value >= min {
        Ok(())
    } else {
        Err(Error::invalid(format!("{argument} must be at least {min}, got {value}")))
    }
}

/// How many are wanted at most; 0 leaves it to the server.
pub(crate) fn most(argument: &str, value: i32) -> Result<()> {
    position(argument, value.into(), 0)
}

/// A partition.
pub(crate) fn partition(value: i32) -> Result<()> {
    position("partition", value.into(), 0)
}

/// A number of things.
pub(crate) fn between(argument: &str, value: usize, min: usize, max: usize) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let most = if max == usize::MAX { String::new() } else { format!(" and at most {max}") };
    Err(Error::invalid(format!("{argument} must be at least {min}{most}, got {value}")))
}

/// A delay or time to live, in whole seconds: rounded up, never to zero.
pub(crate) fn delay_seconds(argument: &str, ms: i64) -> Result<i64> {
    let seconds = ceil_seconds(ms);
    if ms >= 0 && seconds <= MAX_DELAY_SECONDS {
        return Ok(seconds);
    }
    Err(Error::invalid(format!("{argument} must be 0 to {} (1 year), got {ms}", MAX_DELAY_SECONDS * 1000)))
}

/// The length of a lease in whole seconds; 0 is the server's default.
pub(crate) fn visibility_seconds(argument: &str, ms: i64) -> Result<i64> {
    let seconds = ceil_seconds(ms);
    if ms >= 0 && seconds <= MAX_VISIBILITY_SECONDS {
        return Ok(seconds);
    }
    Err(Error::invalid(format!(
        "{argument} must be 0 (30 s) to {} (12 hours), got {ms}",
        MAX_VISIBILITY_SECONDS * 1000
    )))
}

/// Whole seconds of a duration that is not negative, rounded up.
pub(crate) fn ceil_seconds(ms: i64) -> i64 {
    ms / 1000 + i64::from(ms % 1000 > 0)
}

fn length(argument: &str, text: &str, max: usize) -> Result<()> {
    if (1..=max).contains(&text.len()) {
        Ok(())
    } else {
        Err(Error::invalid(format!("{argument} must be 1 to {max} bytes, got {}", text.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_up_and_keep_their_limits() {
        assert_eq!(delay_seconds("delay_ms", 0), Ok(0));
        assert_eq!(delay_seconds("delay_ms", 1), Ok(1));
        assert_eq!(delay_seconds("delay_ms", 1001), Ok(2));
        assert_eq!(delay_seconds("ttl_ms", 31_536_000_000), Ok(31_536_000));
        assert!(delay_seconds("ttl_ms", 31_536_000_001).is_err());
        assert!(delay_seconds("ttl_ms", -1).is_err());
        assert!(delay_seconds("ttl_ms", i64::MAX).is_err());
        assert_eq!(visibility_seconds("visibility_ms", 43_200_000), Ok(43_200));
        assert!(visibility_seconds("visibility_ms", 43_200_001).is_err());
    }

    #[test]
    fn names_keep_the_contract() {
        assert!(part("tenant", "acme").is_ok());
        assert!(part("tenant", "").is_err());
        assert!(part("tenant", "a/b").is_err());
        assert!(name("name", "a/b").is_ok());
        assert!(name("name", " \u{2003}").is_err());
        assert!(name("name", "a\u{85}").is_err());
        assert!(name("name", &"x".repeat(256)).is_err());
        assert!(group("consumer_group", " ").is_ok());
        assert!(key(&"k".repeat(1025)).is_err());
    }
}
