//! The line of a log that decided about a failure, as records keep it and people read it.

use serde::{Deserialize, Serialize};

/// A line of a build log that decided about a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecidingLine {
    /// What it tells of, such as `out of memory`.
    pub cause: String,
    /// The line, printable and at most 300 bytes long.
    pub line: String,
    /// Its number; the first one is 1.
    pub number: u64,
    /// How many lines the log has.
    pub of: u64,
    /// What speaks against it, in words.
    pub against: Option<String>,
}

impl DecidingLine {
    /// All of it in words: what it tells of, where it stands, the line, and what speaks against it.
    pub fn text(&self) -> String {
        let DecidingLine { cause, line, number, of, against } = self;
        let against = against.as_ref().map(|against| format!("; against it: {against}")).unwrap_or_default();
        format!("{cause}, in line {number} of {of}: {line}{against}")
    }
}
