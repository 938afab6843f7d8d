//! `nix-negative-cache`, on records that real builds left.

use nix_negative_cache_tests::{Scratch, exists};

fn with_failures() -> Scratch {
    let nix = Scratch::new();
    nix.expression(r#"{ one = fail "one-1.0"; two = fail "two-2.0"; ok = ok "ok"; }"#);
    nix.run("nix-build -k").exits(100);
    nix
}

fn drv(nix: &Scratch, name: &str) -> String {
    let records = nix.records();
    let record = records.iter().find(|record| record["name"] == name).expect("a record");
    record["drvPath"].as_str().expect("its path").to_owned()
}

#[test]
fn list_is_newest_first_and_can_be_narrowed() {
    let nix = with_failures();
    nix.run("sleep 1.1; nix-build -A one --option negative-cache-retry true").exits(100);
    let list = nix.run("$COMPANION list").exits(0);
    let lines: Vec<&str> = list.stdout.lines().collect();
    assert!(lines[0].starts_with("FAILED") && lines[0].ends_with("DERIVATION"), "{list}");
    assert!(lines[1].ends_with("-one-1.0.drv") && lines[2].ends_with("-two-2.0.drv") && lines.len() == 3, "{list}");
    assert!(lines[1].split_whitespace().any(|word| word == "2"), "two attempts: {list}");

    let named = nix.run("$COMPANION list --name '^two'").exits(0);
    assert!(named.stdout.contains("two-2.0.drv") && !named.stdout.contains("one-1.0.drv"), "{named}");
    assert_eq!(nix.run("$COMPANION list --since 1h").exits(0).stdout.lines().count(), 3);
    nix.run("sleep 1.1; $COMPANION list --since 1s").exits(0).prints("").says("no such failure is recorded in '");
    nix.run("$COMPANION list --since never").exits(2).says("--since");
    nix.run("$COMPANION list --name '('").exits(2).says("--name");
}

#[test]
fn the_table_fits_the_terminal() {
    let nix = with_failures();
    // script(1) gives the program a terminal, whose width it is told by the terminal itself.
    let ran = nix.run("script -qec 'stty cols 60; $COMPANION list' /dev/null").exits(0);
    assert!(ran.stdout.lines().all(|line| line.trim_end().chars().count() <= 60), "{ran}");
}

#[test]
fn show_takes_derivations_and_outputs() {
    let nix = with_failures();
    let drv = drv(&nix, "one-1.0");
    let shown = nix.run(&format!("$COMPANION show {drv}")).exits(0);
    for text in [&drv as &str, "builder failed with exit code 3", "Attempts:       1", "> it is broken", "x86_64-linux"]
    {
        assert!(shown.stdout.contains(text), "{text}: {shown}");
    }
    let output = nix.records().iter().find(|r| r["drvPath"] == drv.as_str()).unwrap()["outputs"][0]["path"].clone();
    let output = output.as_str().unwrap();
    assert_eq!(nix.run(&format!("$COMPANION show {output}")).exits(0).stdout, shown.stdout);
    let json = nix.run(&format!("$COMPANION show --json {output} {drv}")).exits(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 1, "one record, though named twice");
    assert_eq!(json[0]["exitCode"], 3);
}

#[test]
fn records_outlive_their_derivations() {
    let nix = with_failures();
    let drv = drv(&nix, "one-1.0");
    nix.run("nix-collect-garbage").exits(0);
    assert!(!exists(drv.as_ref()));
    nix.run(&format!("$COMPANION show {drv}")).exits(0);
    nix.run(&format!("$COMPANION forget {drv}")).exits(0).prints("forgot 1 failure");
}

#[test]
fn forget_lets_it_build_again() {
    let nix = with_failures();
    let drv = drv(&nix, "one-1.0");
    nix.run(&format!("$COMPANION forget {drv}")).exits(0).prints("forgot 1 failure");
    assert_eq!(nix.recorded(), ["two-2.0"]);
    nix.run("nix-build -A one").exits(100).does_not_say("not built again");
    assert_eq!(nix.runs("one-1.0"), 2);
    nix.run("$COMPANION forget --name '1\\.0$'").exits(0).prints("forgot 1 failure");
    assert_eq!(nix.recorded(), ["two-2.0"]);
    nix.run("nix-build -A one").exits(100);
    nix.run("$COMPANION forget --all").exits(0).prints("forgot 2 failures");
    assert!(nix.records().is_empty());
}

#[test]
fn to_forget_nothing_is_an_error_of_its_own() {
    let nix = with_failures();
    let unknown = "/nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv";
    nix.run(&format!("$COMPANION forget {unknown}"))
        .exits(3)
        .says(&format!("no failure of '{unknown}' is recorded in '"));
    nix.run("$COMPANION forget --name nothing").exits(3).says("nothing to forget");
    nix.run("$COMPANION forget --all && $COMPANION forget --all").exits(3).says("nothing to forget");
    nix.run("$COMPANION forget").exits(2);
    nix.run("$COMPANION forget relative.drv").exits(2).says("not a store path");
    nix.run(&format!("$COMPANION show {unknown}")).exits(3).says(unknown);
}

#[test]
fn the_database_is_found_as_the_plugin_finds_it() {
    let nix = with_failures();
    let database = nix.database().display().to_string();
    nix.run("$COMPANION path").exits(0).prints(&database);
    nix.run("env -u NIX_STATE_DIR $COMPANION path").exits(0).prints("/nix/var/nix/negative-cache/failures.sqlite");
    nix.run("$COMPANION path --store-state /x").exits(0).prints("/x/negative-cache/failures.sqlite");
    nix.run("$COMPANION --database /y path").exits(0).prints("/y");
    nix.run("$COMPANION --database $PWD/none list --json").exits(0).prints("[]");
    assert!(!exists(&nix.path("work/none")), "looking makes no database");
}

#[test]
fn a_broken_database_is_a_clear_error() {
    let nix = with_failures();
    nix.write("work/broken", &"garbage ".repeat(1000));
    for command in ["list", "show /x.drv", "forget --all"] {
        nix.run(&format!("$COMPANION --database $PWD/broken {command}"))
            .exits(1)
            .says("cannot use the failure database '")
            .says("work/broken'");
    }
}

#[test]
fn help_completions_and_closed_pipes() {
    let nix = with_failures();
    for command in ["", "list", "show", "forget", "path", "completions"] {
        let help = nix.run(&format!("$COMPANION {command} --help")).exits(0);
        assert!(help.stdout.contains("Usage: "), "{help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let ran = nix.run(&format!("$COMPANION completions {shell}")).exits(0);
        assert!(ran.stdout.contains("forget"), "{shell}");
    }
    nix.run("$COMPANION list | true").exits(0).does_not_say("panicked");
    nix.run("$COMPANION list --json > /dev/full").exits(1).says("cannot write the output");
}
