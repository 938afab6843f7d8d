//! The settings of the plugin, as `nix config show` prints them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::belief::MAX_ATTEMPTS;
use crate::class::Class;
use crate::failure_object::is_signer;

/// The settings that decide what is recorded and what is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `negative-cache`: whether the plugin does anything.
    pub enabled: bool,
    /// `negative-cache-retry`: build even what is known to fail.
    pub retry: bool,
    /// `negative-cache-action`: whether known failures are only warned of.
    pub warn: bool,
    /// `keep-failed`: the user wants to look at a failed build, so there has to be one.
    pub keep_failed: bool,
    /// `keep-build-log`: whether Nix keeps logs. If not, no text of a log is recorded.
    pub keep_log: bool,
    /// `negative-cache-ttl`: how long the first failure is believed; for ever if there is none.
    pub ttl: Option<SignedDuration>,
    /// `negative-cache-max-ttl`: how long any failure is believed at most.
    pub max_ttl: Option<SignedDuration>,
    /// `negative-cache-min-failures`: how often a derivation must fail in a row.
    pub min_failures: u32,
    /// `negative-cache-transient-exit-codes`: with which a builder says that its failure will pass.
    pub transient_exit_codes: Vec<i32>,
    /// `negative-cache-timeouts`: whether time and log limits count.
    pub timeouts: bool,
    /// `negative-cache-fixed-output`: whether fetches count.
    pub fixed_output: bool,
    /// `negative-cache-max-records`: how many failures the database has at most.
    pub max_records: u64,
    /// `negative-cache-trusted-public-keys`: the keys of those who may say that builds fail.
    pub trusted_public_keys: Vec<String>,
    /// `negative-cache-substituters`: the caches that are asked for failures; those of Nix if there is none.
    pub substituters: Vec<String>,
    /// `negative-cache-timeout`: how long these caches may take to answer, all together.
    pub timeout: Duration,
}

/// The kind of a setting, and its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Yes or no. As a flag of Nix: `--NAME` and `--no-NAME`. The default is no.
    Switch,
    /// A number. As a flag: `--NAME VALUE`.
    Number(u64),
    /// Text that is looked at before it is accepted, see [`SettingInfo::problem_with`]. As a flag: `--NAME VALUE`.
    Text(&'static str),
}

/// A setting that the plugin adds to Nix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingInfo {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub kind: Kind,
    /// What `nix config show` and the manual say of it.
    pub description: &'static str,
    /// Whether clients of the daemon may say something of it, as far as it makes the plugin less strict with them.
    pub lenient: bool,
}

