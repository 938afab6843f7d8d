//! What makes the program `nix-negative-cache` pleasant: lists that are sorted, narrowed and paged, whole logs, what has
//! changed since a failure, and names for derivations as Nix takes them.

use nix_negative_cache_tests::caches::ON;
use nix_negative_cache_tests::{Ran, Scratch, left_out, this_nix};
use nix_version::Flavour;
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
        let ran = at_terminal(&nix, (500, columns), "TERM=xterm", "$COMPANION list --color never").exits(0);
        let fits = |line: &str| {
            let longest_word = line.split_whitespace().map(str::len).max().unwrap_or(0);
            line.trim_end().chars().count() <= usize::from(columns).max(longest_word + 4)
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
    let ran = at_terminal(&nix, (5, 200), "TERM=xterm", "PATH=$PWD $COMPANION list").exits(0);
    assert_eq!(names(&ran).len(), 4, "{ran}");
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
        r#"{ long = drv "long" "for i in $(seq 1 300); do echo line $i; done; exit 1" { };
            loud = drv "loud" "printf '\\033]0;title\\007\\033[2J\\033[31mred\\033[0m\\n'; exit 1" { }; ok = ok "ok"; }"#,
    );
    nix.run("nix-build --keep-going -A long -A ok -A loud").exits(100);
    let drv = drv(&nix, "long");
    let output = nix.run("nix-store --query --outputs $(nix-instantiate -A long)").stdout.trim().to_owned();
    let all: String = (1..=300).map(|number| format!("line {number}\n")).collect();
    for path in [&drv, &output] {
        assert_eq!(nix.run(&format!("$COMPANION log {path}")).exits(0).does_not_say("nix").stdout, all, "{path}");
    }
    // On a terminal, nothing of a log is obeyed but its colours; a program gets it byte for byte.
    let loud = nix.run("$COMPANION log $(nix-instantiate -A loud)").exits(0);
    assert!(loud.stdout.contains("\x1b]0;title\x07\x1b[2J\x1b[31mred"), "{loud}");
    for (variables, size) in [("TERM=xterm PAGER=cat", 80), ("TERM=xterm PAGER=./pager", 1)] {
        nix.script("pager", "cat");
        let ran = at_terminal(&nix, (size, 80), variables, "$COMPANION log $(nix-instantiate -A loud)").exits(0);
        assert!(ran.stdout.contains("\x1b[31mred") && !ran.stdout.contains("title"), "{variables}: {ran}");
        assert!(!ran.stdout.contains("\x1b[2J") && !ran.stdout.contains("\x1b]"), "{variables}: {ran}");
    }
    let plain =
        at_terminal(&nix, (50, 80), "TERM=xterm NO_COLOR=1", "$COMPANION log $(nix-instantiate -A loud)").exits(0);
    assert!(plain.stdout.contains("red") && !plain.stdout.contains('\x1b'), "{plain}");
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
    // That Nix is not there says nothing of the log.
    nix.run(&format!("PATH= $COMPANION log {unknown}")).exits(1).says("cannot run 'nix-store'").prints("");
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
    let colours = nix.run(&format!("$COMPANION diff --color always {drv}")).exits(0);
    assert!(colours.stdout.contains("\x1b[32m"), "{colours}");
}

