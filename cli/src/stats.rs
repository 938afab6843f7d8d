//! `stats`: what the cache has saved, and what failed.

mod prometheus;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::iter;

use clap::builder::styling::Style;
use jiff::Timestamp;
use nix_negative_cache_core::belief::Origin;
use nix_negative_cache_core::class::Class;
use nix_negative_cache_core::counts::{Day, Tally, Verdict};
use nix_negative_cache_core::database::{By, Database, DatabaseError, JudgedBuilds, Overview};
use nix_negative_cache_core::time_text::{ago, span};
use serde::Serialize;

use crate::args::{Arguments, StatsArguments};
use crate::databases::Databases;
use crate::look::{Look, visible};
use crate::output::{Row, arranged};
use crate::streams::say;
use crate::wrapping::width_of;
use crate::{Failure, counted, databases, start_of};

/// How many names are shown in the lists of those that saved most or fail most.
const TEN: usize = 10;

/// Where failures happened that no other machine has told of.
const HERE: &str = "here";

/// All that is known about some span of time.
#[derive(Debug, Default)]
struct Statistics {
    refusals: Tally,
    by_day: BTreeMap<Day, OfDay>,
    by_class: BTreeMap<&'static str, OfGroup>,
    by_origin: BTreeMap<String, OfGroup>,
    saved_by_name: BTreeMap<String, Tally>,
    failures_by_name: BTreeMap<String, OfName>,
    /// Builds that failed, by class and by what became of them.
    judged: BTreeMap<(&'static str, Verdict), i64>,
    known: i64,
    flaky: i64,
}

/// What happened on a day.
#[derive(Clone, Copy, Debug, Default)]
struct OfDay {
    refusals: Tally,
    recorded: i64,
    not_recorded: i64,
}

/// The failures of a class, or from somewhere.
#[derive(Clone, Copy, Debug, Default)]
struct OfGroup {
    refusals: Tally,
    known: i64,
}

/// The failures of derivations with a name.
#[derive(Clone, Copy, Debug, Default)]
struct OfName {
    failures: i64,
    last_failure: Timestamp,
    is_flaky: bool,
}

/// Says what the cache has saved, and what failed.
///
/// # Errors
///
/// If a database can't be read, or the answer can't be written.
pub fn stats(arguments: &Arguments, stats: &StatsArguments, out: &mut impl Write) -> Result<(), Failure> {
    let databases = databases(arguments)?;
    let since = start_of(stats.since)?;
    let statistics = Statistics::of(&databases, since)?;
    if stats.prometheus {
        return Ok(statistics.prometheus(out)?);
    }
    if stats.json {
        serde_json::to_writer_pretty(&mut *out, &statistics.json(since)).map_err(io::Error::from)?;
        return Ok(writeln!(out)?);
    }
    if statistics.is_empty() {
        say(format_args!("nothing is counted or recorded in {}", visible(&databases.names())));
        return Ok(());
    }
    Ok(statistics.print(&Look::of_stdout(true), out)?)
}

impl Statistics {
    fn of(databases: &Databases, since: Option<Timestamp>) -> Result<Statistics, DatabaseError> {
        let mut statistics = Statistics::default();
        for database in databases.all_open() {
            statistics.add_counts(database, since.map(Day::of))?;
            database.look_at_all(since, |record| statistics.add_record(record))?;
        }
        Ok(statistics)
    }

    fn add_counts(&mut self, database: &Database, since: Option<Day>) -> Result<(), DatabaseError> {
        for (day, tally) in database.refusals_by_day(since)? {
            self.by_day.entry(day).or_default().refusals.add(tally);
        }
        for (class, tally) in database.refusals(By::Class, since)? {
            self.refusals.add(tally);
            // A newer version may have others.
            if let Ok(class) = class.parse::<Class>() {
                self.by_class.entry(class.name()).or_default().refusals.add(tally);
            }
        }
        for (origin, tally) in database.refusals(By::Origin, since)? {
            let origin = if origin.is_empty() { HERE.to_owned() } else { origin };
            self.by_origin.entry(origin).or_default().refusals.add(tally);
        }
        for (name, tally) in database.refusals(By::Name, since)? {
            self.saved_by_name.entry(name).or_default().add(tally);
        }
        for JudgedBuilds { day, class, verdict, count } in database.judged_builds(since)? {
            *self.judged.entry((class.name(), verdict)).or_default() += count;
            if !day.is_earlier() {
                let of_day = self.by_day.entry(day).or_default();
                *(if verdict.is_recorded() { &mut of_day.recorded } else { &mut of_day.not_recorded }) += count;
            }
        }
        Ok(())
    }

