//! Which builds of a Hydra count as failures that happened elsewhere.
//!
//! A Hydra tells how each of its builds ended, and shows its log. It does not tell the exit code, nor whether a signal or a lack of
//! memory ended the builder: only the log may tell that. So a failure without a log, or with one that casts a doubt, is left out. A log
//! that says nothing is as good as none, since a builder that was killed early has such a log.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer};

use crate::belief::{Origin, Source, latest};
use crate::class::Class;
use crate::elsewhere::LearnedFailure;
use crate::failure_object::{FailureObject, PERIOD, VERSION};
use crate::judgement::{Judgement, Reason, Suspicion, judge_exit};
use crate::log::judge::{Facts, LogJudge};
use crate::log::tail::printable;
use crate::record::PLUGIN_VERSION;
use crate::settings::Settings;
use crate::store_path::{OutputKey, derivation_name, is_store_path};

/// The status of a build whose builder failed (`BuildStatus` in Hydra's `state.hh`). All others tell of something else, such as a
/// dependency that failed, a time limit, or somebody who cancelled the build.
const FAILED: i64 = 1;

/// The status of a build that succeeded.
const SUCCEEDED: i64 = 0;

/// How long is remembered what does not change. Evaluations carry builds of earlier ones along for longer than a failure is believed.
pub const REMEMBERED: SignedDuration = SignedDuration::from_hours(90 * 24);

/// How long is remembered what may change.
const A_DAY: SignedDuration = SignedDuration::from_hours(24);

/// A build, as a Hydra tells it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct HydraBuild {
    /// Its number.
    pub id: u64,
    /// Whether it has ended.
    #[serde(deserialize_with = "number")]
    pub finished: Option<i64>,
    /// How it has ended.
    #[serde(rename = "buildstatus", default, deserialize_with = "number")]
    pub status: Option<i64>,
    /// When it began, in seconds since 1970.
    #[serde(rename = "starttime", default, deserialize_with = "number")]
    pub start: Option<i64>,
    /// When it ended.
    #[serde(rename = "stoptime", default, deserialize_with = "number")]
    pub stop: Option<i64>,
    /// The attribute that it is of.
    pub job: String,
    /// The system that it is for.
    pub system: String,
    /// Its derivation.
    #[serde(rename = "drvpath")]
    pub derivation: String,
    /// The outputs of the derivation, by their names.
    #[serde(rename = "buildoutputs", default)]
    pub outputs: BTreeMap<String, HydraOutput>,
}

/// An output of a build.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct HydraOutput {
    /// Its path; none if that follows from its content and there is none.
    pub path: Option<String>,
}

/// A number, which some versions write as text or as a truth value.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(i64),
        Truth(bool),
        Text(String),
    }
    Ok(match Option::<Written>::deserialize(deserializer)? {
        None => None,
        Some(Written::Number(number)) => Some(number),
        Some(Written::Truth(truth)) => Some(i64::from(truth)),
        Some(Written::Text(text)) => Some(text.parse().map_err(|_| serde::de::Error::custom("not a number"))?),
    })
}

/// Why a build is left out. The text stands in a summary, after a number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOut {
    /// It has not ended yet.
    Unfinished,
    /// It did not end with the failure of its builder. Whoever runs the Hydra can start what has not succeeded once more, under the
    /// same number, and does so only soon after.
    OtherEnd {
        /// Whether that may come, so that it may still end in another way.
        may_change: bool,
    },
    /// The server does not have it, or not any more.
    Missing,
    /// Nobody would believe it any more.
    Old,
    /// A clock was wrong.
    Future,
    /// It is not told in the form that it must have.
    Malformed(String),
    /// Nobody can tell whether it would pass, as there is no log, or nothing is in it.
    NoLog,
    /// The same, as what came in place of a log is no text: it may be compressed, or a page of somebody on the way.
    Unreadable,
    /// The same, as the log is too large to be read to its end.
    LogTooLarge,
    /// The log, or what else is known, speaks for a failure that would pass. The text names the cause.
    MayPass(String),
}

