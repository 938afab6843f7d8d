//! `nix-negative-cache import hydra`: what a Hydra has seen fail, and what a bad one can't do.

#[path = "hydra/again.rs"]
mod again;
#[path = "hydra/logs.rs"]
mod logs;

use std::time::{Duration, Instant};

use nix_negative_cache_tests::caches::{Answer, Key, Nginx, refused_url};
use nix_negative_cache_tests::hydra::{Hydra, Listener, build, made_up};
use nix_negative_cache_tests::{Ran, Scratch, left_out, with_daemon};
use serde_json::{Value, json};

const BROKEN: &str = "x.c:1:1: error: expected ';'\nmake: *** [x] Error 1\n";

/// An installation that has built nothing yet.
fn in_sandbox() -> Scratch {
    let nix = Scratch::in_sandbox();
    nix.expression(
        r#"{ one = drv "one" "exit 3" { }; two = drv "two" "exit 4" { }; good = drv "good" "echo x > $out" { };
             fetch = drv "fetch" "exit 5" {
               outputHash = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"; outputHashAlgo = "sha256";
             };
             local = drv "local" "exit 6" { allowSubstitutes = false; };
             late = drv "late" "exit 7" { after = drv "slow" "until [ $SECONDS -ge 3 ]; do :; done; echo x > $out" { }; }; }"#,
    );
    nix
}

/// Imports from a Hydra that nobody need spare.
fn import(nix: &Scratch, hydra: &Hydra, arguments: &str) -> Ran {
    let url = hydra.server().url();
    nix.run(&format!("$COMPANION import hydra {url} --rate 1000 --timeout 5s {arguments}"))
}

/// Where the log of a build that is made up is asked for.
fn log_of(number: u64) -> String {
    made_up(number)["drvpath"].as_str().unwrap().replace("/nix/store/", "/log/")
}

/// What was asked for since the last time.
fn asked(hydra: &Hydra) -> Vec<String> {
    let requests = hydra.server().requests();
    hydra.server().clear();
    requests
}

#[test]
fn what_a_hydra_has_seen_fail_is_refused() {
    let nix = in_sandbox();
    let hydra = Hydra::start(&nix);
    hydra.fails(&nix, 123, "one", BROKEN);
    hydra.fails(&nix, 124, "two", BROKEN);
    let url = hydra.server().url();
    let tried = import(&nix, &hydra, "--build 123 --dry-run").exits(0);
    tried.prints_part("-one.drv: it failed 1 minute ago (builder failed)\nwould import 1 failure from http://");
    nix.run("$COMPANION list").exits(0).says("no such failure is recorded");
    import(&nix, &hydra, "--build 123")
        .exits(0)
        .prints_part(&format!("imported 1 failure from {url} into '"))
        .says("is not asked over https: whoever is on the way there can make failures up");
    let refused = nix.run("nix-build --no-out-link -A one").exits(100).does_not_say("building '");
    refused
        .says("is not built: it failed 1 minute ago elsewhere")
        .says(&format!("Reason: builder failed, after 1 m (1 attempt; hydra: {url}/build/123)"))
        .says("> x.c:1:1: error: expected ';'")
        .says(&format!("For full logs, see {url}/log/"));
    nix.run("nix-build --no-out-link -A two").exits(100).says("building '");
    // It is shown as all else that was learned elsewhere.
    nix.run("$COMPANION list --origin hydra").exits(0).prints_part("builder, elsewhere").prints_part("one");
    nix.run(&format!("$COMPANION list --origin {url} | grep -c one")).exits(0).prints("1");
    nix.run("$COMPANION list --origin here --json | grep -c drvPath").exits(0).prints("1");
    nix.run("$COMPANION explain -A one").exits(0).prints_part(&format!("elsewhere (hydra: {url}/build/123): "));
    let shown = nix.run("$COMPANION show --explain -A one").exits(0);
    shown
        .prints_part(&format!("Imported from:  {url}/build/123\n"))
        .prints_part(&format!("Log:            {url}/log/"))
        .prints_part("time: a failure from a Hydra is believed for 7 days at most");
    let record = nix.run("$COMPANION show --json -A one").exits(0).stdout;
    let record: Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record[0]["origin"]["hydra"], format!("{url}/build/123"), "{record}");
    let expression = "(builtins.knownFailure (import ./default.nix).one).origin.hydra";
    let known = nix.run(&format!("nix-instantiate --eval --expr '{expression}'")).exits(0);
    known.prints_part(&format!("\"{url}/build/123\""));
    // What was imported once is not asked for again, also if it was forgotten.
    asked(&hydra);
    nix.run("$COMPANION forget -A one").exits(0);
    import(&nix, &hydra, "--build 123")
        .exits(0)
        .prints_part("imported 0 failures")
        .prints_part("; 1 imported or left out before");
    assert_eq!(asked(&hydra), Vec::<String>::new());
    nix.run("nix-build --no-out-link -A one").exits(100).says("building '");
}

