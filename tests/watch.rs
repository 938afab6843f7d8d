//! `watch`: what is recorded, refused and lifted, as it happens.

use nix_negative_cache_tests::{Ran, Scratch, among_users, exists};
use serde_json::Value;

/// Starts `watch` with these words after it, and has the function `arrive` wait for so many lines.
fn watching(arguments: &str, line: &str) -> String {
    format!(
        "env --default-signal=INT $COMPANION watch {arguments} > ../events 2> ../said & watch=$!; trap 'kill $watch 2> /dev/null' EXIT
         for i in $(seq 300); do ! grep -q 'watching .*; Control-C ends it' ../said || break; sleep 0.05; done
         arrive() {{ for i in $(seq 200); do [ $(wc -l < ../events) -lt $1 ] || return 0; sleep 0.05; done; echo \"no line $1\" >&2; }}
         {line}
         kill -INT $watch; wait $watch; [ $? = 130 ] && cat ../events && cat ../said >&2"
    )
}

/// The lines of `watch --json`.
fn lines(ran: &Ran) -> Vec<Value> {
    ran.stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}: {ran}")))
        .collect()
}

/// What the lines are about, in words.
fn events(lines: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let name =
        |line: &Value| text(&line["drvPath"]).rsplit('/').next().unwrap()[33..].trim_end_matches(".drv").to_owned();
    let event = |line: &Value| {
        let more =
            ["by", "user", "count"].iter().filter_map(|name| line.get(name)).map(|value| format!(" {}", text(value)));
        format!("{} {}{}", text(&line["event"]), name(line), more.collect::<String>())
    };
    lines.iter().map(event).collect()
}

#[test]
fn what_is_recorded_refused_and_lifted_is_told_in_order() {
    let nix = Scratch::new();
    nix.expression(r#"{ old = fail "old"; bad = drv "bad" "[ -e ${runs}/mended ] || exit 3; echo > $out" { }; }"#);
    nix.run("nix-build -A old").exits(100);
    let retry = "--option negative-cache-retry true";
    let line = format!(
        "nix-build -A bad &> ../built; arrive 1; nix-build -A bad &> ../built; arrive 2; nix-build -A bad {retry} &> ../built; arrive 3
         $COMPANION retry $(nix-instantiate -A bad) &> ../built; arrive 4; touch ../runs/mended; nix-build -A bad &> ../built; arrive 5
         $COMPANION forget $(nix-instantiate -A old) &> ../built; arrive 6"
    );
    let ran = nix.run(&watching("--json", &line)).exits(0).does_not_say("no line");
    let lines = lines(&ran);
    let expected = [
        "recorded bad",
        "refused bad 1",
        "recorded bad",
        "lifted bad retry 0",
        "lifted bad build",
        "lifted old forget",
    ];
    assert_eq!(events(&lines), expected, "{ran}");
    assert_eq!((&lines[0]["record"]["name"], &lines[2]["record"]["attempts"]), (&"bad".into(), &2.into()), "{ran}");
    assert!(lines.iter().all(|line| line["database"] == *nix.database().to_string_lossy()), "{ran}");
    let times: Vec<i64> = lines.iter().map(|line| line["time"].as_i64().unwrap()).collect();
    assert!(times.is_sorted(), "{ran}");
}

#[test]
fn people_read_a_line_for_each() {
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; }"#);
    let line =
        "nix-build -A bad &> ../built; arrive 1; $COMPANION forget $(nix-instantiate -A bad) &> ../built; arrive 2";
    let ran = nix.run(&watching("", line)).exits(0);
    let [recorded, lifted] = ran.stdout.lines().collect::<Vec<_>>()[..] else { panic!("{ran}") };
    assert!(
        recorded.contains("  recorded  /") && recorded.contains("-bad.drv: builder failed with exit code 3, after "),
        "{ran}"
    );
    assert!(recorded.ends_with(" (1 attempt)") && lifted.ends_with("-bad.drv: it was forgotten"), "{ran}");
}

/// The database is made, moved away and made anew while it is watched.
#[test]
fn databases_come_and_go() {
    let nix = Scratch::new();
    nix.expression(r#"{ one = fail "one"; two = fail "two"; three = fail "three"; }"#);
    let line = "nix-build -A one &> ../built; arrive 1
                mv ../var/negative-cache ../gone; sleep 0.7; nix-build -A two &> ../built; arrive 2
                rm -r ../var/negative-cache; mv ../gone ../var/negative-cache; nix-build -A three &> ../built; arrive 3";
    assert!(!exists(&nix.database()));
    let ran = nix.run(&watching("--json", line)).exits(0);
    assert_eq!(events(&lines(&ran)), ["recorded one", "recorded two", "recorded three"], "{ran}");
}

#[test]
fn what_can_not_be_read_is_said_once() {
    let nix = Scratch::new();
    nix.expression(r#"fail "bad""#);
    let line = "mkdir -p ../var/negative-cache/failures.sqlite; sleep 2; rmdir ../var/negative-cache/failures.sqlite; sleep 1; \
                nix-build &> ../built; arrive 1";
    let ran = nix.run(&watching("--json", line)).exits(0).says_times("is not a regular file", 1);
    assert_eq!(events(&lines(&ran)), ["recorded bad"], "{ran}");
}

/// Between the looks no transaction is open, which would have the log grow with all that is written.
#[test]
fn the_write_ahead_log_does_not_grow_while_somebody_watches() {
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; other = fail "other"; }"#);
    let line = "nix-build -A bad &> ../built; arrive 1; sleep 1
                sqlite3 ../var/negative-cache/failures.sqlite 'PRAGMA wal_checkpoint(truncate)' >&2
                nix-build -A other &> ../built; arrive 2";
    nix.run(&watching("", line)).exits(0).says("0|0|0");
}

#[test]
fn it_ends_when_nobody_reads_any_more() {
    let nix = Scratch::new();
    nix.expression(r#"fail "bad""#);
    // The reader goes after a line, and without one.
    let line = "set -o pipefail; (sleep 2; nix-build &> ../built) & timeout 60 $COMPANION watch --json | head -n 1; \
                echo $?; timeout 60 $COMPANION watch | sleep 1; echo $?";
    let ran = nix.run(line).exits(0);
    let [event, first, second] = ran.stdout.lines().collect::<Vec<_>>()[..] else { panic!("{ran}") };
    assert!(event.starts_with("{\"event\":\"recorded\"") && (first, second) == ("0", "0"), "{ran}");
}

/// Of a daemon's database, a user sees what `list` shows.
#[test]
fn users_watch_the_database_of_a_daemon() {
    let nix = Scratch::new();
    nix.expression(r#"{ first = fail "first"; bad = fail "bad"; }"#);
    let line = "as news nix-build -A first &> ../built
                as games timeout --foreground 60 $COMPANION watch --json > ../events 2> ../said & watch=$!
                for i in $(seq 300); do ! grep -q 'watching' ../said || break; sleep 0.05; done
                as news nix-build -A bad &> ../built
                for i in $(seq 300); do [ ! -s ../events ] || break; sleep 0.05; done
                pkill -g 0 -u games; wait $watch; cat ../events; cat ../said >&2";
    let ran = among_users(&nix, line).exits(0);
    let lines = lines(&ran);
    assert_eq!(events(&lines), ["recorded bad"], "{ran}");
}
