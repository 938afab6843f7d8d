//! Failure objects: how failures travel through binary caches.
//!
//! A failure object is a store path that anybody can compute from an output that is about to be built. Its content is one
//! small file, which says how the build of that output failed. A cache that has the [`marker`] carries failure objects. This
//! module has the paths and the bytes, which must never change for a version of the format: what is published can't be
//! changed. [`crate::elsewhere`] asks caches for them, [`crate::portable`] says which failures may be published.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::belief::latest;
use crate::class::Class;
use crate::log::tail::{MAX_BYTES, MAX_LINES, printable};
use crate::record::FailureRecord;
use crate::store_path::{OutputKey, is_in_names, is_store_path, make_store_path, text_path};

/// The version of the format.
pub(crate) const VERSION: u32 = 1;
/// For how long a failure from elsewhere is believed, and how long a period is, in seconds: 7 days.
pub const PERIOD: i64 = 7 * 24 * 60 * 60;
/// How long the content of an object is at most, in bytes.
pub const MAX_CONTENT: usize = 16 * 1024;
/// How long the NAR of an object is at most, in bytes: the content, and the frame around it.
pub const MAX_NAR: u64 = MAX_CONTENT as u64 + 512;
/// How many characters the name of a key has at most.
const MAX_SIGNER: usize = 100;

/// Name and text of the marker.
const MARKER: (&str, &str) =
    ("negative-cache-marker", "This binary cache carries build failures of nix-negative-cache.\n");

/// What is wrong with an object that has no paths where there should be some.
const NOT_A_PATH: &str = "a path or a name in it is none";

/// What an object says about an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Its build failed.
    Failure,
    /// The failure of the same period does not count any more.
    Withdrawal,
}

/// Which object it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address<'a> {
    /// What it says.
    pub kind: Kind,
    /// About which output: the one that [`main_output`] chooses.
    pub key: &'a OutputKey,
    /// The period of the failure, as [`period`] counts them.
    pub period: i64,
    /// The name of the key that signs it.
    pub signer: &'a str,
}

impl Address<'_> {
    /// The store path of the object.
    pub fn path(&self, store_dir: &str) -> String {
        let (path_type, name) = match self.kind {
            Kind::Failure => ("negative-cache:1", "build-failure"),
            Kind::Withdrawal => ("negative-cache-withdrawn:1", "build-failure-withdrawn"),
        };
        let fingerprint = format!("{}:{}:{}", self.key, self.period, self.signer);
        make_store_path(store_dir, path_type, fingerprint.as_bytes(), name)
    }
}

/// The path that a cache has if it carries failure objects. Each object refers to it.
pub fn marker(store_dir: &str) -> String {
    text_path(store_dir, MARKER.1, MARKER.0)
}

/// The content of the marker.
pub fn marker_text() -> &'static str {
    MARKER.1
}

/// The period of a time: how many spans of 7 days have passed since 1970. Objects in caches can't be changed, so a failure
/// that is seen again in another period is another object.
pub fn period(time: Timestamp) -> i64 {
    time.as_second().div_euclid(PERIOD)
}

/// When a period ends.
pub fn end_of_period(period: i64) -> Timestamp {
    Timestamp::from_second(period.saturating_add(1).saturating_mul(PERIOD)).unwrap_or(Timestamp::MAX)
}

/// The output, of all that a derivation has, after which its failure object is named.
pub fn main_output<O>(outputs: &[O], name: impl Fn(&O) -> &str) -> Option<&O> {
    outputs.iter().find(|output| name(output) == "out").or_else(|| outputs.iter().min_by(|a, b| name(a).cmp(name(b))))
}

/// The name of a key, of which the text is `NAME:BASE64`.
pub fn signer_of(key: &str) -> &str {
    key.split(':').next().unwrap_or_default()
}

/// Whether this can be the name of a key: it is part of paths, and shown to people.
pub fn is_signer(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_SIGNER && name.chars().all(|c| c.is_ascii_graphic() && c != ':')
}

