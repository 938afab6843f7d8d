//! A derivation that is known to fail is not built again, and nothing else is refused.

use nix_negative_cache_tests::{REFUSED, Scratch};

#[test]
fn a_failure_is_built_once_and_refused_with_its_log() {
    let nix = Scratch::new();
    nix.expression(r#"fail "bad""#);
    nix.run("nix-build").exits(100).says("failed with exit code 3").does_not_say(REFUSED).prints("");
    let refused = nix.run("nix-build").exits(100).prints("").does_not_say("building '");
    for text in [
        "-bad.drv' is not built again: it failed ",
        "Reason: builder failed with exit code 3, after ",
        " (1 attempt)\n",
        "last 1 log lines:\n       > it is broken\n       For full logs, run",
        "To build it anyway, add  --option negative-cache-retry true\n",
        "To forget this failure, run  nix-negative-cache forget /",
    ] {
        assert!(refused.stderr.contains(text), "{text}\n{refused}");
    }
    assert_eq!(nix.runs("bad"), 1);
}

#[test]
fn what_is_wrong_with_an_output_is_said_again_in_full() {
    let nix = Scratch::new();
    nix.expression(
        r#"let one = ok "one"; two = ok "two"; in
           drv "bad" "echo ${one} ${two} > $out" { disallowedReferences = [ one two ]; }"#,
    );
    let failed = nix.run("nix-build").status;
    let refused = nix.run("nix-build").exits(failed).says(REFUSED).does_not_say("building '");
    for text in ["is not allowed to refer to the following paths:\n", "-one\n", "-two\n", "It ended after "] {
        assert!(refused.stderr.contains(text), "{text}\n{refused}");
    }
    assert_eq!(nix.runs("bad"), 1);
}

#[test]
fn the_builder_that_does_not_exist() {
    let nix = Scratch::new();
    let build = r#"nix-build -E 'derivation { name = "x"; builder = "y"; system = builtins.currentSystem; }'"#;
    nix.run(build).exits(100).does_not_say(REFUSED);
    nix.run(build).exits(100).says(REFUSED).says("executing 'y': No such file or directory");
}

#[test]
fn a_dependent_is_refused_in_the_words_of_nix() {
    let nix = Scratch::new();
    nix.expression(r#"needs "top" [ (needs "mid" [ (fail "bad") ]) ]"#);
    nix.run("nix-build").exits(100);
    nix.run("nix-build")
        .exits(100)
        .prints("")
        .says_times(REFUSED, 1)
        .says("> it is broken")
        .says("error: 1 dependencies of derivation '")
        .says("-mid.drv' failed to build\n")
        .says("-top.drv' failed to build\n");
    assert_eq!((nix.runs("bad"), nix.runs("mid"), nix.runs("top")), (1, 0, 0));
}

#[test]
fn without_keep_going_nothing_is_started() {
    let nix = Scratch::new();
    // Nix starts goals in the order of their names, so it would build the sibling first.
    nix.expression(r#"needs "top" [ (ok "aa-sibling") (needs "mid" [ (fail "zz-bad") ]) ]"#);
    nix.run("nix-build -E '(with import ./lib.nix; fail \"zz-bad\")'").exits(100);
    nix.run("nix-build").exits(100).says_times(REFUSED, 1);
    assert_eq!((nix.runs("aa-sibling"), nix.runs("zz-bad")), (0, 1));
}

#[test]
fn with_keep_going_everything_that_can_be_built_is() {
    let nix = Scratch::new();
    nix.expression(
        r#"let bad = fail "bad"; in {
          top = needs "top" [ (needs "mid" [ bad (ok "near") ]) (needs "other" [ (ok "far") ]) ];
          free = ok "free";
          second = needs "second" [ bad ];
        }"#,
    );
    nix.run("nix-build -A second").exits(100);
    nix.run("nix-build --keep-going").exits(100).says_times(REFUSED, 1).says("-second.drv' failed to build");
    let runs = ["bad", "mid", "top", "second", "near", "far", "other", "free"].map(|name| nix.runs(name));
    assert_eq!(runs, [1, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!(nix.recorded(), ["bad"]);
}

/// A derivation can read the derivation of another one without needing its outputs.
#[test]
fn what_has_a_known_failure_only_as_a_source_is_built() {
    let nix = Scratch::new();
    nix.expression(
        r#"rec {
          bad = fail "bad";
          reader = drv "reader" "echo done > $out" { source = builtins.unsafeDiscardOutputDependency bad.drvPath; };
          both = needs "both" [ bad reader ];
          user = needs "user" [ reader ];
        }"#,
    );
    nix.run("nix-build -A bad").exits(100);
    nix.run("nix-build -A both").exits(100).says_times(REFUSED, 1).says("-both.drv' failed to build");
    assert_eq!(nix.runs("reader"), 0);
    nix.run("nix-build -A both -A user -k").exits(100).says_times(REFUSED, 1).says("-both.drv' failed to build");
    assert_eq!(["bad", "reader", "user", "both"].map(|name| nix.runs(name)), [1, 1, 1, 0]);
}

#[test]
fn several_requests_of_which_one_is_known() {
    let nix = Scratch::new();
    nix.expression(r#"{ a = ok "a"; bad = fail "bad"; c = ok "c"; }"#);
    nix.run("nix-build -A bad").exits(100);
    nix.run("nix-build").exits(100).prints("").says(REFUSED);
    nix.run("nix build -f . --no-link --json a bad c").exits(1).prints("").says(REFUSED);
    assert_eq!((nix.runs("a"), nix.runs("bad"), nix.runs("c")), (0, 1, 0));
    nix.run("nix-build -k").exits(100).says(REFUSED);
    assert_eq!((nix.runs("a"), nix.runs("bad"), nix.runs("c")), (1, 1, 1));
}

/// The first refusal ends the request, whichever comes first. It is said even so.
#[test]
fn several_requests_that_are_known_failures() {
    let nix = Scratch::new();
    nix.expression(r#"rec { bad = fail "bad"; worse = fail "worse"; a = needs "a" [ worse ]; }"#);
    nix.run("nix-build -k -A bad -A worse").exits(100);
    for requests in ["bad worse", "worse bad", "a worse", "worse a", "a bad worse"] {
        nix.run(&format!("nix build -f . --no-link {requests}")).exits(1).says(REFUSED);
    }
}

/// If Nix stops at the first failure, a requested derivation may have no result at all. This must not count as a success.
#[test]
fn never_a_false_success() {
    let commands = [
        ("nix-build -A top", 100),
        ("nix-build -A top -k", 100),
        ("nix build -f . top", 1),
        ("nix build -f . top --json --no-link", 1),
        ("nix-store -r $(nix-instantiate -A top)", 100),
        ("nix-shell -A shell --run 'echo entered'", 100),
        ("nix-instantiate --eval --read-write-mode -E 'import (import ./.).top'", 1),
        ("nix-env -f . -iA top", 100),
    ];
    for (command, status) in commands {
        let nix = Scratch::new();
        nix.expression(
            r#"rec {
              top = needs "top" [ (needs "mid" [ (fail "bad") (ok "sibling") ]) ];
              shell = needs "shell" [ top ];
            }"#,
        );
        // With import-from-derivation, the exit status is that of an evaluation error.
        let first = nix.run(command).says("failed with exit code 3").prints("");
        let second = nix.run(command).says_times(REFUSED, 1).prints("");
        assert_eq!(first.status, second.status, "{first}\n{second}");
        if !command.contains("import") {
            assert_eq!(first.status, status, "{first}");
        }
        assert!(first.status != 0);
        assert_eq!((nix.runs("bad"), nix.runs("top")), (1, 0), "{command}");
        assert!(!nix.path("work/result").exists(), "{command}");
    }
}

#[test]
fn a_retry_that_fails_counts_and_one_that_succeeds_forgets() {
    let nix = Scratch::new();
    nix.expression(&format!(r#"drv "flaky" "read x < {}/good && echo $x > $out" {{ }}"#, nix.path("").display()));
    nix.run("nix-build").exits(100);
    nix.run("nix-build").exits(100).says(REFUSED);
    nix.run("nix-build --option negative-cache-retry true").exits(100).does_not_say(REFUSED);
    nix.run("nix-build").exits(100).says("(2 attempts)");
    assert_eq!(nix.records()[0]["attempts"], 2);

    nix.write("good", "now it works\n");
    nix.run("nix-build").exits(100).says(REFUSED);
    nix.run("nix-build --option negative-cache-retry true").exits(0);
    assert!(nix.records().is_empty());
    assert_eq!(nix.runs("flaky"), 3);
    nix.run("nix-build").exits(0);
}

#[test]
fn warn_says_so_and_builds() {
    let nix = Scratch::new().config("negative-cache-action = warn");
    nix.expression(r#"needs "top" [ (fail "bad") ]"#);
    nix.run("nix-build").exits(100).does_not_say("warning:");
    nix.run("nix-build")
        .exits(100)
        .says("warning: '")
        .says("-bad.drv' is built although it failed ")
        .says("(builder failed with exit code 3); for its log, run  nix-negative-cache show /")
        .says("failed with exit code 3");
    assert_eq!(nix.runs("bad"), 2);
}

#[test]
fn who_asks_for_a_real_build_gets_one() {
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; ok = ok "ok"; }"#);
    nix.run("nix-build -A bad").exits(100);
    nix.run("nix-build -A bad --keep-failed").exits(100).does_not_say(REFUSED).says("keeping build directory");
    assert_eq!(nix.runs("bad"), 2);
    nix.run("nix-build -A bad --repair").exits(100).does_not_say(REFUSED);
    assert_eq!(nix.runs("bad"), 3);
    nix.run("nix-build -A bad --check").does_not_say(REFUSED);
    nix.run("nix build -f . bad --rebuild").does_not_say(REFUSED);
    nix.run("nix-build -A ok && nix-build -A ok --check && nix build -f . ok --rebuild").exits(0);
    assert_eq!(nix.runs("ok"), 3);
}

/// A failed check means that the derivation is not deterministic, not that it can't be built.
#[test]
fn a_failed_check_is_not_recorded() {
    let nix = Scratch::new();
    nix.expression(&format!(r#"drv "once" "read x < {}/good && echo $x > $out" {{ }}"#, nix.path("").display()));
    nix.write("good", "x\n");
    nix.run("nix-build").exits(0);
    std::fs::remove_file(nix.path("good")).unwrap();
    nix.run("nix-build --check").says("failed with exit code");
    assert!(nix.records().is_empty());
}

#[test]
fn what_is_valid_is_not_refused() {
    let nix = Scratch::new();
    nix.expression(&format!(
        r#"{{ x = drv "x" "read x < {}/good && echo $x > $out" {{ }}; }}"#,
        nix.path("").display()
    ));
    nix.run("nix-build -A x").exits(100);
    nix.write("good", "x\n");
    // A build without the plugin succeeds. The record stays, but it must not matter.
    nix.run("nix-build -A x --option negative-cache false").exits(0);
    assert_eq!(nix.recorded(), ["x"]);
    nix.run("nix-build -A x").exits(0).does_not_say(REFUSED);
}

#[test]
fn what_can_be_substituted_is_not_refused() {
    let nix = Scratch::new();
    nix.expression(&format!(
        r#"rec {{ x = drv "x" "read x < {}/good && echo $x > $out" {{ }}; top = needs "top" [ x ]; }}"#,
        nix.path("").display()
    ));
    nix.run("nix-build -A top --no-out-link").exits(100);
    nix.write("good", "x\n");
    // A binary cache has the output, and the store no longer has it.
    let cache = nix.path("cache");
    nix.run(&format!(
        "out=$(nix-build -A x --no-out-link --option negative-cache false) && \
         nix copy --to file://{0} $out && nix-store --delete $out",
        cache.display()
    ))
    .exits(0);
    assert_eq!((nix.runs("x"), nix.recorded()), (2, vec!["x".to_owned()]));
    let substitute = format!("--option substituters file://{} --option require-sigs false", cache.display());
    nix.run(&format!("nix-build -A top {substitute}")).exits(0).does_not_say(REFUSED);
    assert_eq!((nix.runs("x"), nix.runs("top")), (2, 1));
}

#[test]
fn only_some_outputs_are_valid() {
    let nix = Scratch::new();
    nix.expression(&format!(
        r#"drv "multi" "echo dev > $dev; read x < {}/good && echo $x > $out" {{ outputs = [ "out" "dev" ]; }}"#,
        nix.path("").display()
    ));
    nix.run("nix-build").exits(100);
    nix.write("good", "x\n");
    nix.run("nix-build --option negative-cache-retry true && nix-store --delete --ignore-liveness $(readlink result)")
        .exits(0);
    nix.run("nix-build -A dev").exits(0).does_not_say(REFUSED);
}

#[test]
fn another_derivation_with_the_same_outputs_shares_the_failure() {
    let nix = Scratch::new();
    // The fetchers differ, but they fetch the same. So the derivations differ, but their output paths do not.
    nix.expression(
        r#"let bad = how: drv "bad" "exit 3" { src = fetch how; }; in { one = bad "true"; two = bad "false || true"; }"#,
    );
    nix.run("[ $(nix-instantiate -A one) != $(nix-instantiate -A two) ]").exits(0);
    nix.run("nix-build -A one").exits(100).says("failed with exit code 3");
    nix.run("nix-build -A two").exits(100).says(REFUSED);
    assert_eq!((nix.runs("bad"), nix.runs("fetched")), (1, 1));
}

/// Nix downloads nothing for a build that is refused.
#[test]
fn dependencies_of_a_known_failure_are_left_alone() {
    let nix = Scratch::new();
    nix.expression(r#"drv "bad" "exit 3" { input = ok "input"; }"#);
    nix.run("nix-build").exits(100);
    nix.run("nix-store --delete $(nix-store -q --outputs $(nix-instantiate -E 'with import ./lib.nix; ok \"input\"'))")
        .exits(0);
    nix.run("nix-build").exits(100).says(REFUSED);
    nix.run("nix-build -k").exits(100).says(REFUSED);
    assert_eq!(nix.runs("input"), 1);
}

/// A known failure may need another known failure: it failed when that output was still in the store.
#[test]
fn a_known_failure_below_a_known_failure() {
    // Nix starts goals in the order of their names.
    for [top, mid, bad] in [["a", "b", "c"], ["c", "b", "a"], ["b", "c", "a"], ["a", "c", "b"], ["b", "a", "c"]] {
        let nix = Scratch::new();
        let good = nix.path("good");
        nix.expression(&format!(
            r#"rec {{
              bad = drv "{bad}" "read x < {good} && echo $x > $out" {{ }};
              mid = needs "{mid}" [ bad (ok "sibling") ];
              top = drv "{top}" "exit 1" {{ input = mid; }};
              other = needs "other" [ top ];
            }}"#,
            good = good.display()
        ));
        nix.write("good", "x\n");
        nix.run("nix-build -A top").exits(100);
        std::fs::remove_file(&good).unwrap();
        nix.run("nix-collect-garbage && nix-build -A bad").exits(100);
        nix.run("nix-collect-garbage").exits(0);
        assert_eq!(nix.recorded().len(), 2);
        let runs = nix.runs("sibling");
        for line in ["nix-build -A top -k", "nix-build -A other -k", "nix-build -A top", "nix-build -A other"] {
            nix.run(line).exits(100).says_times(REFUSED, 1).says(&format!("-{top}.drv' {REFUSED}"));
        }
        assert_eq!(nix.runs("sibling"), runs, "only the known failure needs it");
        let ran = nix.run("nix-build -k").exits(100);
        // Since 2.34, if one request needs another one, Nix repeats the error of the latter at the end.
        assert!(matches!(ran.stderr.matches(REFUSED).count(), 2..=4), "{ran}");
    }
}

#[test]
fn what_is_there_does_not_fail_with_the_rest() {
    let nix = Scratch::new();
    nix.expression(r#"{ zz = ok "zz"; bad = fail "bad"; }"#);
    nix.run("nix-build -k").exits(100);
    let ran = nix.run("nix-store -r $(nix-instantiate -A zz) $(nix-instantiate -A bad)").exits(100).says(REFUSED);
    // As with a real failure, the only error is about the derivation that failed.
    ran.does_not_say("failed\n").says_times("error:", 1);
}

/// The attribute `negativeCache` does not change the path of a fixed output.
#[test]
fn who_opts_out_later_is_not_refused() {
    let nix = Scratch::new().config("negative-cache-fixed-output = true");
    nix.expression(
        r#"attributes: drv "x" "exit 1" ({
          outputHash = "6667b2d1aab6a00caa5aee5af8ad9f1465e567abf1c209d15727d57b3e8f6e5f"; outputHashAlgo = "sha256";
        } // attributes)"#,
    );
    let build = |attributes: &str| nix.run(&format!("nix-build --expr 'import ./. {{ {attributes} }}'"));
    build("").exits(1).does_not_say(REFUSED);
    build("").exits(1).says(REFUSED);
    build("negativeCache = false;").exits(1).does_not_say(REFUSED);
    assert_eq!(nix.runs("x"), 2);
}

/// Nix reads the file of machines once, and the plugin must not read it as well.
#[test]
fn machines_that_come_through_a_pipe_reach_nix() {
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; other = fail "other"; }"#);
    let build = "nix-build -j0 --builders @/dev/fd/63";
    let machine = format!("63< <(echo \"$PWD/../machine {}\")", nix.system());
    nix.run("nix-build -A bad").exits(100);
    // The first one has a record, and the other one does not.
    for attribute in ["bad", "other"] {
        let ran = nix.run(&format!("{build} -A {attribute} {machine}"));
        assert!(ran.status != 0, "{ran}");
        // Nix offered the build to the machine.
        ran.says("machine'").does_not_say(REFUSED);
    }
}

/// The attempt that counts need not be the last one.
#[test]
fn a_refusal_tells_of_the_attempt_that_counts() {
    let nix = Scratch::new().config("negative-cache-timeouts = true").config("cores = 2");
    nix.expression(r#"drv "x" "echo it is broken; if [ $NIX_BUILD_CORES = 1 ]; then sleep 60; fi; exit 3" { }"#);
    nix.run("nix-build").exits(100);
    nix.run("nix-build --cores 1 --timeout 1").exits(101);
    nix.run("nix-build")
        .exits(100)
        .says("Reason: builder failed with exit code 3 (2 attempts)")
        .says("Its log was replaced by that of a later attempt")
        .does_not_say("> it is broken");
    nix.run("nix-build --cores 1 --timeout 1").exits(101).says("Reason: it took too long ('timeout'), after ");
    let explained = nix.run("$COMPANION explain $(nix-instantiate)").exits(0);
    assert!(explained.stdout.contains("What counts now is an earlier attempt"), "{explained}");
}

#[test]
fn the_hint_names_a_database_that_would_not_be_found() {
    let nix = Scratch::new();
    let database = nix.path("else where.sqlite");
    nix.expression(r#"fail "bad""#);
    let build = format!("nix-build --option negative-cache-database '{}'", database.display());
    nix.run(&build).exits(100);
    nix.run(&build).exits(100).says(&format!("-bad.drv --database {}", database.display()));
}

#[test]
fn a_store_chosen_by_path() {
    let nix = Scratch::new();
    nix.expression(r#"fail "bad""#);
    for (n, store) in ["--store $PWD/../root", "--store 'local?root='$PWD/../root2"].iter().enumerate() {
        let build = format!("nix-build {store} --no-out-link --option sandbox false");
        nix.run(&build).does_not_say(REFUSED);
        nix.run(&build).exits(100).says(REFUSED);
        let root = if n == 0 { "root" } else { "root2" };
        assert_eq!(
            nix.run(&format!("find ../{root} -name failures.sqlite | wc -l")).stdout.trim(),
            "1",
            "the database belongs to the store"
        );
    }
}

/// A refusal is an ordinary error message of Nix, in every format of its log.
#[test]
fn a_refusal_in_each_log_format() {
    let nix = Scratch::new();
    nix.expression(r#"let bad = fail "bad"; in needs "top" [ (needs "left" [ bad ]) (needs "right" [ bad ]) ]"#);
    nix.run("nix-build").exits(100);
    for options in ["", "-k"] {
        for format in ["raw", "bar", "bar-with-logs"] {
            nix.run(&format!("nix-build {options} --log-format {format}")).exits(100).says_times(REFUSED, 1);
        }
        for verbosity in ["-v", "-Q", "--quiet", "-vvvv"] {
            nix.run(&format!("nix-build {options} {verbosity}")).exits(100).says_times(REFUSED, 1);
        }
        let ran = nix.run(&format!("nix-build {options} --log-format internal-json")).exits(100);
        let messages = ran.stderr.lines().filter_map(|line| line.strip_prefix("@nix "));
        let messages = messages.map(|json| serde_json::from_str::<serde_json::Value>(json).expect("JSON"));
        let refusals: Vec<_> = messages.filter(|message| message.to_string().contains(REFUSED)).collect();
        assert_eq!(refusals.len(), 1, "{ran}");
        assert_eq!((&refusals[0]["action"], &refusals[0]["level"]), (&"msg".into(), &0.into()), "{ran}");
        // In a terminal, the path has the colour that Nix uses for paths.
        let ran = nix.run(&format!("TERM=xterm script -qec 'nix-build {options}' /dev/null < /dev/null"));
        assert_eq!(ran.stdout.matches(REFUSED).count(), 1, "{ran}");
        let before = ran.stdout.split(REFUSED).next().unwrap_or_default();
        let error = before.rfind("\x1b[31;1merror:\x1b[0m").map(|start| &before[start..]);
        assert!(error.is_some_and(|error| error.contains("\x1b[35;1m/")), "{before:?}");
    }
}

/// For one command, stock Nix asks twice what is missing. Each time takes seconds if thousands of derivations are missing.
#[test]
fn nix_is_asked_at_most_once_what_is_missing() {
    const QUESTION: &str = "querying info about missing paths";
    let nix = Scratch::new();
    nix.expression(
        r#"{ bad = fail "bad"; top = needs "top" [ (fail "bad") ]; other = needs "other" [ (fail "worse") ]; }"#,
    );
    let realise =
        |name: &str| nix.run(&format!("nix-store --debug --realise $(nix-instantiate -A {name} 2>/dev/null)"));
    let stock = nix.run("NIX_CONFIG= nix-store --debug --realise $(nix-instantiate -A bad 2>/dev/null)");
    stock.exits(100).says_times(QUESTION, if nix.nix_is_at_least(2, 35) { 1 } else { 2 });
    // The four cases: no failure is known; a dependency is; another derivation is; the request itself is.
    realise("bad").exits(100).does_not_say(REFUSED).says_times(QUESTION, 1);
    realise("top").exits(100).says(REFUSED).does_not_say(QUESTION);
    realise("other").exits(100).does_not_say(REFUSED).says_times(QUESTION, 1);
    realise("bad").exits(100).says(REFUSED).does_not_say(QUESTION);
}

#[test]
fn no_activities_of_what_is_refused_because_of_itself() {
    let nix = Scratch::new();
    nix.expression(r#"fail "bad""#);
    // This is `actBuilds` of logging.hh, the worker's activity for all builds.
    let activity = "\"type\":104";
    nix.run("nix-build --log-format internal-json").exits(100).says(activity);
    nix.run("nix-build --log-format internal-json").exits(100).says(REFUSED).does_not_say(activity);
}

#[test]
fn what_only_has_the_name_of_a_failure_is_built() {
    let nix = Scratch::new();
    nix.expression(
        r#"{ bad = fail "same"; good = needs "top" [ (drv "same" "echo done > $out" { }) ];
             worse = needs "top" [ (drv "same" "exit 4" { }) ]; }"#,
    );
    nix.run("nix-build -A bad").exits(100);
    nix.run("nix-build -A good").exits(0);
    nix.run("nix-build -A worse").exits(100).does_not_say(REFUSED);
    nix.run("nix-build -A worse").exits(100).says(REFUSED).says("failed with exit code 4");
}

/// The plugin looks for dependents upwards from the failure. How far it goes depends on keep-going.
#[test]
fn several_failures_below_several_requests() {
    let nix = Scratch::new();
    nix.expression(
        r#"rec { one = fail "one"; two = fail "two"; left = needs "left" [ one ]; right = needs "right" [ one two ];
                 top = needs "top" [ left right (ok "beside") ]; other = needs "other" [ two ]; }"#,
    );
    nix.run("nix-build -k -A one -A two").exits(100);
    // It depends on hashes which request fails first, and so how much Nix says about the other one.
    nix.run("nix-build -A top -A other").exits(100).says(REFUSED).says(".drv' failed to build").prints("");
    assert_eq!(nix.runs("beside"), 0);
    let ran = nix.run("nix-build -k -A top -A other").exits(100).says_times(REFUSED, 2);
    for name in ["left", "right", "top", "other"] {
        assert!(ran.stderr.contains(&format!("-{name}.drv' failed to build")), "{ran}");
    }
    assert_eq!((nix.runs("beside"), nix.runs("left"), nix.runs("right")), (1, 0, 0));
}
