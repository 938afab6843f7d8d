//! What is counted, and what `stats` makes of it.

use std::time::{Duration, Instant};

use nix_negative_cache_tests::{
    CLIENT, REFUSED, Scratch, among_users_of_a_stock_daemon, beside_a_daemon, left_out, with_daemon,
};
use serde_json::Value;

/// What `stats --json` prints.
fn stats(nix: &Scratch, options: &str) -> Value {
    serde_json::from_str(&nix.run(&format!("$COMPANION stats --json {options}")).exits(0).stdout).expect("JSON")
}

fn refusals(nix: &Scratch) -> i64 {
    stats(nix, "")["refusals"].as_i64().expect("a number")
}

const SLOW: &str = r#"{ slow = drv "slow-1.0" "sleep 1.2; exit 1" { }; top = needs "top" [ (drv "slow-1.0" "sleep 1.2; exit 1" { }) ];
                       quick = fail "quick"; killed = drv "killed" "kill -9 $$" { }; }"#;

/// A failure that took 1.2 seconds, and was refused three times since.
fn refused_three_times() -> Scratch {
    let nix = Scratch::new();
    nix.expression(SLOW);
    nix.run("nix-build -A slow; nix-build -A slow; nix-build -A top; nix build -f . slow").says_times(REFUSED, 3);
    nix
}

#[test]
fn refusals_are_counted_with_the_time_of_the_real_build() {
    let nix = refused_three_times();
    let counted = stats(&nix, "");
    let saved = counted["savedMs"].as_i64().unwrap();
    assert_eq!(counted["refusals"], 3, "{counted}");
    assert!((3600..3 * 60_000).contains(&saved), "{counted}");
    assert_eq!((&counted["recorded"], &counted["known"], &counted["flaky"]), (&1.into(), &1.into(), &0.into()));
    // What needs a known failure is not counted by itself.
    assert_eq!(counted["savedMost"], serde_json::json!([{ "name": "slow-1.0", "refusals": 3, "savedMs": saved }]));
    // A test that runs over midnight has two days.
    let days = counted["days"].as_array().unwrap();
    let of_days = |what: &str| days.iter().map(|day| day[what].as_i64().unwrap()).sum::<i64>();
    assert_eq!(["refusals", "savedMs", "recorded", "notRecorded"].map(of_days), [3, saved, 1, 0], "{counted}");
    let group = |name: &str| serde_json::json!([{ "name": name, "known": 1, "refusals": 3, "savedMs": saved }]);
    assert_eq!((&counted["classes"], &counted["origins"]), (&group("builder"), &group("here")));
    nix.run("$COMPANION stats").exits(0).prints_part(", by 3 refusals").prints_part("slow-1.0");
    // What was forgotten did save something.
    nix.run("$COMPANION forget --all").exits(0);
    let counted = stats(&nix, "");
    assert_eq!((&counted["refusals"], &counted["known"], &counted["recorded"]), (&3.into(), &0.into(), &1.into()));
    assert_eq!(counted["savedMost"][0]["name"], "slow-1.0");
}

#[test]
fn what_is_not_refused_is_not_counted() {
    let nix = refused_three_times();
    for options in [
        "--option negative-cache false",
        "--option negative-cache-retry true",
        "--option negative-cache-action warn",
        "--dry-run",
    ] {
        nix.run(&format!("nix-build -A slow {options}")).does_not_say(REFUSED);
        assert_eq!(refusals(&nix), 3, "{options}");
    }
}

#[test]
fn failed_builds_are_counted_by_what_became_of_them() {
    let nix = Scratch::new();
    nix.expression(SLOW);
    // There is no database to count in until something is recorded.
    nix.run("nix-build -A killed").exits(100);
    assert!(!nix.database().exists());
    nix.run("$COMPANION stats").exits(0).prints("").says("nothing is counted or recorded in");
    nix.run("nix-build -A quick; nix-build -A killed; nix-build -A killed").exits(100);
    let counted = stats(&nix, "");
    assert_eq!((&counted["recorded"], &counted["notRecorded"]), (&1.into(), &serde_json::json!({ "signal": 2 })));
    assert_eq!(counted["failedMost"][0]["name"], "quick");
    let text = nix.run("$COMPANION stats").exits(0);
    text.prints_part("1 recorded, 2 not recorded").prints_part("a signal ended the builder or something it ran");
}

#[test]
fn a_refusal_after_a_wait_for_another_process_is_counted() {
    let nix = Scratch::new();
    nix.expression(SLOW);
    nix.run("nix-build -A quick; (nix-build -A slow & nix-build -A slow & wait)").says_times(REFUSED, 1);
    assert_eq!(refusals(&nix), 1);
}

#[test]
fn a_daemon_counts_for_its_clients() {
    let nix = Scratch::new();
    nix.expression(SLOW);
    let ran = with_daemon(
        &nix,
        &format!("{CLIENT}; for i in 1 2 3 4; do nix-build -A quick; done; nix-build -k -A top -A quick"),
    );
    ran.says_times(REFUSED, 4);
    assert_eq!(refusals(&nix), 4);
    let ran = with_daemon(&nix, "for i in 1 2 3; do NIX_REMOTE=daemon nix-build -A slow; done");
    ran.says_times(REFUSED, 3);
    assert_eq!(refusals(&nix), 7);
    assert!(!nix.personal_database("root").exists());
}

