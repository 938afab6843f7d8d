//! Failure files: how failures travel without a binary cache.
//!
//! A failure file is text. Its first line says what it is, and each other line is a failure object, byte for byte as in a binary
//! cache (see [`crate::failure_object`]). The lines are sorted, so that two files of the same failures are the same.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::belief::{Origin, Source};
use crate::elsewhere::LearnedFailure;
use crate::failure_object::{FailureObject, MAX_CONTENT, ObjectError};
use crate::store_path::OutputKey;

/// The version of the format.
const VERSION: u32 = 1;
/// What the first line calls the format.
const FORMAT: &str = "nix-negative-cache-failures";

/// The first line.
#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
}

/// Why a failure file can't be read. Its text continues a sentence that begins with the file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be read at all.
    #[error("can't be read: {0}")]
    Unreadable(#[from] io::Error),
    /// Its first line does not say that it is one.
    #[error("is no file that 'nix-negative-cache export' has written")]
    Foreign,
    /// It is of another version.
    #[error("has version {0} of its format, and this program knows {VERSION}; upgrade nix-negative-cache")]
    Newer(u32),
    /// One of its lines is no failure.
    #[error("has a bad line {number}, which {error}")]
    Line {
        /// Its number, from 1.
        number: usize,
        /// What is wrong with it.
        error: ObjectError,
    },
}

/// The bytes of the file with these failures, each of which is the content of an object.
pub fn write(failures: &BTreeMap<OutputKey, Vec<u8>>) -> Vec<u8> {
    let mut bytes = format!("{{\"format\":\"{FORMAT}\",\"version\":{VERSION}}}\n").into_bytes();
    for content in failures.values() {
        bytes.extend_from_slice(content);
    }
    bytes
}

/// Reads a file, which people call `name`.
///
/// # Errors
///
/// If one of its lines is not what it should be.
pub fn read(mut file: impl BufRead, name: &str, now: Timestamp) -> Result<Vec<LearnedFailure>, FileError> {
    let mut failures = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        // A line without an end is not kept in memory.
        let length = file.by_ref().take(MAX_CONTENT as u64 + 1).read_until(b'\n', &mut line)?;
        if length == 0 && number > 1 {
            break;
        }
        if number == 1 {
            let header: Header = serde_json::from_slice(&line).map_err(|_| FileError::Foreign)?;
            match header {
                Header { format, .. } if format != FORMAT => return Err(FileError::Foreign),
                Header { version: VERSION, .. } => {}
                Header { version, .. } => return Err(FileError::Newer(version)),
            }
            continue;
        }
        let object = FailureObject::read_alone(&line, now).map_err(|error| FileError::Line { number, error })?;
        let origin = Origin { source: Source::File { file: name.to_owned() }, attempts: object.attempts };
        failures.push(LearnedFailure { object, origin });
    }
    Ok(failures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;
    use crate::record::{FailureRecord, Output};

    fn failed(hash: char) -> (OutputKey, FailureRecord) {
        let mut record = record();
        let key: OutputKey = format!("/nix/store/{}-x", hash.to_string().repeat(32)).into();
        record.outputs = vec![Output { name: "out".to_owned(), key: key.clone() }];
        (key, record)
    }

    fn file() -> Vec<u8> {
        let failures = ['b', 'a'].map(failed);
        let content = |record: &FailureRecord| FailureObject::of(record, true).to_bytes().unwrap();
        write(&failures.iter().map(|(key, record)| (key.clone(), content(record))).collect())
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_240).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let text = String::from_utf8(file()).unwrap();
        assert!(text.starts_with("{\"format\":\"nix-negative-cache-failures\",\"version\":1}\n"), "{text}");
        let read = read(text.as_bytes(), "a file", now()).unwrap();
        let objects: Vec<&FailureObject> = read.iter().map(|failure| &failure.object).collect();
        assert_eq!(objects, [&FailureObject::of(&failed('a').1, true), &FailureObject::of(&failed('b').1, true)]);
        assert_eq!(read[0].origin.to_string(), "imported from a file");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let text = String::from_utf8(file()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let said = |text: &str| read(text.as_bytes(), "a file", now()).unwrap_err().to_string();
        for foreign in ["", "{}\n", "[]\n", lines[1], "{\"format\":\"other\",\"version\":1}\n"] {
            assert_eq!(said(foreign), "is no file that 'nix-negative-cache export' has written", "{foreign}");
        }
        assert!(said(&text.replace(",\"version\":1}\n{", ",\"version\":2}\n{")).starts_with("has version 2 of its"));
        for (wrong, why) in [
            ("\n", "is not in the form of a failure: EOF"),
            ("{}\n", "is not in the form of a failure: missing field"),
            (&lines[1][..40], "is not in the form of a failure: EOF"),
            (&*lines[1].replace("/nix/store/a", "/nix/store/e"), "is not in the form of a failure: a path or a name"),
            (
                &*lines[1].replace("\"drvPath\":\"/", "\"drvPath\":\""),
                "is not in the form of a failure: a path or a name",
            ),
            (&*lines[1].replace("x86_64-linux", "\\u001b[2J"), "is not in the form of a failure: a path or a name"),
            (
                &*lines[1].replace("\"class\":\"builder\"", "\"class\":\"fetch\""),
                "is not a failure that may be published",
            ),
            (&*lines[1].replace("\"lastFailure\":1000000", "\"lastFailure\":2000000"), "is in the future"),
            (&*"x".repeat(MAX_CONTENT + 1), "is larger than 16384 bytes"),
        ] {
            let said = said(&format!("{}\n{}\n{wrong}", lines[0], lines[2]));
            assert!(said.starts_with(&format!("has a bad line 3, which {why}")), "{said}");
        }
    }

    #[test]
    fn nothing_in_it_is_obeyed_by_a_terminal() {
        let (key, mut record) = failed('a');
        record.log = "\x1b]0;title\x07one\n".to_owned();
        let bytes = FailureObject::of(&record, true).to_bytes().unwrap();
        let read = read(&*write(&BTreeMap::from([(key, bytes)])), "a file", now()).unwrap();
        assert!(!read[0].object.log.contains('\x1b'), "{}", read[0].object.log);
    }
}
