//! How many frames without content a connection may send: credit that time and traffic renew.
//!
//! Answers to what the server sends (a WINDOW_UPDATE for data, say) are earned by that traffic, so
//! that a busy connection is not taken for a flood; a ping, a reset, a setting or an empty frame
//! beyond it costs.

use std::time::Instant;

/// What a connection may save up, in seconds of its rate.
const SAVED_SECONDS: u32 = 10;
/// What a reset costs: the call that it ends was begun.
const RESET: u32 = 10;
/// DATA below this that does not end a message body costs as much as an empty frame.
const TINY: u32 = 64;
/// What a frame of ours earns: at most two window updates, an acknowledgement, a ping.
const PER_FRAME: u32 = 4;
/// Readers may open their windows in steps as small as this.
const BYTES_PER_CREDIT: u32 = 64;

/// Types of frames (RFC 9113, 6).
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
}

const END_STREAM: u8 = 1;

/// The credit of one connection.
pub struct Pace {
    per_second: u32,
    credit: u32,
    renewed: Instant,
}

impl Pace {
    pub fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, credit: per_second.saturating_mul(SAVED_SECONDS), renewed: now }
    }

    /// The peer sent a frame with `len` bytes in it. False when it sends too many.
    pub fn received(&mut self, kind: u8, flags: u8, len: u32, now: impl FnOnce() -> Instant) -> bool {
        let cost = match kind {
            kind::HEADERS => 0,
            kind::DATA if len >= TINY || flags & END_STREAM != 0 => 0,
            kind::RST_STREAM => RESET,
            _ => 1,
        };
        if self.credit < cost {
            self.renew(now());
        }
        match self.credit.checked_sub(cost) {
            Some(left) => {
                self.credit = left;
                true
            }
            None => false,
        }
    }

    /// We sent a frame with `len` bytes in it.
    pub fn sent(&mut self, kind: u8, len: u32) {
        if matches!(kind, kind::DATA | kind::HEADERS) {
            self.add(PER_FRAME + len / BYTES_PER_CREDIT);
        }
    }

    fn renew(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.renewed);
        let earned = since.as_secs_f64() * f64::from(self.per_second);
        // Whole credits only, or a flood would round its time away.
        if earned >= 1.0 {
            self.renewed = now;
            self.add(earned as u32);
        }
    }

    fn add(&mut self, credit: u32) {
        let most = self.per_second.saturating_mul(SAVED_SECONDS);
        self.credit = self.credit.saturating_add(credit).min(most);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    #[test]
    fn a_flood_runs_out_and_time_renews() {
        let start = Instant::now();
        let mut pace = Pace::new(100, start);
        assert_eq!((0..2000).filter(|_| pace.received(PING, 0, 8, || start)).count(), 1000);
        let later = start + Duration::from_secs(2);
        assert_eq!((0..2000).filter(|_| pace.received(PING, 0, 8, || later)).count(), 200);
        let much_later = later + Duration::from_secs(1000);
        assert_eq!((0..2000).filter(|_| pace.received(PING, 0, 8, || much_later)).count(), 1000);
    }

    #[test]
    fn resets_cost_more_and_calls_nothing() {
        let start = Instant::now();
        let mut pace = Pace::new(10, start);
        let mut cancelled = || {
            pace.received(kind::HEADERS, 4, 50, || start) && pace.received(kind::RST_STREAM, 0, 4, || start)
        };
        assert_eq!((0..100).filter(|_| cancelled()).count(), 10);
        assert!(pace.received(kind::DATA, END_STREAM, 0, || start), "the end of a body is content");
        assert!(!pace.received(kind::DATA, 0, 0, || start));
    }

    #[test]
    fn a_reader_earns_its_window_updates() {
        let start = Instant::now();
        let mut pace = Pace::new(10, start);
        for _ in 0..10_000 {
            pace.sent(kind::DATA, 16 << 10);
            for _ in 0..50 {
                assert!(pace.received(WINDOW_UPDATE, 0, 4, || start));
            }
        }
    }
}
