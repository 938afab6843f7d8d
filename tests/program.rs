//! What makes the program `nix-negative-cache` pleasant: lists that are sorted, narrowed and paged, whole logs, what has
//! changed since a failure, and names for derivations as Nix takes them.

use nix_negative_cache_tests::{Ran, Scratch, left_out};
use serde_json::Value;

/// Records of three failures. `slow` was first and took longest, `two` failed twice and last.
fn with_three_failures() -> Scratch {
    let nix = Scratch::new();
    nix.expression(
        r#"{
            slow = drv "slow-1.0" "sleep 1.2; exit 1" { };
            one = fail "one-1.0";
            two = drv "two-2.0" "exit 4" { };
            rejected = drv "rejected" "true" { };
        }"#,
    );
    for attribute in ["slow", "two", "one", "rejected", "two"] {
        nix.run(&format!("nix-build -A {attribute} --option negative-cache-retry true; sleep 0.1")).exits(0);
    }
    nix
}

fn drv(nix: &Scratch, name: &str) -> String {
    let records = nix.records();
    let record = records.iter().find(|record| record["name"] == name).expect("a record");
    record["drvPath"].as_str().expect("its path").to_owned()
}

/// The names in a list, in its order.
fn names(ran: &Ran) -> Vec<String> {
    let name = |line: &str| Some(line.trim_end().strip_suffix(".drv")?.rsplit('/').next()?[33..].to_owned());
    ran.stdout.lines().filter_map(name).collect()
}

/// Runs a command in a terminal of this size. script(1) makes one.
fn at_terminal(nix: &Scratch, (rows, columns): (u16, u16), variables: &str, command: &str) -> Ran {
    let command = format!("stty rows {rows} cols {columns}; {command}");
    nix.run(&format!("{variables} script -qec '{command}' /dev/null"))
}

#[test]
fn a_list_is_sorted() {
    if left_out() {
        return;
    }
    let nix = with_three_failures();
    for (order, sorted) in [
        ("", ["two-2.0", "rejected", "one-1.0", "slow-1.0"]),
        ("--sort last", ["two-2.0", "rejected", "one-1.0", "slow-1.0"]),
        ("--sort first", ["rejected", "one-1.0", "two-2.0", "slow-1.0"]),
        ("--sort name", ["one-1.0", "rejected", "slow-1.0", "two-2.0"]),
    ] {
        assert_eq!(names(&nix.run(&format!("$COMPANION list {order}")).exits(0)), sorted, "{order}");
        let json = nix.run(&format!("$COMPANION list --json {order}")).exits(0).stdout;
        let json: Vec<Value> = serde_json::from_str(&json).unwrap();
        assert!(json.iter().map(|record| &record["name"]).eq(sorted), "{order}");
    }
    for (order, first) in [("duration", "slow-1.0"), ("attempts", "two-2.0")] {
        assert_eq!(names(&nix.run(&format!("$COMPANION list --sort {order}")).exits(0))[0], first, "{order}");
    }
    nix.run("$COMPANION list --sort size").exits(2).says("--sort");
}

#[test]
fn a_list_is_narrowed() {
    if left_out() {
        return;
    }
    let nix = with_three_failures();
    let system = nix.records()[0]["system"].as_str().unwrap().to_owned();
    for (options, count) in [
        ("--class builder", 3),
        ("--class output", 1),
        ("--class timeout", 0),
        ("--origin here", 4),
        ("--origin https://cache", 0),
        (&*format!("--system {system}"), 4),
        ("--system riscv64-linux", 0),
        (&*format!("--class builder --name 1.0 --system {system} --origin here"), 2),
    ] {
        assert_eq!(names(&nix.run(&format!("$COMPANION list {options}")).exits(0)).len(), count, "{options}");
    }
    nix.run("$COMPANION list --class broken").exits(2).says("possible values: builder, output");
}

#[test]
fn a_list_fits_any_terminal() {
    if left_out() {
        return;
    }
    let nix = with_three_failures();
    for columns in [10, 20, 40, 72, 80, 100] {
        let ran = at_terminal(&nix, (50, columns), "TERM=xterm", "$COMPANION list --color never").exits(0);
        let fits = |line: &str| {
            let longest_word = line.split_whitespace().map(str::len).max().unwrap_or(0);
            line.trim_end().chars().count() <= usize::from(columns).max(longest_word + 2)
        };
        assert!(ran.stdout.lines().all(fits), "{columns}: {ran}");
        assert_eq!(names(&ran).len(), 4, "{columns}: {ran}");
    }
}

