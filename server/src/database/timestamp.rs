//! Instants as RFC 3339 text in UTC.

use crate::clock::SECOND_NS;

/// `unix_ns` as `YYYY-MM-DDThh:mm:ss.mmmZ`.
pub(super) fn rfc3339(unix_ns: i64) -> String {
    let seconds = unix_ns.div_euclid(SECOND_NS);
    let millis = unix_ns.rem_euclid(SECOND_NS) / 1_000_000;
    let (year, month, day) = date(seconds.div_euclid(86_400));
    let time = seconds.rem_euclid(86_400);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{millis:03}Z",
        time / 3600,
        time / 60 % 60,
        time % 60
    )
}

/// Year, month and day of a day counted from 1970-01-01 in the Gregorian calendar.
///
/// Counted from 1 March of year 0, leap days fall at the ends of years, of centuries and of the
/// 400-year cycle, so whole divisions find the year; from March on, months repeat a pattern of
/// 153 days in five.
fn date(days_since_1970: i64) -> (i64, i64, i64) {
    const CYCLE: i64 = 146_097;
    let days = days_since_1970 + 719_468;
    let of_cycle = days.rem_euclid(CYCLE);
    let year_of_cycle = (of_cycle - of_cycle / 1460 + of_cycle / 36_524 - of_cycle / (CYCLE - 1)) / 365;
    let of_year = of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = days.div_euclid(CYCLE) * 400 + year_of_cycle + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(rfc3339(seconds * SECOND_NS), text);
        }
        assert_eq!(rfc3339(1_234_567), "1970-01-01T00:00:00.001Z");
    }
}