/// The same output may come from elsewhere, and a Hydra does not tell that it was one.
#[test]
fn a_fetch_is_not_refused() {
    let nix = in_sandbox();
    let hydra = Hydra::start(&nix);
    hydra.fails(&nix, 123, "fetch", BROKEN);
    import(&nix, &hydra, "--build 123").exits(0).prints_part("imported 1 failure");
    nix.run("nix-build --no-out-link -A fetch").says("building '").does_not_say("is not built");
    let known =
        |name| format!("nix-instantiate --eval --expr 'builtins.knownFailure (import ./default.nix).{name} != null'");
    nix.run(&known("fetch")).exits(0).prints("false");
    // Who may not be substituted is no fetch.
    hydra.fails(&nix, 124, "local", BROKEN);
    import(&nix, &hydra, "--build 124").exits(0).prints_part("imported 1 failure");
    nix.run("nix-build --no-out-link -A local").exits(100).does_not_say("building '").says("elsewhere");
    nix.run(&known("local")).exits(0).prints("true");
    // The daemon looks into the derivation as well.
    let through = |name| with_daemon(&nix, &format!("NIX_REMOTE=daemon {}", known(name)));
    through("local").prints("true");
    through("fetch").prints("false");
}

#[test]
fn what_failed_here_counts_beside_what_a_hydra_has_seen_later() {
    let nix = in_sandbox();
    let hydra = Hydra::start(&nix);
    nix.run("nix-build --no-out-link -A local -A fetch -k").exits(100);
    let earlier = "update attempt set time = time - 3600000; update failure set first_failure = first_failure - 3600000, \
                   last_failure = last_failure - 3600000";
    nix.run(&format!("sqlite3 {} '{earlier}'", nix.database().display())).exits(0);
    for (build, name) in [(1, "local"), (2, "fetch")] {
        hydra.fails(&nix, build, name, BROKEN);
        import(&nix, &hydra, &format!("--build {build}")).exits(0).prints_part("imported 1 failure");
    }
    nix.run("nix-build --no-out-link -A local").exits(100).does_not_say("building '").says("1 hour ago");
}

/// Another process writes to the database after the warning and before the builder starts.
#[test]
fn a_failure_that_only_warns_is_warned_of_once() {
    let nix = in_sandbox();
    let hydra = Hydra::start(&nix);
    hydra.fails(&nix, 1, "late", BROKEN);
    import(&nix, &hydra, "--build 1 --warn-only").exits(0).prints_part("imported 1 failure");
    nix.run(
        "nix-build --no-out-link -A late 2> said & until grep -q slow.drv said; do sleep 0.1; done; \
         nix-build --no-out-link -A two; wait; cat said >&2",
    )
    .says_times("-late.drv' is built although it failed", 1)
    .says_times("building '", 3);
}

