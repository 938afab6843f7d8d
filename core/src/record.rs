//! The failure record: what is kept of a derivation whose builder failed.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::store_path::{DerivationPath, OutputPath};

/// The version that records carry as `pluginVersion`.
pub const PLUGIN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// One output of a derivation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Output {
    /// The output's name, such as `out` or `dev`.
    pub name: String,
    /// Where it would have been.
    pub path: OutputPath,
}

/// One failure of a builder, as it is about to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The derivation that was built.
    pub derivation: DerivationPath,
    /// All outputs of the derivation; failures are found by any of them.
    pub outputs: Vec<Output>,
    /// The directory that the paths are in, such as `/nix/store`.
    pub store_dir: String,
    /// The derivation's name, without hash and `.drv`.
    pub name: String,
    /// The system it was built for, such as `x86_64-linux`.
    pub system: String,
    /// The builder's exit code.
    pub exit_code: i32,
    /// What Nix said of the failure, without colours.
    pub message: String,
    /// The last lines of the log, see [`crate::log_tail`].
    pub log: String,
    /// When the build ended.
    pub time: Timestamp,
    /// How long the builder ran, in milliseconds.
    pub duration_ms: i64,
    /// The machine that Nix ran on.
    pub host: String,
    /// The version of the Nix that built.
    pub nix_version: String,
}

/// A known failure: the last [`Failure`] of these outputs and how often it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureRecord {
    /// The derivation that failed last; another one with the same outputs shares the record.
    #[serde(rename = "drvPath")]
    pub derivation: DerivationPath,
    /// All outputs of the derivation.
    pub outputs: Vec<Output>,
    /// The directory that the paths are in.
    pub store_dir: String,
    /// The derivation's name.
    pub name: String,
    /// The system it was built for.
    pub system: String,
    /// The builder's exit code.
    pub exit_code: i32,
    /// What Nix said of the failure.
    pub message: String,
    /// The last lines of the log.
    pub log: String,
    /// When these outputs failed first; in JSON, seconds since 1970.
    #[serde(serialize_with = "as_seconds")]
    pub first_failure: Timestamp,
    /// When they failed last; in JSON, seconds since 1970.
    #[serde(serialize_with = "as_seconds")]
    pub last_failure: Timestamp,
    /// How many times they were built and failed.
    pub attempts: u32,
    /// How long the last attempt's builder ran, in milliseconds.
    pub duration_ms: i64,
    /// The machine of the last attempt.
    pub host: String,
    /// The Nix of the last attempt.
    pub nix_version: String,
    /// The plugin that recorded the last attempt.
    pub plugin_version: String,
}

impl FailureRecord {
    /// The reason in a few words, as refusals and `builtins.knownFailure` give it.
    pub fn reason(&self) -> String {
        format!("builder failed with exit code {}", self.exit_code)
    }
}

fn as_seconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(time.as_second())
}
