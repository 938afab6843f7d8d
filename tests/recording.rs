//! Which failures are recorded, and above all which are not.

use nix_negative_cache_tests::{REFUSED, Scratch, exists};

#[test]
fn a_record_has_everything_that_is_known() {
    let nix = Scratch::new();
    nix.expression(
        r#"drv "bad" "for i in 1 2 3; do echo line $i; done; printf '\\033[31mred\\033[0m\\n'; sleep 1; exit 7" {
          outputs = [ "out" "dev" ];
        }"#,
    );
    nix.run("nix-build").exits(100);
    let records = nix.records();
    assert_eq!(records.len(), 1);
    let record = &records[0];
    let text = |name: &str| record[name].as_str().unwrap_or_else(|| panic!("{name} of {record}")).to_owned();
    let drv = nix.run("nix-instantiate").stdout;
    assert_eq!(text("drvPath"), drv.trim());
    assert_eq!(text("storeDir"), nix.path("store").to_string_lossy());
    assert_eq!((text("name").as_str(), text("system").as_str()), ("bad", nix.system()));
    assert_eq!(text("log"), "line 1\nline 2\nline 3\nred\n");
    assert!(text("message").contains("failed with exit code 7") && !text("message").contains('\x1b'), "{record}");
    assert_eq!((&record["exitCode"], &record["attempts"]), (&7.into(), &1.into()));
    let outputs: Vec<_> = record["outputs"].as_array().unwrap().iter().map(|output| &output["name"]).collect();
    assert_eq!(outputs, ["dev", "out"]);
    assert!((1000..20_000).contains(&record["durationMs"].as_i64().unwrap()), "{record}");
    assert_eq!(record["firstFailure"], record["lastFailure"]);
    assert!(nix.run("nix --version").stdout.contains(&text("nixVersion")), "{record}");
    assert_eq!(nix.run("hostname || cat /proc/sys/kernel/hostname").stdout.trim(), text("host"));
}