impl LeftOut {
    /// For how long the build need not be asked about again.
    pub fn stands_for(&self) -> SignedDuration {
        match self {
            LeftOut::Unfinished | LeftOut::Future => SignedDuration::ZERO,
            // A log may come late, and a server may be wrong about what it has.
            LeftOut::OtherEnd { may_change: true } | LeftOut::Missing | LeftOut::NoLog | LeftOut::Unreadable => A_DAY,
            LeftOut::OtherEnd { may_change: false }
            | LeftOut::Old
            | LeftOut::Malformed(_)
            | LeftOut::LogTooLarge
            | LeftOut::MayPass(_) => REMEMBERED,
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeftOut::Unfinished => f.write_str("not finished yet"),
            LeftOut::OtherEnd { .. } => f.write_str("ended in another way than by a failure of the builder"),
            LeftOut::Old => f.write_str("too old to be believed"),
            LeftOut::Future => f.write_str("left out because they are in the future: a clock was wrong"),
            LeftOut::Malformed(what) => write!(f, "left out because what the Hydra tells {what}"),
            LeftOut::Missing => f.write_str("left out because the server does not have them"),
            LeftOut::NoLog => f.write_str("left out because there is no log"),
            LeftOut::Unreadable => f.write_str("left out because the log can't be read as text"),
            LeftOut::LogTooLarge => f.write_str("left out because the log is too large"),
            LeftOut::MayPass(cause) => write!(f, "left out because {cause}"),
        }
    }
}

/// The log of a build, or the end of it, as it is read line by line.
#[derive(Clone, Debug, Default)]
pub struct HydraLog {
    judge: LogJudge,
    /// Whether any line has something that can be printed.
    says_something: bool,
    bytes: u64,
    /// How many of the bytes no text has.
    noise: u64,
}

impl HydraLog {
    /// Reads the next line, without its end.
    pub fn line(&mut self, line: &[u8]) {
        self.judge.line(line);
        self.says_something = self.says_something || !printable(line).is_empty();
        self.bytes += line.len() as u64;
        self.noise += noise(line);
    }

    /// Why a failure with this log does not count, if that is so.
    fn speaks_against(&self) -> Option<LeftOut> {
        /// Text has next to no noise, even if it is in an encoding of old or shows a few bytes of a file. Of compressed text, it is about
        /// a third, and less only if there is so little text that it is hardly compressed.
        const ONE_OF: u64 = 10;
        if !self.says_something {
            Some(LeftOut::NoLog)
        } else if self.noise > self.bytes / ONE_OF {
            Some(LeftOut::Unreadable)
        } else {
            passing_cause(&self.judge).map(LeftOut::MayPass)
        }
    }
}

/// How many bytes are part of no character, or are control characters that have no meaning in a log.
fn noise(line: &[u8]) -> u64 {
    let is_noise = |byte: &u8| byte.is_ascii_control() && !b"\t\r\x07\x08\x0c\x1b".contains(byte);
    let chunks = line.utf8_chunks();
    chunks.map(|chunk| (chunk.invalid().len() + chunk.valid().bytes().filter(is_noise).count()) as u64).sum()
}

impl HydraBuild {
    /// Whether this is a failure that could count, as far as can be told without its log.
    ///
    /// # Errors
    ///
    /// Why it does not count.
    pub fn may_count(&self, now: Timestamp) -> Result<(), LeftOut> {
        let Some(status) = self.status.filter(|_| self.finished != Some(0)) else { return Err(LeftOut::Unfinished) };
        let stop = self.stop.unwrap_or_default();
        let is_old = stop <= now.as_second() - PERIOD;
        if status != FAILED {
            Err(LeftOut::OtherEnd { may_change: status != SUCCEEDED && !is_old })
        } else if is_old {
            Err(LeftOut::Old)
        } else if stop > latest(now).as_second() {
            Err(LeftOut::Future)
        } else {
            Ok(())
        }
    }