/// All settings of the plugin. The first one switches it on.
pub const ALL: [SettingInfo; 15] = [
    SettingInfo {
        name: ENABLE,
        kind: Kind::Switch,
        description: "Whether to record derivations whose builders failed, and to refuse to build what is known to fail.",
        lenient: true,
    },
    SettingInfo {
        name: RETRY,
        kind: Kind::Switch,
        description: "Whether to build even what is known to fail. How it ends is recorded; a success removes the record.",
        lenient: true,
    },
    SettingInfo {
        name: ACTION,
        kind: Kind::Text("fail"),
        description: "What to do about a derivation that is known to fail: `fail` refuses to build it, `warn` says when it \
                      failed and where its log is, and builds it.",
        lenient: false,
    },
    SettingInfo {
        name: DATABASE,
        kind: Kind::Text(""),
        description: "The file of the failure database. If empty, `negative-cache/failures.sqlite` in the state directory \
                      of the store.",
        lenient: false,
    },
    SettingInfo {
        name: TTL,
        kind: Kind::Number(DEFAULT_TTL),
        description: "For how many seconds a failure is believed; then it is tried once more. Each failure that confirms \
                      it doubles the time. 0 is for ever.",
        lenient: true,
    },
    SettingInfo {
        name: MAX_TTL,
        kind: Kind::Number(DEFAULT_MAX_TTL),
        description: "For how many seconds a failure is believed at most, however often it was confirmed. 0 is for ever.",
        lenient: true,
    },
    SettingInfo {
        name: MIN_FAILURES,
        kind: Kind::Text("1"),
        description: "How often in a row a derivation must have failed before it is refused; at least twice if it has \
                      succeeded after a failure before.",
        lenient: true,
    },
    SettingInfo {
        name: TRANSIENT_EXIT_CODES,
        // `EX_TEMPFAIL` of sysexits.h.
        kind: Kind::Text("75"),
        description: "The exit codes with which a builder says that its failure will pass, so that it is not recorded.",
        lenient: false,
    },
    SettingInfo {
        name: TIMEOUTS,
        kind: Kind::Switch,
        description: "Whether to record builds that `timeout`, `max-silent-time` or `max-build-log-size` ended. They are \
                      refused for as long as the limit is no higher.",
        lenient: false,
    },
    SettingInfo {
        name: FIXED_OUTPUT,
        kind: Kind::Switch,
        description: "Whether to record failures of fixed-output derivations and of `builtin:` builders.",
        lenient: false,
    },
    SettingInfo {
        name: MAX_RECORDS,
        kind: Kind::Number(DEFAULT_MAX_RECORDS),
        description: "How many failures the database keeps at most; beyond, those go that were not used for the longest \
                      time.",
        lenient: false,
    },
    SettingInfo {
        name: TRUSTED_PUBLIC_KEYS,
        kind: Kind::Text(""),
        description: "The public keys of those who are believed when they publish in a binary cache that a build failed, such as \
                      `ci-1:b2Zw…=`. These keys are apart from `trusted-public-keys`. If there is none, no cache is asked.",
        lenient: false,
    },
    SettingInfo {
        name: SUBSTITUTERS,
        kind: Kind::Text(""),
        description: "The binary caches that are asked whether a build is known to fail. If empty, those of `substituters`.",
        lenient: false,
    },
    SettingInfo {
        name: TIMEOUT,
        kind: Kind::Number(DEFAULT_TIMEOUT),
        description: "For how many seconds a request waits at most until binary caches have said what is known to fail. Then it \
                      is built as if nothing were known.",
        lenient: false,
    },
    SettingInfo {
        name: HOOK,
        kind: Kind::Text(""),
        description: "The path of a program that is started after a failure was recorded, with the record as JSON on its standard \
                      input. Nobody waits for it. If empty, none is.",
        lenient: false,
    },
];

/// With which the names of all settings begin, and the name of the one that switches the plugin on.
pub const ENABLE: &str = "negative-cache";
/// The name of the setting for the database file.
pub const DATABASE: &str = "negative-cache-database";
const RETRY: &str = "negative-cache-retry";
const ACTION: &str = "negative-cache-action";
const TTL: &str = "negative-cache-ttl";
const MAX_TTL: &str = "negative-cache-max-ttl";
const MIN_FAILURES: &str = "negative-cache-min-failures";
const TRANSIENT_EXIT_CODES: &str = "negative-cache-transient-exit-codes";
const TIMEOUTS: &str = "negative-cache-timeouts";
const FIXED_OUTPUT: &str = "negative-cache-fixed-output";
const MAX_RECORDS: &str = "negative-cache-max-records";
const TRUSTED_PUBLIC_KEYS: &str = "negative-cache-trusted-public-keys";
const SUBSTITUTERS: &str = "negative-cache-substituters";
const TIMEOUT: &str = "negative-cache-timeout";
/// The name of the setting for the program that is started after a failure was recorded. C++ keeps its value, see
/// `cpp/settings.hh`.
const HOOK: &str = "negative-cache-hook";

impl SettingInfo {
    /// The setting of this name, if there is one.
    pub fn named(name: &str) -> Option<&'static SettingInfo> {
        ALL.iter().find(|setting| setting.name == name)
    }

    /// Its default, as `nix config show` prints it.
    pub fn default(&self) -> String {
        match self.kind {
            Kind::Switch => "false".to_owned(),
            Kind::Number(number) => number.to_string(),
            Kind::Text(text) => text.to_owned(),
        }
    }

    /// The error in a value of this setting, which is text. None if the value is right.
    pub fn problem_with(&self, value: &str) -> Option<ValueError> {
        match self.name {
            ACTION => (value != "fail" && value != "warn").then_some(ValueError::NoAction),
            DATABASE | HOOK => (!value.is_empty() && !value.starts_with('/')).then_some(ValueError::NoPath),
            MIN_FAILURES => min_failures(value).err(),
            TRANSIENT_EXIT_CODES => exit_codes(value).err(),
            TRUSTED_PUBLIC_KEYS => public_keys(value).err(),
            _ => None,
        }
    }
}

