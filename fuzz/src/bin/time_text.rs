//! Times and spans, as they come from clocks that are wrong and from databases: two numbers of eight bytes, and a time
//! zone as in the variable TZ.

#![no_main]

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use libfuzzer_sys::fuzz_target;
use nix_negative_cache_core::settings::lifetime;
use nix_negative_cache_core::time_text::{ago, moment, period, span};
use nix_negative_cache_fuzz::{assert_plain, take};

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let (one, other) = (i64::from_le_bytes(take(&mut data)), i64::from_le_bytes(take(&mut data)));
    let zone = str::from_utf8(data).ok().and_then(|text| TimeZone::posix(text).ok()).unwrap_or(TimeZone::UTC);
    let said = |text: String| {
        assert!(!text.is_empty());
        assert_plain(&text);
    };
    said(span(one));
    said(period(SignedDuration::from_secs(one)));
    said(lifetime(other.unsigned_abs()).map_or("for ever".to_owned(), period));
    // Most numbers are too large for a time; of these some are, too.
    let time = |number: i64| Timestamp::from_millisecond(number % 300_000_000_000_000);
    if let (Ok(time), Ok(now)) = (time(one), time(other)) {
        said(ago(time, now));
        assert!(time < now || ago(time, now) == "just now");
        said(moment(time, &zone));
    }
});
