//! What the page says, in words. Nothing here is markup, and all text from outside is made visible: the template escapes it.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};
use nix_negative_cache_core::belief::{Attempt, is_flaky};
use nix_negative_cache_core::class::Class;
use nix_negative_cache_core::counts::{Day, Tally};
use nix_negative_cache_core::record::FailureRecord;
use nix_negative_cache_core::time_text::{moment, span};

use super::dependents::{self, ASKED, Blocking};
use super::plots::Plot;
use crate::args::{Arguments, SettingsArguments};
use crate::databases::Databases;
use crate::look::visible;
use crate::nix::BeliefContext;
use crate::output::{Judged, zone};
use crate::{Failure, start_of};

/// How many failures are on the page, the newest ones: with more, browsers take longer than a second to open it.
pub const LISTED: usize = 10_000;

/// How many flaky derivations are on the page.
const FLAKY: usize = 500;

/// How many bytes of a log are on the page, of the 8 KiB that a record may have.
const LOG: usize = 2 * 1024;

/// How many records are read at once.
const AT_ONCE: usize = 500;

/// How many failures are in a group, which a browser lays out if it is in sight. The style knows how high a group is.
const GROUP: usize = 100;

/// How many days the plots show at most, the last ones.
const MOST_DAYS: i32 = 366;

/// How many days they show at least.
const LEAST_DAYS: i32 = 14;

/// What the page says.
pub struct Report {
    /// When it was made.
    pub made: String,
    /// What it is about, such as "since 2026-11-01 12:30 CET".
    pub since: Option<String>,
    /// The files that databases may be in.
    pub databases: Vec<String>,
    /// How many failures are believed here and now.
    pub believed: usize,
    /// How many failures there are.
    pub count: usize,
    /// How many builds were refused.
    pub refused: i64,
    /// How long these builds would have taken.
    pub saved: String,
    /// The days on which something happened, newest first.
    pub days: Vec<Happened>,
    /// A plot of failures by day, and one of time saved.
    pub plots: [Plot; 2],
    pub blocking: Blocking,
    pub flaky: Vec<Flaky>,
    /// How many more derivations are flaky.
    pub more_flaky: usize,
    /// The newest first.
    pub failures: Vec<Entry>,
    /// How many older ones are not on the page.
    pub left_out: usize,
}

/// What happened on a day.
#[derive(Default)]
pub struct Happened {
    pub date: Date,
    /// Builds that failed.
    pub failures: i64,
    /// Builds that were refused, and how long they would have taken.
    pub tally: Tally,
}

impl Happened {
    /// How long the refused builds would have taken.
    pub fn saved(&self) -> String {
        saved(self.tally.saved_ms)
    }
}

/// A failure.
pub struct Entry {
    /// Its number on the page, from 1 on.
    pub number: usize,
    pub name: String,
    pub derivation: String,
    pub class: String,
    pub is_believed: bool,
    /// Until when it is believed, or why it is not.
    pub believed: String,
    pub first: String,
    pub last: String,
    pub attempts: u32,
    pub system: String,
    pub reason: String,
    pub duration: String,
    /// Where it happened.
    pub place: String,
    pub nix_version: String,
    pub plugin_version: String,
    pub decided_by: Option<String>,
    pub message: String,
    pub log: String,
    /// Whether the log has more than that.
    pub is_cut: bool,
}

/// A derivation that failed and succeeded by turns.
pub struct Flaky {
    pub name: String,
    /// The number of its failure on the page.
    pub number: usize,
    pub failed: usize,
    /// The oldest first.
    pub attempts: Vec<Ended>,
}

/// How an attempt ended.
pub struct Ended {
    pub time: String,
    /// Why it failed; nothing if it succeeded.
    pub reason: Option<String>,
}

impl Report {
    /// The failures in groups.
    pub fn groups(&self) -> impl Iterator<Item = &[Entry]> {
        self.failures.chunks(GROUP)
    }