#[test]
fn only_clear_failures_of_builders_are_imported() {
    let nix = in_sandbox();
    let hydra = Hydra::start(&nix);
    let with = |number: u64, name: &str, value: Value| {
        let mut build = made_up(number);
        build[name] = value;
        build
    };
    for number in [1, 2] {
        hydra.add(made_up(number), Some(BROKEN));
    }
    for status in [0, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12] {
        hydra.add(with(100 + status, "buildstatus", status.into()), Some(BROKEN));
    }
    hydra.add(with(3, "finished", 0.into()), None);
    hydra.add(with(4, "stoptime", 1_000_000_000.into()), Some(BROKEN));
    hydra.add(made_up(5), None);
    for number in [6, 7] {
        hydra.add(made_up(number), Some("cc1plus: out of memory allocating 65536 bytes"));
    }
    hydra.add(with(8, "system", "aarch64-linux".into()), Some(BROKEN));
    hydra.add(with(9, "job", "other.x".into()), Some(BROKEN));
    let imported = import(&nix, &hydra, "--eval 1 --system x86_64-linux --job '^made-'").exits(0);
    imported
        .prints_part("imported 2 failures from ")
        .prints_part("; 1 not finished yet")
        .prints_part("; 1 too old to be believed")
        .prints_part("; 1 left out because there is no log")
        .prints_part("; 2 left out because the log tells of out of memory\n");
    assert!(asked(&hydra).iter().all(|request| !request.contains("/build/")));
    // The second time, only what is new is asked for.
    hydra.add(made_up(3), Some(BROKEN));
    import(&nix, &hydra, "--jobset project/jobset --latest").exits(0).prints_part("imported 3 failures from ");
    let requests = asked(&hydra);
    assert_eq!(requests.iter().filter(|request| request.contains("/log/")).count(), 3, "{requests:?}");
    // If the list has nothing new, it is not read at all.
    import(&nix, &hydra, "--jobset project/jobset").exits(0).prints_part("imported 0 failures");
    for status in [0, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12] {
        import(&nix, &hydra, &format!("--build {}", 100 + status))
            .exits(0)
            .prints_part("imported 0 failures")
            .prints_part("; 1 ended in another way than by a failure of the builder\n");
    }
    hydra.add(made_up(10), Some(BROKEN));
    import(&nix, &hydra, "--build 10 --job other")
        .exits(0)
        .prints_part("imported 0 failures")
        .prints_part("; 1 left out by --job or --system\n");
    asked(&hydra);
    import(&nix, &hydra, "--jobset project/jobset").exits(0);
    assert_eq!(asked(&hydra), ["GET /jobset/project/jobset/evals?page=1"]);
    import(&nix, &hydra, "--eval 2").exits(1).says("there is no 'http://");
    import(&nix, &hydra, "--build 99").exits(1).says("1 build could not be read, ");
    for wrong in
        ["", "--eval 1 --build 2", "--latest --eval 1", "--jobset a", "--eval 1 --rate 0", "--eval 1 --timeout 0s"]
    {
        import(&nix, &hydra, wrong).exits(2);
    }
    nix.run("$COMPANION import hydra https://a:b@c --eval 1").exits(2).says("without user and password");
    // A file by that name is still one.
    nix.run("$COMPANION export ./hydra; $COMPANION import ./hydra").exits(0).prints_part("imported 0 failures");
}

