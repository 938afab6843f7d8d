//! Derivations whose output paths follow from their content. Their failures are those of the derivations that they resolve
//! to.

use nix_negative_cache_tests::{REFUSED, Scratch};

/// `part` has the same content for every `how`.
const PARTS: &str = r#"
  part = how: drv "part" "${how}; echo content > $out" floating;
  bad = how: drv "bad" "cat $part; exit 3" (floating // { part = part how; });
"#;

#[test]
fn a_floating_failure_is_built_once() {
    let nix = Scratch::new();
    nix.expression(r#"drv "bad" "echo it is broken; exit 3" floating"#);
    nix.run("nix-build").exits(100).does_not_say(REFUSED);
    nix.run("nix-build").exits(100).says_times(REFUSED, 1).says("> it is broken").does_not_say("building '");
    nix.run("nix build -f .").says_times(REFUSED, 1);
    assert_eq!((nix.runs("bad"), nix.recorded()), (1, vec!["bad".to_owned()]));
}

/// All dependencies are in the store, so Nix can resolve the derivation before it builds anything.
#[test]
fn with_a_dependency_it_is_refused_before_anything_is_built() {
    let nix = Scratch::new();
    nix.expression(&format!(r#"let {PARTS} in needs "top" [ (ok "aa") (bad "true") ]"#));
    nix.run("nix-build -A inputs").exits(100);
    assert_eq!((nix.runs("bad"), nix.runs("aa")), (1, 1));
    nix.run("nix-collect-garbage").exits(0);
    // `part` is no longer in the store. After it was built, Nix can resolve `bad`. Nix 2.35 and newer remember the output of
    // `part`.
    nix.run("nix-build").exits(100).says_times(REFUSED, 1);
    assert_eq!((nix.runs("bad"), nix.runs("part")), (1, if nix.nix_is_at_least(2, 35) { 1 } else { 2 }));
    let aa = nix.runs("aa");
    nix.run("nix-store --delete $(nix-build -E '(import ./lib.nix).ok \"aa\"' --no-out-link)").exits(0);
    let ran = nix.run("nix-build").exits(100).says_times(REFUSED, 1).does_not_say("missing");
    if nix.nix_is_at_least(2, 35) {
        // `part` is still missing, so the failure becomes known when Nix resolves `bad`.
        assert_eq!(nix.runs("bad"), 1, "{ran}");
    } else {
        ran.does_not_say("building '");
        assert_eq!((nix.runs("bad"), nix.runs("aa")), (1, aa));
    }
}

#[test]
fn derivations_that_resolve_to_the_same_one_share_a_failure() {
    for options in ["", "-k", "-k -j4"] {
        let nix = Scratch::new().config("build-poll-interval = 1");
        nix.expression(&format!(r#"let {PARTS} in {{ one = bad "true"; two = bad "false || true"; }}"#));
        nix.run("[ $(nix-instantiate -A one) != $(nix-instantiate -A two) ]").exits(0);
        if options.contains("-k") {
            let ran = nix.run(&format!("nix-build {options}")).exits(100);
            assert_eq!((nix.runs("part"), nix.runs("bad")), (2, 1), "{ran}");
        }
        nix.run(&format!("nix-build {options} -A one")).exits(100);
        nix.run(&format!("nix-build {options} -A two")).exits(100).says_times(REFUSED, 1);
        assert_eq!((nix.runs("part"), nix.runs("bad")), (2, 1), "{options}");
        assert_eq!(nix.recorded(), ["bad"]);
    }
}

/// The output path is known only after the dependencies were built.
#[test]
fn what_needs_a_content_addressed_derivation() {
    let nix = Scratch::new();
    nix.expression(&format!(
        r#"let {PARTS} top = how: drv "top" "cat $part; exit 4" {{ part = part how; }}; in {{
          one = top "true"; two = top "false || true"; }}"#
    ));
    nix.run("nix-build -A one").exits(100).says("exit code 4");
    nix.run("nix-build -A one").exits(100).says_times(REFUSED, 1).does_not_say("building '");
    nix.run("nix-build -A two").exits(100).says_times(REFUSED, 1);
    assert_eq!(nix.runs("top"), 1);
}

#[test]
fn a_success_forgets() {
    let nix = Scratch::new();
    nix.expression(&format!(r#"drv "flaky" "read x < {}/good && echo $x > $out" floating"#, nix.path("").display()));
    nix.run("nix-build").exits(100);
    nix.write("good", "now it works\n");
    nix.run("nix-build").exits(100).says(REFUSED);
    nix.run("nix-build --option negative-cache-retry true").exits(0);
    assert!(nix.records().is_empty());
    nix.run("nix-build").exits(0);
}

#[test]
fn concurrent_requests_run_the_builder_once() {
    let nix = Scratch::new().config("build-poll-interval = 1");
    nix.expression(&format!(
        r#"let {PARTS} slow = how: drv "slow" "sleep 2; exit 3" (floating // {{ part = part how; }}); in {{
          part = part "true"; one = slow "true"; two = slow "false || true"; }}"#
    ));
    nix.run("nix-build -A part").exits(0);
    let ran = nix.run(
        "for n in 1 2 3; do for a in one two; do (nix-build --no-out-link -A $a 2> said-$n-$a; echo $?) & done; done | \
         sort | uniq -c; cat said-* >&2",
    );
    assert_eq!(nix.runs("slow"), 1, "{ran}");
    ran.prints("6 100").says_times(REFUSED, 5);
}

/// The record is out of date, since another Nix has built the derivation. Only the resolved derivation shows this, not the
/// requested one.
#[test]
fn what_can_be_had_is_not_refused() {
    for kind in ["floating //", ""] {
        let nix = Scratch::new();
        nix.expression(&format!(
            r#"let {PARTS} flaky = how: drv "flaky" "read x < {}/good && cat $part > $out" ({kind} {{ part = part how; }}); in {{
              one = flaky "true"; two = flaky "false || true"; three = flaky "false || :"; }}"#,
            nix.path("").display()
        ));
        nix.run("nix-build -A one").exits(100);
        nix.write("good", "x\n");
        nix.run("nix-build -A one --option negative-cache false").exits(0);
        nix.run("for part in two three; do nix-build -A $part.part; done").exits(0);
        nix.run("nix-build -A two").exits(0).does_not_say(REFUSED);
        assert_eq!((nix.runs("flaky"), nix.recorded()), (2, vec!["flaky".to_owned()]));
        // The same if the output is in another store, and the request names its path there. (Nix does not copy the
        // realisations of resolved derivations.)
        if !kind.is_empty() {
            continue;
        }
        nix.run(
            "out=$(readlink result); nix copy --to file://$PWD/../cache $out && rm -rf result* && \
             nix-store --delete --ignore-liveness $out",
        )
        .exits(0);
        nix.run("nix-build -A three --option require-sigs false --option substituters file://$PWD/../cache")
            .exits(0)
            .does_not_say(REFUSED);
        assert_eq!(nix.runs("flaky"), 2);
    }
}

/// The resolved derivation failed because an output is missing, but not the requested one.
#[test]
fn only_one_of_its_outputs_is_missing() {
    let nix = Scratch::new();
    nix.expression(&format!(
        r#"let {PARTS}
             multi = how: drv "multi" "echo dev > $dev; read x < {}/good && cat $part > $out" (floating // {{
               part = part how; outputs = [ "out" "dev" ]; }});
           in {{ one = multi "true"; two = multi "false || true"; }}"#,
        nix.path("").display()
    ));
    nix.write("good", "x\n");
    nix.run(
        "out=$(nix-build -A one --no-out-link) && nix-build -A two.part && nix-store --delete --ignore-liveness $out",
    )
    .exits(0);
    std::fs::remove_file(nix.path("good")).unwrap();
    let ran = nix.run("nix-build -A one");
    // Nix 2.31 fails by itself if another output of the failed derivation is in the store.
    assert!(ran.status == 100 || ran.stderr.contains("doesn't have expected output 'out'"), "{ran}");
    assert_eq!((nix.runs("multi"), nix.recorded()), (2, vec!["multi".to_owned()]));
    let ran = nix.run("nix-build -A two.dev");
    if nix.nix_is_at_least(2, 30) && !nix.nix_is_at_least(2, 31) {
        // This version builds a resolved derivation if any of its outputs is missing.
        ran.exits(100).says_times(REFUSED, 1);
    } else {
        // Since about 2.9, Nix wants all outputs of a resolved derivation (`DerivationGoal::resolvedFinished`).
        let ran = ran.does_not_say(REFUSED);
        assert!(ran.status == 0 || ran.stderr.contains("doesn't have expected output 'out'"), "{ran}");
    }
    let ran = nix.run("nix-build -A two");
    let refused = ran.status == 100 && ran.stderr.matches(REFUSED).count() == 1;
    assert!(refused || ran.stderr.contains("doesn't have expected output 'out'"), "{ran}");
    assert_eq!(nix.runs("multi"), 2);
}