#[test]
fn the_log_is_bounded() {
    let nix = Scratch::new();
    nix.expression(r#"drv "bad" "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; exit 1" { }"#);
    nix.run("nix-build").exits(100);
    let records = nix.records();
    let log = records[0]["log"].as_str().unwrap();
    assert_eq!(log.lines().count(), 25);
    assert!(log.starts_with("line 475\n") && log.ends_with("line 499\n"), "{log}");
}

/// With `-v`, the plugin says why Nix did not start a build: once for each derivation, and not for those that need it.
#[test]
fn why_nix_did_not_build_is_said() {
    let drv = |name: &str, attributes: &str| format!(r#"drv "{name}" "exit 1" {{ {attributes} }}"#);
    let system = drv("x", r#"system = "pdp11-unix";"#);
    let feature = drv("x", r#"requiredSystemFeatures = [ "no-such-feature" ];"#);
    let beneath = format!(r#"needs "top" [ ({system}) (ok "y") ]"#);
    for expression in [&system, &feature, &beneath] {
        for options in ["", "--keep-going"] {
            let nix = Scratch::new();
            nix.expression(expression);
            let ran = nix.run(&format!("nix-build -v {options}"));
            assert!(ran.status != 0, "{ran}");
            let reasons: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("is not recorded: ")).collect();
            assert_eq!(reasons.len(), 1, "{ran}");
            let [before, after] = ["-x.drv' is not recorded: the builder did not fail: ", " (class 'other')"];
            assert!(reasons[0].contains(before) && reasons[0].ends_with(after), "{ran}");
            nix.run(&format!("nix-build {options}")).does_not_say("is not recorded");
            nix.run(&format!("nix-build -v {options} --option negative-cache false")).does_not_say("is not recorded");
        }
    }
}

/// A failed dependency and a known failure need no second explanation.
#[test]
fn what_fails_because_of_others_is_not_explained() {
    let nix = Scratch::new();
    nix.expression(r#"needs "top" [ (fail "bad") ]"#);
    for _ in 0..2 {
        for options in ["", "--keep-going"] {
            nix.run(&format!("nix-build -v {options}")).does_not_say("is not recorded");
        }
    }
}

/// Each of these ends a build. None shows that the builder would fail again.
#[test]
fn what_is_not_the_builders_own_failure_is_not_recorded() {
    let cases = [
        ("killed", r#"drv "x" "kill -9 $$" { }"#, ""),
        ("terminated", r#"drv "x" "kill -15 $$" { }"#, ""),
        ("child killed", r#"drv "x" "/bin/sh -c 'kill -9 $$'" { }"#, ""),
        ("timeout", r#"drv "x" "sleep 60" { }"#, "--timeout 1"),
        ("silence", r#"drv "x" "sleep 60" { }"#, "--max-silent-time 1"),
        ("log limit", r#"drv "x" "while :; do echo much; done" { }"#, "--option max-build-log-size 1000"),
        ("feature", r#"drv "x" "exit 1" { requiredSystemFeatures = [ "no-such-feature" ]; }"#, ""),
        ("system", r#"drv "x" "exit 1" { system = "pdp11-unix"; }"#, ""),
        (
            "fixed output",
            r#"drv "x" "exit 1" { outputHash = "6667b2d1aab6a00caa5aee5af8ad9f1465e567abf1c209d15727d57b3e8f6e5f"; outputHashAlgo = "sha256"; }"#,
            "",
        ),
        (
            "hash mismatch",
            r#"drv "x" "echo other > $out" { outputHash = "6667b2d1aab6a00caa5aee5af8ad9f1465e567abf1c209d15727d57b3e8f6e5f"; outputHashAlgo = "sha256"; }"#,
            "",
        ),
        ("impure", r#"drv "x" "exit 1" { __impure = true; }"#, ""),
        ("builtin", r#"derivation { name = "x"; builder = "builtin:no-such"; system = builtins.currentSystem; }"#, ""),
        ("max-jobs", r#"drv "x" "exit 1" { }"#, "--max-jobs 0"),
    ];
    for (case, expression, options) in cases {
        let nix = Scratch::new();
        nix.expression(expression);
        let ran = nix.run(&format!("nix-build {options}"));
        assert!(ran.status != 0, "{case}: {ran}");
        assert_eq!(nix.recorded(), Vec::<String>::new(), "{case}: {ran}");
        assert!(!exists(&nix.database()), "{case}: no record, no database");
    }
}

#[test]
fn a_dependency_that_failed_and_goals_that_never_started_are_not_recorded() {
    let nix = Scratch::new();
    nix.expression(r#"needs "top" [ (fail "aa-bad") (fail "bb-never") (drv "cc-slow" "sleep 1; exit 1" { }) ]"#);
    nix.run("nix-build --max-jobs 1").exits(100);
    assert_eq!(nix.recorded(), ["aa-bad"]);
}

#[test]
fn keep_going_records_each_failure() {
    let nix = Scratch::new();
    nix.expression(r#"needs "top" [ (fail "a") (ok "b") (fail "c") (fail "d") ]"#);
    nix.run("nix-build -k -j 4").exits(100);
    assert_eq!(nix.recorded(), ["a", "c", "d"]);
}

/// Nix up to 2.11 can repeat a successful build. If the repetition fails, the derivation is not deterministic.
#[test]
fn a_repeated_build_is_not_recorded() {
    let nix = Scratch::new();
    if nix.nix_is_at_least(2, 12) {
        nix.run("nix-build --option repeat 1 -E '(import ./lib.nix).ok \"x\"'").says("unknown setting 'repeat'");
        return;
    }
    let mark = nix.path("mark");
    nix.expression(&format!(
        r#"drv "x" "if [ -e {0} ]; then exit 1; fi; echo > {0}; echo > $out" {{ }}"#,
        mark.display()
    ));
    nix.run("nix-build --option repeat 1").exits(100).says("failed with exit code 1");
    assert_eq!((nix.runs("x"), nix.recorded().len()), (2, 0));
}

/// The build succeeds, although the command fails.
#[test]
fn a_success_before_a_failing_post_build_hook_forgets() {
    let nix = Scratch::new();
    nix.expression(&format!(r#"drv "x" "read x < {}/good && echo $x > $out" {{ }}"#, nix.path("").display()));
    nix.run("nix-build").exits(100);
    nix.write("good", "x\n");
    nix.script("hook", "exit 1");
    let ran = nix.run("nix-build --option negative-cache-retry true --option post-build-hook $PWD/hook");
    assert!(ran.status != 0 && nix.runs("x") == 2, "{ran}");
    assert!(nix.recorded().is_empty(), "{ran}");
}

#[test]
fn a_builder_that_uses_nix_is_not_recorded() {
    let nix =
        Scratch::new().config("extra-experimental-features = recursive-nix").config("system-features = recursive-nix");
    nix.expression(r#"drv "x" "exit 1" { requiredSystemFeatures = [ "recursive-nix" ]; }"#);
    nix.run("nix-build").exits(100).says("failed with exit code 1");
    assert!(nix.recorded().is_empty());
}

#[test]
fn an_interrupted_build_is_not_recorded() {
    for signal in ["INT", "TERM", "HUP"] {
        let nix = Scratch::new();
        nix.expression(r#"drv "slow" "trap 'exit 1' INT TERM HUP; sleep 60" { }"#);
        let ran = nix.run(&format!(
            "set -m; nix-build & pid=$!; while [ ! -e ../runs/slow ]; do sleep 0.1; done; sleep 0.3; \
             kill -{signal} -$pid; wait $pid"
        ));
        assert!(ran.status != 0, "{ran}");
        assert_eq!(nix.runs("slow"), 1);
        assert!(nix.recorded().is_empty(), "{signal}: {ran}");
    }
}

/// Other processes know a recorded failure even if the process that recorded it is killed later.
#[test]
fn a_failure_is_recorded_when_it_happens() {
    let nix = Scratch::new();
    nix.expression(r#"needs "top" [ (fail "bad") (drv "slow" "sleep 60" { }) ]"#);
    nix.run(
        "set -m; nix-build -k -j 2 & pid=$!; for i in $(seq 100); do sleep 0.1; \
         $COMPANION list --json | grep -q bad && break; done; kill -9 -$pid; wait",
    );
    assert_eq!(nix.recorded(), ["bad"]);
}

#[test]
fn every_way_to_build_records() {
    let ways = [
        "nix-build",
        "nix build -f .",
        "nix-store -r $(nix-instantiate)",
        "nix-instantiate --eval --read-write-mode -E 'import (import ./.)'",
        "nix-env -f . -i '.*'",
    ];
    for way in ways {
        let nix = Scratch::new();
        nix.expression(r#"fail "bad""#);
        let ran = nix.run(way);
        assert!(ran.status != 0 && nix.runs("bad") == 1, "{ran}");
        assert_eq!(nix.recorded(), ["bad"], "{ran}");
    }
}

/// Nix keeps no log then, so no text of it may be in the record.
#[test]
fn no_text_of_a_log_that_nix_does_not_keep_is_recorded() {
    let secret = "s3cr3t-in-the-log";
    let nix = Scratch::new().config("keep-build-log = false");
    nix.expression(&format!(
        r#"{{ clear = drv "clear" "echo {secret}; exit 3" {{ }};
             doubtful = drv "doubtful" "echo 'curl: (6) Could not resolve host: {secret}'; exit 1" {{ }}; }}"#
    ));
    nix.run("nix-build -k").exits(100).says(secret);
    let records = nix.records();
    assert_eq!(records.len(), 2, "{records:?}");
    assert!(records.iter().any(|record| record["evidence"]["number"] == 1), "{records:?}");
    assert!(!records.iter().any(|record| record.to_string().contains(secret)), "{records:?}");
    let found = nix.run(&format!("grep -l {secret} ../var/negative-cache/*"));
    assert_eq!(found.stdout, "", "{found}");
    nix.run("nix-build -A clear").exits(100).says(REFUSED).says("There is no log of it").does_not_say(secret);
}
