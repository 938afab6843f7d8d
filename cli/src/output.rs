//! How records are printed.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::{env, fs, iter};

use clap::builder::styling::Style;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use nix_negative_cache_core::belief::{Belief, Origin, Source};
use nix_negative_cache_core::channel::Message;
use nix_negative_cache_core::explanation::{believed_until, explain, lifts};
use nix_negative_cache_core::record::{FailureRecord, FailureSummary};
use nix_negative_cache_core::record_json::RecordJson;
use nix_negative_cache_core::settings::Settings;
use nix_negative_cache_core::time_text::{ago, moment, span};
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use crate::databases::{Builder, SeenRecord};
use crate::look::Look;
use crate::nix::BeliefContext;
use crate::wrapping::{width_of, wrapped};

/// A record, or as much of it as lists need, and what it says of a new attempt.
#[derive(Debug)]
pub struct Judged<R = FailureRecord> {
    record: R,
    belief: Belief,
    may_forget: bool,
    /// Whether a build would be refused, as the daemon says that builds; `None` if no daemon said anything.
    refused: Option<bool>,
}

/// The same for programs.
#[derive(Debug, Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    record: RecordJson<'a>,
    /// What is believed here and now, if that was asked for.
    #[serde(flatten)]
    belief: Option<JsonBelief>,
}

/// What a record says of a new attempt, for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonBelief {
    /// Whether the failure is believed.
    believed: bool,
    /// Until when, in seconds since 1970; nothing if it is not, or for ever.
    believed_until: Option<i64>,
    /// Why it is not.
    doubt: Option<String>,
    /// What would have it built again.
    lifted_by: Vec<String>,
}

impl<'a> Json<'a> {
    fn of(record: &'a FailureRecord, belief: Option<JsonBelief>) -> Json<'a> {
        Json { record: RecordJson::of(record), belief }
    }
}

impl<R: AsRef<FailureSummary>> Judged<R> {
    /// Judges records by the settings in force.
    pub fn all(records: Vec<SeenRecord<R>>, context: &BeliefContext) -> Vec<Judged<R>> {
        let now = Timestamp::now();
        let of_daemon = |known: &&SeenRecord<R>| known.by == Builder::Daemon;
        let derivation = |known: &SeenRecord<R>| known.record.as_ref().derivation.to_string();
        let derivations: Vec<String> = records.iter().filter(of_daemon).map(derivation).collect();
        let derivations: Vec<&str> = derivations.iter().map(String::as_str).collect();
        let told = context.ask_builder(&derivations, [Message::is_known, Message::is_refused]);
        let judge = |seen: SeenRecord<R>| {
            let belief = context.belief(&seen, now);
            let derivation = seen.record.as_ref().derivation.as_str();
            let told = told.as_ref().filter(|_| seen.by == Builder::Daemon);
            let told = told.map(|[known, refused]| (known.contains(derivation), refused.contains(derivation)));
            let belief = match told {
                Some((known, _)) => belief.told(known),
                None => belief,
            };
            Judged {
                belief,
                refused: told.map(|(_, refused)| refused),
                may_forget: seen.may_forget,
                record: seen.record,
            }
        };
        records.into_iter().map(judge).collect()
    }

    /// Whether the failure is believed.
    pub fn is_believed(&self) -> bool {
        matches!(self.belief, Belief::Fails { .. } | Belief::Told)
    }

    /// Whether this user may forget it.
    pub fn may_forget(&self) -> bool {
        self.may_forget
    }
}

impl Judged {
    /// What is recorded.
    pub fn record(&self) -> &FailureRecord {
        &self.record
    }

    /// Until when the failure is believed, or why it is not, as in lists.
    pub fn believed_until(&self, zone: &TimeZone) -> String {
        believed_until(&self.belief, zone)
    }

    /// The derivation that failed.
    pub fn derivation(&self) -> &str {
        self.record.summary.derivation.as_str()
    }

    /// Whether it has one of these outputs.
    pub fn has_any_of(&self, outputs: &BTreeSet<String>) -> bool {
        self.record.outputs.iter().any(|output| outputs.contains(output.key.as_str()))
    }