#[test]
fn a_long_list_goes_through_a_pager() {
    if left_out() {
        return;
    }
    let nix = with_three_failures();
    nix.script("pager", "echo \"paged, LESS is $LESS\"; cat");
    let paged = "paged, LESS is FRX";
    let run = |rows, variables: &str, options: &str| {
        let ran =
            at_terminal(&nix, (rows, 200), &format!("TERM=xterm {variables}"), &format!("$COMPANION list {options}"));
        let ran = ran.exits(0);
        assert_eq!(names(&ran).len(), 4, "{ran}");
        let (list, advice) = ran.stdout.split_once("What is believed is built again").expect("what lifts it");
        assert!(list.contains("two-2.0.drv") && !advice.contains(".drv"), "{ran}");
        ran
    };
    run(5, "PAGER=./pager", "").prints_part(paged);
    run(5, "PAGER=false NIX_PAGER='./pager | cat'", "").prints_part(paged);
    run(5, "PAGER=./pager LESS=-i", "").prints_part("paged, LESS is -i");
    for (rows, variables, options) in [
        (50, "PAGER=./pager", ""),
        (5, "PAGER=./pager", "--no-pager"),
        (5, "PAGER=cat", ""),
        (5, "PAGER=./pager NIX_PAGER=", ""),
    ] {
        let ran = run(rows, variables, options);
        assert!(!ran.stdout.contains("paged"), "{rows} {variables} {options}: {ran}");
    }
    // A pager that can't be run is none, and no error; so is one that does not read it all.
    run(5, "PAGER=./no-such-pager", "");
    run(5, "PATH=$PWD", "").prints_part("FAILED");
    for pager in ["true", "head -n 1", "exec false"] {
        let ran =
            at_terminal(&nix, (5, 200), &format!("TERM=xterm PAGER='{pager}'"), "$COMPANION list; echo status $?");
        ran.prints_part("status 0");
    }
    // Without a terminal, there is no pager.
    nix.run("PAGER=./pager $COMPANION list").exits(0).prints_part("FAILED");
}

#[test]
fn paths_are_links_where_terminals_have_links() {
    if left_out() {
        return;
    }
    let nix = with_three_failures();
    let drv = drv(&nix, "one-1.0");
    let link = format!("{drv}\x1b\\{drv}\x1b]8;;\x1b\\");
    let at = |variables: &str, options: &str| {
        at_terminal(&nix, (50, 200), variables, &format!("$COMPANION list {options}")).exits(0).stdout
    };
    let linked = at("TERM=xterm FORCE_HYPERLINK=1", "");
    assert!(linked.contains(&link) && linked.contains("\x1b]8;;file://"), "{linked}");
    assert!(linked.contains("\x1b[1mFAILED"), "{linked}");
    assert!(at("TERM=xterm VTE_VERSION=7000", "").contains(&link));
    for (variables, options) in [
        ("TERM=xterm", ""),
        ("TERM=xterm FORCE_HYPERLINK=1 NO_COLOR=1", ""),
        ("TERM=dumb FORCE_HYPERLINK=1", ""),
        ("TERM=xterm FORCE_HYPERLINK=1", "--color never"),
    ] {
        let ran = at(variables, options);
        assert!(!ran.contains("\x1b]8") && ran.contains(&drv), "{variables} {options}: {ran}");
    }
    nix.run("FORCE_HYPERLINK=1 TERM=xterm $COMPANION list").exits(0).prints_part(&format!("  {drv}\n"));
}

#[test]
fn colours_are_as_wanted() {
    if left_out() {
        return;
    }
    let nix = with_three_failures();
    let bold = "\x1b[1mFAILED";
    for (variables, options) in [("", "--color always"), ("CLICOLOR_FORCE=1", ""), ("NO_COLOR=1", "--color=always")] {
        nix.run(&format!("{variables} $COMPANION list {options}")).exits(0).prints_part(bold);
    }
    for (variables, options) in [("", ""), ("CLICOLOR_FORCE=1", "--color never")] {
        let ran = nix.run(&format!("{variables} $COMPANION list {options}")).exits(0);
        assert!(!ran.stdout.contains('\x1b'), "{ran}");
    }
    for (variables, has_colours) in [("TERM=xterm", true), ("TERM=dumb", false), ("TERM=xterm NO_COLOR=1", false)] {
        let ran = at_terminal(&nix, (50, 200), variables, "$COMPANION list").exits(0);
        assert_eq!(ran.stdout.contains('\x1b'), has_colours, "{variables}: {ran}");
    }
    // So are help and errors.
    for command in ["--help", "list --no-such-option"] {
        for (option, has_colours) in [("--color always", true), ("--color=never", false), ("", false)] {
            let ran = nix.run(&format!("$COMPANION {option} {command}"));
            assert_eq!(
                format!("{}{}", ran.stdout, ran.stderr).contains('\x1b'),
                has_colours,
                "{option} {command}: {ran}"
            );
        }
    }
    nix.run("$COMPANION list --color sometimes").exits(2).says("--color");
}

