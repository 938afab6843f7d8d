//! The results as people and programs read them.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::Result;
use crate::pairs::Estimate;

/// What is wanted of a benchmark.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// At most so many times as long, or as large.
    Ratio(f64),
    /// At most so much more, in the benchmark's unit.
    More(f64),
    /// At most so much, in the benchmark's unit.
    AtMost(f64),
    /// At least so many times as fast.
    Faster(f64),
}

/// One line of the table.
#[derive(Debug, Serialize)]
pub struct Row {
    pub benchmark: String,
    /// Of the two values that follow.
    pub unit: &'static str,
    pub measured: f64,
    pub compared: Option<f64>,
    /// With what.
    pub with: &'static str,
    pub rounds: usize,
    /// What the target is about.
    pub result: Estimate,
    pub target: Target,
}

/// Why targets are missed where they are, by the beginnings of the names of benchmarks; see docs/performance.md.
pub type Reasons = [(&'static str, &'static str)];

impl Row {
    fn is_met(&self) -> bool {
        match self.target {
            Target::Ratio(most) | Target::More(most) | Target::AtMost(most) => self.result.median <= most,
            Target::Faster(least) => self.result.median >= least,
        }
    }

    /// By how much the target is missed, if it is, and why that is.
    fn missed(&self, reasons: &Reasons) -> Option<String> {
        if self.is_met() {
            return None;
        }
        let Estimate { median, low, high } = self.result;
        let (by, held) = match self.target {
            Target::Ratio(most) => (format!("{:.3} ×", median - most), low <= most),
            Target::More(most) | Target::AtMost(most) => (format!("{:.3} {}", median - most, self.unit), low <= most),
            Target::Faster(least) => (format!("{:.1} ×", least - median), high >= least),
        };
        let reason = reasons.iter().find(|(name, _)| self.benchmark.starts_with(name));
        let reason = reason.map_or("", |(_, why)| why);
        let noise = if held { " (the interval holds the target)" } else { "" };
        Some(format!("by {by}{noise}: {reason}"))
    }

    /// For who waits for the table.
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

/// A row, and what follows from it.
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