    /// The failure as it is recorded. `hydra` is the URL of the Hydra, and `log` the build's log or the end of it. If `warn_only`,
    /// nothing is to be refused because of it.
    ///
    /// # Errors
    ///
    /// Why it does not count.
    pub fn failure(
        &self,
        hydra: &str,
        warn_only: bool,
        log: &HydraLog,
        now: Timestamp,
    ) -> Result<LearnedFailure, LeftOut> {
        self.may_count(now)?;
        let stop = self.stop.unwrap_or_default();
        let duration = self.start.map_or(0, |start| stop.saturating_sub(start)).max(0);
        let object = FailureObject {
            version: VERSION,
            outputs: self.keys().ok_or_else(|| LeftOut::Malformed("has an output without a path".to_owned()))?,
            drv_path: self.derivation.clone(),
            name: self.name().to_owned(),
            system: self.system.clone(),
            class: Class::Builder,
            exit_code: None,
            reason: "builder failed".to_owned(),
            log: log.judge.tail().text(),
            first_failure: stop,
            last_failure: stop,
            attempts: 1,
            duration_ms: duration.saturating_mul(1000),
            nix_version: "unknown".to_owned(),
            plugin_version: PLUGIN_VERSION.to_owned(),
            // Hydra has no other builds.
            sandbox: true,
        };
        let object = object.standing_alone(now).map_err(|error| LeftOut::Malformed(error.to_string()))?;
        if let Some(why) = log.speaks_against() {
            return Err(why);
        }
        let source = Source::Hydra { hydra: hydra.to_owned(), build: self.id, warn_only };
        Ok(LearnedFailure { object, origin: Origin { source, attempts: 1 } })
    }

    /// The last part of the path of its derivation, if it is such a path.
    pub fn derivation_name(&self) -> Option<&str> {
        let is_derivation = is_store_path(&self.derivation) && self.derivation.ends_with(".drv");
        is_derivation.then(|| self.derivation.rsplit('/').next()).flatten()
    }

    /// How many bytes of memory it takes, or a few more.
    pub fn memory(&self) -> usize {
        /// What the outputs take beside their texts: room for a few, and what one more may add to that.
        const OUTPUTS: (usize, usize) = (600, 128);
        let output = |(name, output): (&String, &HydraOutput)| {
            name.capacity() + output.path.as_ref().map_or(0, String::capacity) + OUTPUTS.1
        };
        let texts = self.job.capacity() + self.system.capacity() + self.derivation.capacity();
        size_of::<HydraBuild>() + texts + OUTPUTS.0 + self.outputs.iter().map(output).sum::<usize>()
    }

    /// The outputs by their names, if all have a path.
    fn keys(&self) -> Option<BTreeMap<String, OutputKey>> {
        let key = |(name, output): (&String, &HydraOutput)| Some((name.clone(), output.path.as_deref()?.into()));
        self.outputs.iter().map(key).collect()
    }

    /// The name of the derivation, without hash and `.drv`. Hydra's own name may be another one.
    fn name(&self) -> &str {
        self.derivation_name().map(derivation_name).unwrap_or_default()
    }
}