#[test]
fn a_client_of_a_stock_daemon_counts_in_its_own_database() {
    if left_out() {
        return;
    }
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; }"#);
    let ran = among_users_of_a_stock_daemon(
        &nix,
        "export NIX_CONFIG=$WITH; for i in 1 2 3 4; do as games nix-build -A bad; done; \
         as games $COMPANION stats --json > counted",
    );
    let ran = ran.exits(0).says_times(REFUSED, 2);
    let counted: Value = serde_json::from_str(&std::fs::read_to_string(nix.path("work/counted")).unwrap()).unwrap();
    assert_eq!(
        (&counted["refusals"], &counted["recorded"], &counted["doubtful"]),
        (&2.into(), &2.into(), &2.into()),
        "{ran}"
    );
}

#[test]
fn who_may_not_write_refuses_and_counts_nothing() {
    let nix = refused_three_times();
    nix.script(
        "readonly",
        "mount --bind ../var/negative-cache ../var/negative-cache; mount -o remount,ro,bind ../var/negative-cache; \
         nix-build -A slow",
    );
    nix.run("unshare -m ./readonly").exits(100).says(REFUSED).does_not_say("warning:");
    // Nobody waits for another process that writes, for which a connection has 5 seconds. A busy machine may take as long by
    // itself, but not each time.
    let is_soon = |_: i32| {
        let start = Instant::now();
        nix.run("sqlite3 ../var/negative-cache/failures.sqlite 'begin immediate' '.shell nix-build -A slow'")
            .says(REFUSED)
            .does_not_say("warning:");
        start.elapsed() < Duration::from_secs(5)
    };
    assert!((0..6).any(is_soon), "each refusal took as long as if it had waited");
    assert_eq!(refusals(&nix), 3);
}

/// A process that does much asks the daemon for much over one connection.
#[test]
fn what_one_process_is_refused_in_a_moment_is_counted_whole() {
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; }"#);
    let line = format!(
        "{CLIENT}; nix-build -A bad; \
         for i in 1 2 3 4 5 6; do echo ':b (import ./.).bad'; done | nix repl --quiet"
    );
    let ran = nix.run(&beside_a_daemon(&line));
    let said = i64::try_from(ran.stderr.matches(REFUSED).count()).unwrap();
    assert!(said > 3, "{ran}");
    // The daemon's process for the connection writes the last ones after its client has gone.
    for _ in 0..100 {
        if refusals(&nix) == said {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{} of {said} are counted: {ran}", refusals(&nix));
}

#[test]
fn the_time_and_old_counts() {
    if left_out() {
        return;
    }
    let nix = refused_three_times();
    let sql = "update refusal set day = day - 3; update judged set day = day - 3; update failure set last_failure = last_failure - 259200000";
    nix.run(&format!("sqlite3 ../var/negative-cache/failures.sqlite '{sql}'")).exits(0);
    nix.run("nix-build -A slow").says(REFUSED);
    for (since, refusals, recorded, known) in [("2d", 1, 0, 0), ("4d", 4, 1, 1)] {
        let counted = stats(&nix, &format!("--since {since}"));
        let expected = (&refusals.into(), &recorded.into(), &known.into());
        assert_eq!((&counted["refusals"], &counted["recorded"], &counted["known"]), expected, "{since}: {counted}");
        assert!(counted["since"].is_i64());
    }
    nix.run("$COMPANION stats --since 2d --prometheus").exits(2);
    nix.run("$COMPANION stats --json --prometheus").exits(2);
}

/// What Prometheus asks of its text format: a comment with HELP and one with TYPE before all values of a metric, which are together.
fn assert_is_for_prometheus(text: &str) {
    let is_name = |name: &str| {
        name.starts_with("nix_negative_cache_") && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let mut seen = Vec::new();
    let mut metric = None;
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a help");
            assert!(is_name(name) && help.ends_with('.') && !seen.contains(&name.to_owned()), "{line}");
            seen.push(name.to_owned());
            metric = Some((name.to_owned(), false));
            continue;
        }
        let (name, typed) = metric.as_mut().expect("a help first");
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let is_counter = name.ends_with("_total");
            assert_eq!(kind, format!("{name} {}", if is_counter { "counter" } else { "gauge" }));
            *typed = true;
            continue;
        }
        assert!(*typed, "{line}");
        let (series, value) = line.rsplit_once(' ').expect("a value");
        assert!(value.parse::<f64>().is_ok_and(|value| value >= 0.0), "{line}");
        let labels = series.strip_prefix(name.as_str()).unwrap_or_else(|| panic!("{line} is none of {name}"));
        if labels.is_empty() {
            continue;
        }
        let labels = labels.strip_prefix('{').and_then(|labels| labels.strip_suffix('}')).expect("labels");
        for label in labels.split(',') {
            let (name, value) = label.split_once('=').expect("a label");
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).expect("quotes");
            assert!(
                ["class", "origin", "verdict", "name"].contains(&name) && !value.contains(['"', '\\', '/']),
                "{line}"
            );
        }
    }
}

#[test]
fn prometheus_reads_it() {
    let nix = refused_three_times();
    nix.run("nix-build -A killed");
    let text = nix.run("$COMPANION stats --prometheus").exits(0).stdout;
    assert_is_for_prometheus(&text);
    for line in [
        "nix_negative_cache_refusals_total{class=\"builder\"} 3",
        "nix_negative_cache_failed_builds_total{class=\"transient\",verdict=\"signal\"} 1",
        "nix_negative_cache_known_failures_by_origin{origin=\"here\"} 1",
        "nix_negative_cache_refusals_by_name{name=\"slow-1.0\"} 3",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}: {text}");
    }
    assert!(!text.contains("/store/"), "{text}");
    // Also where there is nothing yet.
    let nix = Scratch::new();
    assert_is_for_prometheus(&nix.run("$COMPANION stats --prometheus").exits(0).stdout);
}
