//! A record as programs read it: what `list --json` and `show --json` print, what `watch --json` tells, and what the program of
//! `negative-cache-hook` gets.

use serde::Serialize;

use crate::belief::{Origin, Source};
use crate::failure_object::signer_of;
use crate::record::FailureRecord;

/// A record for programs. What is believed of it depends on who asks, and is not part of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordJson<'a> {
    #[serde(flatten)]
    record: &'a FailureRecord,
    /// Where the last failure was learned; nothing if it happened here.
    origin: Option<OriginJson<'a>>,
    /// Whether the last failure is a doubtful one.
    doubtful: bool,
}

/// Where a failure was learned, for programs.
#[derive(Debug, Serialize)]
struct OriginJson<'a> {
    /// The URL of the binary cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<&'a str>,
    /// The name of the key that has signed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    /// The file that it was imported from.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    /// The build of a Hydra that it was imported from.
    #[serde(skip_serializing_if = "Option::is_none")]
    hydra: Option<String>,
    /// The log of that build.
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    /// How many times in a row it had failed there.
    attempts: u32,
}

impl<'a> RecordJson<'a> {
    /// The record for programs.
    pub fn of(record: &'a FailureRecord) -> RecordJson<'a> {
        let origin = record.origin().map(|Origin { source, attempts }| {
            let (cache, key, file) = match source {
                Source::Cache { cache, key } => (Some(cache.as_str()), Some(signer_of(key)), None),
                Source::File { file } => (None, None, Some(file.as_str())),
                Source::Hydra { .. } => (None, None, None),
            };
            let (hydra, log) = source.build_and_log(record.summary.derivation.as_str()).unzip();
            OriginJson { cache, key, file, hydra, log, attempts: *attempts }
        });
        RecordJson { record, origin, doubtful: record.summary.is_doubtful() }
    }
}