    /// Reads what is recorded, and asks Nix what is believed and what that blocks.
    ///
    /// # Errors
    ///
    /// If a database can't be read.
    pub fn make(databases: &Databases, arguments: &Arguments, since: Option<Span>) -> Result<Report, Failure> {
        let (zone, now) = (zone(), Timestamp::now());
        let start = start_of(since)?;
        let mut wanted = databases.newest_first()?;
        wanted.retain(|(_, time)| start.is_none_or(|start| *time >= start));
        let wanted: Vec<_> = wanted.into_iter().map(|(id, _)| id).collect();

        let context = BeliefContext::ask(&arguments.database.store_state(), &SettingsArguments::default());
        let first = start.map(Day::of);
        let mut remembered: BTreeMap<Day, i64> = BTreeMap::new();
        let (mut failures, mut flaky, mut count, mut believed, mut more_flaky) = (Vec::new(), Vec::new(), 0, 0, 0);
        for some in wanted.chunks(AT_ONCE) {
            for judged in Judged::all(databases.records_in_order(some)?, &context) {
                let record = judged.record();
                count += 1;
                believed += usize::from(judged.is_believed());
                let history = &record.summary.history;
                let here = |attempt: &&Attempt| attempt.failure.as_ref().is_some_and(|failed| failed.origin.is_none());
                let failed = history.iter().filter(here).map(|attempt| Day::of(attempt.time));
                for day in failed.filter(|day| first.is_none_or(|first| *day >= first)) {
                    *remembered.entry(day).or_default() += 1;
                }
                if count <= LISTED && flaky.len() < FLAKY && is_flaky(history) {
                    flaky.push(Flaky::of(record, count, &zone));
                } else if is_flaky(history) {
                    more_flaky += 1;
                }
                if count <= LISTED {
                    failures.push(Entry::of(&judged, count, &zone));
                }
            }
        }
        let listed: Vec<&Entry> = failures.iter().filter(|entry| entry.is_believed).take(ASKED).collect();
        let blocking = dependents::ask(&listed, believed - listed.len());
        let days = days(databases.counted_by_day(first)?, remembered);
        let plots = plotted(&days, first.map(Day::date), Day::of(now).date())?;
        let all = databases.refusals(first)?;
        Ok(Report {
            made: moment(now, &zone),
            since: start.map(|start| moment(start, &zone)),
            databases: arguments
                .database
                .paths()
                .iter()
                .map(|path| visible(&path.display().to_string()).into_owned())
                .collect(),
            believed,
            count,
            refused: all.refusals,
            saved: saved(all.saved_ms),
            days: days.into_values().rev().collect(),
            plots,
            blocking,
            flaky,
            more_flaky,
            left_out: count - failures.len(),
            failures,
        })
    }
}

/// What happened on each day. Where fewer failures were counted than records remember, they are from before counts were kept.
fn days(counted: BTreeMap<Day, (Tally, i64)>, remembered: BTreeMap<Day, i64>) -> BTreeMap<Date, Happened> {
    let mut days = counted;
    for (day, failures) in remembered {
        let counted = &mut days.entry(day).or_default().1;
        *counted = failures.max(*counted);
    }
    let happened = |(day, (tally, failures)): (Day, _)| Happened { date: day.date(), failures, tally };
    days.into_iter().map(happened).map(|day| (day.date, day)).collect()
}

fn saved(milliseconds: i64) -> String {
    const MINUTE: i64 = 60_000;
    match milliseconds {
        ..1 => "0 s".to_owned(),
        1..3_600_000 => span(milliseconds),
        // Seconds of hours say nothing.
        _ => span(milliseconds / MINUTE * MINUTE),
    }
}

/// The plots of failures and of time saved.
fn plotted(days: &BTreeMap<Date, Happened>, start: Option<Date>, today: Date) -> Result<[Plot; 2], Failure> {
    let first = start.or_else(|| days.keys().next().copied()).unwrap_or(today);
    let earliest = today.saturating_sub((MOST_DAYS - 1).days());
    let latest = today.saturating_sub((LEAST_DAYS - 1).days());
    let first = first.clamp(earliest, latest);
    let shown: Vec<Date> = first.series(1.day()).take_while(|date| *date <= today).collect();
    let longest = days.values().map(|day| day.tally.saved_ms).max().unwrap_or(0);
    let (unit, milliseconds) = match longest / 60_000 {
        0..4 => ("seconds", 1e3),
        4..240 => ("minutes", 6e4),
        _ => ("hours", 3.6e6),
    };
    let values = |value: fn(&Happened) -> f64| -> Vec<(Date, f64)> {
        shown.iter().map(|date| (*date, days.get(date).map_or(0.0, value))).collect()
    };
    let (failures, saved) = (values(|day| day.failures as f64), values(|day| day.tally.saved_ms as f64));
    let saved: Vec<_> = saved.into_iter().map(|(date, value)| (date, value / milliseconds)).collect();
    let failed = |error| Failure::Other(format!("the plots can't be drawn: {error}"));
    Ok([
        Plot::of("failures-by-day", "failures", &failures).map_err(failed)?,
        Plot::of("saved-by-day", unit, &saved).map_err(failed)?,
    ])
}