/// The content of a failure object. Nothing in it names a machine, a user, a builder or a path of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailureObject {
    /// The version of the format.
    pub version: u32,
    /// All outputs of the derivation, by their names.
    pub outputs: BTreeMap<String, OutputKey>,
    /// The derivation that was built.
    pub drv_path: String,
    /// The derivation's name, without hash and `.drv`.
    pub name: String,
    /// The system that it was built for.
    pub system: String,
    /// What kind of failure it is.
    pub class: Class,
    /// The builder's exit code, if it exited.
    pub exit_code: Option<i32>,
    /// The reason in the plugin's own words. Nix's message can name machines.
    pub reason: String,
    /// The last lines of the log.
    pub log: String,
    /// When it first failed, in seconds since 1970, as all times here.
    pub first_failure: i64,
    /// When it last failed.
    pub last_failure: i64,
    /// How many times it was built and failed.
    pub attempts: u32,
    /// How long the last attempt's builder ran, in milliseconds.
    pub duration_ms: i64,
    /// The Nix of the last attempt.
    pub nix_version: String,
    /// The plugin that recorded it.
    pub plugin_version: String,
    /// Whether it ran in a sandbox.
    pub sandbox: bool,
}

/// Why an object does not count. Its text continues a sentence that begins with the object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// It is too large.
    #[error("is larger than {MAX_CONTENT} bytes")]
    TooLarge,
    /// It is not the NAR of a plain file.
    #[error("is not a plain file")]
    NoFile,
    /// It is not what the format says, and this is how.
    #[error("is not in the form of a failure: {0}")]
    Malformed(String),
    /// It is about other outputs.
    #[error("is about other outputs")]
    OtherOutput,
    /// It was built for another system.
    #[error("is about the system '{0}'")]
    OtherSystem(String),
    /// It is of another period than its path says.
    #[error("is of another time than its path says")]
    OtherPeriod,
    /// It has yet to happen.
    #[error("is in the future: a clock was wrong")]
    Future,
    /// It is no failure that others can rely on.
    #[error("is not a failure that may be published: {0}")]
    NotPortable(&'static str),
}

impl FailureObject {
    /// The object of a record. Without a log if `with_log` is false.
    pub fn of(record: &FailureRecord, with_log: bool) -> FailureObject {
        let outputs = record.outputs.iter().map(|output| (output.name.clone(), output.key.clone()));
        FailureObject {
            version: VERSION,
            outputs: outputs.collect(),
            drv_path: record.summary.derivation.to_string(),
            name: record.summary.name.clone(),
            system: record.summary.system.clone(),
            class: record.summary.class,
            exit_code: record.summary.exit_code,
            reason: record.summary.reason(),
            log: if with_log { record.log.clone() } else { String::new() },
            first_failure: record.summary.first_failure.as_second(),
            last_failure: record.summary.last_failure.as_second(),
            attempts: record.summary.attempts,
            duration_ms: record.summary.duration_ms,
            nix_version: record.nix_version.clone(),
            plugin_version: record.plugin_version.clone(),
            sandbox: true,
        }
    }