/// A flake that needs no network, and the same as a file.
fn with_flake() -> Scratch {
    let nix = Scratch::new();
    nix.expression(r#"{ one = fail "one-1.0"; ok = ok "ok"; }"#);
    nix.write(
        "work/flake.nix",
        r#"{ outputs = { self }: let all = import ./default.nix; in {
            packages = builtins.listToAttrs (map (name: { inherit name; value = all // { default = all.one; }; })
                [ "x86_64-linux" "aarch64-linux" ]);
        }; }"#,
    );
    // A flake sees no `builtins.currentSystem`.
    nix.run("sed -i \"s/builtins.currentSystem/\\\"$(nix-instantiate --eval --expr builtins.currentSystem | tr -d '\\\"')\\\"/\" lib.nix")
        .exits(0);
    nix.run("nix-build -A one").exits(100);
    nix
}

#[test]
fn what_nix_takes_is_taken() {
    let nix = with_flake();
    let drv = drv(&nix, "one-1.0");
    let output = nix.run(&format!("nix-store --query --outputs {drv}")).exits(0).stdout.trim().to_owned();
    nix.run(&format!("ln -s {drv} one.drv; ln -s {output} result; ln -s {output}/bin/one inside; mkdir -p sub"))
        .exits(0);
    let names = [
        &*drv,
        &*output,
        "one.drv",
        "./one.drv^out",
        "./result",
        "result",
        "$PWD/result",
        "./sub/../inside",
        ".#one",
        ".",
        "path:$PWD#one",
        "$PWD#one",
        ".#one^out",
        "-A one",
        "-A one -f default.nix",
        "-f ./default.nix --attr one",
    ];
    for name in names {
        // Older versions know no outputs of flake references.
        if name.ends_with("#one^out") && !nix.nix_is_at_least(2, 15) {
            continue;
        }
        let ran = nix.run(&format!("$COMPANION show {name}")).exits(0);
        assert!(ran.stdout.starts_with(&format!("Derivation:     {drv}\n")), "{name}: {ran}");
    }
    for (command, status, prints) in [
        ("show --json", 0, "\"drvPath\""),
        ("explain", 0, "It failed once"),
        ("diff", 0, "the environment here is the same"),
        ("log", 0, "it is broken"),
        ("check", 4, "failed"),
        ("check --closure", 4, "failed"),
        ("retry", 0, "will be tried"),
        ("forget", 0, "forgot 1 failure"),
    ] {
        for name in ["./result", ".#one", "-A one"] {
            nix.run(&format!("$COMPANION {command} {name}")).exits(status).prints_part(prints);
            if command == "forget" {
                nix.run("nix-build -A one").exits(100).does_not_say("not built again");
            }
        }
    }
    // Only what is asked about is evaluated, and nothing is built.
    nix.run("$COMPANION check -A ok").exits(0).prints("");
    assert_eq!((nix.runs("ok"), nix.runs("one-1.0")), (0, 4));
    nix.run("$COMPANION show -f default.nix").exits(3).prints_part(&drv).says("no failure of '");
    // What several names stand for is shown once.
    let twice = nix.run(&format!("$COMPANION show {drv} ./result .#one -A one")).exits(0);
    assert_eq!(twice.stdout.matches("Derivation: ").count(), 1, "{twice}");
}

#[test]
fn what_nix_does_not_take_is_an_error_in_its_own_words() {
    let nix = with_flake();
    for name in ["etc/passwd", "x.drv", "./nothing", "sub"] {
        nix.run(&format!("$COMPANION show {name}")).exits(2).says("not a store path, such as");
    }
    nix.run("$COMPANION show").exits(2).says("<PATH>").does_not_say("panicked");
    nix.run("$COMPANION forget").exits(2);
    nix.run("$COMPANION show -A nothing").exits(1).says("'nix-instantiate' failed (").says("nothing");
    nix.run("$COMPANION show .#nothing").exits(1).says("'nix' failed (").says("nothing");
    // Nothing is not everything.
    nix.write("work/empty.nix", "{ none = { }; }");
    for command in ["publish --to file://$PWD/cache --signer x", "check", "show", "forget"] {
        for (named, what) in [("-f empty.nix", "empty.nix"), ("-f empty.nix -A none", "none' of 'empty.nix")] {
            let ran = nix.run(&format!("$COMPANION {command} {named}")).exits(1).prints("");
            ran.says(&format!("there is no derivation in '{what}'"));
        }
    }
    nix.run("cp default.nix ./-x.nix; cp lib.nix ./-lib.nix; $COMPANION show -A one --file=-x.nix")
        .exits(0)
        .prints_part("one-1.0");
    nix.run("$COMPANION show -A one -f -").exits(1).says("'-' is no file");
    nix.run("$COMPANION show -A one -f nothing.nix").exits(1).says("nothing.nix");
    let without_flakes = nix.run("sed -i s/flakes// ../etc/nix.conf; $COMPANION show .#one");
    match this_nix().flavour {
        // There they are no experimental feature.
        Flavour::Determinate => without_flakes.exits(0),
        _ => without_flakes.exits(1).says("experimental").says("flakes"),
    };
    // Without an attribute or a flake, Nix is not asked.
    let drv = drv(&nix, "one-1.0");
    nix.run(&format!("ln -s {drv} one.drv; PATH= $COMPANION show ./one.drv")).exits(0).prints_part(&drv);
    nix.run("PATH= $COMPANION show -A one").exits(1).says("cannot run 'nix-instantiate'");
    nix.run("$COMPANION check /nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x").exits(2).says("ends with .drv");
}

/// A machine whose failures others can rely on; see [`ON`] for others.
fn with_portable_failures() -> Scratch {
    let nix = Scratch::in_sandbox();
    nix.expression(
        r#"{
            one = drv "one" "echo one is broken; exit 3" { };
            two = drv "two" "echo two is broken; exit 4" { };
            local = drv "local" "exit 5" { negativeCache = "local"; };
        }"#,
    );
    nix.run("nix-build --no-out-link --keep-going -A one -A two -A local").exits(100);
    nix
}

