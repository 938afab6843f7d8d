//! With the plugin loaded but off, and with the plugin on and no failure known, everything is as with stock Nix. With known
//! failures, everything but the refusal is.

use nix_negative_cache_tests::comparison::Scenario;
use nix_negative_cache_tests::{CLIENT, beside_a_daemon};

/// Two levels above a failure. Each level has a derivation that can be built.
const TREE: &str =
    r#"needs "top" [ (needs "mid" [ (fail "bad") (drv "near" "sleep 0.3; echo > $out" { }) ]) (ok "far") ]"#;
/// Both builders are running when the first one fails.
const SIBLINGS: &str = r#"needs "top" [ (drv "aa" "sleep 0.3; echo first; exit 3" { })
                                        (drv "bb" "sleep 0.9; echo second; exit 4" { }) ]"#;
const DIAMOND: &str = r#"let tip = fail "tip"; in needs "top" [ (needs "left" [ tip ]) (needs "right" [ tip ]) ]"#;
const SOME_FAIL: &str = r#"{ a = ok "a"; b = fail "b"; c = drv "c" "sleep 0.3; echo > $out" { }; d = fail "d"; }"#;

fn scenario(expression: &str) -> Scenario {
    Scenario::new(expression)
}

fn tree() -> Scenario {
    scenario(TREE).cut_off("near")
}

fn siblings() -> Scenario {
    scenario(SIBLINGS).cut_off("bb")
}

fn some_fail() -> Scenario {
    scenario(SOME_FAIL).cut_off("c").cut_off("d")
}

/// A comparison of two different sides fails.
#[test]
#[should_panic(expected = "LoadedAndOff differs from stock Nix")]
fn a_difference_is_seen() {
    scenario("null").run("nix-store --init; nix show-config | grep ^negative-cache").compare();
}

/* ---- What becomes of a request ---- */