    /// The bytes of the object: JSON with sorted keys. If they would be too many, the log loses its first lines.
    ///
    /// # Errors
    ///
    /// If they are too many even without a log.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ObjectError> {
        let malformed = |error: serde_json::Error| ObjectError::Malformed(error.to_string());
        let mut object = self.clone();
        loop {
            // The keys of a value are sorted.
            let mut bytes =
                serde_json::to_value(&object).and_then(|value| serde_json::to_vec(&value)).map_err(malformed)?;
            bytes.push(b'\n');
            if bytes.len() <= MAX_CONTENT {
                return Ok(bytes);
            }
            match object.log.split_once('\n') {
                Some((_, rest)) => object.log = rest.to_owned(),
                None if object.log.is_empty() => return Err(ObjectError::TooLarge),
                None => object.log.clear(),
            }
        }
    }

    /// Reads the bytes of an object that stands for itself, as in a file, which somebody else wrote. The text in it is made safe
    /// to show.
    ///
    /// # Errors
    ///
    /// If it is not what it should be.
    pub fn read_alone(bytes: &[u8], now: Timestamp) -> Result<FailureObject, ObjectError> {
        FailureObject::parse(bytes)?.standing_alone(now)
    }

    /// The same, with nothing in its texts that a terminal would obey, if it is what it should be.
    ///
    /// # Errors
    ///
    /// If it is not.
    pub(crate) fn standing_alone(self, now: Timestamp) -> Result<FailureObject, ObjectError> {
        let object = self;
        let store_dir = object.drv_path.rsplit_once('/').map(|(dir, _)| dir.to_owned());
        let store_dir = store_dir.filter(|dir| dir.starts_with('/'));
        let store_dir = store_dir.ok_or_else(|| ObjectError::Malformed(NOT_A_PATH.to_owned()))?;
        // Nobody has asked for this system or these outputs.
        let is_system = !object.system.is_empty() && object.system.chars().all(is_in_names);
        if object.outputs.is_empty() || !is_system {
            return Err(ObjectError::Malformed(NOT_A_PATH.to_owned()));
        }
        object.check(&store_dir, now)?;
        Ok(object.made_safe())
    }

    /// Reads the bytes of the object that was asked for at `address`, which somebody else wrote. The text in it is made safe
    /// to show.
    ///
    /// # Errors
    ///
    /// If it is not what it should be, or not about what was asked for.
    pub fn read(
        bytes: &[u8],
        address: &Address<'_>,
        store_dir: &str,
        system: &str,
        now: Timestamp,
    ) -> Result<FailureObject, ObjectError> {
        let object = FailureObject::parse(bytes)?;
        let asked = main_output(&object.outputs.iter().collect::<Vec<_>>(), |(name, _)| name).map(|(_, key)| *key);
        if asked != Some(address.key) {
            return Err(ObjectError::OtherOutput);
        }
        if object.system != system {
            return Err(ObjectError::OtherSystem(printable(object.system.as_bytes())));
        }
        let last_failure = object.check(store_dir, now)?;
        if period(last_failure) != address.period {
            return Err(ObjectError::OtherPeriod);
        }
        Ok(object.made_safe())
    }

    fn parse(bytes: &[u8]) -> Result<FailureObject, ObjectError> {
        if bytes.len() > MAX_CONTENT {
            return Err(ObjectError::TooLarge);
        }
        let object: FailureObject = serde_json::from_slice(bytes)
            .map_err(|error| ObjectError::Malformed(printable(error.to_string().as_bytes())))?;
        if object.version != VERSION {
            return Err(ObjectError::Malformed(format!("its version is {}", object.version)));
        }
        Ok(object)
    }

    /// Whether it is a failure of a store that others can rely on. Returns when it last failed.
    fn check(&self, store_dir: &str, now: Timestamp) -> Result<Timestamp, ObjectError> {
        let object = self;
        let malformed = |what: &str| ObjectError::Malformed(what.to_owned());
        let is_here =
            |path: &str| is_store_path(path) && path.rsplit_once('/').is_some_and(|(dir, _)| dir == store_dir);
        // The identity of a realisation has no folder.
        let is_key = |key: &str| is_here(key) || (!key.contains('/') && key.chars().all(|c| c.is_ascii_graphic()));
        let is_name = |name: &str| !name.is_empty() && name.chars().all(is_in_names);
        let outputs_are_well = object.outputs.iter().all(|(name, key)| is_name(name) && is_key(key.as_str()));
        let keys: BTreeSet<&OutputKey> = object.outputs.values().collect();
        let outputs_are_well = outputs_are_well && keys.len() == object.outputs.len();
        let derivation_is_well = is_here(&object.drv_path) && object.drv_path.ends_with(".drv");
        if !outputs_are_well || !derivation_is_well || !is_name(&object.name) {
            return Err(malformed(NOT_A_PATH));
        }
        let last_failure = time(object.last_failure).ok_or_else(|| malformed("a time in it is none"))?;
        let first_failure = time(object.first_failure).ok_or_else(|| malformed("a time in it is none"))?;
        if first_failure > last_failure {
            return Err(malformed("it last failed before it first failed"));
        }
        if last_failure > latest(now) {
            return Err(ObjectError::Future);
        }
        if !matches!(object.class, Class::Builder | Class::Output) {
            return Err(ObjectError::NotPortable("its class"));
        }
        if !object.sandbox {
            return Err(ObjectError::NotPortable("it ran outside a sandbox"));
        }
        if object.attempts == 0 || object.duration_ms < 0 {
            return Err(malformed("a number in it is none"));
        }
        Ok(last_failure)
    }

    /// The same, with nothing in its texts that a terminal would obey.
    fn made_safe(self) -> FailureObject {
        let line = |text: &str| printable(text.as_bytes());
        let lines: Vec<&str> = self.log.lines().collect();
        let mut log = String::new();
        for text in &lines[lines.len().saturating_sub(MAX_LINES)..] {
            log.push_str(&line(text));
            log.push('\n');
        }
        if log.len() > MAX_BYTES {
            log.clear();
        }
        FailureObject {
            log,
            reason: line(&self.reason),
            nix_version: line(&self.nix_version),
            plugin_version: line(&self.plugin_version),
            ..self
        }
    }
}