#[test]
fn the_whole_log_is_what_nix_has() {
    if left_out() {
        return;
    }
    let nix = Scratch::new();
    nix.expression(
        r#"{ long = drv "long" "for i in $(seq 1 300); do echo line $i; done; exit 1" { }; ok = ok "ok"; }"#,
    );
    nix.run("nix-build --keep-going -A long -A ok").exits(100);
    let drv = drv(&nix, "long");
    let output = nix.run("nix-store --query --outputs $(nix-instantiate -A long)").stdout.trim().to_owned();
    let all: String = (1..=300).map(|number| format!("line {number}\n")).collect();
    for path in [&drv, &output] {
        assert_eq!(nix.run(&format!("$COMPANION log {path}")).exits(0).does_not_say("nix").stdout, all, "{path}");
    }
    // What did not fail has a log as well.
    nix.run("$COMPANION log $(nix-instantiate -A ok)").exits(0);
    nix.script("pager", "echo paged; head -n 1");
    at_terminal(&nix, (24, 80), "TERM=xterm PAGER=./pager", &format!("$COMPANION log {drv}"))
        .exits(0)
        .prints_part("paged");
    at_terminal(&nix, (24, 80), "TERM=xterm PAGER=./pager", &format!("$COMPANION log --no-pager {drv}"))
        .exits(0)
        .prints_part("line 300");
    at_terminal(&nix, (400, 80), "TERM=xterm PAGER=./pager", &format!("$COMPANION log {drv}"))
        .exits(0)
        .prints_part("line 300");
    let tail: String = (276..=300).map(|number| format!("line {number}\n")).collect();
    nix.run("rm -r ../log/drvs").exits(0);
    let ran = nix.run(&format!("$COMPANION log {drv}")).exits(0);
    let ran = ran.says(&format!("Nix has no log of '{drv}'; these are the last lines, as they were recorded"));
    assert_eq!(ran.stdout, tail);
    let ran = nix.run(&format!("PATH= $COMPANION log {drv}")).exits(0).says("can't be had: cannot run 'nix-store'");
    assert_eq!(ran.stdout, tail);
    let unknown = "/nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv";
    nix.run(&format!("$COMPANION log {unknown}"))
        .exits(3)
        .says(unknown)
        .says("and no line of it is recorded")
        .prints("");
    // One that is missing does not keep the others from being printed.
    let ran = nix.run(&format!("$COMPANION log {unknown} {drv}")).exits(3);
    assert_eq!(ran.stdout, tail);
}

#[test]
fn what_has_changed_since_a_failure() {
    let nix = Scratch::new();
    nix.expression(r#"{ one = fail "one-1.0"; }"#);
    nix.run("nix-build -A one --option cores 7").exits(100);
    let drv = drv(&nix, "one-1.0");
    let diff = |with: &str, options: &str| {
        let config =
            if with.is_empty() { String::new() } else { format!("export NIX_CONFIG=\"$NIX_CONFIG\"$'\\n{with}';") };
        nix.run(&format!("{config} $COMPANION diff {options} {drv}")).exits(0)
    };
    diff("cores = 7", "").prints_part(&format!("{drv} failed ")).prints_part("\n  the environment here is the same\n");
    let changed = diff("cores = 9", "");
    assert_eq!(changed.stdout.lines().count(), 2, "{changed}");
    changed.prints_part("\n  cores was '7' and is '9'\n");
    // What would not have it built again is told, too.
    diff("cores = 7\\ntimeout = 17", "").prints_part("\n  timeout was '0' and is '17', which does not matter\n");
    let json = |with: &str| serde_json::from_str::<Value>(&diff(with, "--json").stdout).unwrap()[0].take();
    let same = json("cores = 7");
    assert_eq!(
        (&same["drvPath"], &same["same"], &same["changes"]),
        (&drv.as_str().into(), &true.into(), &serde_json::json!([]))
    );
    let other = json("cores = 9");
    assert_eq!((&other["same"], &other["class"]), (&false.into(), &"builder".into()));
    let change = serde_json::json!([{ "factor": "cores", "recorded": "7", "now": "9", "matters": true }]);
    assert_eq!(other["changes"], change);
    // It needs no plugin in this Nix, but it needs Nix.
    nix.run(&format!("NIX_CONFIG='cores = 7' $COMPANION diff {drv}")).exits(0).prints_part("is the same");
    nix.run(&format!("PATH= $COMPANION diff {drv}")).exits(1).says("cannot run 'nix'");
    nix.run("$COMPANION diff /nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv").exits(3).says("no failure of '");
    // A success since then does not hide it.
    let colours = nix.run(&format!("$COMPANION diff --color always {drv}")).exits(0);
    assert!(colours.stdout.contains("\x1b[32m"), "{colours}");
}