#[test]
fn a_server_that_fails_is_asked_again_and_not_too_soon() {
    let nix = in_sandbox();
    let hydra = Hydra::start(&nix);
    hydra.add(made_up(1), Some(BROKEN));
    let html = || Answer::new(200, "<html>We are down for maintenance.</html>");
    for answers in [
        vec![Answer::new(500, "oops"), Answer::new(502, "<html>"), Answer::new(503, "")],
        vec![Answer::closed(), Answer::half(r#"{"id": 1, "#), html()],
        vec![Answer::new(429, "").header("Retry-After", "1")],
        vec![Answer::slow(r#"{"id":1}"#, Duration::from_millis(1)), Answer::new(504, "")],
    ] {
        let count = answers.len();
        hydra.answers_first("/build/1", answers);
        asked(&hydra);
        let start = Instant::now();
        import(&nix, &hydra, "--build 1 --dry-run").exits(0).prints_part("would import 1 failure");
        let requests = asked(&hydra);
        assert_eq!(requests.iter().filter(|request| request.ends_with("/build/1")).count(), count + 1, "{requests:?}");
        assert!(count != 1 || start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    }
    // A log is read as a whole, and a build whose log can't be read is left for the next time.
    hydra.answers_first(&log_of(1), std::iter::repeat_n(Answer::half("half a log"), 5));
    import(&nix, &hydra, "--build 1").exits(1).says("1 build could not be read, which the same command tries again: ");
    import(&nix, &hydra, "--build 1").exits(0).prints_part("imported 1 failure");
    // Nobody waits for hours.
    hydra.answers_first("/build/2", [Answer::new(429, "").header("Retry-After", "86400")]);
    import(&nix, &hydra, "--build 2").exits(1).says("asks not to be asked again for 86400 seconds");
    hydra.answers_first("/build/2", [Answer::new(403, "no")]);
    import(&nix, &hydra, "--build 2").exits(1).says("the server says 403 Forbidden");
    nix.run(&format!("$COMPANION import hydra {} --timeout 1s --eval 1", refused_url()))
        .exits(1)
        .says("can't be read: ");
}

#[test]
fn an_evaluation_that_is_too_large_for_the_server_is_read_build_by_build() {
    let nix = in_sandbox();
    let hydra = Hydra::start(&nix);
    for number in 1..=40 {
        let mut build = made_up(number);
        build["buildstatus"] = u64::from(number % 4 == 0).into();
        hydra.add(build, Some(BROKEN));
    }
    for (answers, why) in [
        ([Answer::new(504, "<html>Gateway Timeout</html>"), Answer::new(502, "")], "the server says 502 Bad Gateway"),
        ([Answer::never(), Answer::new(200, "<html>")], "it is not JSON as of a Hydra"),
        ([Answer::half("[{"), Answer::closed()], ""),
    ] {
        hydra.answers_first("/eval/1/builds", answers);
        let url = hydra.server().url();
        nix.run(&format!("$COMPANION import hydra {url} --rate 1000 --timeout 1s --eval 1 --dry-run"))
            .exits(0)
            .says(why)
            .says("so its builds are asked for one by one, which takes longer")
            .prints_part("would import 10 failures");
    }
    hydra.answers_first("/eval/1/builds", [Answer::closed(), Answer::closed()]);
    import(&nix, &hydra, "--eval 1").exits(0).prints_part("imported 10 failures");
    // What succeeded need not be asked about again either.
    hydra.answers_first("/eval/1/builds", [Answer::closed(), Answer::closed()]);
    asked(&hydra);
    import(&nix, &hydra, "--eval 1").exits(0).prints_part("imported 0 failures");
    assert_eq!(asked(&hydra), ["GET /eval/1/builds", "GET /eval/1/builds", "GET /eval/1"]);
    // A server that answers nothing any more is left alone.
    let nix = in_sandbox();
    hydra.answers_first("/eval/1/builds", [Answer::closed(), Answer::closed()]);
    for number in 1..=40 {
        hydra.answers_first(&format!("/build/{number}"), std::iter::repeat_n(Answer::closed(), 5));
    }
    asked(&hydra);
    let url = hydra.server().url();
    nix.run(&format!("$COMPANION import hydra {url} --rate 1000 --timeout 1s --eval 1"))
        .exits(1)
        .says("could not be read (not asked for: ")
        .says(" builds), which the same command tries again: ");
    assert!(asked(&hydra).len() < 100);
    // One that answers is not, even if it has nothing to say of many builds.
    let hydra = Hydra::start(&nix);
    for number in 1..=20 {
        hydra.add(made_up(number), Some(BROKEN));
    }
    hydra.answers_first("/eval/1/builds", [Answer::closed(), Answer::closed()]);
    for number in 1..=15 {
        hydra.answers_first(&format!("/build/{number}"), [Answer::new(404, r#"{"error":"Build not found."}"#)]);
    }
    import(&nix, &hydra, "--eval 1")
        .exits(0)
        .prints_part("imported 5 failures")
        .prints_part("; 15 left out because the server does not have them\n");
}

#[test]
fn sixty_thousand_builds_take_little_memory() {
    if left_out() {
        return;
    }
    let nix = in_sandbox();
    let hydra = Hydra::start(&nix);
    // To make each of them by itself takes longer than the import.
    let other = |name: &str, value: u64| {
        let mut build = made_up(7);
        build[name] = value.into();
        let text = build.to_string();
        move |number: u64| text.replacen(r#""id":7"#, &format!(r#""id":{number}"#), 1)
    };
    let (succeeded, unfinished, old) =
        (other("buildstatus", 0), other("finished", 0), other("stoptime", 1_000_000_000));
    // What can't count takes no room from failures, whatever it is.
    for (others, said) in [
        (&succeeded as &dyn Fn(u64) -> String, "\n"),
        (&unfinished, "; 59980 not finished yet\n"),
        (&old, "; 59980 too old to be believed\n"),
    ] {
        let nix = in_sandbox();
        let mut list = Vec::with_capacity(60_000);
        for number in 1..=60_000 {
            if number % 3000 == 0 {
                hydra.add(made_up(number), Some(BROKEN));
                list.push(made_up(number).to_string());
            } else {
                list.push(others(number));
            }
        }
        hydra.answers_first("/eval/1/builds", [Answer::new(200, format!("[{}]", list.join(",")))]);
        let url = hydra.server().url();
        let line = format!("/usr/bin/time -f 'peak %M' $COMPANION import hydra {url} --rate 1000 --eval 1");
        let imported = nix.run(&line).exits(0).prints_part("imported 20 failures").prints_part(said);
        assert!(peak_kib(&imported) < 100 * 1024, "{imported}");
    }
}

/// The peak memory that `/usr/bin/time` has printed.
fn peak_kib(ran: &Ran) -> u64 {
    let peak = ran.stderr.lines().find_map(|line| line.strip_prefix("peak "));
    peak.and_then(|peak| peak.parse().ok()).expect("the peak memory")
}

#[test]
fn a_hostile_hydra_harms_nobody() {
    let nix = in_sandbox();
    let hydra = Hydra::start(&nix);
    let url = hydra.server().url();
    // Nothing that is larger than any answer should be is read into memory.
    let endless = || Answer::endless("x");
    let mut text = br#"[{"id":1,"job":""#.to_vec();
    text.extend(vec![b'x'; 4 << 20]);
    hydra.answers_first("/build/1", [Answer::endless(" ")]);
    hydra.answers_first("/eval/1/builds", [Answer::endless(text)]);
    hydra.add(made_up(2), Some(BROKEN));
    hydra.answers_first(&log_of(2), [endless()]);
    for what in ["--build 1", "--eval 1", "--build 2"] {
        let line = format!("/usr/bin/time -f 'peak %M' $COMPANION import hydra {url} --rate 1000 {what}");
        let ran = nix.run(&line);
        let ran = if what == "--build 2" {
            ran.exits(0).prints_part("; 1 left out because the log is too large\n")
        } else {
            ran.exits(1).says("it is larger than any such answer should be")
        };
        assert!(peak_kib(&ran) < 100 * 1024, "{ran}");
    }
    // Many large builds are not all kept.
    let mut large = made_up(1);
    large["job"] = "x".repeat(1_000_000).into();
    let large = vec![large.to_string(); 60].join(",");
    hydra.answers_first("/eval/1/builds", [Answer::new(200, format!("[{large}]"))]);
    let line = format!("/usr/bin/time -f 'peak %M' $COMPANION import hydra {url} --rate 1000 --eval 1");
    let ran = nix.run(&line).exits(1).says("evaluation 1 has too many failures; ask for some of them with --job or");
    assert!(peak_kib(&ran) < 100 * 1024, "{ran}");
    // Nothing that it says is obeyed by a terminal, and what has no form is left out.
    let mut escapes = build(3, "x\u{1b}[2J", "/nix/store/\u{1b}]0;x\u{7}.drv", "/etc/passwd");
    hydra.add(escapes.clone(), Some(BROKEN));
    escapes["id"] = 4.into();
    escapes["drvpath"] = made_up(4)["drvpath"].clone();
    escapes["system"] = "\u{1b}[2J".into();
    hydra.add(escapes, Some(BROKEN));
    hydra.add(made_up(5), Some("\u{1b}]0;title\u{7}error: \u{1b}[2J\u{202e}x\n"));
    for what in ["--build 3 --dry-run", "--build 3", "--build 4"] {
        let ran =
            import(&nix, &hydra, what).exits(0).prints_part("left out because what the Hydra tells is not in the form");
        assert!(!ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'), "{ran}");
    }
    import(&nix, &hydra, "--build 5").exits(0).prints_part("imported 1 failure");
    let shown = nix.run(&format!("$COMPANION show {}", made_up(5)["drvpath"].as_str().unwrap())).exits(0);
    assert!(!shown.stdout.contains('\u{1b}') && !shown.stdout.contains('\u{202e}'), "{shown}");
    hydra.answers_first("/build/6", std::iter::repeat_n(Answer::new(200, "\u{1b}[2J<html>"), 5));
    let ran = import(&nix, &hydra, "--build 6").exits(1);
    assert!(!ran.stderr.contains('\u{1b}'), "{ran}");
    // No line of the output is a server's.
    let forged =
        "/nix/store/x\nwould import 9 failures from https://hydra.example.org\r\t".to_owned() + &"x".repeat(10_000);
    for (number, name, value) in [(11, "buildstatus", 1), (12, "buildstatus", 4), (13, "finished", 0)] {
        let mut build = build(number, "x", &forged, "/nix/store/x\ny");
        build[name] = value.into();
        hydra.add(build, None);
        let ran = import(&nix, &hydra, &format!("--build {number} --dry-run")).exits(0);
        let lines: Vec<&str> = ran.stdout.lines().collect();
        assert!(lines.len() == 2 && lines[0].len() < 400 && lines[0].contains("/nix/store/x would import 9"), "{ran}");
        assert!(lines[1].starts_with("would import 0 failures from http://"), "{ran}");
    }
    // It tells of the build that it was asked for, and of no other.
    hydra.answers_first("/build/7", [Answer::new(200, made_up(5).to_string())]);
    import(&nix, &hydra, "--build 7").exits(1).says("the server tells of the build 5 when it is asked for 7");
    // Redirects have an end.
    hydra.answers_first("/build/8", std::iter::repeat_n(Answer::redirect("/build/8"), 100));
    import(&nix, &hydra, "--build 8").exits(1).says("can't be read: too many redirects");
    // A log may be somewhere else.
    hydra.add(made_up(9), None);
    hydra.add(json!({ "id": 10, "drvpath": "/nix/store/elsewhere" }), Some(BROKEN));
    hydra.answers_first(&log_of(9), [Answer::redirect("/log/elsewhere")]);
    import(&nix, &hydra, "--build 9").exits(0).prints_part("imported 1 failure");
}

#[test]
fn certificates_and_proxies_are_those_of_the_system() {
    let nix = in_sandbox();
    let folder = nix.path("served");
    let derivation = made_up(1)["drvpath"].as_str().unwrap().replace("/nix/store/", "");
    for (name, text) in [("build/1", made_up(1).to_string()), (&format!("log/{derivation}"), BROKEN.to_owned())] {
        let file = folder.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    let server = Nginx::start(&folder, true);
    let url = server.url();
    let line = format!("$COMPANION import hydra {url} --timeout 2s");
    nix.run(&format!("{line} --build 1")).exits(1).says("can't be read: ");
    let certificate = server.certificate();
    let trusting = [("NIX_SSL_CERT_FILE", certificate.as_str())];
    nix.run_with(&format!("$COMPANION import hydra {url}/redirected --timeout 2s --build 1"), &trusting)
        .exits(1)
        .says("can't be read: ");
    let imported = nix.run_with(&format!("{line} --build 1"), &trusting).exits(0);
    imported.prints_part("imported 1 failure").does_not_say("is not asked over https");
    nix.run_with(&format!("{line} --build 1"), &[("NIX_SSL_CERT_FILE", "/dev/null")])
        .exits(1)
        .says("no certificates are found");
    // A proxy is asked in place of the server, unless the server is one of those that need none.
    let listener = Listener::start();
    let proxy = listener.url();
    let asking = |more: &str| format!("{more} $COMPANION import hydra http://hydra.invalid --timeout 1s --build 1");
    nix.run(&asking(&format!("no_proxy=hydra.invalid http_proxy={proxy}"))).exits(1);
    nix.run(&asking(&format!("no_proxy=other.invalid http_proxy={proxy}")))
        .exits(1)
        .says("there is no 'http://hydra.invalid/build/1'");
    let head = listener.head();
    assert!(head.contains("hydra.invalid"), "{head}");
}

#[test]
fn servers_hear_who_asks() {
    let nix = in_sandbox();
    let listener = Listener::start();
    nix.run(&format!("$COMPANION import hydra {} --build 1", listener.url())).exits(1);
    let head = listener.head().to_lowercase();
    assert!(head.starts_with("get /build/1 ") && head.contains("accept: application/json"), "{head}");
    // It names no place that somebody else could have.
    let agent = head.lines().find_map(|line| line.strip_prefix("user-agent: nix-negative-cache/")).unwrap();
    assert!(agent.chars().all(|c| c.is_ascii_digit() || c == '.'), "{head}");
}

#[test]
fn failures_can_only_warn() {
    let nix = in_sandbox();
    let hydra = Hydra::start(&nix);
    hydra.fails(&nix, 1, "one", BROKEN);
    hydra.fails(&nix, 2, "two", BROKEN);
    import(&nix, &hydra, "--build 1 --warn-only").exits(0).prints_part("imported 1 failure");
    nix.run("$COMPANION list --name one").exits(0).prints_part("not now: only warns");
    nix.run("$COMPANION explain -A one")
        .exits(0)
        .prints_part("This does not count now: it was imported with --warn-only.");
    nix.run("nix-build --no-out-link -A one --dry-run")
        .exits(0)
        .says("would be built although it failed 1 minute ago elsewhere");
    let built = nix.run("nix-build --no-out-link -A one -A good --keep-going").exits(100).says("building '");
    built.says_times("is built although it failed 1 minute ago elsewhere (builder failed); for its log, run", 1);
    nix.run("nix-build --no-out-link -A good").exits(0).does_not_say("warning: ");
    // The last import decides for all that came from this Hydra.
    nix.run("$COMPANION forget --all").exits(0);
    import(&nix, &hydra, "--build 2 --warn-only").exits(0).prints_part("imported 1 failure");
    import(&nix, &hydra, "--build 2").exits(0).prints_part("imported 0 failures");
    nix.run("nix-build --no-out-link -A two").exits(100).does_not_say("building '").says("elsewhere");
    import(&nix, &hydra, "--build 2 --warn-only").exits(0);
    nix.run("nix-build --no-out-link -A two").exits(100).says("building '");
}

#[test]
fn what_a_hydra_has_seen_can_be_passed_on() {
    if left_out() {
        return;
    }
    let nix = in_sandbox();
    let hydra = Hydra::start(&nix);
    hydra.fails(&nix, 1, "one", BROKEN);
    hydra.fails(&nix, 2, "good", BROKEN);
    import(&nix, &hydra, "--eval 1").exits(0).prints_part("imported 2 failures");
    nix.run("nix-build --no-out-link -A two").exits(100);
    Key::new(&nix, "ci-1");
    let to = format!("--to 'file://{}?compression=none' --key-file ci-1.sec", nix.path("cache").display());
    let plan = |arguments: &str| {
        let printed = nix.run(&format!("$COMPANION publish {to} --dry-run --json {arguments}")).exits(0).stdout;
        let plan: Value = serde_json::from_str(&printed).unwrap();
        let of = |list: &str| {
            let objects = plan[list].as_array().unwrap();
            let mut paths: Vec<String> =
                objects.iter().map(|object| object["drvPath"].as_str().unwrap().to_owned()).collect();
            paths.iter_mut().for_each(|path| *path = path.rsplit('-').next().unwrap().to_owned());
            paths.sort();
            paths
        };
        [of("failures"), of("staying"), of("withdrawals")]
    };
    let of = |names: [&[&str]; 3]| names.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    assert_eq!(plan(""), of([&["two.drv"], &["good.drv", "one.drv"], &[]]));
    assert_eq!(plan("--origin hydra"), of([&["good.drv", "one.drv"], &["two.drv"], &[]]));
    nix.run(&format!("$COMPANION publish {to} --origin hydra")).exits(0).prints_part("published 2 failures");
    assert_eq!(plan("--origin hydra"), of([&[], &["two.drv"], &[]]));
    // A success here withdraws what was passed on.
    nix.run("nix-build --no-out-link -A good --option negative-cache-retry true").exits(0);
    assert_eq!(plan("--origin hydra"), of([&[], &["two.drv"], &["good.drv"]]));
    // What only warns stays.
    import(&nix, &hydra, "--build 1 --warn-only").exits(0);
    assert_eq!(plan("--origin hydra")[0], Vec::<String>::new());
}
