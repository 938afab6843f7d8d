//! The function `builtins.knownFailure`. Since Nix 2.35 it has two forms: one for processes that export the C API, and one for
//! others. `./dev test` runs these tests with both.

use nix_negative_cache_tests::{Scratch, TWO_USERS, among_users, beside_a_daemon, say};

fn eval(nix: &Scratch, expression: &str) -> serde_json::Value {
    let ran = nix.run(&format!("nix eval --impure --json --expr '{expression}'")).exits(0);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"))
}

#[test]
fn it_tells_what_is_known() {
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; ok = ok "ok"; }"#);
    let bad = "builtins.knownFailure (import ./.).bad";
    assert_eq!(eval(&nix, bad), serde_json::Value::Null);
    nix.run("nix-build -k").exits(100);
    // If a set has an `outPath`, Nix prints only that as JSON.
    assert_eq!(eval(&nix, bad), nix.records()[0]["outputs"][0]["path"]);
    let known = eval(&nix, &format!(r#"builtins.removeAttrs ({bad}) [ "outPath" ]"#));
    let record = &nix.records()[0];
    assert_eq!(known["drvPath"], record["drvPath"]);
    assert_eq!((&known["exitCode"], &known["attempts"]), (&3.into(), &1.into()));
    assert_eq!(known["reason"], "builder failed with exit code 3");
    assert_eq!(known["class"], "builder");
    assert_eq!(known["believedUntil"].as_i64().unwrap(), record["lastFailure"].as_i64().unwrap() + 604_800);
    assert_eq!(known["log"], "it is broken\n");
    assert_eq!(known["firstFailure"], record["firstFailure"]);
    assert_eq!(known["lastFailure"], record["lastFailure"]);
    assert_eq!(eval(&nix, "builtins.knownFailure (import ./.).ok"), serde_json::Value::Null);
    assert_eq!(nix.runs("bad"), 1, "asking builds nothing");
}

#[test]
fn it_takes_the_path_of_a_derivation() {
    let nix = Scratch::new();
    nix.expression(r#"fail "bad""#);
    nix.run("nix-build").exits(100);
    let drv = nix.records()[0]["drvPath"].as_str().unwrap().to_owned();
    assert_eq!(eval(&nix, &format!(r#"(builtins.knownFailure "{drv}").exitCode"#)), 3);
    assert_eq!(eval(&nix, "(builtins.knownFailure (import ./.).drvPath).exitCode"), 3);
    // The derivation need not be in the store any more.
    nix.run(&format!("nix-store --delete {drv}")).exits(0);
    assert_eq!(eval(&nix, &format!(r#"(builtins.knownFailure "{drv}").exitCode"#)), 3);
}

#[test]
fn it_filters_package_sets() {
    let nix = Scratch::new();
    nix.expression(r#"{ a = ok "a"; b = fail "b"; c = ok "c"; }"#);
    nix.run("nix-build -k").exits(100);
    let good =
        "let p = import ./.; in builtins.filter (n: builtins.knownFailure p.${n} == null) (builtins.attrNames p)";
    assert_eq!(eval(&nix, good), serde_json::json!(["a", "c"]));
}

#[test]
fn what_would_not_be_refused_is_not_known() {
    let nix = Scratch::new();
    nix.expression(r#"fail "bad""#);
    nix.run("nix-build").exits(100);
    let known = |options: &str| {
        nix.run(&format!("nix-instantiate {options} --eval -E 'builtins.knownFailure (import ./.) != null'"))
            .exits(0)
            .stdout
    };
    assert_eq!(known("").trim(), "true");
    assert_eq!(known("--option cores 99").trim(), "false");
    assert_eq!(known("--option negative-cache-min-failures 2").trim(), "false");
    nix.age(8);
    assert_eq!(known("").trim(), "false");
    let until = "(builtins.knownFailure (import ./.)).believedUntil";
    nix.run(&format!("nix-instantiate --option negative-cache-ttl 0 --eval -E '{until}'")).exits(0).prints("null");
}

#[test]
fn it_works_where_nothing_is_written() {
    let nix = Scratch::new();
    nix.expression(r#"fail "bad""#);
    nix.run("nix-build").exits(100);
    nix.run("nix-instantiate --eval -E '(builtins.knownFailure (import ./.)).exitCode'").exits(0).prints("3");
}

#[test]
fn it_is_an_error_in_pure_evaluation() {
    let nix = Scratch::new();
    for command in ["nix eval --expr", "nix eval --pure-eval --expr"] {
        nix.run(&format!(r#"{command} 'builtins.knownFailure "/nonexistent.drv"'"#))
            .exits(1)
            .says("'builtins.knownFailure' is not allowed in pure evaluation mode");
        // It is there all the same, as are Nix's own functions of this kind.
        nix.run(&format!("{command} '[ (builtins ? knownFailure) (builtins ? storePath) ]'")).prints("[ true true ]");
        nix.run(&format!("{command} 'builtins ? knownFailure && builtins ? currentTime'")).prints("false");
    }
    nix.run("nix eval --impure --expr 'builtins ? knownFailure && builtins ? currentTime'").prints("true");
}

#[test]
fn it_is_null_with_the_cache_off() {
    let nix = Scratch::new();
    nix.expression(r#"fail "bad""#);
    nix.run("nix-build").exits(100);
    nix.run("nix eval --impure --expr 'builtins.knownFailure (import ./.)' --option negative-cache false")
        .exits(0)
        .prints("null");
}

#[test]
fn other_arguments_are_errors() {
    let nix = Scratch::new();
    nix.run("nix eval --impure --expr 'builtins.knownFailure 1'").exits(1).says("string");
    nix.run("nix eval --impure --expr 'builtins.knownFailure { a = 1; }'").exits(1).says("is not a derivation");
    nix.run("nix eval --impure --expr 'builtins.knownFailure \"not a path\"'").exits(0).prints("null");
}

/// Otherwise `tryEval` would not help against packages that throw errors, and an interrupt would become an error.
#[test]
fn an_error_of_the_argument_stays_what_it_is() {
    let nix = Scratch::new();
    nix.expression(r#"fail "bad""#);
    nix.run("nix-build").exits(100);
    let thrown = "throw \"no package\"";
    let derivation = |attributes: &str| format!("{{ type = \"derivation\"; {attributes} }}");
    for argument in [
        thrown.to_owned(),
        "assert false; null".to_owned(),
        derivation(&format!("drvPath = {thrown};")),
        derivation(&format!("drvPath = \"/x.drv\"; outPath = {thrown};")),
        format!("{{ type = {thrown}; }}"),
        format!("(import ./.) // {{ outPath = {thrown}; }}"),
        format!("(import ./.) // {{ outPath = builtins.knownFailure ({thrown}); }}"),
    ] {
        let caught = format!("(builtins.tryEval (builtins.knownFailure ({argument}))).success");
        assert_eq!(eval(&nix, &caught), false, "{argument}");
    }
    nix.run(&format!("nix eval --impure --expr 'builtins.knownFailure ({thrown})'"))
        .exits(1)
        .says("error: no package")
        .does_not_say("custom function");
    // What is wrong with the call itself can't be caught.
    nix.run("nix eval --impure --expr 'builtins.tryEval (builtins.knownFailure { })'")
        .exits(1)
        .says("not a derivation");
    let ran = nix.run("nix eval --impure --expr 'builtins.knownFailure (import ./. // { drvPath = [ ]; })'").exits(1);
    let ran = ran.says("a list");
    if nix.nix_is_at_least(2, 26) {
        ran.says("while evaluating a path of the derivation given to");
    }
}

/// The answers of a whole package set are kept through the collection of garbage.
#[test]
fn answers_survive_the_garbage_collector() {
    let nix = Scratch::new();
    nix.expression(r#"fail "bad""#);
    nix.run("nix-build").exits(100);
    let many = "let bad = import ./.; answer = n: builtins.knownFailure (bad // { inherit n; }); \
                answers = builtins.genList answer 300; \
                garbage = builtins.foldl'\\'' (sum: n: sum + builtins.stringLength (toString (builtins.genList toString n))) 0 \
                (builtins.genList (n: n) 600); \
                in builtins.deepSeq answers (builtins.seq garbage (builtins.all (a: a.exitCode == 3 && a.log == \"it is broken\\n\") answers))";
    let ran = nix.run_with(&format!("nix eval --impure --expr '{many}'"), &[("GC_INITIAL_HEAP_SIZE", "1000000")]);
    ran.exits(0).prints("true");
}

/// Nothing else tells which form of the function is there, as both do the same.
#[test]
fn the_c_api_is_used_where_nix_exports_it() {
    let nix = Scratch::new();
    if !nix.nix_is_at_least(2, 35) {
        say("Left out: the programs of this Nix can't export the C API");
        return;
    }
    // In the program itself, or in a library that it was made to load.
    let looked =
        "nm --dynamic --defined-only $NIX | grep -w nix_register_primop; readelf --dynamic $NIX | grep libnixexprc";
    let is_exported = !nix.run(&format!("NIX=$(command -v nix); {looked}")).stdout.is_empty();
    let form = if is_exported { "C" } else { "C++" };
    nix.run("nix eval -vvvv --expr 1")
        .exits(0)
        .says(&format!("negative cache: 'builtins.knownFailure' is the one for the {form} API"));
}

#[test]
fn it_is_documented() {
    let nix = Scratch::new();
    let ran = nix.run("echo ':doc builtins.knownFailure' | nix repl 2>&1");
    assert!(ran.stdout.contains("what is known of the last failure to build"), "{ran}");
}

/// A daemon with the plugin knows better than its client what is believed: the client's settings need not be the daemon's.
#[test]
fn a_daemon_with_the_plugin_is_asked() {
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; good = ok "good"; }"#);
    let known = |attribute: &str| {
        format!(
            "as games nix-instantiate --eval --strict -E 'let k = builtins.knownFailure (import ./.).{attribute}; in k.reason or k'"
        )
    };
    let ran = among_users(
        &nix,
        &format!(
            "NIX_CONFIG=$WITH$'\\n''filter-syscalls = false'; as games nix-build -A bad; {}; {}; \
             chmod 700 ../var/negative-cache; {}; {}",
            known("bad"),
            known("good"),
            known("bad"),
            known("good")
        ),
    )
    .exits(0);
    let said = "\"builder failed with exit code 3\"\nnull\n\"the daemon knows that it fails\"\nnull";
    assert_eq!(ran.stdout.trim(), said, "{ran}");
    // The client's own record, from before the daemon had the plugin, does not count.
    let ran = nix.run(&format!(
        "chmod 755 ../var/negative-cache; $COMPANION forget --all; {}",
        beside_a_daemon(&format!("{TWO_USERS}\nNIX_CONFIG=$WITH; {}", known("bad")))
    ));
    assert!(ran.stdout.trim().ends_with("null"), "{ran}");
}
