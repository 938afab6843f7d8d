//! How well failures that would pass if they were tried again are told apart from those that would not, by the logs in
//! `tests/logs`. `cargo test -p nix-negative-cache-core --test logs -- --nocapture` prints those that are judged wrong.

use std::collections::BTreeMap;
use std::fs;
use std::hash::Hasher;
use std::path::{Path, PathBuf};

use nix_negative_cache_core::deciding_line::DecidingLine;
use nix_negative_cache_core::judgement::{Judgement, Reason, Suspicion, judge_exit};
use nix_negative_cache_core::log::judge::{Facts, LogJudge};
use nix_negative_cache_core::log::lines::Lines;
use nix_negative_cache_core::settings::Settings;
use siphasher::sip::SipHasher13;

/// How a failure was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Judged {
    Clear,
    Doubtful(DecidingLine),
    Transient(Option<DecidingLine>),
}

/// The log of a build and what is known of it.
#[derive(Clone)]
struct Log {
    name: String,
    text: Vec<u8>,
    meta: BTreeMap<String, Vec<String>>,
    /// Whether it was not looked at while the rules were written.
    held_out: bool,
}

fn hash(name: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(name.as_bytes());
    hasher.finish()
}

impl Log {
    fn read(path: &Path) -> Log {
        let mut meta: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in
            fs::read_to_string(path.with_extension("meta")).unwrap().lines().filter_map(|line| line.split_once('='))
        {
            meta.entry(key.to_owned()).or_default().push(value.to_owned());
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let held_out = path.components().any(|part| part.as_os_str() == "field") && hash(&name).is_multiple_of(4);
        Log { name, text: fs::read(path).unwrap(), meta, held_out }
    }

    fn is(&self, key: &str, value: &str) -> bool {
        self.meta.get(key).is_some_and(|values| values.iter().any(|other| other == value))
    }

    /// Judges it as a build with these `facts` would be, or with those that are not known where `with_facts` is false.
    fn judge(&self, with_facts: bool) -> Judged {
        let exit = self.meta["exit"][0].parse().unwrap();
        let (mut log, mut lines) = (LogJudge::default(), Lines::default());
        lines.push(&self.text, |line| log.line(line));
        lines.finish(|line| log.line(line));
        let facts = Facts {
            sandboxed: if with_facts { self.is("sandbox", "yes").then_some(true) } else { Some(false) },
            fixed_output: with_facts && self.is("derivation", "fixed-output"),
        };
        let settings = Settings { fixed_output: true, ..Settings::default() };
        match judge_exit(exit, &log, facts, &settings) {
            Judgement::Record(_, _, None) => Judged::Clear,
            Judgement::Record(_, _, Some(Suspicion::Log(line))) => Judged::Doubtful(line),
            Judgement::Record(_, _, Some(Suspicion::ByDaemon)) => panic!("no daemon is involved"),
            Judgement::Ignore(_, Reason::Log(line)) => Judged::Transient(Some(line)),
            Judgement::Ignore(..) => Judged::Transient(None),
            Judgement::Succeeded => panic!("{} did not succeed", self.name),
        }
    }
}

fn logs(folder: &str) -> Vec<Log> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/logs").join(folder);
    let paths = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
    paths.sort();
    paths.iter().map(|path| Log::read(path)).collect()
}

/// How many of some logs were judged how.
#[derive(Debug, Default)]
struct Count {
    all: usize,
    clear: usize,
    doubtful: usize,
    transient: usize,
}

/// Judges logs and prints those that are not judged as they should be.
fn count<'a>(
    what: &str,
    logs: impl IntoIterator<Item = &'a Log>,
    with_facts: bool,
    wanted: fn(&Judged) -> bool,
) -> Count {
    let mut count = Count::default();
    for log in logs {
        let judged = log.judge(with_facts);
        count.all += 1;
        match &judged {
            Judged::Clear => count.clear += 1,
            Judged::Doubtful(_) => count.doubtful += 1,
            Judged::Transient(_) => count.transient += 1,
        }
        // Nobody is to see the names of those by which the rules are judged.
        if !wanted(&judged) && (!log.held_out || std::env::var_os("NNC_SHOW_HELD_OUT").is_some()) {
            let text = match &judged {
                Judged::Clear => "clear".to_owned(),
                Judged::Doubtful(line) => format!("doubtful: {}", line.text()),
                Judged::Transient(line) => {
                    format!("transient: {}", line.as_ref().map(DecidingLine::text).unwrap_or_default())
                }
            };
            println!("    {} {} ({}): {text}", log.meta["kind"][0], log.name, what);
        }
    }
    println!("{what}: {count:?}");
    count
}

fn is_transient(judged: &Judged) -> bool {
    matches!(judged, Judged::Transient(_))
}

fn is_clear(judged: &Judged) -> bool {
    *judged == Judged::Clear
}

#[test]
fn logs_of_the_corpus() {
    for with_facts in [true, false] {
        let facts = if with_facts { "" } else { ", without facts" };
        let transient = count(&format!("transient{facts}"), &logs("corpus/transient"), with_facts, is_transient);
        let deterministic =
            count(&format!("deterministic{facts}"), &logs("corpus/deterministic"), with_facts, is_clear);
        assert!(transient.all >= 94 && deterministic.all >= 90, "logs are missing");
        assert!(transient.clear <= 2 && transient.clear + transient.doubtful <= 3, "{transient:?}");
        assert!(
            deterministic.transient <= 1 && deterministic.transient + deterministic.doubtful <= 8,
            "{deterministic:?}"
        );
    }
}

#[test]
fn logs_of_the_field() {
    let (transient, deterministic) = (logs("field/transient"), logs("field/deterministic"));
    for held_out in [false, true] {
        let chosen =
            |logs: &'_ [Log]| logs.iter().filter(|log| log.held_out == held_out).map(Log::clone).collect::<Vec<_>>();
        let what = if held_out { ", held out" } else { "" };
        let transient = count(&format!("transient{what}"), &chosen(&transient), true, is_transient);
        let deterministic = count(&format!("deterministic{what}"), &chosen(&deterministic), true, is_clear);
        // What was not looked at shows how well the rules fit logs that nobody has seen.
        if held_out {
            assert!(transient.clear + transient.doubtful <= 2, "{transient:?}");
            assert!(deterministic.transient <= 2, "{deterministic:?}");
        } else {
            assert!(transient.clear == 0 && transient.doubtful <= 5, "{transient:?}");
            assert!(deterministic.transient == 0 && deterministic.doubtful <= 14, "{deterministic:?}");
        }
    }
}

#[test]
fn the_line_that_decides_is_one_that_a_person_would_name() {
    let (mut right, mut all) = (0, 0);
    for log in logs("field/transient") {
        let (Judged::Doubtful(line) | Judged::Transient(Some(line))) = log.judge(true) else { continue };
        let named = log.meta.get("line").into_iter().flatten();
        all += 1;
        if named.into_iter().any(|named| named.contains(&line.line)) {
            right += 1;
        } else if !log.held_out {
            println!("    {}: {}", log.name, line.text());
        }
    }
    println!("deciding lines: {right} of {all}");
    assert!(right * 10 >= all * 7, "{right} of {all}");
}