/// A time of an object.
pub(crate) fn time(seconds: i64) -> Option<Timestamp> {
    Timestamp::from_second(seconds).ok().filter(|time| time.as_second() > 0)
}

/// The content of the withdrawal of the failure of an output.
pub fn withdrawal_bytes(key: &OutputKey) -> Vec<u8> {
    let mut text = serde_json::json!({ "output": key, "version": VERSION }).to_string();
    text.push('\n');
    text.into_bytes()
}

/// The NAR of a plain file (`dump` in libutil/archive.cc).
pub fn nar(content: &[u8]) -> Vec<u8> {
    let mut nar = Vec::new();
    let mut add = |bytes: &[u8]| {
        nar.extend((bytes.len() as u64).to_le_bytes());
        nar.extend(bytes);
        nar.resize(nar.len().next_multiple_of(8), 0);
    };
    for word in ["nix-archive-1", "(", "type", "regular", "contents"] {
        add(word.as_bytes());
    }
    add(content);
    add(b")");
    nar
}

/// The content of the plain file that a NAR has.
///
/// # Errors
///
/// If the NAR has anything else, or is not written as Nix writes it.
pub fn content_of(nar_bytes: &[u8]) -> Result<&[u8], ObjectError> {
    let frame = nar(b"");
    // The frame ends with the length of the content and `)`, which takes 16 bytes.
    let start = frame.len() - 16;
    let length = nar_bytes.get(start - 8..start).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    let content = length
        .and_then(|length| usize::try_from(length).ok())
        .and_then(|length| nar_bytes.get(start..start.checked_add(length)?))
        .ok_or(ObjectError::NoFile)?;
    if nar(content) == nar_bytes { Ok(content) } else { Err(ObjectError::NoFile) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::record::Output;
    use crate::record::tests::record;

    const STORE: &str = "/nix/store";
    const KEY: &str = "/nix/store/zzz0h4gj6rsaw6xnsq7vj128dpiawa94-x";

    fn published() -> FailureRecord {
        let mut record = record();
        record.outputs = vec![Output { name: "out".to_owned(), key: KEY.into() }];
        record.host = "secret-host".to_owned();
        record.message = "on secret-host".to_owned();
        record
    }

    fn read_at(bytes: &[u8], key: &str, system: &str, now: i64) -> Result<FailureObject, ObjectError> {
        let key = OutputKey::from(key);
        let address = Address { kind: Kind::Failure, key: &key, period: 1, signer: "ci-1" };
        FailureObject::read(bytes, &address, STORE, system, Timestamp::from_second(now).unwrap())
    }

    fn read(bytes: &[u8]) -> Result<FailureObject, ObjectError> {
        read_at(bytes, KEY, "x86_64-linux", 1_000_100)
    }

    /// The form of what is published must never change: others have published it.
    #[test]
    fn golden_files() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/failure_objects");
        let key = OutputKey::from(KEY);
        let address = |kind, period| Address { kind, key: &key, period, signer: "ci-1" }.path(STORE);
        let paths = format!(
            "{}\n{}\n{}\n{}\n",
            marker(STORE),
            address(Kind::Failure, 1),
            address(Kind::Failure, 2),
            address(Kind::Withdrawal, 1)
        );
        let content = FailureObject::of(&published(), true).to_bytes().unwrap();
        for (name, bytes) in
            [("paths", paths.into_bytes()), ("failure.json", content), ("withdrawal.json", withdrawal_bytes(&key))]
        {
            let file = folder.join(name);
            if std::env::var_os("UPDATE_GOLDEN_FILES").is_some() {
                fs::write(&file, &bytes).unwrap();
            }
            assert_eq!(String::from_utf8_lossy(&bytes), fs::read_to_string(file).unwrap(), "{name}");
        }
    }

    #[test]
    fn what_is_published_can_be_read() {
        let object = FailureObject::of(&published(), true);
        let bytes = object.to_bytes().unwrap();
        assert_eq!(read(&bytes).unwrap(), object);
        assert!(!String::from_utf8_lossy(&bytes).contains("secret"), "{}", String::from_utf8_lossy(&bytes));
        assert_eq!(FailureObject::of(&published(), false).log, "");
        assert_eq!(content_of(&nar(&bytes)).unwrap(), bytes);
    }

    #[test]
    fn what_is_wrong_does_not_count() {
        let bytes = FailureObject::of(&published(), true).to_bytes().unwrap();
        assert_eq!(
            read_at(&bytes, "/nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x", "x86_64-linux", 1_000_100),
            Err(ObjectError::OtherOutput)
        );
        assert_eq!(
            read_at(&bytes, KEY, "aarch64-linux", 1_000_100),
            Err(ObjectError::OtherSystem("x86_64-linux".to_owned()))
        );
        assert_eq!(read_at(&bytes, KEY, "x86_64-linux", 999_000), Err(ObjectError::Future));
        type Change = fn(&mut FailureObject);
        let changes: [Change; 10] = [
            |object| object.version = 2,
            |object| drop(object.outputs.insert("zoo".to_owned(), "a\x1b[2J".into())),
            |object| object.last_failure = 100,
            |object| object.class = Class::Fetch,
            |object| object.sandbox = false,
            |object| object.attempts = 0,
            |object| object.drv_path = "/elsewhere/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv".to_owned(),
            |object| object.name = "a\x1b[2J".to_owned(),
            |object| object.first_failure = object.last_failure + 1,
            |object| drop(object.outputs.insert("zoo".to_owned(), KEY.into())),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut object = FailureObject::of(&published(), true);
            change(&mut object);
            assert!(read(&object.to_bytes().unwrap()).is_err(), "{index}");
        }
        for text in ["", "{}", "[]", "null", "{\"version\":1}"] {
            assert!(matches!(read(text.as_bytes()), Err(ObjectError::Malformed(_))), "{text}");
        }
        assert_eq!(read(&vec![b' '; MAX_CONTENT + 1]), Err(ObjectError::TooLarge));
    }

    #[test]
    fn texts_are_safe_to_show_and_long_logs_lose_their_beginning() {
        let mut record = published();
        record.log = "\x1b]0;title\x07one\x1b[2J\n".repeat(20) + "last\n";
        let object = read(&FailureObject::of(&record, true).to_bytes().unwrap()).unwrap();
        assert!(!object.log.contains('\x1b') && object.log.ends_with("last\n"), "{:?}", object.log);
        // Each of these takes six bytes in JSON.
        record.log = ("\u{1}".repeat(100) + "\n").repeat(80) + "last\n";
        let bytes = FailureObject::of(&record, true).to_bytes().unwrap();
        assert!(bytes.len() <= MAX_CONTENT && bytes.len() > MAX_CONTENT - 1000, "{}", bytes.len());
        assert!(String::from_utf8(bytes).unwrap().contains("last"));
    }

    #[test]
    fn names_of_keys() {
        for (name, is_one) in
            [("ci-1", true), ("cache.example.org-1", true), ("", false), ("a:b", false), ("a b", false)]
        {
            assert_eq!(is_signer(name), is_one, "{name}");
        }
        assert!(!is_signer(&"a".repeat(101)));
    }

    #[test]
    fn periods_are_weeks() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!((period(at(0)), period(at(PERIOD - 1)), period(at(PERIOD)), period(at(-1))), (0, 0, 1, -1));
        assert_eq!(end_of_period(1), at(2 * PERIOD));
    }

    proptest! {
        #[test]
        fn nars_are_read_as_they_are_written(content in prop::collection::vec(any::<u8>(), 0..100), cut in 0..200usize) {
            let whole = nar(&content);
            prop_assert_eq!(content_of(&whole).unwrap(), &content[..]);
            let cut = cut.min(whole.len() - 1);
            prop_assert!(content_of(&whole[..cut]).is_err());
            let mut changed = whole.clone();
            changed[cut] ^= 1;
            prop_assert!(content_of(&changed).map_or(true, |read| read != content));
        }
    }
}