/// 7 days.
const DEFAULT_TTL: u64 = 7 * 24 * 60 * 60;
/// 90 days.
const DEFAULT_MAX_TTL: u64 = 90 * 24 * 60 * 60;
/// How many failures a database has at most if nobody says otherwise.
pub const DEFAULT_MAX_RECORDS: u64 = 100_000;
/// 5 seconds.
const DEFAULT_TIMEOUT: u64 = 5;
/// An hour: nobody waits longer for a cache.
const LONGEST_TIMEOUT: u64 = 60 * 60;

impl Default for Settings {
    fn default() -> Self {
        Settings {
            enabled: false,
            retry: false,
            warn: false,
            keep_failed: false,
            keep_log: true,
            ttl: lifetime(DEFAULT_TTL),
            max_ttl: lifetime(DEFAULT_MAX_TTL),
            min_failures: 1,
            transient_exit_codes: vec![75],
            timeouts: false,
            fixed_output: false,
            max_records: DEFAULT_MAX_RECORDS,
            trusted_public_keys: Vec::new(),
            substituters: Vec::new(),
            timeout: Duration::from_secs(DEFAULT_TIMEOUT),
        }
    }
}

/// What a number of seconds says in a setting: 0 is for ever.
pub fn lifetime(seconds: u64) -> Option<SignedDuration> {
    // No longer than what a timestamp can be apart from another one.
    const LONGEST: u64 = 1000 * 365 * 24 * 60 * 60;
    (seconds > 0).then(|| SignedDuration::from_secs(seconds.min(LONGEST) as i64))
}

/// An error in the value of a setting. Its text ends a sentence that begins with the setting and its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// It is not a number between 1 and [`MAX_ATTEMPTS`].
    #[error("it is a number between 1 and {MAX_ATTEMPTS}")]
    NoCount,
    /// It is neither `fail` nor `warn`.
    #[error("it is 'fail' or 'warn'")]
    NoAction,
    /// It is not an absolute path.
    #[error("it is an absolute path")]
    NoPath,
    /// It is not a number of seconds.
    #[error("it is a number of seconds")]
    NoSeconds,
    /// It is not a number of failures.
    #[error("it is a number of failures")]
    NoFailures,
    /// This word in it is not a public key.
    #[error(
        "'{0}' is not a public key, such as 'NAME:BASE64' in the file that nix-store --generate-binary-cache-key writes"
    )]
    NoPublicKey(String),
    /// This word in it is not an exit code.
    #[error("'{0}' is not an exit code between 1 and 255")]
    NoExitCode(String),
}

/// A setting with a value that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the setting '{setting}' has the value '{value}': {source}")]
pub struct SettingError {
    setting: &'static str,
    value: String,
    source: ValueError,
}

/// The exit codes of a list such as `75 76`.
///
/// # Errors
///
/// If a word is no exit code.
pub fn exit_codes(text: &str) -> Result<Vec<i32>, ValueError> {
    let code = |word: &str| match word.parse() {
        Ok(code @ 1..=255) => Ok(code),
        _ => Err(ValueError::NoExitCode(word.to_owned())),
    };
    text.split_whitespace().map(code).collect()
}

/// The public keys of a list such as `ci-1:b2Zw…= ci-2:…`.
///
/// # Errors
///
/// If a word has not the form of a public key.
pub fn public_keys(text: &str) -> Result<Vec<String>, ValueError> {
    let key = |word: &str| match word.split_once(':') {
        // 32 bytes in base 64.
        Some((name, key)) if is_signer(name) && key.len() == 44 && is_base64(key) => Ok(word.to_owned()),
        _ => Err(ValueError::NoPublicKey(word.to_owned())),
    };
    text.split_whitespace().map(key).collect()
}

/// Whether a text of a multiple of four characters is base 64, with one character of padding.
fn is_base64(text: &str) -> bool {
    text.strip_suffix('=').is_some_and(|rest| rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '+' || c == '/'))
}

