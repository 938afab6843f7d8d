//! Times and spans, in words and in JSON.

use std::time::Duration;

use jiff::fmt::friendly::{Designator, FractionalUnit, Spacing, SpanPrinter};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRound, Timestamp, Unit};
use serde::Serializer;

/// How long before `now` something was, such as `4 minutes ago`; `just now` for less than a second and for
/// times to come (clocks are set back).
pub fn ago(time: Timestamp, now: Timestamp) -> String {
    let elapsed = Duration::try_from(now.duration_since(time)).unwrap_or_default();
    let mut formatter = timeago::Formatter::new();
    formatter.too_low("just now");
    formatter.convert(elapsed)
}

/// How long a builder ran, such as `320 ms`, `4.5 s`, `12 s` or `1 h 3 m`.
pub fn span(duration_ms: i64) -> String {
    let printer = SpanPrinter::new().spacing(Spacing::BetweenUnitsAndDesignators).designator(Designator::Compact);
    let duration = SignedDuration::from_millis(duration_ms.max(1));
    match duration.as_millis() {
        ..1_000 => printer.duration_to_string(&duration),
        1_000..10_000 => {
            printer.fractional(Some(FractionalUnit::Second)).precision(Some(1)).duration_to_string(&duration)
        }
        _ => printer.duration_to_string(&SignedDuration::from_secs(duration.as_secs())),
    }
}

/// A span of days and less, such as `7 d` or `1 d 12 h`.
pub fn period(duration: SignedDuration) -> String {
    let printer = SpanPrinter::new().spacing(Spacing::BetweenUnitsAndDesignators).designator(Designator::Compact);
    let days = SpanRound::new().largest(Unit::Day).days_are_24_hours();
    let span = Span::new().try_seconds(duration.as_secs()).and_then(|span| span.round(days));
    span.map_or_else(|_| printer.duration_to_string(&duration), |span| printer.span_to_string(&span))
}

/// A point in time to the minute, such as `2026-11-29 12:30 CET`.
pub fn moment(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%F %R %Z").to_string()
}

/// A time in JSON: seconds since 1970, as Nix has it.
///
/// # Errors
///
/// Those of the serializer.
pub fn as_seconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(time.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        let table = [(0, "1 ms"), (320, "320 ms"), (4_560, "4.5 s"), (12_345, "12 s"), (3_780_000, "1 h 3 m")];
        for (milliseconds, text) in table {
            assert_eq!(span(milliseconds), text);
        }
    }

    #[test]
    fn periods_have_days() {
        let table = [(10, "10 s"), (3_600, "1 h"), (7 * 86_400, "7 d"), (36 * 3_600, "1 d 12 h")];
        for (seconds, text) in table {
            assert_eq!(period(SignedDuration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn past_and_future() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let at = |seconds: i64| Timestamp::from_second(1_000_000 - seconds).unwrap();
        assert_eq!(ago(at(240), now), "4 minutes ago");
        assert_eq!(ago(at(0), now), "just now");
        assert_eq!(ago(at(-60), now), "just now");
    }
}