    /// When and why it failed, and until when that is believed.
    pub fn in_a_line(&self, now: Timestamp) -> String {
        let Judged { record, belief, .. } = self;
        let until = believed_until(belief, &zone());
        let (ago, reason) = (ago(record.summary.last_failure, now), record.summary.reason());
        let elsewhere = match record.origin() {
            Some(origin) => format!(" elsewhere ({reason}; {origin})"),
            None => format!(" ({reason})"),
        };
        format!("failed {ago}{elsewhere}; believed until: {until}")
    }

    /// Whether it was learned elsewhere.
    pub fn is_from_elsewhere(&self) -> bool {
        self.record.origin().is_some()
    }

    fn json(&self, settings: &Settings) -> Json<'_> {
        let belief = JsonBelief {
            believed: self.is_believed(),
            believed_until: match self.belief {
                Belief::Fails { until, .. } => until.map(|until| until.as_second()),
                Belief::Told | Belief::Open(_) => None,
            },
            doubt: self.doubt(),
            lifted_by: self.lifts(settings),
        };
        Json::of(&self.record, Some(belief))
    }

    /// What would have it built again.
    fn lifts(&self, settings: &Settings) -> Vec<String> {
        lifts(&self.record, settings, &self.belief, self.may_forget)
    }

    /// Why the failure is not believed.
    fn doubt(&self) -> Option<String> {
        match &self.belief {
            Belief::Fails { .. } | Belief::Told => None,
            Belief::Open(doubt) => Some(doubt.to_string()),
        }
    }

    /// Whether a build would be refused.
    pub fn stands_in_the_way(&self, settings: &Settings) -> bool {
        let here = self.is_believed() && settings.enabled && settings.consults() && !settings.warn;
        self.refused.unwrap_or(here)
    }

    /// The settings that decide. If a daemon says that it would refuse, this user's own settings do not matter.
    fn deciding<'a>(&self, settings: &'a Settings) -> Cow<'a, Settings> {
        if self.refused == Some(true) {
            let (retry, warn, keep_failed) = (false, false, false);
            Cow::Owned(Settings { enabled: true, retry, warn, keep_failed, ..settings.clone() })
        } else {
            Cow::Borrowed(settings)
        }
    }
}

/// A derivation of which only the daemon knows more, for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonTold<'a> {
    drv_path: &'a str,
    believed: bool,
}

/// All of each record, for programs, and the paths of derivations of which only the daemon knows more.
///
/// # Errors
///
/// If it can't be written.
pub fn json(records: &[Judged], told: &[String], settings: &Settings, out: &mut impl Write) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::pretty(&mut *out);
    let mut all = serializer.serialize_seq(Some(records.len() + told.len()))?;
    records.iter().try_for_each(|judged| all.serialize_element(&judged.json(settings)))?;
    told.iter().try_for_each(|path| all.serialize_element(&JsonTold { drv_path: path, believed: true }))?;
    all.end()?;
    writeln!(out)
}

/// All that is recorded, for programs, and nothing of what is believed.
///
/// # Errors
///
/// If it can't be written.
pub fn recorded_json(records: &[SeenRecord], out: &mut impl Write) -> io::Result<()> {
    let records: Vec<Json<'_>> = records.iter().map(|seen| Json::of(&seen.record, None)).collect();
    serde_json::to_writer_pretty(&mut *out, &records)?;
    writeln!(out)
}

/// The time zone of this user.
pub fn zone() -> TimeZone {
    // By its name it would be looked for among all that there are, which takes longer than all else that `show` does.
    let local = || {
        let unnamed = env::var_os("TZ").is_none();
        TimeZone::tzif("Local", &unnamed.then(|| fs::read("/etc/localtime").ok()).flatten()?).ok()
    };
    local().unwrap_or_else(TimeZone::system)
}