#[test]
fn success() {
    scenario(r#"needs "top" [ (ok "a") ]"#).run("nix-build").run("nix-build").again_with_the_same_store().compare();
}

#[test]
fn failure() {
    for command in
        ["nix-build", "nix build -f .", "nix build -f . -L", "nix-build -Q", "nix-build -v", "nix build -f . --quiet"]
    {
        scenario(r#"fail "bad""#).run(command).again_with_the_same_store().compare();
    }
}

#[test]
fn failure_of_a_dependency() {
    for command in ["nix-build", "nix build -f .", "nix build -f . -L"] {
        tree().run(command).again().compare();
        tree().run(&format!("{command} --keep-going")).again_with_the_same_store().compare();
    }
}

#[test]
fn failure_of_two_siblings() {
    for options in ["--max-jobs 1", "--max-jobs 4"] {
        siblings().run(&format!("nix-build {options}")).again().compare();
        siblings().run(&format!("nix-build {options} --keep-going")).again_with_the_same_store().compare();
    }
}

#[test]
fn failure_of_the_tip_of_a_diamond() {
    for options in ["--max-jobs 1", "--max-jobs 4", "--keep-going --max-jobs 1", "--keep-going --max-jobs 4"] {
        scenario(DIAMOND).run(&format!("nix-build {options}")).again_with_the_same_store().compare();
    }
}

#[test]
fn several_requests_of_which_some_fail() {
    for command in [
        "nix-build --max-jobs 1",
        "nix build --max-jobs 1 -f . a b c d",
        "nix-store --max-jobs 1 -r $(nix-instantiate)",
    ] {
        some_fail().run(command).again().compare();
        some_fail().run(&format!("{command} --keep-going")).again_with_the_same_store().compare();
    }
}

#[test]
fn keep_failed() {
    tree().run("nix-build --keep-failed").run("nix build -f . --keep-failed").compare();
}

#[test]
fn dry_run() {
    tree().run("nix-build --dry-run").run("nix build -f . --dry-run").again_with_the_same_store().compare();
    tree().run("nix-build").run("nix-build --dry-run").run("nix build -f . --dry-run").foresees("bad").compare();
}

#[test]
fn check_and_rebuild() {
    let deterministic = r#"ok "x""#;
    // The output is the number of builds, which is the same with and without the plugin.
    let not_deterministic = r#"drv "x" "wc -l < ${runs}/x > $out" { }"#;
    for expression in [deterministic, not_deterministic] {
        scenario(expression)
            .run("nix-build --no-out-link > /dev/null")
            .run("nix-build --check")
            .run("nix build -f . --rebuild")
            .run("nix-build --check --keep-failed > /dev/null 2>&1")
            .again_with_the_same_store()
            .compare();
    }
    // There is no earlier output to check against.
    scenario(r#"fail "bad""#)
        .run("nix-build --check")
        .run("nix build -f . --rebuild")
        .again_with_the_same_store()
        .compare();
}

#[test]
fn repair() {
    scenario(r#"needs "top" [ (ok "a") ]"#)
        .run("nix-build")
        .run("a=$(nix-store -q --references result | grep -- -a$); chmod u+w $a; echo damaged > $a; nix-build --repair; cat $a")
        .run("nix-store --verify --check-contents --repair")
        .compare();
    scenario(r#"fail "bad""#).run("nix-build --repair").compare();
}

#[test]
fn limits() {
    let slow = r#"{ slow = drv "slow" "echo begin; sleep 60" { }; after = ok "after"; }"#;
    let loud = r#"drv "loud" "echo quite a lot; sleep 60" { }"#;
    for options in ["--timeout 1", "--max-silent-time 1", "--keep-going --timeout 1"] {
        scenario(slow).run(&format!("nix-build --max-jobs 1 {options}")).again().compare();
        scenario(slow).run(&format!("nix build --max-jobs 1 -f . slow {options}")).again().compare();
    }
    // The exit status tells both kinds of failure.
    let both = r#"{ bad = fail "bad"; slow = drv "slow" "sleep 60" { }; }"#;
    scenario(both).run("nix-build --max-jobs 1 --keep-going --timeout 1").again_with_the_same_store().compare();
    scenario(loud).run("nix-build --option max-build-log-size 10").again().compare();
}

#[test]
fn hash_mismatch() {
    let fetch = |script: &str| {
        format!(
            r#"needs "top" [ (drv "fetched" "{script}" {{
              outputHash = "6667b2d1aab6a00caa5aee5af8ad9f1465e567abf1c209d15727d57b3e8f6e5f";
              outputHashAlgo = "sha256"; }}) ]"#
        )
    };
    for options in ["", "--keep-going"] {
        scenario(&fetch("echo other > $out")).run(&format!("nix-build {options}")).again().compare();
        scenario(&fetch("exit 1")).run(&format!("nix-build {options}")).again().compare();
    }
}

#[test]
fn what_cannot_be_built_here() {
    let feature = r#"needs "top" [ (drv "x" "exit 1" { requiredSystemFeatures = [ "no-such-feature" ]; }) ]"#;
    let system = r#"needs "top" [ (drv "x" "exit 1" { system = "pdp11-unix"; }) ]"#;
    for expression in [feature, system, r#"ok "x""#] {
        for options in ["", "--keep-going", "--max-jobs 0", "--max-jobs 0 --builders 'ssh://nowhere pdp11-unix'"] {
            scenario(expression).run(&format!("nix-build {options}")).again().compare();
        }
    }
    scenario(r#"derivation { name = "x"; builder = "no-such-builder"; system = builtins.currentSystem; }"#)
        .run("nix-build")
        .again()
        .compare();
    scenario(r#"derivation { name = "x"; builder = "builtin:no-such"; system = builtins.currentSystem; }"#)
        .run("nix-build")
        .again()
        .compare();
}

/// Builds in a store of its own, with a sandbox.
#[test]
fn another_machine() {
    let remote = |script: &str| {
        format!(
            r#"derivation {{ name = "x"; builder = "/bin/sh"; system = builtins.currentSystem; args = [ "-c" "{script}" ]; }}"#
        )
    };
    for script in ["echo said; echo done > $out", "echo said; exit 3"] {
        scenario(&remote(script))
            .config("sandbox-paths = /bin/sh=/bin/bash-static")
            .run("nix-build --max-jobs 0 --builders \"@ROOT@/machine\" --option sandbox true")
            .again()
            .compare();
    }
}

/* ---- What is there already, or elsewhere ---- */

#[test]
fn valid_outputs() {
    let several = r#"drv "several" "echo out > $out; echo dev > $dev" { outputs = [ "out" "dev" ]; }"#;
    scenario(several).run("nix-build").run("nix-build").run("nix-build -A dev").again_with_the_same_store().compare();
    scenario(several)
        .run("nix-build -A dev")
        .run("nix-build && out=$(readlink result) && rm result && nix-store --delete --ignore-liveness $out")
        .run("nix-build")
        .run("nix build -f . dev --json")
        .again_with_the_same_store()
        .compare();
    let fails = r#"drv "several" "echo dev > $dev; exit 3" { outputs = [ "out" "dev" ]; }"#;
    for command in ["nix-build -A dev", "nix build -f . dev", "nix-build"] {
        scenario(fails).run(command).again_with_the_same_store().compare();
    }
}

/// Makes a binary cache, and removes from the store what the cache has.
fn substitute(scenario: Scenario) -> Scenario {
    scenario
        .config("require-sigs = false")
        .run("nix-build -A x && nix copy --to file://@ROOT@/cache ./result && x=$(readlink result) && rm result && nix-store --delete $x")
}

const X: &str = r#"rec { x = ok "x"; top = needs "top" [ x ]; }"#;

#[test]
fn substitutes() {
    substitute(scenario(X)).run("nix-build --option substituters file://@ROOT@/cache").again().compare();
    substitute(scenario(X)).run("nix build -f . top --option substituters file://@ROOT@/cache --json").compare();
}

#[test]
fn failing_substituters() {
    for options in ["", "--fallback", "--keep-going", "--keep-going --fallback"] {
        substitute(scenario(X))
            .run("rm -r ../cache/nar")
            .run(&format!("nix-build -A top {options} --option substituters file://@ROOT@/cache"))
            .compare();
        scenario(X).run(&format!("nix-build -A top {options} --option substituters file://@ROOT@/no-cache")).compare();
    }
}

/* ---- Evaluation ---- */

#[test]
fn import_from_derivation() {
    let bad = r#"drv "bad" "echo it is broken; exit 3" { }"#;
    for command in ["nix-instantiate", "nix-instantiate --eval --read-write-mode", "nix-build", "nix eval -f ."] {
        scenario(&format!("import ({bad})")).run(command).again().compare();
        scenario(&format!("builtins.tryEval (import ({bad}))")).run(command).again().compare();
    }
    scenario(r#"import (drv "good" "echo 1 + 2 > $out" { })"#).run("nix eval -f .").again().compare();
}

/* ---- Commands ---- */

/// A stand-in for nixpkgs, in which `nix develop` looks for a shell.
fn with_nixpkgs(scenario: Scenario) -> Scenario {
    scenario
        .config("flake-registry = @ROOT@/work/registry.json")
        .file(
            "registry.json",
            r#"{ "version": 2, "flakes": [ { "from": { "type": "indirect", "id": "nixpkgs" },
                                             "to": { "type": "path", "path": "@ROOT@/work/nixpkgs" } } ] }"#,
        )
        .file("nixpkgs/flake.nix", "{ outputs = { self }: { legacyPackages = { }; }; }")
}

#[test]
fn shells() {
    let shell = |input: &str| {
        format!(r#"drv "shell" "true" {{ builder = builtins.getEnv "NIX_BUILD_SHELL"; input = {input}; }}"#)
    };
    for input in [r#"ok "input""#, r#"fail "input""#] {
        scenario(&shell(input)).run("nix-shell --run 'echo $name $input'").again().compare();
        with_nixpkgs(scenario(&shell(input))).run("nix develop -f . -c echo entered").again().compare();
        scenario(&shell(input)).run("nix print-dev-env -f . | grep '^name='").again().compare();
    }
}

#[test]
fn run() {
    let program = |script: &str| format!(r#"drv "program" "{script}" {{ }}"#);
    scenario(&program(
        "mkdir -p $out/bin; echo '#!/bin/sh' > $out/bin/program; echo 'echo it runs' >> $out/bin/program; chmod +x $out/bin/program",
    ))
    .run("nix run -f .")
    .run("nix shell -f . -c program")
    .again()
    .compare();
    for command in ["nix run -f .", "nix shell -f . -c program"] {
        scenario(&program("exit 3")).run(command).again().compare();
    }
}

#[test]
fn flake_check() {
    let system = format!("{}-linux", std::env::consts::ARCH);
    let flake = r#"{ outputs = { self }: with import ./lib.nix; { checks.SYSTEM =
        { good = drv "good" "sleep 0.3; echo > $out" { }; bad = fail "bad"; }; }; }"#;
    for options in ["--max-jobs 1", "--max-jobs 1 --keep-going"] {
        scenario("null")
            .file("flake/flake.nix", &flake.replace("SYSTEM", &system))
            .cut_off("good")
            .run(&format!("cp lib.nix flake; nix flake check --impure path:$PWD/flake {options}"))
            .run(&format!("nix build --impure path:$PWD/flake#checks.{system}.good --out-link good"))
            .again()
            .compare();
    }
}

#[test]
fn profiles() {
    let packages = r#"{ good = drv "good-1" "mkdir $out; echo > $out/file" { }; bad = fail "bad-1"; }"#;
    for command in ["nix-env -f . -iA bad", "nix-env -f . -iA good bad", "nix-env -f . -i bad"] {
        scenario(packages).run("nix-env -f . -i good").run(command).run("nix-env -q").again().compare();
    }
}

#[test]
fn realise() {
    scenario(r#"{ good = ok "good"; bad = fail "bad"; }"#)
        .run("nix-store -r $(nix-instantiate -A bad)")
        .run("nix-store -r $(nix-instantiate -A good)")
        .run("nix-store -r $(nix-store -r $(nix-instantiate -A good))")
        .run("nix-store -r $(nix-store -q --outputs $(nix-instantiate -A bad))")
        .run("nix-store -r $(nix-instantiate -A good) --add-root $PWD/root --indirect")
        .again_with_the_same_store()
        .compare();
}

/// If the host is called localhost, Nix runs the other side by itself.
#[test]
fn serve() {
    for store in ["ssh", "ssh-ng"] {
        scenario(r#"{ good = ok "good"; bad = fail "bad"; }"#)
            .run(&format!("drv=$(nix-instantiate -A good); nix-store --store {store}://localhost -r $drv"))
            .run(&format!("drv=$(nix-instantiate -A bad); nix-store --store {store}://localhost -r $drv"))
            .again()
            .compare();
    }
}

/// The clients do not have the plugin. The daemon's own log is not compared, since clients do not see it.
#[test]
fn through_a_daemon() {
    for command in [
        "nix-build --max-jobs 1",
        "nix-build --max-jobs 1 --keep-going",
        "nix build --max-jobs 1 -f . a b c d",
        "nix-build --max-jobs 1 -A b -A a --keep-going",
    ] {
        some_fail().run(&beside_a_daemon(&format!("{CLIENT}; {command}"))).again().compare();
    }
}

#[test]
fn what_nix_build_prints() {
    for command in ["--json", "--print-out-paths", "--no-link", "--out-link other", "--json --no-link --keep-going"] {
        // Nix 2.8 does not know --print-out-paths, and fails before it opens the store.
        some_fail()
            .run("nix-store --init")
            .run(&format!("nix build --max-jobs 1 -f . a b {command}"))
            .run(&format!("nix build --max-jobs 1 -f . a c {command}"))
            .again()
            .compare();
    }
}

#[test]
fn log_formats() {
    for format in ["internal-json", "bar", "raw", "bar-with-logs"] {
        for options in ["", "--keep-going", "-v"] {
            tree().run(&format!("nix-build --max-jobs 1 {options} --log-format {format}")).again().compare();
        }
    }
}

/// In a terminal, Nix redraws its progress bar as time passes. The lines that stay on the screen are the same.
#[test]
fn the_progress_bar_in_a_terminal() {
    for command in [
        "nix build --max-jobs 1 -f .",
        "nix build --max-jobs 1 -f . --keep-going",
        "nix-build --max-jobs 1 --log-format bar",
    ] {
        tree()
            .run(&format!(
                "script -qec '{command}' /dev/null < /dev/null | tr '\\r' '\\n' | \
                 sed -e 's/\\x1b\\[K//g' -e '/^\\x1b\\[K*\\?\\[/d' | grep -v '^.\\?.\\?.\\?\\[.*built' | grep ."
            ))
            .compare();
    }
}

/* ---- Experimental features ---- */

#[test]
fn recursive_nix() {
    let nix = r#"drv "x" "PATH=@PATH@; nix-store --version > $out" { requiredSystemFeatures = [ "recursive-nix" ]; }"#;
    for expression in [nix, r#"drv "x" "exit 3" { requiredSystemFeatures = [ "recursive-nix" ]; }"#] {
        scenario(expression)
            .config("extra-experimental-features = recursive-nix")
            .config("system-features = recursive-nix")
            .run("nix-build")
            .again()
            .compare();
    }
}

#[test]
fn content_addressed_derivations() {
    let tree = r#"let
        part = drv "part" "echo content > $out" floating;
        bad = drv "bad" "cat $part; exit 3" (floating // { inherit part; });
      in { inherit part bad; top = needs "top" [ bad (ok "sibling") ]; deferred = needs "deferred" [ part ]; }"#;
    for attribute in ["part", "bad", "top", "deferred"] {
        for options in ["--max-jobs 1", "--keep-going --max-jobs 1"] {
            scenario(tree)
                .run(&format!("nix-build -A {attribute} {options}"))
                .run("nix-build -A part")
                .again()
                .compare();
        }
        scenario(tree).run(&format!("nix build -f . {attribute} --json")).again().compare();
    }
}

#[test]
fn impure_derivations() {
    let impure = |script: &str| format!(r#"needs "top" [ (drv "x" "{script}" {{ __impure = true; }}) ]"#);
    for script in ["echo content > $out", "exit 3"] {
        for command in ["nix-build", "nix-build -A inputs"] {
            // The output path of an impure derivation is random.
            scenario(&impure(script)).run(command).again().whatever("store").compare();
        }
    }
}

#[test]
fn dynamic_derivations() {
    for inner in ["ok", "fail"] {
        for command in [
            "nix-build",
            "nix build -f . --json",
            "nix build --max-jobs 1 $(nix-instantiate)^out^out",
            "nix-build -A deeper",
        ] {
            scenario(&format!(
                r#"let inner = {inner} "inner"; in drv "inner.drv" "cp ${{builtins.unsafeDiscardOutputDependency inner.drvPath}} $out" {{
                  __contentAddressed = true; outputHashMode = "text"; outputHashAlgo = "sha256"; }}"#
            ))
            .config("extra-experimental-features = dynamic-derivations")
            .run(command)
            .again()
            .compare();
        }
    }
}

/* ---- Interruption ---- */

#[test]
fn interrupted() {
    for signal in ["INT", "TERM", "HUP"] {
        for expression in [
            r#"drv "slow" "echo begins; sleep 60" { }"#,
            r#"needs "top" [ (drv "slow" "echo begins; sleep 60" { }) (ok "zz") ]"#,
        ] {
            scenario(expression)
                .run(&format!(
                    "rm -f ../runs/slow; set -m; nix-build --max-jobs 1 & pid=$!; while [ ! -e ../runs/slow ]; do sleep 0.1; done; \
                     sleep 0.5; kill -{signal} $pid; wait $pid"
                ))
                .again()
                .compare();
        }
    }
}

#[test]
fn the_terminal_is_closed() {
    scenario(r#"drv "slow" "echo begins; sleep 60" { }"#)
        .run(
            "exec 2> /dev/null; setsid script -qfc 'echo $$ > pid; exec nix-build' /dev/null > /dev/null < /dev/null & \
             while [ ! -e ../runs/slow ]; do sleep 0.1; done; sleep 0.5; kill -KILL $!; \
             for i in $(seq 100); do kill -0 $(cat pid) || break; sleep 0.1; done; kill -0 $(cat pid) || echo it is gone; rm pid",
        )
        .compare();
}