impl Entry {
    fn of(judged: &Judged, number: usize, zone: &TimeZone) -> Entry {
        let record = judged.record();
        let summary = &record.summary;
        let text = |text: &str| visible(text).into_owned();
        let is_about_outputs = summary.class == Class::Output || record.log.is_empty();
        let (log, is_cut) = end_of(&record.log, LOG);
        Entry {
            number,
            name: text(&summary.name),
            derivation: text(summary.derivation.as_str()),
            system: text(&summary.system),
            class: summary.class_in_lists(),
            reason: summary.reason(),
            duration: span(summary.duration_ms),
            place: text(&record.place()),
            attempts: summary.attempts,
            first: moment(summary.first_failure, zone),
            is_believed: judged.is_believed(),
            believed: judged.believed_until(zone),
            last: moment(summary.last_failure, zone),
            nix_version: text(&record.nix_version),
            plugin_version: text(&record.plugin_version),
            decided_by: record.deciding_line.as_ref().map(|deciding| text(&deciding.text())),
            // Otherwise it quotes the log.
            message: if is_about_outputs { text(end_of(&record.message, LOG).0) } else { String::new() },
            log: text(log),
            is_cut,
        }
    }
}

/// The last lines of a text, and whether that is not all of it.
fn end_of(text: &str, most: usize) -> (&str, bool) {
    if text.len() <= most {
        return (text, false);
    }
    let end = &text[text.ceil_char_boundary(text.len() - most)..];
    // Of a line that is longer than that, the end.
    let whole = end.split_once('\n').map(|(_, whole)| whole).filter(|whole| !whole.is_empty());
    (whole.unwrap_or(end), true)
}

impl Flaky {
    fn of(record: &FailureRecord, number: usize, zone: &TimeZone) -> Flaky {
        let history = &record.summary.history;
        let ended = |attempt: &Attempt| {
            let reason = attempt.failure.as_ref().map(|failure| match failure.exit_code {
                Some(code) => format!("{} ({code})", failure.class),
                None => failure.class.to_string(),
            });
            Ended { time: moment(attempt.time, zone), reason }
        };
        Flaky {
            name: visible(&record.summary.name).into_owned(),
            number,
            failed: history.iter().filter(|attempt| attempt.failure.is_some()).count(),
            attempts: history.iter().rev().map(ended).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_cut_at_lines() {
        assert_eq!(end_of("one\ntwo\n", 100), ("one\ntwo\n", false));
        assert_eq!(end_of("one\ntwo\nthree\n", 10), ("three\n", true));
        assert_eq!(end_of("éééé\n", 4), ("é\n", true));
    }

    #[test]
    fn plots_say_what_they_show() {
        let today: Date = "2026-11-26".parse().unwrap();
        let date = today.saturating_sub(2.days());
        let days =
            BTreeMap::from([(date, Happened { date, failures: 7, tally: Tally { refusals: 2, saved_ms: 3_600_000 } })]);
        let [failures, saved] = plotted(&days, None, today).unwrap_or_else(|_| panic!("no plots"));
        assert_eq!(saved.unit, "minutes");
        assert_eq!((failures.first.to_string(), failures.last), ("2026-11-13".to_owned(), today));
        assert_eq!((&*failures.sum, failures.most), ("7", Some((date, "7".to_owned()))));
        assert_eq!((&*saved.sum, saved.most), ("60", Some((date, "60".to_owned()))));
        assert!(saved.drawing.trim().starts_with('<') && saved.drawing.contains("<rect "), "{}", saved.drawing);
        assert!(!saved.drawing.contains("svg"), "{}", saved.drawing);
    }
}
