//! What is kept of the log line that decided about a failure, so that people can check the decision.

use serde::{Deserialize, Serialize};

use crate::log::tail::printable;

/// A line of a build log that decided about a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecidingLine {
    /// What the line tells of, such as "out of memory".
    pub cause: String,
    /// The line itself, printable, at most 300 bytes; empty if no text of the log is kept.
    pub line: String,
    /// Its number in the log; the first line is 1.
    pub number: u64,
    /// How many lines the log has.
    pub of: u64,
    /// What speaks against it, in words, such as "a test expects it: assert x == y".
    pub against: Option<String>,
}

impl DecidingLine {
    /// The same without any text of the log.
    pub fn without_text(self) -> DecidingLine {
        DecidingLine { line: String::new(), against: None, ..self }
    }

    /// The line with its cause, its number and what speaks against it, as one line of text.
    pub fn text(&self) -> String {
        let DecidingLine { cause, line, number, of, against } = self;
        let against = against.as_ref().map(|against| format!("; against it: {against}")).unwrap_or_default();
        let line = if line.is_empty() { String::new() } else { format!(": {line}") };
        let text = format!("{cause}, in line {number} of {of}{line}{against}");
        // The text comes from the database, and another program could have written anything there.
        printable(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_text() {
        let line = DecidingLine {
            cause: "out of memory".to_owned(),
            line: "cc1plus: out of memory allocating 65536 bytes".to_owned(),
            number: 120,
            of: 180,
            against: None,
        };
        let text = "out of memory, in line 120 of 180: cc1plus: out of memory allocating 65536 bytes";
        assert_eq!(line.text(), text);
        let doubted = DecidingLine { against: Some("a test expects it: assert x == y".to_owned()), ..line.clone() };
        assert_eq!(doubted.text(), format!("{text}; against it: a test expects it: assert x == y"));
        assert_eq!(line.clone().without_text().text(), "out of memory, in line 120 of 180");
        let forged = DecidingLine { line: "\x1b[31mred\nSo it would be built.".to_owned(), ..line };
        assert_eq!(forged.text(), "out of memory, in line 120 of 180: red So it would be built.");
    }
}