const ELSEWHERE: &str = "is not built: it failed ";

fn on_laptop(nix: &Scratch, line: &str) -> Ran {
    nix.run(&format!("{ON}\nlaptop() {{ on laptop \"$@\"; }}\n{line}"))
}

#[test]
fn failures_travel_in_files() {
    let nix = with_portable_failures();
    nix.run("$COMPANION export failures.jsonl").exits(0).prints("exported 2 failures; 1 other stays on this machine");
    let file = std::fs::read_to_string(nix.path("work/failures.jsonl")).unwrap();
    let lines: Vec<&str> = file.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, r#"{"failures":2,"format":"nix-negative-cache-failures","version":1}"#));
    let objects: Vec<Value> = lines[1..].iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outputs: Vec<&str> = objects.iter().map(|object| object["outputs"]["out"].as_str().unwrap()).collect();
    assert!(outputs.is_sorted(), "{outputs:?}");
    // Two files of the same failures are the same, and standard output has the same as a file.
    let again =
        nix.run("$COMPANION export again.jsonl > /dev/null && cmp again.jsonl failures.jsonl && $COMPANION export -");
    assert_eq!(again.exits(0).says("exported 2 failures").stdout, file);
    nix.run("$COMPANION export --no-log - | grep -c broken").exits(1);
    nix.run("umask 027; $COMPANION export other.jsonl; stat -c %a other.jsonl").exits(0).prints_part("\n640");
    nix.run("chmod 600 other.jsonl; ln -s other.jsonl link; ln -s new.jsonl new; $COMPANION export link && $COMPANION export new")
        .exits(0);
    nix.run("[ -L link ] && [ -L new ] && cmp new.jsonl other.jsonl && stat -c %a other.jsonl").exits(0).prints("600");
    nix.run("$COMPANION export /nothing/x").exits(1).says("cannot write '/nothing/x': ");
    nix.run("$COMPANION export /dev/full").exits(1).says("cannot write '/dev/full': ");

    let tried = on_laptop(&nix, "laptop $COMPANION import --dry-run failures.jsonl; laptop $COMPANION list").exits(0);
    tried
        .prints_part("would import 2 failures from 'failures.jsonl' into '")
        .prints_part("(builder failed with exit code 3)\n")
        .says("no such failure is recorded");
    let imported = on_laptop(
        &nix,
        "laptop $COMPANION import failures.jsonl && laptop $COMPANION import - < failures.jsonl
         laptop $COMPANION list --origin file; laptop $COMPANION list --origin failures.jsonl --json
         laptop $COMPANION list --origin here --json
         laptop $COMPANION explain -A one; laptop $COMPANION show --explain -A one",
    );
    let imported = imported.exits(0).prints_part("imported 2 failures from 'failures.jsonl' into '");
    let imported =
        imported.prints_part("imported 0 failures from standard input into '").prints_part("; 2 known before\n");
    let imported = imported
        .prints_part("builder (3), elsewhere")
        .prints_part("\"file\": \"failures.jsonl\"")
        .prints_part("\n[]\n");
    let imported =
        imported.prints_part("elsewhere (imported from failures.jsonl): ").prints_part("So it would be refused.");
    imported
        .prints_part("Imported from:  failures.jsonl\n")
        .prints_part("time: a failure from a file is believed for 7 days at most");
    let refused = on_laptop(&nix, "laptop nix-build --no-out-link -A one").exits(100).says(ELSEWHERE);
    refused.says("(1 attempt; imported from failures.jsonl)").says("> one is broken").does_not_say("building '");
    on_laptop(
        &nix,
        "laptop nix-instantiate --eval --json --strict --expr '(builtins.knownFailure (import ./default.nix).one).origin'",
    )
    .exits(0)
    .prints_part(r#"{"cache":null,"file":"failures.jsonl","hydra":null,"key":null}"#);
    // What was imported is not passed on as if it had happened here, and is forgotten as ever.
    on_laptop(&nix, "laptop $COMPANION export -").exits(0).says("exported 0 failures; 2 others stay on this machine");
    let forgotten =
        on_laptop(&nix, "laptop $COMPANION forget -A one; laptop $COMPANION import failures.jsonl").exits(0);
    forgotten.prints_part("; 1 known before; 1 left out because they were forgotten here\n");
    on_laptop(&nix, "laptop nix-build --no-out-link -A one").exits(100).does_not_say(ELSEWHERE).says("building '");
}

#[test]
fn what_was_tried_here_counts_for_more_than_a_file() {
    let nix = with_portable_failures();
    nix.run("$COMPANION export failures.jsonl; sleep 1.1").exits(0);
    // A newer failure of one of the two.
    let ran = on_laptop(
        &nix,
        "laptop nix-build --no-out-link -A two
         laptop $COMPANION import --dry-run failures.jsonl; laptop $COMPANION import failures.jsonl; laptop $COMPANION list",
    );
    let ran = ran.prints_part("-two.drv: a newer attempt was made here\n");
    let ran = ran.prints_part("imported 1 failure from").prints_part("; 1 left out because of newer attempts here\n");
    assert_eq!(ran.stdout.matches(", elsewhere").count(), 1, "{ran}");
    // What is in the future is left out.
    let ahead = "sed 's/\"lastFailure\":1[0-9]*/\"lastFailure\":9700000000/' failures.jsonl > ahead.jsonl";
    on_laptop(&nix, &format!("{ahead}; on third $COMPANION import ahead.jsonl"))
        .exits(0)
        .prints_part("imported 0 failures")
        .prints_part("; 2 left out because they are in the future");
    // The name of a file is shown, and not obeyed.
    let named = on_laptop(
        &nix,
        "cp failures.jsonl $'\\e[2Jx'; on fourth $COMPANION import $'\\e[2Jx'; on fourth $COMPANION show -A one",
    );
    assert!(!named.exits(0).prints_part("Imported from:  x\n").stdout.contains('\x1b'));
    // What is old would not be believed.
    let old = "sed 's/\"\\(first\\|last\\)Failure\":1[0-9]*/\"\\1Failure\":1700000000/g' failures.jsonl > old.jsonl";
    on_laptop(&nix, &format!("{old}; on other $COMPANION import old.jsonl"))
        .exits(0)
        .prints_part("imported 0 failures")
        .prints_part("; 2 too old to be believed\n");
}

#[test]
fn a_bad_file_is_told_with_its_line_and_loses_nothing() {
    if left_out() {
        return;
    }
    let nix = with_portable_failures();
    nix.run("$COMPANION export failures.jsonl").exits(0);
    for (change, why) in [
        ("head -c 100 failures.jsonl", "has a bad line 2, which is not in the form of a failure: EOF"),
        ("sed '3s/builder/fetch/' failures.jsonl", "has a bad line 3, which is not a failure that may be published"),
        ("echo; cat failures.jsonl", "is no file that 'nix-negative-cache export' has written"),
        ("cat default.nix", "is no file that 'nix-negative-cache export' has written"),
        ("sed '1s/:1}/:9}/' failures.jsonl", "has version 9 of its format, and this program knows 1"),
        ("head -n 2 failures.jsonl", "has 1 of 2 failures: it is not whole"),
        ("cat failures.jsonl; head -c 100000 /dev/zero", "has a bad line 4, which is larger than 16384 bytes"),
    ] {
        for command in ["import", "import --dry-run"] {
            let ran =
                on_laptop(&nix, &format!("({change}) > bad.jsonl; laptop $COMPANION {command} bad.jsonl")).exits(1);
            ran.says(&format!("'bad.jsonl' {why}")).says("; nothing was imported").prints("");
        }
    }
    on_laptop(&nix, "laptop $COMPANION import no-such-file").exits(1).says("'no-such-file' can't be read: ");
    on_laptop(&nix, "laptop $COMPANION list --json").exits(0).prints("[]");
    // Where this user may not write to the database of the store, it is this user's own.
    nix.run("$COMPANION --database $PWD/own/x.sqlite import failures.jsonl")
        .exits(0)
        .prints_part("/work/own/x.sqlite'");
    nix.script(
        "../asking",
        "chmod 755 ..; cp $COMPANION ../companion; mkdir -p ../home-games; chown games: ../home-games; cp failures.jsonl ..
        exec setpriv --reuid games --regid games --clear-groups env HOME=$PWD/../home-games \"$@\"",
    );
    nix.run("../asking ../companion import ../failures.jsonl")
        .exits(0)
        .prints_part("imported 2 failures from '../failures.jsonl' into '")
        .prints_part("/home-games/.local/state/nix/negative-cache/failures.sqlite'");
    nix.run("../asking ../companion --database $PWD/../var/negative-cache/failures.sqlite export -")
        .exits(1)
        .says("may export its failures");
}

/// What is recorded in the tests of completions.
fn with_names() -> Scratch {
    let nix = Scratch::new();
    nix.expression(r#"[ (fail "library-1.0") (fail "library-2.0") (fail "tool") ]"#);
    nix.run("nix-build --no-out-link --keep-going").exits(100);
    for shell in ["bash", "zsh", "fish"] {
        nix.run(&format!("$COMPANION completions {shell} > completions.{shell}")).exits(0);
    }
    nix
}

/// With the program in PATH.
fn in_path(nix: &Scratch, line: &str) -> Ran {
    nix.run(&format!("PATH=${{COMPANION%/*}}:$PATH; {line}"))
}

#[test]
fn bash_completes_what_is_recorded() {
    if left_out() {
        return;
    }
    let nix = with_names();
    let complete = |words: &str| {
        let ran = in_path(
            &nix,
            &format!(
                "source ./completions.bash; COMP_WORDS=(nix-negative-cache {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
                 $(complete -p nix-negative-cache | sed 's/.*-F \\([^ ]*\\) .*/\\1/') nix-negative-cache \"${{COMP_WORDS[COMP_CWORD]}}\" x
                 printf '%s\\n' \"${{COMPREPLY[@]}}\""
            ),
        );
        ran.exits(0).stdout
    };
    let paths: Vec<String> = ["library-1.0", "library-2.0", "tool"].map(|name| drv(&nix, name)).into();
    for command in ["show", "explain", "diff", "log", "check", "retry", "forget", "publish --to x", "fetch"] {
        let found = complete(&format!("{command} ''"));
        assert!(paths.iter().all(|path| found.contains(path.as_str())), "{command}: {found}");
    }
    assert_eq!(complete("show tool"), format!("{}\n", paths[2]));
    assert_eq!(complete("show lib"), "library-1.0\nlibrary-2.0\n");
    assert_eq!(complete(&format!("show {}", &paths[0][..paths[0].len() - 12])), format!("{}\n", paths[0]));
    assert_eq!(complete("list --name lib"), "library-1.0\nlibrary-2.0\n");
    assert_eq!(complete("list --name = t"), "tool\n");
    assert_eq!(complete("list --origin ''"), "here\n");
    let database = nix.database().display().to_string();
    assert_eq!(complete(&format!("--store-state /x --database {database} list --name t")), "tool\n");
    // bash parts words at colons, and takes what it inserts for its own input.
    nix.script("fake", "[ \"$*\" != '__complete list --origin https://ca' ] || echo 'https://cache/a b'");
    let parted = in_path(
        &nix,
        "source ./completions.bash; COMP_WORDS=(nix-negative-cache list --origin https : //ca); COMP_CWORD=5
         _nix_negative_cache_and_recorded ./fake //ca : ; printf '%s\\n' \"${COMPREPLY[@]}\"",
    );
    parted.exits(0).prints("//cache/a\\ b");
    let output = nix.run(&format!("nix-store --query --outputs {}", paths[2])).exits(0).stdout.trim().to_owned();
    assert_eq!(complete(&format!("show {}", &output[..output.len() - 5])), format!("{output}\n"));
    // All else is as the command line has it.
    assert!(complete("list --so").contains("--sort") && complete("sho").contains("show"));
    assert_eq!(complete("--database /no/such/file show ''").matches(".drv").count(), 0);
}

#[test]
fn fish_completes_what_is_recorded() {
    if left_out() {
        return;
    }
    let nix = with_names();
    let complete = |line: &str| {
        in_path(&nix, &format!("fish -c 'source completions.fish; complete -C \"nix-negative-cache {line}\"'"))
            .exits(0)
            .stdout
    };
    assert_eq!(complete("show tool"), format!("{}\n", drv(&nix, "tool")));
    assert_eq!(complete("list --name lib"), "library-1.0\nlibrary-2.0\n");
    assert_eq!(complete("list --name=to"), "--name=tool\n");
    assert!(complete("list --so").contains("--sort"));
}

#[test]
fn zsh_completes_what_is_recorded() {
    if left_out() {
        return;
    }
    let nix = with_names();
    // A widget of the test's prints the line as it is after the completion.
    nix.write(
        "work/zsh",
        r#"
        zmodload zsh/zpty
        mkdir -p functions && cp completions.zsh functions/_nix-negative-cache
        zpty shell zsh -f -i
        zpty -w shell "PROMPT=; fpath=($PWD/functions \$fpath); autoload -Uz compinit; compinit -u -d $PWD/dump; function tell() { print -r -- \"<\$BUFFER>\" }; zle -N tell; bindkey '^T' tell; print RE''ADY"
        zpty -r -m shell ready '*READY*'
        zpty -w -n shell "nix-negative-cache $1"$'\t\x14'
        zpty -r -m shell line '*<*>*'
        print -r -- "${${line##*<}%%>*}"
        zpty -d shell
        "#,
    );
    let complete = |line: &str| {
        let ran = in_path(&nix, &format!("TERM=dumb zsh -f zsh '{line}'")).exits(0);
        ran.stdout.trim().to_owned()
    };
    assert_eq!(complete("show tool"), format!("nix-negative-cache show {}", drv(&nix, "tool")));
    assert_eq!(complete("forget --name=to"), "nix-negative-cache forget --name=tool");
    let elsewhere = "--database /no/such/file show tool";
    assert_eq!(complete(elsewhere), format!("nix-negative-cache {elsewhere}"));
    assert_eq!(complete("list --name li"), "nix-negative-cache list --name library-");
    assert_eq!(complete("list --sort dur"), "nix-negative-cache list --sort duration");
}

#[test]
fn man_pages_are_clean() {
    if left_out() {
        return;
    }
    let nix = Scratch::new();
    let ran = nix.run("mkdir man; $COMPANION man man && ls man | wc -l && mandoc -T lint man/*.1").exits(0);
    assert_eq!((ran.stderr.as_str(), ran.stdout.lines().count()), ("", 1), "{ran}");
    let page = nix.run("mandoc -T ascii man/nix-negative-cache-list.1 | col -b").exits(0);
    page.prints_part("--sort").prints_part("NIX_PAGER");
    let dated = nix.run("SOURCE_DATE_EPOCH=86400 $COMPANION man man && cat man/nix-negative-cache.1").exits(0);
    dated.prints_part("\n.TH NIX-NEGATIVE-CACHE 1 1970-01-02 \"nix-negative-cache ");
}
