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
use crate::log::tail::printable;
use crate::store_path::OutputKey;

/// The version of the format.
const VERSION: u32 = 1;
/// What the first line calls the format.
const FORMAT: &str = "nix-negative-cache-failures";

/// The first line.
#[derive(Serialize, Deserialize)]
struct Header {
    /// How many failures follow, so that a file that was cut between two lines is no whole one.
    failures: Option<u64>,
    format: String,
    version: u32,
}

/// What a failure file has.
#[derive(Debug, Default)]
pub struct FailureFile {
    /// Its failures.
    pub failures: Vec<LearnedFailure>,
    /// How many more are in the future, and left out: the clock of a machine was wrong.
    pub future: usize,
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
    /// It has more failures than a database keeps.
    #[error(
        "has more than {0} failures, and no more are kept ('negative-cache-max-records'); export fewer, or cut it and correct the \
         number in its first line"
    )]
    TooMany(u64),
    /// It has another number of lines than its first line says.
    #[error("has {found} of {stated} failures: it is not whole; copy it again")]
    Cut {
        /// How many it has.
        found: u64,
        /// How many it should have.
        stated: u64,
    },
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
    let count = failures.len();
    let header = format!("{{\"failures\":{count},\"format\":\"{FORMAT}\",\"version\":{VERSION}}}\n");
    let mut bytes = header.into_bytes();
    for content in failures.values() {
        bytes.extend_from_slice(content);
    }
    bytes
}

/// How long the name of a file is at most in a record, in bytes.
const MAX_NAME: usize = 128;

/// The name of a file as it is recorded, and shown to others: one short line without anything that a terminal would obey.
fn recorded_name(name: &str) -> String {
    let mut name = printable(name.as_bytes()).replace('\t', " ");
    name.truncate(name.floor_char_boundary(MAX_NAME));
    if name.is_empty() { "a file without a name".to_owned() } else { name }
}

/// Reads a file, which people call `name`, with `most` failures at most.
///
/// # Errors
///
/// If one of its lines is not what it should be, or there are more or fewer of them than there should be.
pub fn read(mut file: impl BufRead, name: &str, most: u64, now: Timestamp) -> Result<FailureFile, FileError> {
    let name = recorded_name(name);
    let mut read = FailureFile::default();
    let (mut stated, mut found) = (None, 0);
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
                Header { version, .. } if version != VERSION => return Err(FileError::Newer(version)),
                Header { failures, .. } => stated = Some(failures.ok_or(FileError::Foreign)?),
            }
            if stated.is_some_and(|stated| stated > most) {
                return Err(FileError::TooMany(most));
            }
            continue;
        }
        found += 1;
        if found > most {
            return Err(FileError::TooMany(most));
        }
        match FailureObject::read_alone(&line, now) {
            Ok(object) => {
                let origin = Origin { source: Source::File { file: name.clone() }, attempts: object.attempts };
                read.failures.push(LearnedFailure { object, origin });
            }
            Err(ObjectError::Future) => read.future += 1,
            Err(error) => return Err(FileError::Line { number, error }),
        }
    }
    match stated {
        Some(stated) if stated != found => Err(FileError::Cut { found, stated }),
        _ => Ok(read),
    }
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
        assert!(
            text.starts_with("{\"failures\":2,\"format\":\"nix-negative-cache-failures\",\"version\":1}\n"),
            "{text}"
        );
        let read = read(text.as_bytes(), "a file", 2, now()).unwrap().failures;
        let objects: Vec<&FailureObject> = read.iter().map(|failure| &failure.object).collect();
        assert_eq!(objects, [&FailureObject::of(&failed('a').1, true), &FailureObject::of(&failed('b').1, true)]);
        assert_eq!(read[0].origin.to_string(), "imported from a file");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let text = String::from_utf8(file()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let said = |text: &str| read(text.as_bytes(), "a file", 100, now()).unwrap_err().to_string();
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
            (
                &*lines[1].replace("\"lastFailure\":1000000", "\"lastFailure\":10000"),
                "is not in the form of a failure: it last failed before it first failed",
            ),
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
        let read = read(&*write(&BTreeMap::from([(key, bytes)])), "a\x1b]0;b\x07\nfile", 1, now()).unwrap().failures;
        assert_eq!(read[0].origin.to_string(), "imported from a file");
        assert!(!read[0].object.log.contains('\x1b'), "{}", read[0].object.log);
    }

    #[test]
    fn names_of_files_are_short_and_plain() {
        for (name, recorded) in [
            ("failures.jsonl", "failures.jsonl"),
            ("\x1b[2Ja\nb\u{202e}c", "a bc"),
            ("\x1b[2J", "a file without a name"),
            (&*"ä".repeat(1000), &*"ä".repeat(MAX_NAME / 2)),
        ] {
            assert_eq!(recorded_name(name), recorded);
        }
    }

    #[test]
    fn a_file_has_as_many_failures_as_it_says_and_no_more_than_are_kept() {
        let text = String::from_utf8(file()).unwrap();
        let said = |text: &str, most| read(text.as_bytes(), "a file", most, now()).unwrap_err().to_string();
        assert!(said(&text, 1).starts_with("has more than 1 failures"));
        assert!(said(&text.replace("\"failures\":2", "\"failures\":1"), 1).starts_with("has more than 1 failures"));
        assert!(said(&text.replace("\"failures\":2", "\"failures\":99999"), 100).starts_with("has more than 100"));
        let cut: String = text.split_inclusive('\n').take(2).collect();
        assert_eq!(said(&cut, 100), "has 1 of 2 failures: it is not whole; copy it again");
        assert_eq!(said(&text.replace("\"failures\":2,", ""), 100), FileError::Foreign.to_string());
    }

    #[test]
    fn what_is_in_the_future_is_left_out() {
        let text = String::from_utf8(file()).unwrap();
        let ahead = text.replacen("\"lastFailure\":1000000", "\"lastFailure\":2000000", 1);
        let read = read(ahead.as_bytes(), "a file", 2, now()).unwrap();
        assert_eq!((read.failures.len(), read.future), (1, 1));
    }
}