/// A line for each record; on a terminal that is too narrow for it, some, of which the last one is the path of the derivation:
/// whole, so that it can be copied.
///
/// # Errors
///
/// If it can't be written.
pub fn table(records: &[Judged<FailureSummary>], look: &Look, out: &mut impl Write) -> io::Result<()> {
    let (now, zone) = (Timestamp::now(), zone());
    let header = ["FAILED", "CLASS", "ATTEMPTS", "AFTER", "BELIEVED UNTIL", "DERIVATION"].map(Cow::from);
    let header = Row { columns: header, style: look.heading() };
    let rows = records.iter().map(|judged| {
        let Judged { record, belief, .. } = judged;
        let columns = [
            ago(record.last_failure, now).into(),
            record.class_in_lists().into(),
            record.attempts.to_string().into(),
            span(record.duration_ms).into(),
            believed_until(belief, &zone).into(),
            record.derivation.as_str().into(),
        ];
        Row { columns, style: if judged.is_believed() { Style::new() } else { look.aside() } }
    });
    let rows: Vec<Row<'_, 6>> = iter::once(header).chain(rows).collect();
    arranged(&rows, look, width_of(io::stdout()).unwrap_or(usize::MAX), out)
}

/// A row of a table. What is in the last column may be long.
pub struct Row<'a, const COLUMNS: usize> {
    pub columns: [Cow<'a, str>; COLUMNS],
    pub style: Style,
}

/// Prints rows, the first one being the header, for a terminal of this width.
///
/// # Errors
///
/// If it can't be written.
pub fn arranged<const COLUMNS: usize>(
    rows: &[Row<'_, COLUMNS>],
    look: &Look,
    terminal: usize,
    out: &mut impl Write,
) -> io::Result<()> {
    let width = |column: usize| rows.iter().map(|row| row.columns[column].len()).max().unwrap_or(0);
    let last = COLUMNS - 1;
    let widths: Vec<usize> = (0..last).map(|column| width(column) + 2).collect();
    let columns_before: usize = widths.iter().sum();
    let before = if columns_before + width(last) <= terminal { "" } else { "\n  " };
    // Each line of its own would be written to standard output at once.
    let mut out = BufWriter::new(out);
    for (index, Row { columns, style }) in rows.iter().enumerate() {
        let (path, columns) = (&columns[last], &columns[..last]);
        write!(out, "{style}")?;
        if columns_before <= terminal {
            for (text, &width) in columns.iter().zip(&widths) {
                write!(out, "{text:width$}")?;
            }
        } else {
            let lines = wrapped(&columns.join("; "), terminal, 0);
            write!(out, "{}", lines.join("\n"))?;
        }
        let path = if index == 0 { path.as_ref().into() } else { look.path(path) };
        writeln!(out, "{before}{path}{style:#}")?;
    }
    out.flush()
}

/// Everything that is recorded, for people, and nothing of what is believed.
///
/// # Errors
///
/// If it can't be written.
pub fn recorded(records: &[SeenRecord], out: &mut impl Write) -> io::Result<()> {
    full(records.iter().map(|seen| (&seen.record, None)), out)
}

/// Everything that is recorded, for people, and what it says of a new attempt.
///
/// # Errors
///
/// If it can't be written.
pub fn recorded_and_believed(records: &[Judged], settings: &Settings, out: &mut impl Write) -> io::Result<()> {
    full(records.iter().map(|judged| (&judged.record, Some((judged, settings)))), out)
}

/// A record, and what it says of a new attempt by some settings, if that was asked for.
type Shown<'a> = (&'a FailureRecord, Option<(&'a Judged, &'a Settings)>);

