//! The results as a table for people, as Markdown for docs/benchmarks.md, and as JSON for programs.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::Result;
use crate::pairs::Estimate;

/// The target that a benchmark should reach.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// At most this many times as long, or as large.
    Ratio(f64),
    /// At most this much more, in the benchmark's unit.
    More(f64),
    /// At most this much, in the benchmark's unit.
    AtMost(f64),
    /// At least this many times as fast.
    Faster(f64),
}

/// One line of the table.
#[derive(Debug, Serialize)]
pub struct Row {
    pub benchmark: String,
    /// The unit of the two values that follow.
    pub unit: &'static str,
    pub measured: f64,
    pub compared: Option<f64>,
    /// The name of what it is compared with.
    pub with: &'static str,
    pub rounds: usize,
    /// The value that the target is compared with.
    pub result: Estimate,
    pub target: Target,
}

/// Reasons for missed targets, by the beginnings of the names of benchmarks. docs/performance.md explains them.
pub type Reasons = [(&'static str, &'static str)];

impl Row {
    fn is_met(&self) -> bool {
        match self.target {
            Target::Ratio(most) | Target::More(most) | Target::AtMost(most) => self.result.median <= most,
            Target::Faster(least) => self.result.median >= least,
        }
    }

    /// Whether the interval of the result holds the target, so that a missed target may as well be met.
    fn holds_target(&self) -> bool {
        match self.target {
            Target::Ratio(most) | Target::More(most) | Target::AtMost(most) => self.result.low <= most,
            Target::Faster(least) => self.result.high >= least,
        }
    }

    /// If the target is missed: by how much, and why.
    fn missed(&self, reasons: &Reasons) -> Option<String> {
        if self.is_met() {
            return None;
        }
        let median = self.result.median;
        let by = match self.target {
            Target::Ratio(most) => format!("{:.3} ×", median - most),
            Target::More(most) | Target::AtMost(most) => format!("{:.3} {}", median - most, self.unit),
            Target::Faster(least) => format!("{:.1} ×", least - median),
        };
        let reason = reasons.iter().find(|(name, _)| self.benchmark.starts_with(name));
        let reason = reason.map_or("", |(_, why)| why);
        let noise = if self.holds_target() { " (the interval holds the target)" } else { "" };
        Some(format!("by {by}{noise}: {reason}"))
    }

    /// A line of progress, for a person who waits for the table.
    pub fn line(&self) -> String {
        let (result, target) = self.result();
        format!("  {}: {result}, {target}{}", self.benchmark, if self.is_met() { "" } else { ", missed" })
    }

    fn result(&self) -> (String, String) {
        let unit = self.unit;
        let Estimate { median, low, high } = self.result;
        match self.target {
            Target::Ratio(most) => (format!("{median:.3} × ({low:.3} to {high:.3})"), format!("≤ {most:.2} ×")),
            Target::More(most) => {
                (format!("{median:+.2} {unit} ({low:+.2} to {high:+.2})"), format!("≤ {most:+} {unit}"))
            }
            Target::AtMost(most) => (format!("{median:.3} {unit} ({low:.3} to {high:.3})"), format!("≤ {most} {unit}")),
            Target::Faster(least) => (format!("{median:.1} × faster ({low:.1} to {high:.1})"), format!("≥ {least} ×")),
        }
    }
}

pub fn print(rows: &[Row], reasons: &Reasons) -> Result<()> {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["benchmark", "measured", "compared with", "", "rounds", "result (95 %)", "target", ""]);
    for row in rows {
        let (result, target) = row.result();
        let compared = row.compared.map(|value| format!("{value:.3} {}", row.unit)).unwrap_or_default();
        table.add_row([
            row.benchmark.clone(),
            format!("{:.3} {}", row.measured, row.unit),
            compared,
            row.with.to_owned(),
            row.rounds.to_string(),
            result,
            target,
            if row.is_met() { "met" } else { "MISSED" }.to_owned(),
        ]);
    }
    for column in [1, 2, 4] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!("{table}");
    for row in rows {
        if let Some(missed) = row.missed(reasons) {
            println!("{} ({}) is missed {missed}", row.benchmark, row.result().1);
        }
    }
    Ok(())
}

/// Prints the table as docs/benchmarks.md has it.
pub fn markdown(rows: &[Row], _: &Reasons) -> Result<()> {
    println!("| Benchmark | Measured | Compared with | Rounds | Result (95 %) | Target | |");
    println!("| --- | ---: | ---: | ---: | --- | --- | --- |");
    for row in rows {
        let Row { benchmark, unit, measured, with, rounds, .. } = row;
        let compared = row.compared.map(|value| format!("{value:.3} {unit}, ")).unwrap_or_default();
        let (result, target) = row.result();
        let met = match (row.is_met(), row.holds_target()) {
            (true, _) => "met",
            (false, true) => "missed, within the interval",
            (false, false) => "**missed**",
        };
        println!("| {benchmark} | {measured:.3} {unit} | {compared}{with} | {rounds} | {result} | {target} | {met} |");
    }
    Ok(())
}

/// A row, and whether it meets its target.
#[derive(Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    row: &'a Row,
    met: bool,
    missed: Option<String>,
}

pub fn json(rows: &[Row], reasons: &Reasons) -> Result<()> {
    let rows: Vec<Json<'_>> =
        rows.iter().map(|row| Json { row, met: row.is_met(), missed: row.missed(reasons) }).collect();
    println!("{}", serde_json::to_string_pretty(&rows)?);
    Ok(())
}
