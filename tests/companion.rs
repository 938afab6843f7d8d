//! The program `nix-negative-cache`, on records of real builds.

use nix_negative_cache_tests::{Scratch, exists, left_out};

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
    if left_out() {
        return;
    }
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
    if left_out() {
        return;
    }
    let nix = with_failures();
    let wide = nix.run("$COMPANION list").exits(0);
    // script(1) gives the program a terminal, from which the program gets its width.
    for columns in [40, 60, 80, 250] {
        let ran = nix.run(&format!("script -qec 'stty cols {columns}; $COMPANION list' /dev/null")).exits(0);
        for record in nix.records() {
            let path = record["drvPath"].as_str().unwrap();
            let lines = ran.stdout.lines().map(str::trim);
            let lines: Vec<&str> = lines.filter(|line| line.ends_with(path)).collect();
            assert_eq!(lines.len(), 1, "the path is whole, and ends its line, for copying: {ran}");
            assert_eq!(lines[0] == path, columns < 250, "{ran}");
        }
        let fits = |line: &str| line.trim_end().chars().count() <= columns || line.trim().ends_with(".drv");
        assert!(ran.stdout.lines().all(fits), "{ran}");
        let count = |text: &str| text.split_whitespace().filter(|word| word.starts_with("builder")).count();
        assert_eq!(count(&ran.stdout), count(&wide.stdout), "{ran}");
    }
}

#[test]
fn show_takes_derivations_and_outputs() {
    if left_out() {
        return;
    }
    let nix = with_failures();
    let drv = drv(&nix, "one-1.0");
    let shown = nix.run(&format!("$COMPANION show {drv}")).exits(0);
    for text in [&drv as &str, "builder failed with exit code 3", "Attempts:       1", "> it is broken", "x86_64-linux"]
    {
        assert!(shown.stdout.contains(text), "{text}: {shown}");
    }
    let output = nix.records().iter().find(|r| r["drvPath"] == drv.as_str()).unwrap()["outputs"][0]["path"].clone();
    let output = output.as_str().unwrap();
    // The times differ from one command to the next.
    let lines = |shown: &str| -> Vec<String> {
        shown.lines().map(|line| line.split(" (").next().unwrap_or_default().to_owned()).collect()
    };
    let by_output = nix.run(&format!("$COMPANION show {output}")).exits(0);
    assert_eq!(lines(&by_output.stdout), lines(&shown.stdout));
    let json = nix.run(&format!("$COMPANION show --json {output} {drv}")).exits(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 1, "one record, though named twice");
    assert_eq!(json[0]["exitCode"], 3);
}