fn full<'a>(records: impl Iterator<Item = Shown<'a>>, out: &mut impl Write) -> io::Result<()> {
    let (now, zone) = (Timestamp::now(), zone());
    let when = |time: Timestamp| format!("{} ({})", moment(time, &zone), ago(time, now));
    for (index, (record, judged)) in records.enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        let mut line = |name: &str, value: &str| writeln!(out, "{:16}{value}", format!("{name}:"));
        line("Derivation", record.summary.derivation.as_str())?;
        for output in &record.outputs {
            line("Output", &format!("{} ({})", output.key, output.name))?;
        }
        line("System", &record.summary.system)?;
        line("Reason", &format!("{}, after {}", record.summary.reason(), span(record.summary.duration_ms)))?;
        line("Class", &record.summary.class_in_lists())?;
        if let Some(deciding) = &record.deciding_line {
            line("Decided by", &deciding.text())?;
        }
        line("Attempts", &record.summary.attempts.to_string())?;
        line("First failure", &when(record.summary.first_failure))?;
        line("Last failure", &when(record.summary.last_failure))?;
        if !record.summary.stands() {
            line("Last success", &record.summary.history.first().map(|last| when(last.time)).unwrap_or_default())?;
        }
        if let Some((judged, settings)) = judged {
            line("Believed until", &believed_until(&judged.belief, &zone))?;
            if let Some(doubt) = judged.doubt() {
                line("Because", &doubt)?;
            }
            for lift in judged.lifts(settings) {
                line("Lifted by", &lift)?;
            }
        }
        match record.origin() {
            Some(Origin { source: Source::File { file }, .. }) => line("Imported from", file)?,
            Some(origin) => match origin.source.build_and_log(record.summary.derivation.as_str()) {
                Some((build, log)) => {
                    line("Imported from", &build)?;
                    line("Log", &log)?;
                }
                None => line("Binary cache", &origin.to_string())?,
            },
            None => line("Host", &record.host)?,
        }
        line("Versions", &format!("Nix {}, plugin {}", record.nix_version, record.plugin_version))?;
        line("Message", &record.message.replace('\n', "\n                "))?;
        writeln!(out, "Last log lines:")?;
        for log in record.log.lines() {
            writeln!(out, "> {log}")?;
        }
    }
    Ok(())
}

/// Why a path would be refused or built, as far as its own records go; `is_needed` is whether there is anything to build.
///
/// # Errors
///
/// If it can't be written.
pub fn explanation(
    path: &str,
    records: &[Judged],
    settings: &Settings,
    is_needed: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "{path}")?;
    if !is_needed {
        writeln!(out, "There is nothing to build: Nix has its outputs, or would download them.")?;
    }
    if records.is_empty() {
        let off = if settings.enabled { "" } else { ", and 'negative-cache' is off" };
        let so = if is_needed { " So it would be built." } else { "" };
        writeln!(out, "No failure of it is recorded{off}.{so}")?;
    }
    for judged in records {
        let deciding = judged.deciding(settings);
        for sentence in explain(&judged.record, &deciding, &judged.belief, is_needed, Timestamp::now(), &zone()) {
            writeln!(out, "{sentence}")?;
        }
        if is_needed && judged.stands_in_the_way(settings) {
            writeln!(out, "What would have it built again:")?;
            for lift in judged.lifts(settings) {
                writeln!(out, "- {lift}")?;
            }
        }
    }
    Ok(())
}

