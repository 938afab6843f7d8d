//! `watch`: what is recorded, refused and lifted, as it happens.

use nix_negative_cache_tests::{Ran, Scratch, among_users, exists};
use serde_json::Value;

/// Starts `watch` with these words after it. The function `arrive` waits for so many lines, `said` for a message, and `looked` until
/// the databases were looked at since: between two looks the process sleeps, which its system counts.
fn watching(arguments: &str, line: &str) -> String {
    format!(
        "env --default-signal=INT $COMPANION watch {arguments} > ../events 2> ../said & watch=$!; trap 'kill $watch 2> /dev/null' EXIT
         arrive() {{ for i in $(seq 200); do [ $(wc -l < ../events) -lt $1 ] || return 0; sleep 0.05; done; echo \"no line $1\" >&2; }}
         said() {{ for i in $(seq 300); do ! grep -qs \"$1\" ../said || return 0; sleep 0.05; done; echo \"not said: $1\" >&2; exit 9; }}
         slept() {{ awk '$1 == \"voluntary_ctxt_switches:\" {{ print $2 }}' /proc/$watch/status; }}
         looked() {{ local start=$(slept); for i in $(seq 300); do [ $(slept) -lt $((start + 4)) ] || return 0; sleep 0.05; done
                     echo 'no look' >&2; exit 9; }}
         said 'watching .*; Control-C ends it'
         {line}
         kill -INT $watch; wait $watch; [ $? = 130 ] && cat ../events && cat ../said >&2"
    )
}

/// Waits until `watch` says that it is there.
const WATCHING: &str =
    "for i in $(seq 300); do ! grep -qs 'watching .*; Control-C ends it' ../said || break; sleep 0.05; done";

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
                mv ../var/negative-cache ../gone; looked; nix-build -A two &> ../built; arrive 2
                rm -r ../var/negative-cache; mv ../gone ../var/negative-cache; nix-build -A three &> ../built; arrive 3";
    assert!(!exists(&nix.database()));
    let ran = nix.run(&watching("--json", line)).exits(0);
    assert_eq!(events(&lines(&ran)), ["recorded one", "recorded two", "recorded three"], "{ran}");
}

#[test]
fn what_can_not_be_read_is_said_once() {
    let nix = Scratch::new();
    nix.expression(r#"fail "bad""#);
    // It is looked at again while the folder is there, which is when it could be said twice. That nothing is there has to be seen
    // as well: what appears in its place between two looks may be old.
    let line = "mkdir -p ../var/negative-cache/failures.sqlite; said 'is not a regular file'; looked
                rmdir ../var/negative-cache/failures.sqlite; looked; nix-build &> ../built; arrive 1";
    let ran = nix.run(&watching("--json", line)).exits(0).says_times("is not a regular file", 1);
    assert_eq!(events(&lines(&ran)), ["recorded bad"], "{ran}");
}

/// Between the looks no transaction is open, which would have the log grow with all that is written.
#[test]
fn the_write_ahead_log_does_not_grow_while_somebody_watches() {
    let nix = Scratch::new();
    nix.expression(r#"{ bad = fail "bad"; other = fail "other"; }"#);
    let line = "nix-build -A bad &> ../built; arrive 1; looked
                sqlite3 ../var/negative-cache/failures.sqlite 'PRAGMA wal_checkpoint(truncate)' >&2
                nix-build -A other &> ../built; arrive 2";
    nix.run(&watching("", line)).exits(0).says("0|0|0");
}

#[test]
fn it_ends_when_nobody_reads_any_more() {
    let nix = Scratch::new();
    nix.expression(r#"fail "bad""#);
    // The reader goes after a line, and without one.
    let line = format!(
        "set -o pipefail; ({WATCHING}; nix-build &> ../built) & timeout 60 $COMPANION watch --json 2> ../said | head -n 1; \
         echo $?; rm ../said; timeout 60 $COMPANION watch 2> ../said | ({WATCHING}); echo $?"
    );
    let ran = nix.run(&line).exits(0);
    let [event, first, second] = ran.stdout.lines().collect::<Vec<_>>()[..] else { panic!("{ran}") };
    assert!(event.starts_with("{\"event\":\"recorded\"") && (first, second) == ("0", "0"), "{ran}");
}

#[test]
fn a_full_device_ends_it() {
    let nix = Scratch::new();
    nix.expression(r#"fail "bad""#);
    let line = format!(
        "({WATCHING}; nix-build &> ../built) & timeout 60 $COMPANION watch > /dev/full 2> ../said; status=$?; cat ../said >&2; exit $status"
    );
    nix.run(&line).exits(1).says("nix-negative-cache: cannot write the output: No space left on device");
}

/// Of a daemon's database, a user sees what `list` shows.
#[test]
fn users_watch_the_database_of_a_daemon() {
    let nix = Scratch::new();
    nix.expression(r#"{ first = fail "first"; bad = fail "bad"; }"#);
    let line = "as news nix-build -A first &> ../built
                as games timeout --foreground 60 $COMPANION watch --json > ../events 2> ../said & watch=$!
                @
                as news nix-build -A bad &> ../built
                for i in $(seq 300); do [ ! -s ../events ] || break; sleep 0.05; done
                pkill -g 0 -u games; wait $watch; cat ../events; cat ../said >&2";
    let ran = among_users(&nix, &line.replace('@', WATCHING)).exits(0);
    let lines = lines(&ran);
    assert_eq!(events(&lines), ["recorded bad"], "{ran}");
}
