//! Failures that become known while a request runs, above all from other processes that build the same derivation.

use nix_negative_cache_tests::{CLIENT, REFUSED, Ran, Scratch, with_daemon};

/// A build that takes a while, so that other processes wait for it.
const SLOW_FAILURE: &str = r#"drv "slow" "sleep 2; echo it is broken; exit 3" { outputs = [ "out" "dev" ]; }"#;

/// An installation in which Nix checks every second whether a lock that it waits for is free.
fn impatient() -> Scratch {
    let nix = Scratch::new().config("build-poll-interval = 1");
    // Nix processes that create the store at the same time disturb each other.
    nix.expression(r#"ok "first""#);
    nix.run("nix-build --no-out-link").exits(0);
    nix
}

/// Runs eight commands at the same time. The output of each is in `said-<n>`. The exit statuses are printed, sorted.
fn eight(nix: &Scratch, before: &str, command: &str) -> Ran {
    nix.run(&format!(
        "{before}\nfor n in 1 2 3 4 5 6 7 8; do ({command} > printed-$n 2> said-$n; echo $?) & done | sort | uniq -c; \
         cat said-* >&2"
    ))
}

#[test]
fn eight_requests_run_a_failing_builder_once() {
    for options in ["", "--keep-going", "-j1", "-k -j4"] {
        let nix = impatient();
        nix.expression(SLOW_FAILURE);
        let ran = eight(&nix, "", &format!("nix-build --no-out-link {options}"));
        assert_eq!(nix.runs("slow"), 1, "{options}: {ran}");
        ran.prints("8 100")
            .says_times(REFUSED, 7)
            .says_times("-slow.drv' failed with exit code 3", 1)
            .says("waiting for lock on");
        assert_eq!(nix.records()[0]["attempts"], 1);
    }
}

/// Each process has a request of its own, and each request needs the failing derivation.
#[test]
fn eight_different_requests() {
    let nix = impatient();
    nix.expression(&format!(
        r#"let slow = {SLOW_FAILURE}; in {{ n }}: {{ top = needs "top${{n}}" [ slow (ok "sibling${{n}}") ]; }}"#
    ));
    let ran = eight(&nix, "", "nix-build --no-out-link -k --argstr n $n -A top");
    assert_eq!((nix.runs("slow"), nix.runs("top1")), (1, 0), "{ran}");
    for n in 1..=8 {
        assert_eq!(nix.runs(&format!("sibling{n}")), 1, "{ran}");
    }
    // Nix itself reports the derivations that need it.
    ran.prints("8 100").says_times(REFUSED, 7).says_times("1 dependencies of derivation", 8);
}

#[test]
fn eight_requests_to_a_daemon() {
    let nix = impatient();
    nix.expression(SLOW_FAILURE);
    let ran = with_daemon(
        &nix,
        &format!(
            "{CLIENT}; for n in 1 2 3 4 5 6 7 8; do (nix-build --no-out-link 2> said-$n; echo $?) & done | sort | \
             uniq -c; cat said-* >&2"
        ),
    );
    assert_eq!(nix.runs("slow"), 1, "{ran}");
    ran.says_times(REFUSED, 7);
}

#[test]
fn the_first_of_eight_succeeds() {
    let nix = impatient();
    nix.expression(r#"drv "slow" "sleep 2; echo done > $out" { }"#);
    let ran = eight(&nix, "", "nix-build --no-out-link");
    assert_eq!(nix.runs("slow"), 1, "{ran}");
    ran.prints("8 0").does_not_say(REFUSED);
}

/// A killed build says nothing about the derivation. One of the waiting processes builds it again, and the others learn the
/// result.
#[test]
fn the_first_is_killed() {
    for signal in ["KILL", "INT", "TERM"] {
        let nix = impatient();
        nix.expression(SLOW_FAILURE);
        // A shell makes its background jobs ignore SIGINT.
        let first = format!(
            "setsid env --default-signal=INT nix-build --no-out-link 2> /dev/null & \
             while [ ! -e ../runs/slow ]; do sleep 0.1; done; (sleep 1; kill -{signal} $!) & sleep 0.1"
        );
        let ran = eight(&nix, &first, "nix-build --no-out-link");
        assert_eq!(nix.runs("slow"), 2, "{signal}: {ran}");
        ran.prints("8 100").says_times(REFUSED, 7);
        assert_eq!(nix.records()[0]["attempts"], 1);
    }
}

/// A failure that is no longer believed is tried once more, but not by each process.
#[test]
fn eight_requests_try_once_what_has_expired() {
    let nix = impatient();
    nix.expression(SLOW_FAILURE);
    nix.run("nix-build").exits(100);
    nix.age(8);
    let ran = eight(&nix, "", "nix-build --no-out-link");
    assert_eq!(nix.runs("slow"), 2, "{ran}");
    ran.prints("8 100").says_times(REFUSED, 7);
}

#[test]
fn eight_requests_build_until_there_are_enough_failures() {
    let nix = impatient().config("negative-cache-min-failures = 3");
    nix.expression(SLOW_FAILURE);
    let ran = eight(&nix, "", "nix-build --no-out-link");
    assert_eq!(nix.runs("slow"), 3, "{ran}");
    ran.prints("8 100").says_times(REFUSED, 5);
}

/// A process that waited when a doubtful failure happened builds the derivation, since it may succeed. But the machine is in
/// the same state for both builds, so this failure does not count as a second one.
#[test]
fn waiting_is_no_second_attempt_at_a_doubtful_failure() {
    let nix = impatient();
    nix.expression(r#"drv "slow" "sleep 2; echo 'java.lang.OutOfMemoryError: Java heap space'; exit 3" { }"#);
    let ran = nix.run("nix-build --no-out-link & sleep 1; nix-build --no-out-link; wait");
    assert_eq!(nix.runs("slow"), 2, "{ran}");
    ran.does_not_say(REFUSED).says("waiting for lock on");
    // The next request is a second attempt, and it settles the doubt.
    nix.run("nix-build --no-out-link").exits(100).does_not_say(REFUSED);
    assert_eq!(nix.runs("slow"), 3);
    nix.run("nix-build --no-out-link").exits(100).says(REFUSED);
    assert_eq!(nix.runs("slow"), 3);
}

/// If a Nix without the plugin did not build the derivation, the reason is not known.
#[test]
fn the_first_has_no_plugin() {
    let nix = impatient();
    nix.expression(SLOW_FAILURE);
    let first = "NIX_CONFIG= nix-build --no-out-link 2> /dev/null & while [ ! -e ../runs/slow ]; do sleep 0.1; done";
    let ran = eight(&nix, first, "nix-build --no-out-link");
    assert_eq!(nix.runs("slow"), 2, "{ran}");
    ran.prints("8 100").says_times(REFUSED, 7);
}

#[test]
fn who_asks_for_a_retry_gets_one_after_waiting() {
    let nix = impatient();
    nix.expression(SLOW_FAILURE);
    let ran = eight(
        &nix,
        "nix-build & while [ ! -e ../runs/slow ]; do sleep 0.1; done",
        "[ $n != 1 ] || nix-build --no-out-link --option negative-cache-retry true",
    );
    assert_eq!(nix.runs("slow"), 2, "{ran}");
    assert_eq!(nix.records()[0]["attempts"], 2);
}

#[test]
fn after_waiting_a_warning_is_said_once() {
    let nix = impatient().config("negative-cache-action = warn");
    nix.expression(SLOW_FAILURE);
    let ran = nix.run("nix-build 2> /dev/null & while [ ! -e ../runs/slow ]; do sleep 0.1; done; nix-build; wait");
    assert_eq!(nix.runs("slow"), 2, "{ran}");
    ran.says_times("is built although it failed", 1);
    nix.run("nix-build").exits(100).says_times("is built although it failed", 1);
}

/// Each process has the lock that the other one wants.
#[test]
fn two_requests_want_what_the_other_one_builds() {
    for options in ["-k -j1", "-k -j2", "-j2"] {
        let nix = impatient();
        nix.expression(
            r#"let slow = name: drv name "sleep 2; echo it is broken; exit 3" { }; in {
              one = needs "one" [ (slow "aa") (needs "between" [ (ok "first") (slow "bb") ]) ];
              two = needs "two" [ (slow "bb") (needs "between2" [ (ok "second") (slow "aa") ]) ];
            }"#,
        );
        let ran = nix.run(&format!(
            "nix-build {options} -A one & one=$!; nix-build {options} -A two; [ $? = 100 ] && wait $one; [ $? = 100 ] && echo ends"
        ));
        // Without keep-going, the first failure kills the other builds of its run, and a killed build does not count.
        if options.contains("-k") {
            assert_eq!((nix.runs("aa"), nix.runs("bb")), (1, 1), "{options}: {ran}");
        }
        ran.prints("ends");
    }
}

/// The locks of a refused derivation are not held until the run ends.
#[test]
fn two_requests_wait_for_the_same_two_failures() {
    let nix = impatient();
    nix.expression(r#"{ aa = drv "aa" "sleep 2; exit 3" { }; bb = drv "bb" "sleep 2.6; exit 3" { }; }"#);
    let ran = nix.run(
        "nix-build -A aa & nix-build -A bb & while [ ! -e ../runs/aa -o ! -e ../runs/bb ]; do sleep 0.1; done; \
         for n in 1 2 3; do (nix-build -k -A aa -A bb 2> said-$n; echo $?) & done | sort | uniq -c; cat said-* >&2",
    );
    assert_eq!((nix.runs("aa"), nix.runs("bb")), (1, 1), "{ran}");
    ran.prints("3 100").says_times(REFUSED, 6);
}

/// A refused derivation is not offered to another machine either.
#[test]
fn the_build_hook_is_not_asked_for_what_is_refused() {
    let nix = impatient();
    nix.expression(&format!(r#"{{ slow = {SLOW_FAILURE}; other = ok "other"; }}"#));
    let asked = nix.path("asked");
    nix.script("hook", &format!("echo asked >> {}; echo '# decline-permanently' >&2", asked.display()));
    let hook = "--option build-hook $PWD/hook";
    let ran = nix
        .run(&format!("nix-build -A slow & while [ ! -e ../runs/slow ]; do sleep 0.1; done; nix-build -A slow {hook}"));
    assert!(nix.runs("slow") == 1 && !asked.exists(), "{ran}");
    ran.says_times(REFUSED, 1);
    nix.run(&format!("nix-build -A other {hook}")).exits(0);
    assert!(asked.exists(), "this is how it is asked");
}

/// While Nix waits for an output, it builds what does not need this output.
#[test]
fn other_builds_are_not_held_up() {
    let nix = impatient();
    let free = nix.path("runs/free");
    nix.expression(&format!(
        r#"rec {{
          slow = drv "slow" "for i in $(seq 200); do if [ -e {0} ]; then exit 3; fi; sleep 0.1; done; exit 4" {{ }};
          both = needs "both" [ slow (ok "free") ];
        }}"#,
        free.display()
    ));
    let ran =
        nix.run("nix-build -A slow & while [ ! -e ../runs/slow ]; do sleep 0.1; done; nix-build -A both -k; wait");
    assert_eq!((nix.runs("slow"), nix.runs("free")), (1, 1), "{ran}");
    assert_eq!(nix.records()[0]["exitCode"], 3, "{ran}");
    ran.says_times(REFUSED, 1);
}

/// The outputs are the same, as the derivations differ only in how their source is fetched.
#[test]
fn two_derivations_of_one_request_with_the_same_output() {
    let nix = impatient();
    nix.expression(
        r#"let bad = how: drv "bad" "exit 3" { src = fetch how; }; in { one = bad "true"; two = bad "false || true"; }"#,
    );
    for options in ["-j1", "-j4"] {
        let ran = nix.run(&format!("nix-build -k {options}")).exits(100);
        assert_eq!(nix.runs("bad"), 1, "{ran}");
        // The error of the failure is not repeated.
        ran.says_times("-bad.drv' failed with exit code 3", 1)
            .says_times("is not built again: it failed in this run", 1);
        // The result is different if one failure is not enough.
        let ran = nix.run(&format!("nix-build -k {options} --option negative-cache-min-failures 3")).exits(100);
        assert_eq!(nix.runs("bad"), 3, "{ran}");
        ran.does_not_say("is not built again");
        nix.run("rm ../var/negative-cache/*").exits(0);
        std::fs::remove_file(nix.path("runs/bad")).unwrap();
    }
}

/// The binary cache claims to have the output, so the request is not refused; but the cache does not deliver it.
#[test]
fn a_substitute_that_does_not_come() {
    let nix = impatient();
    nix.expression(&format!(
        r#"rec {{ x = drv "x" "read x < {}/good && echo $x > $out" {{ }}; top = needs "top" [ x ]; }}"#,
        nix.path("").display()
    ));
    nix.run("nix-build -A x --no-out-link").exits(100);
    nix.write("good", "x\n");
    nix.run(
        "out=$(nix-build -A x --no-out-link --option negative-cache false) && nix copy --to file://$PWD/../cache $out && \
         nix-store --delete $out && rm -r ../cache/nar",
    )
    .exits(0);
    let runs = nix.runs("x");
    let substitute = "--fallback --option substituters file://$PWD/../cache --option require-sigs false";
    for options in ["", "-k"] {
        let ran = nix.run(&format!("nix-build -A top {options} {substitute}")).exits(100).says_times(REFUSED, 1);
        assert_eq!(nix.runs("x"), runs, "{ran}");
    }
    // A later request with a retry gets its build.
    nix.run(&format!("nix-build -A top {substitute} --option negative-cache-retry true")).exits(0);
}

/// Only one of two outputs is missing, but not the requested one.
#[test]
fn an_output_that_nobody_wants_is_known_to_fail() {
    let nix = impatient();
    nix.expression(&format!(
        r#"drv "multi" "echo dev > $dev; read x < {}/good && echo $x > $out" {{ outputs = [ "out" "dev" ]; }}"#,
        nix.path("").display()
    ));
    nix.run("nix-build").exits(100);
    nix.write("good", "x\n");
    nix.run("out=$(nix-build --option negative-cache-retry true) && nix-store --delete --ignore-liveness $out")
        .exits(0);
    std::fs::remove_file(nix.path("good")).unwrap();
    nix.run("nix-build --option negative-cache-retry true").exits(100);
    nix.run("nix-build -k -A dev").exits(0).does_not_say(REFUSED);
}