/// A line for each known failure, and for each derivation of which only the daemon knows more.
///
/// # Errors
///
/// If it can't be written.
pub fn obstacles(known: &[Judged], told: &[String], out: &mut impl Write) -> io::Result<()> {
    let now = Timestamp::now();
    for judged in known {
        writeln!(out, "{} {}", judged.derivation(), judged.in_a_line(now))?;
    }
    for path in told {
        writeln!(out, "{path} would be refused by the daemon that builds; why is not known here")?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use nix_negative_cache_core::belief::{Attempt, Doubt, FailedAttempt};
    use nix_negative_cache_core::class::Class;
    use nix_negative_cache_core::deciding_line::DecidingLine;
    use nix_negative_cache_core::environment::Environment;
    use nix_negative_cache_core::portable::Scope;

    use super::*;

    fn doubtful() -> Judged {
        let time = Timestamp::UNIX_EPOCH;
        let failure = FailedAttempt {
            class: Class::Builder,
            exit_code: Some(1),
            environment: Environment::default(),
            doubtful: Some(7),
            origin: None,
        };
        let record = FailureRecord {
            summary: FailureSummary {
                derivation: "/nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv".into(),
                name: "x".to_owned(),
                system: "x86_64-linux".to_owned(),
                class: Class::Builder,
                exit_code: Some(1),
                first_failure: time,
                last_failure: time,
                attempts: 1,
                history: vec![Attempt { asked: time, time, failure: Some(failure) }],
                retries: Vec::new(),
                duration_ms: 1_000,
            },
            outputs: Vec::new(),
            store_dir: "/nix/store".to_owned(),
            message: String::new(),
            log: String::new(),
            deciding_line: Some(DecidingLine {
                cause: "out of memory".to_owned(),
                line: "cc1plus: out of memory".to_owned(),
                number: 120,
                of: 180,
                against: Some("a test expects it".to_owned()),
            }),
            host: "host".to_owned(),
            nix_version: "2.8.0".to_owned(),
            plugin_version: "0".to_owned(),
            scope: Scope::default(),
        };
        let doubt = Doubt::TooFew { failures: 1, needed: 2, flaky: false, doubtful: true };
        Judged { record, belief: Belief::Open(doubt), may_forget: true, refused: None }
    }

    /// A summary for tests of what is said of it.
    pub(crate) fn summary() -> FailureSummary {
        doubtful().record.summary
    }

    fn printed(print: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lists_and_records_say_that_a_failure_is_doubtful() {
        let Judged { record, belief, may_forget, refused } = doubtful();
        let list = printed(|out| {
            let records = [Judged { record: record.summary.clone(), belief: belief.clone(), may_forget, refused }];
            table(&records, &Look::default(), out)
        });
        assert!(list.contains("builder (1), doubtful") && list.contains("not now: doubtful"), "{list}");
        let records = [Judged { record, belief, may_forget, refused }];
        let shown = printed(|out| recorded_and_believed(&records, &Settings::default(), out));
        for line in [
            "Class:          builder (1), doubtful",
            "Decided by:     out of memory, in line 120 of 180: cc1plus: out of memory; against it: a test expects it",
            "Believed until: not now: doubtful",
            "Because:        the failure is doubtful: it counts once it has come twice in a row",
        ] {
            assert!(shown.contains(line), "{line}: {shown}");
        }
    }

    #[test]
    fn it_is_said_where_a_failure_was_learned() {
        let mut judged = doubtful();
        let failure = judged.record.summary.history[0].failure.as_mut().unwrap();
        let source = Source::Cache { cache: "https://cache".to_owned(), key: "ci-1:AAAA".to_owned() };
        (failure.doubtful, failure.origin) = (None, Some(Origin { source, attempts: 3 }));
        let line = judged.in_a_line(Timestamp::UNIX_EPOCH);
        assert!(line.contains(" elsewhere (builder failed with exit code 1; https://cache, key ci-1); "), "{line}");
        let records = [judged];
        let text = printed(|out| json(&records, &[], &Settings::default(), out));
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read[0]["origin"], serde_json::json!({ "cache": "https://cache", "key": "ci-1", "attempts": 3 }));
        let shown = printed(|out| recorded_and_believed(&records, &Settings::default(), out));
        assert!(shown.contains("Binary cache:   https://cache, key ci-1\n") && !shown.contains("Host:"), "{shown}");
        let [Judged { record, belief, may_forget, refused }] = records;
        let records = [Judged { record: record.summary, belief, may_forget, refused }];
        let list = printed(|out| table(&records, &Look::default(), out));
        assert!(list.contains("builder (1), elsewhere"), "{list}");
    }

    #[test]
    fn json_says_that_a_failure_is_doubtful() {
        let text = printed(|out| json(&[doubtful()], &[], &Settings::default(), out));
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read[0]["doubtful"], true);
        assert_eq!(read[0]["history"][0]["failure"]["doubtful"], true);
        assert_eq!(read[0]["evidence"]["against"], "a test expects it");
        assert_eq!(read[0]["believed"], false);
        assert_eq!((&read[0]["origin"], &read[0]["scope"]), (&serde_json::Value::Null, &"unknown".into()));
    }
}