#[test]
fn show_asks_nobody_what_is_believed() {
    if left_out() {
        return;
    }
    let nix = with_failures();
    let drv = drv(&nix, "one-1.0");
    nix.script("no-nix", "echo nix was asked >&2; exit 1");
    nix.run("mkdir bin; for name in nix nix-store; do cp no-nix bin/$name; done").exits(0);
    for command in ["show", "show --json"] {
        let shown = nix.run(&format!("PATH=$PWD/bin:$PATH $COMPANION {command} {drv}")).exits(0);
        let shown = shown.does_not_say("nix").prints_part("one-1.0.drv");
        for word in ["elieved", "ifted", "not now"] {
            assert!(!shown.stdout.contains(word), "{word}: {shown}");
        }
        let alone = nix.run(&format!("PATH= $COMPANION {command} {drv}")).exits(0).does_not_say("assumed");
        assert_eq!(alone.stdout.lines().count(), shown.stdout.lines().count(), "{alone}");
        nix.run(&format!("PATH= $COMPANION {command} --explain {drv}"))
            .exits(0)
            .says("the default settings are assumed");
    }
    // What has succeeded since is said as well: that is recorded.
    nix.expression(&format!(r#"drv "x" "read x < {}/good && echo $x > $out" {{ }}"#, nix.path("").display()));
    nix.run("nix-build --no-out-link").exits(100);
    nix.write("good", "x\n");
    nix.run("nix-build --no-out-link --option negative-cache-retry true").exits(0);
    nix.run("$COMPANION show $(nix-instantiate)").exits(0).prints_part("\nLast success:   20");
}

#[test]
fn until_when_a_record_is_believed() {
    if left_out() {
        return;
    }
    let nix = with_failures();
    let drv = drv(&nix, "one-1.0");
    let record = |nix: &Scratch, options: &str| {
        nix.run(&format!("$COMPANION show --explain --json {options} {drv}")).exits(0).stdout
    };
    let read = |json: String| serde_json::from_str::<serde_json::Value>(&json).unwrap()[0].take();
    let week = |record: &serde_json::Value| {
        record["believedUntil"].as_i64().unwrap() - record["lastFailure"].as_i64().unwrap()
    };
    let standing = read(record(&nix, ""));
    assert_eq!(
        (&standing["believed"], &standing["class"], week(&standing)),
        (&true.into(), &"builder".into(), 604_800)
    );
    assert!(standing["history"][0]["failure"]["environment"]["sandbox"].is_string(), "{standing}");
    assert_eq!(week(&read(record(&nix, "--ttl 12h"))), 43_200);
    assert!(read(record(&nix, "--ttl 0s"))["believedUntil"].is_null());
    // Settings that are tried out ask for it as well.
    assert_eq!(week(&read(nix.run(&format!("$COMPANION show --json --ttl 12h {drv}")).exits(0).stdout)), 43_200);
    let shown = nix.run(&format!("$COMPANION show --explain {drv}")).exits(0).stdout;
    for text in
        ["Class:          builder (3)\n", "Believed until: 20", "Lifted by:      --option negative-cache-retry true"]
    {
        assert!(shown.contains(text), "{text}: {shown}");
    }

    nix.age(8);
    let expired = read(record(&nix, ""));
    assert_eq!((&expired["believed"], &expired["liftedBy"]), (&false.into(), &serde_json::json!([])), "{expired}");
    assert!(expired["doubt"].as_str().unwrap().contains("was believed until"), "{expired}");
    let list = nix.run("$COMPANION list").does_not_say("is built again\n");
    assert!(list.stdout.contains("not now: expired"), "{list}");
    let list = nix.run("$COMPANION list --ttl 9d").says("is built again\n  with --option negative-cache-retry true");
    assert!(!list.stdout.contains("not now"), "{list}");
    // The setting is in nix.conf here.
    let nix = nix.config("negative-cache-ttl = 777600");
    assert!(!nix.run("$COMPANION list").stdout.contains("not now"));
    for (option, value) in [("--ttl", "soon"), ("--ttl", "-1h"), ("--min-failures", "0"), ("--min-failures", "33")] {
        nix.run(&format!("$COMPANION list {option}={value}")).exits(2).says(option);
    }
}

#[test]
fn without_nix_the_defaults_are_assumed() {
    if left_out() {
        return;
    }
    let nix = with_failures();
    let list = nix.run("PATH= $COMPANION list").exits(0).says("the default settings are assumed: cannot run 'nix'");
    assert!(list.stdout.contains("UTC"), "{list}");
    nix.run("NIX_CONFIG= $COMPANION list").exits(0).says("this Nix has not loaded the plugin");
}

#[test]
fn what_succeeded_since_is_history() {
    let nix = Scratch::new();
    nix.expression(&format!(r#"drv "x" "read x < {}/good && echo $x > $out" {{ }}"#, nix.path("").display()));
    nix.run("nix-build --no-out-link").exits(100);
    nix.write("good", "x\n");
    nix.run("nix-build --no-out-link --option negative-cache-retry true").exits(0);
    nix.run("$COMPANION list").exits(0).prints("");
    let all = nix.run("$COMPANION list --all").exits(0);
    assert!(all.stdout.contains("), flaky") && all.stdout.contains("not now: succeeded since"), "{all}");
    let explained = nix.run("$COMPANION explain $(nix-instantiate)").exits(0);
    assert!(explained.stdout.contains("it has succeeded since."), "{explained}");
    let first = explained.stdout.lines().nth(1).unwrap_or_default();
    assert!(first.starts_with("There is nothing to build: Nix has its outputs"), "{explained}");
    assert!(!explained.stdout.contains("would be"), "{explained}");
    // The same if the failure is believed, because it was the last attempt of another build.
    nix.run("rm ../good; nix-build --check --no-out-link").does_not_say("not built again");
    nix.run("out=$(nix-store -q --outputs $(nix-instantiate)); nix-build --no-out-link; $COMPANION explain $out")
        .exits(0)
        .prints_part("\nThere is nothing to build: ");
    nix.run("$COMPANION forget $(nix-instantiate) && $COMPANION list --all --json")
        .exits(0)
        .prints("forgot 1 failure\n[]");
}

#[test]
fn explain_says_why() {
    let nix = with_failures();
    nix.expression(r#"let one = fail "one-1.0"; in { inherit one; top = needs "top" [ one ]; other = ok "other"; }"#);
    let explain = |options: &str, attribute: &str| {
        nix.run(&format!("{options} $COMPANION explain $(nix-instantiate -A {attribute})")).exits(0).stdout
    };
    let refused = explain("", "one");
    assert!(
        refused.contains("It failed once, last ") && refused.contains("builder failed with exit code 3"),
        "{refused}"
    );
    assert!(refused.contains("\nSo it would be refused.\nWhat would have it built again:\n- "), "{refused}");
    let needs = explain("", "top");
    assert!(needs.contains("So it would be built.\nBut it needs '") && needs.contains("one-1.0.drv'"), "{needs}");
    let free = explain("", "other");
    assert!(free.ends_with("No failure of it is recorded. So it would be built.\n"), "{free}");
    for (config, why) in [
        ("cores = 99", "it failed in another environment: cores was"),
        ("negative-cache-retry = true", "So it would be built, as 'negative-cache-retry' is on."),
        ("keep-failed = true", "So it would be built, as 'keep-failed' is on."),
        ("negative-cache-action = warn", "after a warning"),
        ("negative-cache = false", "So it would be built, as 'negative-cache' is off."),
        ("negative-cache-min-failures = 3", "it failed only once in a row, and 3 times are needed"),
    ] {
        let explained = explain(&format!("export NIX_CONFIG=\"$NIX_CONFIG\"$'\\n{config}';"), "one");
        assert!(explained.contains(why), "{config}: {explained}");
    }
    nix.age(8);
    assert!(explain("", "one").contains("This does not count now: the failure was believed until"));
    // What is no path of a store, or not in this one, is an error as in `show`.
    let unknown = "/nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x";
    for path in ["/etc/passwd", "/", "$PWD", "$PWD/../store", unknown, &format!("{unknown}.drv")] {
        for command in ["explain", "show", "forget", "retry"] {
            let ran = nix.run(&format!("$COMPANION {command} {path}")).exits(3).says("no failure of '");
            ran.says("' is recorded in '").prints("");
        }
    }
    let both = nix.run("$COMPANION explain /etc/passwd $(nix-instantiate -A other)").exits(3).says("'/etc/passwd'");
    assert!(both.stdout.ends_with("No failure of it is recorded. So it would be built.\n"), "{both}");
    nix.run("$COMPANION explain etc/passwd").exits(2).says("not a store path");
    // The derivation is no longer in the store.
    let drv = drv(&nix, "two-2.0");
    nix.run("nix-collect-garbage").exits(0);
    assert!(nix.run(&format!("$COMPANION explain {drv}")).exits(0).stdout.contains("It failed once"));
}

#[test]
fn explain_and_the_plugin_agree_on_the_environment() {
    let nix = with_failures();
    for change in ["cores = 99", "sandbox-build-dir = /other", "builders = ssh://a\nmax-jobs = 2"] {
        nix.run("$COMPANION forget --all; nix-build -A one").exits(100);
        let explained = nix.run(&format!(
            "export NIX_CONFIG=\"$NIX_CONFIG\"$'\\n{}'; $COMPANION explain $(nix-instantiate -A one)",
            change.replace('\n', "\\n")
        ));
        let ran = nix.run(&format!(
            "export NIX_CONFIG=\"$NIX_CONFIG\"$'\\n{}'; nix-build -v -A one",
            change.replace('\n', "\\n")
        ));
        let why = ran.stderr.split("may be built: ").nth(1).and_then(|rest| rest.lines().next());
        assert!(explained.stdout.contains(why.unwrap_or_else(|| panic!("{ran}"))), "{explained}\n{ran}");
    }
}

#[test]
fn check_tells_what_stands_in_the_way() {
    let nix = with_failures();
    nix.expression(
        r#"let one = fail "one-1.0"; in rec {
          inherit one; middle = needs "middle" [ one ]; top = needs "top" [ middle ok' ]; ok' = ok "ok"; other = ok "other";
        }"#,
    );
    let check = |options: &str, attribute: &str| {
        nix.run(&format!("$COMPANION check {options} $(nix-instantiate -A {attribute})"))
    };
    let one = check("", "one").exits(4);
    assert!(
        one.stdout.contains("-one-1.0.drv failed ") && one.stdout.contains("(builder failed with exit code 3)"),
        "{one}"
    );
    check("", "top").exits(0).prints("");
    // Other settings can be tried out, whatever those in force say.
    check("--min-failures 2", "one").exits(0).prints("");
    check("--min-failures 1", "one").exits(4);
    let top = check("--closure", "top").exits(4);
    assert_eq!(top.stdout.lines().count(), 1, "{top}");
    check("--closure", "other").exits(0).prints("");
    let json = check("--closure --json", "top -A one -A other").exits(4).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json.as_array().unwrap().len(), &json[0]["name"]), (1, &"one-1.0".into()));
    assert_eq!((nix.runs("one-1.0"), nix.runs("other"), nix.runs("middle")), (1, 0, 0), "nothing is built");

    nix.run("nix-build -A other").exits(0);
    nix.age(8);
    check("--closure", "top").exits(0);
    check("--closure --ttl 9d", "top").exits(4);
    nix.run("$COMPANION check /nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv").exits(1).says("'nix-store' failed: ");
    // The derivation was in the store before it is deleted here.
    let drv = nix.run("nix-instantiate -A one").stdout.trim().to_owned();
    let gone = nix.run(&format!("nix-collect-garbage > /dev/null 2>&1; $COMPANION check {drv}")).exits(1);
    gone.says(&format!("'{drv}' is not in the store"));
    let explained = nix.run(&format!("$COMPANION explain --ttl 9d {drv}")).exits(0);
    assert!(explained.stdout.contains("So it would be refused.") && !explained.stdout.contains("But"), "{explained}");
    nix.run("$COMPANION check /nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x").exits(2).says("ends with .drv");
    nix.run("$COMPANION check").exits(2);
    let off = "$COMPANION check --ttl 9d $(nix-instantiate -A one)";
    nix.run(off).exits(4);
    nix.run(&format!("NIX_CONFIG=\"${{NIX_CONFIG/negative-cache = true/}}\" {off}"))
        .exits(0)
        .says("'negative-cache' is off");
}

/// As Nix names outputs of a derivation. A failure is one of the whole derivation.
#[test]
fn outputs_of_a_derivation_stand_for_it() {
    if left_out() {
        return;
    }
    let nix = with_failures();
    let drv = drv(&nix, "one-1.0");
    for outputs in ["^out", "^*", "!out", "^out,dev"] {
        let path = format!("'{drv}{outputs}'");
        for (command, status, prints) in [
            ("show", 0, format!("Derivation:     {drv}\n")),
            ("explain", 0, format!("{drv}\nIt failed once")),
            ("check", 4, format!("{drv} failed ")),
            ("check --closure", 4, format!("{drv} failed ")),
            ("retry", 0, format!("the next build of '{drv}' will be tried")),
            ("forget", 0, "forgot 1 failure".to_owned()),
        ] {
            nix.run(&format!("$COMPANION {command} {path}")).exits(status).prints_part(&prints);
        }
        nix.run("nix-build -A one").exits(100).does_not_say("not built again");
    }
    for command in ["show", "explain", "check", "retry", "forget"] {
        nix.run(&format!("$COMPANION {command} '{drv}^'")).exits(2).says("not the outputs of a derivation");
    }
}

#[test]
fn without_the_rights_it_is_said_which_one_is_missing() {
    let nix = with_failures();
    let drv = drv(&nix, "one-1.0");
    nix.script(
        "../asking",
        "chmod 755 ..; cp $COMPANION ../companion; mkdir -p ../home-games; chown games: ../home-games
        exec setpriv --reuid games --regid games --clear-groups env HOME=$PWD/../home-games \"$@\"",
    );
    for command in [format!("check {drv}"), format!("retry {drv}")] {
        let ran = nix.run(&format!("../asking ../companion {command}")).exits(1).prints("");
        let ran = ran.says("this user has no right to write to '").says("run this as the owner of the store");
        ran.says("export NIX_REMOTE=daemon").does_not_say("'nix-store' failed");
        let ran = nix.run(&format!("NIX_REMOTE=daemon ../asking ../companion {command}")).exits(1);
        ran.says("nix-daemon does not answer at '").says("systemctl start nix-daemon");
    }
    nix.run(&format!("../asking ../companion retry {drv}"))
        .exits(1)
        .says(&format!("only the owner of '{}' may note there that '{drv}' is to be tried", nix.database().display()));
    // A record can be explained all the same.
    let explained = nix.run(&format!("../asking ../companion explain {drv}")).exits(0);
    let explained = explained.says("it is not known whether there is anything to build: this user has no right");
    assert!(explained.stdout.contains("It failed once"), "{explained}");
    // Only who may forget a record is told to.
    let commands = ["list", "show --explain $DRV", "explain $DRV", "show --explain --json $DRV"];
    for (asks, says, does_not_say) in [("", "forget", "retry "), ("../asking ", "retry ", "forget")] {
        for command in commands {
            let ran = nix.run(&format!("DRV={drv}; {asks}../companion {command}")).exits(0);
            let said = format!("{}{}", ran.stdout, ran.stderr);
            assert!(said.contains(&format!("nix-negative-cache {says}")), "{ran}");
            assert!(!said.contains(&format!("nix-negative-cache {does_not_say}")), "{ran}");
        }
    }
}

#[test]
fn records_outlive_their_derivations() {
    if left_out() {
        return;
    }
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
    if left_out() {
        return;
    }
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
    // The user's own database, and the store's.
    let own = nix.path("home/.local/state/nix/negative-cache/failures.sqlite").display().to_string();
    nix.run("$COMPANION path").exits(0).prints(&format!("{own}\n{database}"));
    let with = |store: &str| format!("{own}\n{store}/negative-cache/failures.sqlite");
    nix.run("env -u NIX_STATE_DIR $COMPANION path").exits(0).prints(&with("/nix/var/nix"));
    nix.run("$COMPANION path --store-state /x").exits(0).prints(&with("/x"));
    nix.run("$COMPANION --database /y path").exits(0).prints("/y");
    nix.run("$COMPANION --database $PWD/none list --json").exits(0).prints("[]");
    assert!(!exists(&nix.path("work/none")), "looking makes no database");
}

#[test]
fn a_broken_database_is_a_clear_error() {
    if left_out() {
        return;
    }
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
fn help_and_completions() {
    if left_out() {
        return;
    }
    let nix = with_failures();
    let escapes = regex::Regex::new("\x1b\\[[0-9;]*m").unwrap();
    for command in COMMANDS {
        let help = nix.run(&format!("$COMPANION {command} --help")).exits(0);
        assert!(help.stdout.contains("Usage: "), "{help}");
        // In a narrow terminal no line is broken by the terminal.
        for how in ["COLUMNS=40 $COMPANION @", "script -qec 'stty cols 40; $COMPANION @' /dev/null"] {
            let help = nix.run(&how.replace('@', &format!("{command} --help"))).exits(0).stdout;
            let help = escapes.replace_all(&help, "");
            assert!(help.lines().all(|line| line.trim_end_matches('\r').chars().count() <= 40), "{help}");
            let usage = help.split_once("Usage: ").map_or("", |(_, usage)| usage);
            assert!(!usage.contains("--store-state <DIR> "), "{help}");
        }
    }
    // An option that comes from the environment is not one that was given.
    for command in ["show", "check", "explain", "forget", "completions"] {
        let ran = nix.run(&format!("NIX_STATE_DIR=/x $COMPANION {command}")).exits(2).says("Usage: ");
        ran.does_not_say("--store-state");
    }
    for shell in ["bash", "zsh", "fish"] {
        let ran = nix.run(&format!("$COMPANION completions {shell}")).exits(0);
        assert!(ran.stdout.contains("forget"), "{shell}");
    }
}

const COMMANDS: [&str; 26] = [
    "",
    "list",
    "show",
    "forget",
    "retry",
    "explain",
    "diff",
    "log",
    "judge",
    "check",
    "stats",
    "report",
    "watch",
    "export",
    "import",
    "import hydra",
    "publish",
    "fetch",
    "doctor",
    "path",
    "run",
    "shim",
    "shim install",
    "shim remove",
    "man",
    "completions",
];

#[test]
fn no_cache_is_asked_unless_a_key_is_trusted() {
    if left_out() {
        return;
    }
    let nix = with_failures();
    let drv = drv(&nix, "one-1.0");
    let ran = nix.run(&format!("$COMPANION fetch {drv}")).exits(1);
    ran.says("no binary cache is asked, as nobody's key is trusted; put the public key of who publishes failures");
    for offline in ["", "--offline"] {
        nix.run(&format!("$COMPANION check {offline} {drv}")).exits(4).does_not_say("binary cache");
    }
}

#[test]
fn whatever_prints_survives_a_closed_pipe_and_a_full_device() {
    if left_out() {
        return;
    }
    let nix = with_failures();
    let drv = drv(&nix, "one-1.0");
    nix.write("work/log", &"tool: out of memory\n".repeat(10_000));
    // The help of all commands is printed in the same way.
    let help = COMMANDS.map(|command| {
        let help = format!("$COMPANION {command} --help");
        format!("{help} | true || exit 9; {help} >&- || exit 8; {help} > /dev/full; [ $? = 1 ] || exit 7")
    });
    let ran = nix.run(&format!("set -o pipefail; {}", help.join("; "))).exits(0).does_not_say("panicked");
    ran.says_times("nix-negative-cache: cannot write the output: No space left on device", COMMANDS.len());
    let commands = [
        "--version",
        "list",
        "list --json",
        "show $DRV",
        "explain $DRV",
        "diff $DRV",
        "log $DRV",
        "export -",
        "judge log",
        "check $DRV",
        "retry $DRV",
        "forget --name one; nix-build -A one 2> /dev/null",
        "stats",
        "stats --json",
        "stats --prometheus",
        "report -",
        "doctor",
        "path",
        "run -- true",
        "shim install links",
        "completions bash",
        "completions fish",
    ];
    for command in commands {
        let (command, then) = command.split_once(';').unwrap_or((command, "true"));
        let run = |how: &str| {
            let line = how.replace('@', &format!("$COMPANION {command}"));
            nix.run(&format!("DRV={drv}; set -o pipefail; {line}; status=$?; {then}; exit $status"))
                .does_not_say("panicked")
        };
        let plain = run("@ > /dev/null").status;
        // The reader has gone before the process begins to print.
        let closed = "mkfifo -m 600 pipe; true < pipe & { sleep 0.2; @; } > pipe; status=$?; rm pipe; (exit $status)";
        run(closed).exits(plain).does_not_say("cannot write");
        for how in ["@ >&-", "@ 2> /dev/full > /dev/null"] {
            run(how).exits(plain);
        }
        if command == "run -- true" {
            continue;
        }
        run("@ > /dev/full").exits(1).says("nix-negative-cache: cannot write the output: No space left on device");
        run("@ > /dev/full 2>&1").exits(1);
    }
    // Man pages are files.
    nix.run("ln -s /dev/full nix-negative-cache-list.1; $COMPANION man .")
        .exits(1)
        .says("cannot write man pages to '.': ");
}

#[test]
fn judge_says_what_is_made_of_a_log() {
    if left_out() {
        return;
    }
    let nix = Scratch::new();
    nix.write(
        "work/killed",
        "working\ng++: fatal error: Killed signal terminated program cc1plus\nmake: *** [all] Error 2\n",
    );
    nix.run("$COMPANION judge killed").exits(0).prints(
        "not recorded: the log tells of something it ran was killed, in line 2 of 3: g++: fatal error: Killed signal terminated \
         program cc1plus (class 'transient')\n\
         strong evidence: something it ran was killed, in line 2 of 3: g++: fatal error: Killed signal terminated program cc1plus",
    );
    nix.run("echo 'tool: out of memory\nexpected 1, got 2' | $COMPANION judge")
        .exits(0)
        .prints_part(
            "doubtful: recorded with the class 'builder', and believed once the same failure has come twice in a row",
        )
        .prints_part("against it: a test expects it: expected 1, got 2");
    nix.run("echo 'test 17 failed' | $COMPANION judge --exit-code 3")
        .exits(0)
        .prints("clear: recorded with the class 'builder', and believed at once");
    nix.run("echo Killed | $COMPANION judge --exit-code 137").exits(0).prints_part("a signal ended the builder");
    let resolve = "echo 'curl: (6) Could not resolve host: x' | $COMPANION judge";
    nix.run(&format!("{resolve} --sandbox")).exits(0).prints_part("clear: ");
    nix.run(resolve).exits(0).prints_part("doubtful: ");
    nix.run(&format!("{resolve} --fixed-output")).exits(0).prints_part("not recorded: ");
    nix.run("$COMPANION judge no-such-file").exits(1).says("cannot read the log 'no-such-file': ");
    nix.run("$COMPANION judge --exit-code 0").exits(2).says("--exit-code");
    nix.run("head -c 30M /dev/zero | tr '\\0' x | $COMPANION judge").exits(0).prints_part("clear: ");
}

#[test]
fn what_decided_about_a_doubtful_failure() {
    if left_out() {
        return;
    }
    let nix = Scratch::new();
    nix.expression(r#"drv "x" "echo working; echo 'java.lang.OutOfMemoryError: Java heap space'; exit 1" { }"#);
    nix.run("nix-build -v").exits(100).says("is doubtful, so it counts once the same has come twice in a row: the log tells of out of memory, in line 2 of 2");
    let drv = drv(&nix, "x");
    let decided = "out of memory, in line 2 of 2: java.lang.OutOfMemoryError: Java heap space";
    for command in ["explain", "show"] {
        nix.run(&format!("$COMPANION {command} {drv}")).exits(0).prints_part(decided);
    }
    nix.run("$COMPANION list").exits(0).prints_part("builder (1), doubtful").prints_part("not now: doubtful");
    nix.run(&format!("$COMPANION explain {drv}")).exits(0).prints_part("So it would be built.");
    nix.run("nix-build").exits(100).does_not_say(nix_negative_cache_tests::REFUSED);
    nix.run("nix-build").exits(100).says(nix_negative_cache_tests::REFUSED);
    nix.run(&format!("$COMPANION explain {drv}")).exits(0).prints_part("So it would be refused.");
}

#[test]
fn another_doubtful_failure_settles_nothing() {
    if left_out() {
        return;
    }
    let nix = Scratch::new();
    let said = nix.path("said").display().to_string();
    nix.expression(&format!(r#"drv "x" "cat {said}; exit 1" {{ }}"#));
    for line in ["java.lang.OutOfMemoryError: Java heap space", "java.lang.OutOfMemoryError: Metaspace"] {
        nix.write("said", line);
        nix.run("nix-build").exits(100).does_not_say(nix_negative_cache_tests::REFUSED);
    }
    nix.run("nix-build").exits(100).does_not_say(nix_negative_cache_tests::REFUSED);
    nix.run("nix-build").exits(100).says(nix_negative_cache_tests::REFUSED);
    assert_eq!(nix.runs("x"), 3);
}
