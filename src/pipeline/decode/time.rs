//! RFC 3339, strictly and quickly, and the clamp of what a source claims.

use std::time::Duration;

use crate::model::UnixMs;

/// A source's clock may be ahead of the log's by this much.
const MAX_AHEAD: Duration = Duration::from_secs(5 * 60);

/// The time as it counts, and the claim where that was out of bounds [received − `max_age`, received + 5 min].
pub(super) fn clamp(claimed: UnixMs, received: UnixMs, max_age: Duration) -> (UnixMs, Option<UnixMs>) {
    let bounds = (received - max_age)..=(received + MAX_AHEAD);
    if bounds.contains(&claimed) { (claimed, None) } else { (received, Some(claimed)) }
}

/// `2026-11-23T10:15:00.123Z` or with an offset; fractions beyond milliseconds are cut. A leap second (`:60`) is the
/// second before it.
pub(super) fn rfc3339(text: &str) -> Option<UnixMs> {
    let bytes = text.as_bytes();
    let (date_time, rest) = bytes.split_first_chunk::<19>()?;
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, byte)| date_time[at].to_ascii_uppercase() != byte) {
        return None;
    }
    let year = number(&date_time[..4])?;
    let (month, day) = (number(&date_time[5..7])?, number(&date_time[8..10])?);
    let (hour, minute) = (number(&date_time[11..13])?, number(&date_time[14..16])?);
    let second = number(&date_time[17..19])?;
    // The first and last year are left out, so that every time can be written again in four digits, at any offset.
    let of_calendar =
        (1..=9998).contains(&year) && (1..=12).contains(&month) && day >= 1 && day <= days_in(year, month);
    if !of_calendar || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (ms, zone) = fraction(rest)?;
    let offset_minutes = offset(zone)?;
    let minutes = (days_from_civil(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    Some(UnixMs::new((minutes * 60 + second.min(59)) * 1000 + ms))
}

/// The milliseconds of `.123456`, and what follows.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(fraction) = text.strip_prefix(b".") else { return Some((0, text)) };
    let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = fraction.split_at(digits);
    let ms = match digits {
        [] => return None,
        [tenths] => number(&[*tenths])? * 100,
        [tenths, hundredths] => number(&[*tenths, *hundredths])? * 10,
        more => number(&more[..3])?,
    };
    Some((ms, rest))
}

/// The minutes that `Z` or `+01:00` stands for.
fn offset(text: &[u8]) -> Option<i64> {
    match *text {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[h1, h2])?, number(&[m1, m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * 60 + minutes;
            Some(if sign == b'-' { -offset } else { offset })
        }
        _ => None,
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar (H. Hinnant, "chrono-compatible low-level date
/// algorithms": years begin in March, so that the leap day is a year's last).
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rfc_3339_is_the_time_that_jiff_reads() {
        for text in [
            "2026-11-23T10:15:00.123Z",
            "2026-11-23t10:15:00z",
            "2026-11-23T11:15:00.5+01:00",
            "2026-11-23T00:15:00.123456789-23:59",
            "2024-02-29T23:59:60Z",
            "1970-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999Z",
            "0001-01-01T00:00:00Z",
            "9998-12-31T23:59:59.99Z",
            "2000-02-29T12:00:00Z",
        ] {
            let expected: UnixMs = text.to_uppercase().parse().unwrap();
            assert_eq!(rfc3339(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_rfc_3339_is_refused() {
        for text in [
            "",
            "2026-11-23",
            "2026-11-23T10:15Z",
            "2026-11-23T10:15:00",
            "2026-11-23 10:15:00Z",
            "2026-11-23T10:15:00.Z",
            "2026-11-23T10:15:00+0100",
            "2026-11-23T10:15:00+24:00",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-11-31T00:00:00Z",
            "2026-11-00T00:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T10:60:00Z",
            "2026-11-23T10:15:61Z",
            "2026-11-23T10:15:00Z ",
            "+026-11-23T10:15:00Z",
            "2026-11-23T10:15:00Z[Europe/Paris]",
        ] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn a_claim_outside_the_bounds_is_the_time_it_was_received() {
        let received = UnixMs::new(1_000_000_000_000);
        let age = Duration::from_secs(40 * 24 * 3600);
        let check = |claimed: UnixMs, kept: bool| {
            let expected = if kept { (claimed, None) } else { (received, Some(claimed)) };
            assert_eq!(clamp(claimed, received, age), expected, "{claimed}");
        };
        let ms = Duration::from_millis(1);
        check(received, true);
        check(received - age, true);
        check(received - age - ms, false);
        check(received + MAX_AHEAD, true);
        check(received + MAX_AHEAD + ms, false);
        check(UnixMs::new(i64::MIN), false);
    }
}