/// What speaks for a failure that would pass, if anything does. Whether the build was a download, which may use the network, is not
/// told, so that what a log says of the network is doubtful here.
fn passing_cause(log: &LogJudge) -> Option<String> {
    /// Any exit code that does not tell anything by itself.
    const PLAIN: i32 = 1;
    let facts = Facts { sandboxed: None, fixed_output: false };
    match judge_exit(PLAIN, log, facts, &Settings::default()) {
        Judgement::Record(_, _, None) => None,
        Judgement::Record(_, _, Some(Suspicion::Log(line))) | Judgement::Ignore(_, Reason::Log(line)) => {
            Some(format!("the log tells of {}", line.cause))
        }
        Judgement::Record(_, _, Some(suspicion)) => Some(suspicion.to_string()),
        Judgement::Ignore(_, reason) => Some(reason.to_string()),
        Judgement::Succeeded => Some(Reason::NotTheBuilder.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::lines::Lines;

    const NOW: i64 = 1_700_000_000;

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    fn build(change: &[(&str, serde_json::Value)]) -> HydraBuild {
        let mut json = serde_json::json!({
            "id": 123, "finished": 1, "buildstatus": 1, "starttime": NOW - 160, "stoptime": NOW - 100, "timestamp": NOW,
            "project": "nixpkgs", "jobset": "trunk", "job": "x.x86_64-linux", "nixname": "x-1.0", "system": "x86_64-linux",
            "drvpath": "/nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x-1.0.drv",
            "buildoutputs": { "out": { "path": "/nix/store/zzz0h4gj6rsaw6xnsq7vj128dpiawa94-x-1.0" } },
            "buildproducts": {}, "jobsetevals": [1, 2],
        });
        for (name, value) in change {
            json[*name] = value.clone();
        }
        serde_json::from_value(json).unwrap()
    }

    fn log_of(bytes: &[u8]) -> HydraLog {
        let (mut log, mut lines) = (HydraLog::default(), Lines::default());
        lines.push(bytes, |line| log.line(line));
        lines.finish(|line| log.line(line));
        log
    }

    fn log(text: &str) -> HydraLog {
        log_of(text.as_bytes())
    }

    const HYDRA: &str = "https://hydra.example.org";

    #[test]
    fn only_failures_of_builders_count_and_only_fresh_ones() {
        for (name, value, expected) in [
            ("id", 123.into(), Ok(())),
            ("finished", "1".into(), Ok(())),
            ("finished", true.into(), Ok(())),
            ("finished", 0.into(), Err(LeftOut::Unfinished)),
            ("buildstatus", serde_json::Value::Null, Err(LeftOut::Unfinished)),
            ("stoptime", (NOW - PERIOD - 1).into(), Err(LeftOut::Old)),
            ("stoptime", serde_json::Value::Null, Err(LeftOut::Old)),
            ("stoptime", (NOW + 1000).into(), Err(LeftOut::Future)),
            ("stoptime", i64::MAX.into(), Err(LeftOut::Future)),
        ] {
            assert_eq!(build(&[(name, value.clone())]).may_count(now()), expected, "{name} {value}");
        }
        // Succeeded, a dependency, aborted, cancelled, failed with output, timed out, cached, unsupported, too much log, too large an
        // output, not deterministic, and what is to come.
        for other in [0, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 99, -1] {
            let other = build(&[("buildstatus", other.into())]);
            let may_change = other.status != Some(0);
            assert_eq!(other.may_count(now()), Err(LeftOut::OtherEnd { may_change }), "{other:?}");
        }
        let old = build(&[("buildstatus", 3.into()), ("stoptime", (NOW - PERIOD - 1).into())]);
        assert_eq!(old.may_count(now()), Err(LeftOut::OtherEnd { may_change: false }));
    }

    #[test]
    fn what_may_change_is_looked_at_again() {
        for (left_out, days) in [
            (LeftOut::Unfinished, 0),
            (LeftOut::Future, 0),
            (LeftOut::OtherEnd { may_change: true }, 1),
            (LeftOut::NoLog, 1),
            (LeftOut::Unreadable, 1),
            (LeftOut::LogTooLarge, 90),
            (LeftOut::Missing, 1),
            (LeftOut::OtherEnd { may_change: false }, 90),
            (LeftOut::MayPass("the log tells of a reason".to_owned()), 90),
        ] {
            assert_eq!(left_out.stands_for(), SignedDuration::from_hours(days * 24), "{left_out:?}");
        }
    }

    #[test]
    fn no_text_is_forgotten_when_memory_is_counted() {
        let long = "x".repeat(1000);
        let least = build(&[]).memory();
        for (name, value) in [
            ("job", long.as_str().into()),
            ("system", long.as_str().into()),
            ("drvpath", long.as_str().into()),
            ("buildoutputs", serde_json::json!({ long.as_str(): { "path": null } })),
            ("buildoutputs", serde_json::json!({ "out": { "path": long } })),
        ] {
            assert!(build(&[(name, value)]).memory() > least + 800, "{name}");
        }
    }

    #[test]
    fn a_failure_with_a_clear_log_is_recorded() {
        let learned = build(&[])
            .failure(HYDRA, false, &log("x.c:1:1: error: expected ';'\n\x1b[2Jmake: *** Error 1"), now())
            .unwrap();
        let object = &learned.object;
        assert_eq!((object.name.as_str(), object.exit_code, object.duration_ms), ("x-1.0", None, 60_000));
        assert_eq!((object.first_failure, object.last_failure, object.attempts), (NOW - 100, NOW - 100, 1));
        assert_eq!(object.log, "x.c:1:1: error: expected ';'\nmake: *** Error 1\n");
        assert_eq!(learned.origin.to_string(), "hydra: https://hydra.example.org/build/123");
        let urls = learned.origin.source.build_and_log(&object.drv_path).unwrap();
        assert_eq!(urls.0, "https://hydra.example.org/build/123");
        assert_eq!(urls.1, "https://hydra.example.org/log/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x-1.0.drv");
        assert!(["hydra", HYDRA, "https://hydra.example.org/"].iter().all(|text| learned.origin.is_called(text)));
        assert!(!learned.origin.is_called("here") && learned.origin.key().is_none());
        let json = serde_json::to_string(&learned.origin).unwrap();
        assert_eq!(json, r#"{"hydra":"https://hydra.example.org","build":123,"attempts":1}"#);
        assert_eq!(serde_json::from_str::<Origin>(&json).unwrap(), learned.origin);
        let warning = build(&[]).failure(HYDRA, true, &log("error"), now()).unwrap().origin;
        let json = serde_json::to_string(&warning).unwrap();
        assert_eq!(json, r#"{"hydra":"https://hydra.example.org","build":123,"warnOnly":true,"attempts":1}"#);
        assert_eq!(serde_json::from_str::<Origin>(&json).unwrap(), warning);
    }

    #[test]
    fn what_may_pass_is_left_out() {
        for text in [
            "cc1plus: out of memory allocating 65536 bytes",
            "g++: fatal error: Killed signal terminated program cc1plus",
            "error: No space left on device",
            "java.lang.OutOfMemoryError: Java heap space",
            "curl: (6) Could not resolve host: example.org",
        ] {
            let left_out = build(&[]).failure(HYDRA, false, &log(text), now()).unwrap_err();
            assert!(matches!(left_out, LeftOut::MayPass(_)), "{text}: {left_out:?}");
        }
    }

    /// A builder that a signal or a lack of memory has ended before it said anything has such a log.
    #[test]
    fn a_log_that_says_nothing_is_none() {
        for text in ["", "\n", "\n\r\n  \n\t", "\x1b[0m\n\x1b[2J", "\0\0\0\n\0", "building\r\x1b[2K\r"] {
            let left_out = build(&[]).failure(HYDRA, false, &log(text), now()).unwrap_err();
            assert_eq!(left_out, LeftOut::NoLog, "{text:?}");
        }
        assert!(build(&[]).failure(HYDRA, false, &log("\n\n.\n\n"), now()).is_ok());
    }

    #[test]
    fn a_log_that_is_no_text_tells_nothing() {
        let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
        let compressed: Vec<u8> = std::iter::repeat_with(|| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 56) as u8
        })
        .take(5000)
        .collect();
        // Zstandard does not compress a short text.
        let short = b"\x28\xb5\x2f\xfd\x24\x1e\xf1\0\0x.c:1:1: error: expected ';'\n\x1b\x88\x51\x0f".as_slice();
        let utf16: Vec<u8> = "cc1plus: out of memory\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [compressed.as_slice(), short, &utf16, &[0xff; 100]] {
            let left_out = build(&[]).failure(HYDRA, false, &log_of(bytes), now()).unwrap_err();
            assert_eq!(left_out, LeftOut::Unreadable, "{bytes:?}");
        }
        let long = "x.c:1:1: error: expected ';'\n".repeat(20);
        let garbled = [long.as_bytes(), b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\xe9\n"].concat();
        let coloured = "\x1b[31;1m✗\x1b[0m größer\x08 100%\r\n".as_bytes();
        let latin = b"x.c:1:1: erreur: caract\xe8re inattendu".as_slice();
        for bytes in [garbled.as_slice(), coloured, latin] {
            assert!(build(&[]).failure(HYDRA, false, &log_of(bytes), now()).is_ok(), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_told_must_have_its_form() {
        let escape = "\u{1b}]0;x\u{7}";
        for (name, value) in [
            ("drvpath", serde_json::json!("/etc/passwd")),
            ("drvpath", serde_json::json!("7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv")),
            ("drvpath", serde_json::json!(format!("/nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x{escape}.drv"))),
            ("system", serde_json::json!(escape)),
            ("system", serde_json::json!("")),
            ("buildoutputs", serde_json::json!({})),
            ("buildoutputs", serde_json::json!({ "out": { "path": null } })),
            ("buildoutputs", serde_json::json!({ "out": { "path": "/etc/passwd" } })),
            (
                "buildoutputs",
                serde_json::json!({ escape: { "path": "/nix/store/zzz0h4gj6rsaw6xnsq7vj128dpiawa94-x" } }),
            ),
            ("buildoutputs", serde_json::json!({ "out": { "path": "/other/zzz0h4gj6rsaw6xnsq7vj128dpiawa94-x" } })),
        ] {
            // What has no form has no log that could be asked for.
            for log in [log("error"), HydraLog::default()] {
                let left_out = build(&[(name, value.clone())]).failure(HYDRA, false, &log, now()).unwrap_err();
                assert!(matches!(left_out, LeftOut::Malformed(_)), "{value}: {left_out:?}");
                assert!(!left_out.to_string().contains('\u{1b}'), "{left_out}");
            }
        }
    }
}
