//! What people read of a failure: a byte for `log-lines`, and the log as the builder wrote it.

#![no_main]

use jiff::Timestamp;
use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use nix_negative_cache_core::belief::{Attempt, Belief, FailedAttempt};
use nix_negative_cache_core::class::Class;
use nix_negative_cache_core::environment::Environment;
use nix_negative_cache_core::explanation::explain;
use nix_negative_cache_core::portable::Scope;
use nix_negative_cache_core::record::{FailureRecord, FailureSummary};
use nix_negative_cache_core::refusal::{Retry, Wording, refusal, warning};
use nix_negative_cache_core::settings::Settings;
use nix_negative_cache_fuzz::{assert_plain, log_tail, take};

fuzz_target!(|data: &[u8]| {
    let mut log = data;
    let [log_lines] = take(&mut log);
    let log_lines = usize::from(log_lines);
    let (time, now) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
    let failure = FailedAttempt {
        class: Class::Builder,
        exit_code: Some(1),
        environment: Environment::default(),
        doubtful: Some(1),
        origin: None,
    };
    let record = FailureRecord {
        summary: FailureSummary {
            derivation: "/nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv".into(),
            name: "x".to_owned(),
            system: "x86_64-linux".to_owned(),
            class: Class::Builder,
            exit_code: Some(1),
            first_failure: time,
            last_failure: time,
            attempts: 1,
            history: vec![Attempt { asked: time, time, failure: Some(failure) }],
            retries: Vec::new(),
            duration_ms: 1,
        },
        outputs: Vec::new(),
        store_dir: "/nix/store".to_owned(),
        message: String::new(),
        log: log_tail(log),
        deciding_line: None,
        host: "host".to_owned(),
        nix_version: "2.8.0".to_owned(),
        plugin_version: "0".to_owned(),
        scope: Scope::default(),
    };
    let believed = record.believed(0);
    let wording = Wording {
        last: "last",
        log_lines,
        full_logs: ("For full logs, run 'nix log ", "'."),
        database: None,
        retry: Retry::Companion,
        may_forget: true,
    };

    let text = refusal(&believed, now, &wording);
    // The two commands are bold, by the plugin's own hand.
    assert_plain(&text.replacen("\x1b[1m", "", 2).replacen("\x1b[0m", "", 2));
    // The log can't pass for what the plugin says: its lines are marked, and come in one place.
    let (quoted, own): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("> "));
    let kept = record.log.lines().count();
    assert_eq!(quoted.len(), kept.min(log_lines));
    assert_eq!(own.len(), if quoted.is_empty() { 5 } else { 6 }, "{text}");

    assert_plain(&warning(&believed, now, &wording));
    let belief = Belief::Fails { attempt: 0, until: None };
    explain(&record, &Settings::default(), &belief, true, now, &TimeZone::UTC)
        .iter()
        .for_each(|text| assert_plain(text));
});