    fn add_record(&mut self, record: &Overview<'_>) {
        let known = i64::from(record.stands);
        self.known += known;
        self.flaky += i64::from(record.is_flaky);
        self.by_class.entry(record.class.name()).or_default().known += known;
        let origin = record.origin.as_ref().map_or_else(|| HERE.to_owned(), Origin::counted_as);
        self.by_origin.entry(origin).or_default().known += known;
        if !self.failures_by_name.contains_key(record.name) {
            self.failures_by_name.insert(record.name.to_owned(), OfName::default());
        }
        if let Some(of_name) = self.failures_by_name.get_mut(record.name) {
            of_name.failures += i64::from(record.attempts);
            of_name.last_failure = of_name.last_failure.max(record.last_failure);
            of_name.is_flaky |= record.is_flaky;
        }
    }

    fn is_empty(&self) -> bool {
        self.refusals == Tally::default() && self.judged.is_empty() && self.failures_by_name.is_empty()
    }

    fn recorded(&self) -> i64 {
        self.judged.iter().filter(|((_, verdict), _)| verdict.is_recorded()).map(|(_, count)| count).sum()
    }

    /// How many builds that failed were judged so.
    fn judged_so(&self, verdict: Verdict) -> i64 {
        self.judged.iter().filter(|((_, other), _)| *other == verdict).map(|(_, count)| count).sum()
    }

    /// How many builds that failed were not recorded, and why, the most frequent reason first.
    fn not_recorded(&self) -> Vec<(Verdict, i64)> {
        let verdicts = Verdict::ALL.iter().filter(|verdict| !verdict.is_recorded());
        let counts = verdicts.map(|verdict| (*verdict, self.judged_so(*verdict)));
        let mut counts: Vec<(Verdict, i64)> = counts.filter(|(_, count)| *count > 0).collect();
        counts.sort_by_key(|(_, count)| Reverse(*count));
        counts
    }

    /// The names that saved most.
    fn saved_most(&self) -> Vec<(&str, Tally)> {
        let mut names: Vec<(&str, Tally)> =
            self.saved_by_name.iter().map(|(name, tally)| (name.as_str(), *tally)).collect();
        names.sort_by_key(|(_, tally)| Reverse((tally.saved_ms, tally.refusals)));
        names.truncate(TEN);
        names
    }

    /// The names that fail most, of all or only of those that are flaky.
    fn failed_most(&self, flaky: bool) -> Vec<(&str, OfName)> {
        let names = self.failures_by_name.iter().filter(|(_, of_name)| of_name.is_flaky || !flaky);
        let mut names: Vec<(&str, OfName)> = names.map(|(name, of_name)| (name.as_str(), *of_name)).collect();
        names.sort_by_key(|(_, of_name)| Reverse((of_name.failures, of_name.last_failure)));
        names.truncate(TEN);
        names
    }

    /// For people.
    fn print(&self, look: &Look, out: &mut impl Write) -> io::Result<()> {
        let now = Timestamp::now();
        let count = |count: i64, what: &str| counted(usize::try_from(count).unwrap_or(0), what);
        let refusals = match self.refusals {
            Tally { refusals: 0, .. } => "none yet".to_owned(),
            Tally { refusals, saved_ms } => format!("{}, by {}", span(saved_ms), count(refusals, "refusal")),
        };
        let mut line = |name: &str, value: &str| writeln!(out, "{:15}{value}", format!("{name}:"));
        line("Time saved", &refusals)?;
        let not_recorded = self.not_recorded();
        let doubtful = match self.judged_so(Verdict::Doubtful) {
            0 => String::new(),
            doubtful => format!(" ({doubtful} doubtful)"),
        };
        let others: i64 = not_recorded.iter().map(|(_, count)| count).sum();
        line("Failed builds", &format!("{} recorded{doubtful}, {others} not recorded", self.recorded()))?;
        line("Known now", &count(self.known, "failure"))?;
        line("Flaky", &count(self.flaky, "derivation"))?;

        let reasons = not_recorded.iter().map(|(verdict, count)| [count.to_string().into(), verdict.in_words().into()]);
        table(["BUILDS", "NOT RECORDED, BECAUSE"], reasons, look, out)?;
        let groups = |OfGroup { refusals, known }: &OfGroup, name: &str| {
            [
                known.to_string().into(),
                refusals.refusals.to_string().into(),
                saved(*refusals).into(),
                name.to_owned().into(),
            ]
        };
        let classes = self.by_class.iter().map(|(class, of_class)| groups(of_class, class));
        table(["KNOWN", "REFUSED", "SAVED", "CLASS"], classes, look, out)?;
        let origins = self.by_origin.iter().map(|(origin, of_origin)| groups(of_origin, &visible(origin)));
        table(["KNOWN", "REFUSED", "SAVED", "ORIGIN"], origins, look, out)?;
        let names = self
            .saved_most()
            .into_iter()
            .map(|(name, tally)| [saved(tally).into(), tally.refusals.to_string().into(), visible(name)]);
        table(["SAVED", "REFUSED", "SAVED MOST"], names, look, out)?;
        let failed = |(name, of_name): (&'_ str, OfName)| {
            [
                of_name.failures.to_string().into(),
                ago(of_name.last_failure, now).into(),
                visible(name).into_owned().into(),
            ]
        };
        table(["FAILED", "LAST FAILURE", "FAILED MOST"], self.failed_most(false).into_iter().map(failed), look, out)?;
        table(["FAILED", "LAST FAILURE", "FLAKY"], self.failed_most(true).into_iter().map(failed), look, out)
    }

