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

impl Row {
    fn is_met(&self) -> bool {
        match self.target {
            Target::Ratio(most) | Target::More(most) | Target::AtMost(most) => self.result.median <= most,
            Target::Faster(least) => self.result.median >= least,
        }
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

pub fn print(rows: &[Row]) -> Result<()> {
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
    Ok(())
}

/// A row, and what follows from it.
#[derive(Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    row: &'a Row,
    met: bool,
}

pub fn json(rows: &[Row]) -> Result<()> {
    let rows: Vec<Json<'_>> = rows.iter().map(|row| Json { row, met: row.is_met() }).collect();
    println!("{}", serde_json::to_string_pretty(&rows)?);
    Ok(())
}