/// The number of `negative-cache-min-failures`.
///
/// # Errors
///
/// If the text is no number in that range.
pub fn min_failures(text: &str) -> Result<u32, ValueError> {
    match text.trim().parse() {
        Ok(number @ 1..=MAX_ATTEMPTS) => Ok(number),
        _ => Err(ValueError::NoCount),
    }
}

/// The settings of Nix that matter here as well.
pub const OF_NIX: [&str; 2] = [KEEP_FAILED, KEEP_LOG];

const KEEP_FAILED: &str = "keep-failed";
const KEEP_LOG: &str = "keep-build-log";

impl Settings {
    /// Reads the settings by their names; what is not there has its default.
    ///
    /// # Errors
    ///
    /// If a value can't be read.
    pub fn new(values: &BTreeMap<String, String>) -> Result<Settings, SettingError> {
        let defaults = Settings::default();
        let text = |name: &str| values.get(name).map(String::as_str);
        let flag = |name: &str| text(name) == Some("true");
        let wrong = |setting: &'static str, source: ValueError| SettingError {
            setting,
            value: text(setting).unwrap_or("").to_owned(),
            source,
        };
        let seconds = |name: &'static str, default: Option<SignedDuration>| match text(name).map(str::parse) {
            None => Ok(default),
            Some(Ok(seconds)) => Ok(lifetime(seconds)),
            Some(Err(_)) => Err(wrong(name, ValueError::NoSeconds)),
        };
        let (codes, failures, keys) = (TRANSIENT_EXIT_CODES, MIN_FAILURES, TRUSTED_PUBLIC_KEYS);
        Ok(Settings {
            enabled: flag(ENABLE),
            retry: flag(RETRY),
            warn: text(ACTION) == Some("warn"),
            keep_failed: flag(KEEP_FAILED),
            keep_log: text(KEEP_LOG) != Some("false"),
            ttl: seconds(TTL, defaults.ttl)?,
            max_ttl: seconds(MAX_TTL, defaults.max_ttl)?,
            min_failures: text(failures)
                .map_or(Ok(defaults.min_failures), min_failures)
                .map_err(|why| wrong(failures, why))?,
            transient_exit_codes: text(codes)
                .map_or(Ok(defaults.transient_exit_codes), exit_codes)
                .map_err(|why| wrong(codes, why))?,
            timeouts: flag(TIMEOUTS),
            fixed_output: flag(FIXED_OUTPUT),
            max_records: text(MAX_RECORDS).map_or(Ok(defaults.max_records), |number| {
                number.parse().map_err(|_| wrong(MAX_RECORDS, ValueError::NoFailures))
            })?,
            trusted_public_keys: text(keys)
                .map_or(Ok(defaults.trusted_public_keys), public_keys)
                .map_err(|why| wrong(keys, why))?,
            substituters: text(SUBSTITUTERS).unwrap_or("").split_whitespace().map(str::to_owned).collect(),
            timeout: text(TIMEOUT).map_or(Ok(defaults.timeout), |number| {
                let seconds: u64 = number.parse().map_err(|_| wrong(TIMEOUT, ValueError::NoSeconds))?;
                Ok(Duration::from_secs(seconds.min(LONGEST_TIMEOUT)))
            })?,
        })
    }

    /// Takes a value of a lenient setting as far as it makes the plugin less strict.
    pub fn relax(&mut self, name: &str, value: &str) {
        // The one that is shorter; none is for ever.
        let shorter = |now: Option<SignedDuration>| match (now, value.parse().ok().and_then(lifetime)) {
            (Some(now), Some(wanted)) => Some(now.min(wanted)),
            (now, wanted) => now.or(wanted),
        };
        match name {
            ENABLE => self.enabled &= value != "false",
            RETRY => self.retry |= value == "true",
            TTL => self.ttl = shorter(self.ttl),
            MAX_TTL => self.max_ttl = shorter(self.max_ttl),
            MIN_FAILURES => self.min_failures = self.min_failures.max(min_failures(value).unwrap_or(0)),
            _ => {}
        }
    }

    /// Those of the lenient settings that are less strict here than by default, with their values.
    pub fn lenient(&self) -> Vec<(&'static str, String)> {
        let defaults = Settings::default();
        let seconds = |span: Option<SignedDuration>| span.map_or(0, |span| span.as_secs()).to_string();
        let shorter = |span: Option<SignedDuration>, than: Option<SignedDuration>| span.is_some() && span < than;
        [
            // Who only wants to be warned is warned by the client; who wants to do without wants nothing refused.
            (self.retry || self.warn || !self.enabled, RETRY, "true".to_owned()),
            (!self.enabled, ENABLE, "false".to_owned()),
            (shorter(self.ttl, defaults.ttl), TTL, seconds(self.ttl)),
            (shorter(self.max_ttl, defaults.max_ttl), MAX_TTL, seconds(self.max_ttl)),
            (self.min_failures > defaults.min_failures, MIN_FAILURES, self.min_failures.to_string()),
        ]
        .into_iter()
        .filter_map(|(lenient, name, value)| lenient.then_some((name, value)))
        .collect()
    }

    /// The time since which a record must have been used to be believed by anybody; `None` if records are believed for
    /// ever.
    pub fn past_life(&self, now: Timestamp) -> Option<Timestamp> {
        let longest = self.ttl.and(self.max_ttl)?;
        Some(now.saturating_sub(longest).unwrap_or(Timestamp::MIN))
    }

    /// Whether failures of a class are recorded, and believed.
    pub fn records(&self, class: Class) -> bool {
        match class {
            Class::Builder | Class::Output => true,
            Class::Timeout | Class::Silence | Class::LogLimit => self.timeouts,
            Class::Fetch => self.fixed_output,
            Class::Transient | Class::NotTheBuilder => false,
        }
    }

    /// Whether failures that this key has signed are believed.
    pub fn trusts(&self, key: &str) -> bool {
        self.trusted_public_keys.iter().any(|trusted| trusted == key)
    }

    /// Whether known failures matter to requests at all.
    pub fn consults(&self) -> bool {
        !self.retry && !self.keep_failed
    }

    /// How long a failure is believed that was confirmed so many times.
    pub fn lifetime(&self, confirmed: u32) -> Option<SignedDuration> {
        let lifetime = self.ttl?.as_secs().saturating_mul(1_i64.checked_shl(confirmed.min(62)).unwrap_or(i64::MAX));
        Some(SignedDuration::from_secs(self.max_ttl.map_or(lifetime, |max| lifetime.min(max.as_secs()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(values: &[(&str, &str)]) -> Result<Settings, SettingError> {
        Settings::new(&values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(settings(&[]), Ok(Settings::default()));
        let said: Vec<(&str, String)> = ALL.iter().map(|setting| (setting.name, setting.default())).collect();
        let said: Vec<(&str, &str)> = said.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(settings(&said), Ok(Settings::default()));
        // C++ takes the first one for the one that switches the plugin on.
        assert_eq!(ALL[0].name, ENABLE);
        assert!(ALL.iter().all(|setting| setting.problem_with(&setting.default()).is_none()));
    }

    #[test]
    fn values_as_nix_prints_them() {
        let read = settings(&[
            ("negative-cache", "true"),
            ("negative-cache-action", "warn"),
            ("negative-cache-ttl", "0"),
            ("negative-cache-max-ttl", "18446744073709551615"),
            ("negative-cache-transient-exit-codes", "75 76"),
            ("negative-cache-min-failures", "3"),
            ("cores", "4"),
        ])
        .unwrap();
        assert!(read.enabled && read.warn && !read.retry);
        assert_eq!((read.ttl, read.min_failures), (None, 3));
        assert!(read.max_ttl.is_some());
        assert_eq!(read.transient_exit_codes, [75, 76]);
        assert!(settings(&[("negative-cache-transient-exit-codes", "")]).unwrap().transient_exit_codes.is_empty());
    }

    #[test]
    fn wrong_values_are_named() {
        for (name, value) in [
            ("negative-cache-ttl", "7d"),
            ("negative-cache-max-ttl", "-1"),
            ("negative-cache-min-failures", "0"),
            ("negative-cache-min-failures", "33"),
            ("negative-cache-transient-exit-codes", "75 256"),
            ("negative-cache-transient-exit-codes", "0"),
        ] {
            let error = settings(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(&format!("'{name}' has the value '{value}'")), "{error}");
        }
    }
}
