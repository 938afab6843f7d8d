//! How records are printed.

use std::io::{self, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use nix_negative_cache_core::belief::Belief;
use nix_negative_cache_core::explanation::{believed_until, explain, lifts};
use nix_negative_cache_core::record::FailureRecord;
use nix_negative_cache_core::settings::Settings;
use nix_negative_cache_core::time_text::{ago, moment, span};
use serde::Serialize;

use crate::databases::Known;
use crate::nix::Circumstances;

/// A record, and what it says of a new attempt.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Judged {
    #[serde(flatten)]
    record: FailureRecord,
    /// The derivation that failed.
    #[serde(skip)]
    pub derivation: String,
    #[serde(skip)]
    belief: Belief,
    /// Whether the failure is believed.
    believed: bool,
    /// Until when, in seconds since 1970; nothing if it is not, or for ever.
    believed_until: Option<i64>,
    /// Why it is not.
    doubt: Option<String>,
    /// What would have it built again.
    lifted_by: Vec<String>,
}

impl Judged {
    /// Judges records by the settings in force.
    pub fn all(records: Vec<Known>, circumstances: &Circumstances) -> Vec<Judged> {
        let now = Timestamp::now();
        let judge = |known: Known| {
            let belief = circumstances.belief(&known, now);
            let record = known.record;
            let (believed_until, doubt) = match &belief {
                Belief::Fails { until, .. } => (until.map(|until| until.as_second()), None),
                Belief::Open(doubt) => (None, Some(doubt.to_string())),
            };
            Judged {
                derivation: record.derivation.to_string(),
                believed: doubt.is_none(),
                believed_until,
                doubt,
                lifted_by: lifts(&record, &circumstances.settings, &belief),
                belief,
                record,
            }
        };
        records.into_iter().map(judge).collect()
    }

    /// Whether the failure is believed.
    pub fn is_believed(&self) -> bool {
        self.believed
    }

    /// Whether a build would be refused.
    pub fn stands_in_the_way(&self, settings: &Settings) -> bool {
        self.believed && settings.enabled && settings.consults() && !settings.warn
    }
}

/// All of each record, for programs.
pub fn json(records: &[Judged], out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, records)?;
    writeln!(out)
}

/// A line for each record.
pub fn table(records: &[Judged], out: &mut impl Write) -> io::Result<()> {
    let now = Timestamp::now();
    let mut table = Table::new();
    // Fits the terminal; as wide as it likes where there is none.
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["FAILED", "CLASS", "ATTEMPTS", "AFTER", "BELIEVED UNTIL", "DERIVATION"]);
    for Judged { record, belief, .. } in records {
        table.add_row([
            ago(record.last_failure, now),
            record.class_in_lists(),
            record.attempts.to_string(),
            span(record.duration_ms),
            believed_until(belief, &TimeZone::system()),
            record.derivation.to_string(),
        ]);
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim())?;
    }
    Ok(())
}

/// Everything known of each record, for people.
pub fn full(records: &[Judged], out: &mut impl Write) -> io::Result<()> {
    for (place, Judged { record, belief, doubt, lifted_by, .. }) in records.iter().enumerate() {
        if place > 0 {
            writeln!(out)?;
        }
        let mut line = |name: &str, value: &str| writeln!(out, "{:16}{value}", format!("{name}:"));
        line("Derivation", record.derivation.as_str())?;
        for output in &record.outputs {
            line("Output", &format!("{} ({})", output.path, output.name))?;
        }
        line("System", &record.system)?;
        line("Reason", &format!("{}, after {}", record.reason(), span(record.duration_ms)))?;
        line("Class", &record.class_in_lists())?;
        line("Attempts", &record.attempts.to_string())?;
        line("First failure", &when(record.first_failure))?;
        line("Last failure", &when(record.last_failure))?;
        line("Believed until", &believed_until(belief, &TimeZone::system()))?;
        if let Some(doubt) = doubt {
            line("Because", doubt)?;
        }
        for lift in lifted_by {
            line("Lifted by", lift)?;
        }
        line("Host", &record.host)?;
        line("Versions", &format!("Nix {}, plugin {}", record.nix_version, record.plugin_version))?;
        line("Message", &record.message.replace('\n', "\n                "))?;
        writeln!(out, "Last log lines:")?;
        for log in record.log.lines() {
            writeln!(out, "> {log}")?;
        }
    }
    Ok(())
}

/// Why a path would be refused or built, as far as its own records go.
pub fn explanation(path: &str, records: &[Judged], settings: &Settings, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{path}")?;
    if records.is_empty() {
        let off = if settings.enabled { "" } else { ", and 'negative-cache' is off" };
        writeln!(out, "No failure of it is recorded{off}. So it would be built.")?;
    }
    for judged in records {
        for sentence in explain(&judged.record, settings, &judged.belief, Timestamp::now(), &TimeZone::system()) {
            writeln!(out, "{sentence}")?;
        }
        if judged.stands_in_the_way(settings) {
            writeln!(out, "What would have it built again:")?;
            for lift in &judged.lifted_by {
                writeln!(out, "- {lift}")?;
            }
        }
    }
    Ok(())
}

/// A line for each known failure.
pub fn obstacles(known: &[Judged], out: &mut impl Write) -> io::Result<()> {
    let now = Timestamp::now();
    for Judged { record, belief, .. } in known {
        let until = believed_until(belief, &TimeZone::system());
        let (ago, reason) = (ago(record.last_failure, now), record.reason());
        writeln!(out, "{} failed {ago} ({reason}); believed until: {until}", record.derivation)?;
    }
    Ok(())
}

fn when(time: Timestamp) -> String {
    format!("{} ({})", moment(time, &TimeZone::system()), ago(time, Timestamp::now()))
}