    /// For programs.
    fn json(&self, since: Option<Timestamp>) -> Json<'_> {
        let group = |name, of_group: &OfGroup| JsonGroup {
            name,
            known: of_group.known,
            refusals: of_group.refusals.refusals,
            saved_ms: of_group.refusals.saved_ms,
        };
        let name = |(name, of_name): (&'_ str, OfName)| JsonName {
            name: name.to_owned(),
            failures: of_name.failures,
            last_failure: of_name.last_failure.as_second(),
        };
        Json {
            since: since.map(|since| since.as_second()),
            refusals: self.refusals.refusals,
            saved_ms: self.refusals.saved_ms,
            recorded: self.recorded(),
            doubtful: self.judged_so(Verdict::Doubtful),
            not_recorded: self.not_recorded().into_iter().map(|(verdict, count)| (verdict.name(), count)).collect(),
            known: self.known,
            flaky: self.flaky,
            days: self.by_day.iter().map(|(day, of_day)| JsonDay::of(*day, of_day)).collect(),
            classes: self.by_class.iter().map(|(class, of_class)| group(class, of_class)).collect(),
            origins: self.by_origin.iter().map(|(origin, of_origin)| group(origin, of_origin)).collect(),
            saved_most: self.saved_most().into_iter().map(JsonSaved::from).collect(),
            failed_most: self.failed_most(false).into_iter().map(name).collect(),
            flaky_most: self.failed_most(true).into_iter().map(name).collect(),
        }
    }
}

/// How long the refused builds took, in words.
fn saved(tally: Tally) -> String {
    if tally.refusals == 0 { "-".to_owned() } else { span(tally.saved_ms) }
}

/// Prints a table after an empty line, if it has any rows.
fn table<'a, const COLUMNS: usize>(
    headings: [&'static str; COLUMNS],
    rows: impl Iterator<Item = [Cow<'a, str>; COLUMNS]>,
    look: &Look,
    out: &mut impl Write,
) -> io::Result<()> {
    let header = Row { columns: headings.map(Cow::from), style: look.heading() };
    let rows: Vec<Row<'_, COLUMNS>> =
        iter::once(header).chain(rows.map(|columns| Row { columns, style: Style::new() })).collect();
    if rows.len() == 1 {
        return Ok(());
    }
    writeln!(out)?;
    arranged(&rows, look, width_of(io::stdout()).unwrap_or(usize::MAX), out)
}

/// What `stats --json` prints; see the manual.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    since: Option<i64>,
    refusals: i64,
    saved_ms: i64,
    recorded: i64,
    doubtful: i64,
    not_recorded: BTreeMap<&'static str, i64>,
    known: i64,
    flaky: i64,
    days: Vec<JsonDay>,
    classes: Vec<JsonGroup<'a>>,
    origins: Vec<JsonGroup<'a>>,
    saved_most: Vec<JsonSaved>,
    failed_most: Vec<JsonName>,
    flaky_most: Vec<JsonName>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonDay {
    day: String,
    refusals: i64,
    saved_ms: i64,
    recorded: i64,
    not_recorded: i64,
}

impl JsonDay {
    fn of(day: Day, of_day: &OfDay) -> JsonDay {
        let OfDay { refusals, recorded, not_recorded } = *of_day;
        let Tally { refusals, saved_ms } = refusals;
        JsonDay { day: day.date().to_string(), refusals, saved_ms, recorded, not_recorded }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonGroup<'a> {
    name: &'a str,
    known: i64,
    refusals: i64,
    saved_ms: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonSaved {
    name: String,
    refusals: i64,
    saved_ms: i64,
}

impl From<(&str, Tally)> for JsonSaved {
    fn from((name, tally): (&str, Tally)) -> JsonSaved {
        JsonSaved { name: name.to_owned(), refusals: tally.refusals, saved_ms: tally.saved_ms }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonName {
    name: String,
    failures: i64,
    last_failure: i64,
}
