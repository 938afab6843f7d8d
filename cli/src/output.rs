//! How records are printed.

use std::io::{self, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use nix_negative_cache_core::record::FailureRecord;
use nix_negative_cache_core::time_text::{ago, span};

/// All of each record, for programs.
pub fn json(records: &[FailureRecord], out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, records)?;
    writeln!(out)
}

/// A line for each record.
pub fn table(records: &[FailureRecord], out: &mut impl Write) -> io::Result<()> {
    let now = Timestamp::now();
    let mut table = Table::new();
    // Fits the terminal; as wide as it likes where there is none.
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["FAILED", "EXIT CODE", "ATTEMPTS", "AFTER", "DERIVATION"]);
    for record in records {
        table.add_row([
            ago(record.last_failure, now),
            record.exit_code.to_string(),
            record.attempts.to_string(),
            span(record.duration_ms),
            record.derivation.to_string(),
        ]);
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim())?;
    }
    Ok(())
}

/// Everything known of each record, for people.
pub fn full(records: &[FailureRecord], out: &mut impl Write) -> io::Result<()> {
    for (place, record) in records.iter().enumerate() {
        if place > 0 {
            writeln!(out)?;
        }
        let mut line = |name: &str, value: &str| writeln!(out, "{:15}{value}", format!("{name}:"));
        line("Derivation", record.derivation.as_str())?;
        for output in &record.outputs {
            line("Output", &format!("{} ({})", output.path, output.name))?;
        }
        line("System", &record.system)?;
        line("Reason", &format!("{}, after {}", record.reason(), span(record.duration_ms)))?;
        line("Attempts", &record.attempts.to_string())?;
        line("First failure", &moment(record.first_failure))?;
        line("Last failure", &moment(record.last_failure))?;
        line("Host", &record.host)?;
        line("Versions", &format!("Nix {}, plugin {}", record.nix_version, record.plugin_version))?;
        line("Message", &record.message.replace('\n', "\n               "))?;
        writeln!(out, "Last log lines:")?;
        for log in record.log.lines() {
            writeln!(out, "> {log}")?;
        }
    }
    Ok(())
}

fn moment(time: Timestamp) -> String {
    let local: Zoned = time.to_zoned(TimeZone::system());
    format!("{} ({})", local.strftime("%F %T %Z"), ago(time, Timestamp::now()))
}
