//! What is asked for again and what is not, and imports that stop early.

use std::time::Duration;

use nix_negative_cache_tests::caches::Answer;
use nix_negative_cache_tests::hydra::{Hydra, made_up};
use nix_negative_cache_tests::{Ran, Scratch};
use serde_json::Value;

use super::{BROKEN, asked, import, in_sandbox, log_of};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The only request of an import that finds nothing new.
pub const PAGE: &str = "GET /jobset/project/jobset/evals?page=1";

fn with(number: u64, name: &str, value: impl Into<Value>) -> Value {
    let mut build = made_up(number);
    build[name] = value.into();
    build
}

/// Makes what was noted about the Hydra so many hours older.
pub fn passes(nix: &Scratch, hours: u32) -> Ran {
    let database = nix.database();
    nix.run(&format!("sqlite3 {} 'UPDATE hydra_build SET until = until - {hours} * 3600 * 1000'", database.display()))
        .exits(0)
}

#[test]
fn an_evaluation_is_read_once_unless_something_in_it_may_change() {
    let nix = in_sandbox();
    let hydra = Hydra::start(&nix);
    hydra.add(made_up(1), Some(BROKEN));
    hydra.add(with(2, "buildstatus", 0), None);
    let jobset = |more: &str, count: usize| {
        asked(&hydra);
        let imported = import(&nix, &hydra, &format!("--jobset project/jobset {more}")).exits(0);
        imported.prints_part(&format!("imported {count} failure"));
        asked(&hydra)
    };
    assert_eq!(jobset("", 1).len(), 3);
    assert_eq!(jobset("", 0), [PAGE]);
    // Something else that is asked for is new.
    assert_eq!(jobset("--system aarch64-linux", 0), [PAGE, "GET /eval/1/builds"]);
    assert_eq!(jobset("--system aarch64-linux", 0), [PAGE]);
    passes(&nix, 48);
    assert_eq!(jobset("", 0), [PAGE]);
    // Such builds end in another way if somebody starts them once more, and a log may come late.
    hydra.add(with(3, "buildstatus", 2), Some(BROKEN));
    hydra.add(made_up(4), None);
    hydra.evaluates(2, Duration::from_secs(60));
    assert_eq!(jobset("", 0).len(), 3);
    assert_eq!(jobset("", 0), [PAGE]);
    import(&nix, &hydra, "--build 3").exits(0).prints_part("; 1 ended in another way");
    hydra.add(made_up(3), Some(BROKEN));
    hydra.add(made_up(4), Some(BROKEN));
    passes(&nix, 23);
    assert_eq!(jobset("", 0), [PAGE]);
    passes(&nix, 1);
    let requests = jobset("", 2);
    assert_eq!(requests.len(), 4, "{requests:?}");
    assert_eq!(requests[..2], [PAGE, "GET /eval/2/builds"]);
    // What is not finished may change at any time.
    hydra.add(with(5, "finished", 0), None);
    hydra.evaluates(3, Duration::from_secs(30));
    for _ in 0..2 {
        assert_eq!(jobset("", 0), [PAGE, "GET /eval/3/builds"]);
    }
}

#[test]
fn evaluations_of_long_ago_are_not_read() {
    let nix = in_sandbox();
    let hydra = Hydra::start(&nix);
    hydra.add(made_up(1), Some(BROKEN));
    hydra.evaluates(1, 8 * DAY);
    import(&nix, &hydra, "--jobset project/jobset").exits(0).prints_part("imported 0 failures");
    assert_eq!(asked(&hydra), [PAGE]);
    import(&nix, &hydra, "--jobset project/jobset --latest").exits(0).prints_part("imported 1 failure");
}

/// What is said of one evaluation says nothing of the others.
#[test]
fn an_evaluation_that_can_not_be_read_does_not_hide_older_ones() {
    let nix = in_sandbox();
    let hydra = Hydra::start(&nix);
    hydra.add(made_up(1), Some(BROKEN));
    let mut large = made_up(2);
    large["job"] = "x".repeat(1_000_000).into();
    let too_many = || format!("[{}]", vec![large.to_string(); 52].join(","));
    let too_large = || format!(r#"[{{"id":1,"job":"{}"}}]"#, "x".repeat(2 << 20));
    for number in 2..=4 {
        hydra.evaluates(number, Duration::from_secs(100 - number));
    }
    // A long list takes its time.
    let patient = |what: &str| nix.run(&format!("$COMPANION import hydra {} --rate 1000 {what}", hydra.server().url()));
    let answers = |number: u64, answer| hydra.answers_first(&format!("/eval/{number}/builds"), [answer]);
    answers(4, Answer::new(200, too_many()));
    answers(3, Answer::new(404, "{}"));
    answers(2, Answer::new(200, too_large()));
    patient("--jobset project/jobset").exits(1).prints_part("imported 1 failure from ").says(
        "3 evaluations could not be read, which the same command tries again: evaluation 4 has too many failures; ask for",
    );
    // It tries just these again.
    asked(&hydra);
    answers(3, Answer::new(404, "{}"));
    import(&nix, &hydra, "--jobset project/jobset")
        .exits(1)
        .prints_part("imported 0 failures from ")
        .says("1 evaluation could not be read, which the same command tries again: there is no 'http://");
    assert_eq!(asked(&hydra), [PAGE, "GET /eval/4/builds", "GET /eval/3/builds", "GET /eval/2/builds"]);
    import(&nix, &hydra, "--jobset project/jobset").exits(0);
    // One that somebody has named is an error.
    answers(5, Answer::new(200, too_many()));
    patient("--eval 5").exits(1).says("evaluation 5 has too many failures").does_not_say("could not be");
}

#[test]
fn a_server_that_wants_to_be_left_alone_is_asked_for_nothing_more() {
    let nix = in_sandbox();
    let hydra = Hydra::start(&nix);
    for number in 1..=40 {
        hydra.add(made_up(number), Some(BROKEN));
    }
    hydra.evaluates(2, Duration::from_secs(60));
    hydra.evaluates(3, Duration::from_secs(30));
    hydra.answers_first("/eval/3/builds", [Answer::new(429, "").header("Retry-After", "86400")]);
    import(&nix, &hydra, "--jobset project/jobset")
        .exits(1)
        .says("asks not to be asked again for 86400 seconds; run the same command then (not asked for: 3 evaluations)");
    assert_eq!(asked(&hydra), [PAGE, "GET /eval/3/builds"]);
    hydra.answers_first(&log_of(1), [Answer::new(503, "").header("Retry-After", "86400")]);
    // Those who wait for something else are not asked for either.
    for number in 2..=4 {
        hydra.answers_first(&log_of(number), std::iter::repeat_n(Answer::new(503, ""), 4));
    }
    import(&nix, &hydra, "--jobset project/jobset")
        .exits(1)
        .says("1 build could not be read (not asked for: ")
        .says(" builds, 2 evaluations), which the same command tries again: the server asks not to be asked again");
    let requests = asked(&hydra);
    assert!(requests.len() < 30, "{requests:?}");
    assert!(requests.iter().all(|request| !request.contains("/eval/2")), "{requests:?}");
    import(&nix, &hydra, "--jobset project/jobset").exits(0);
    assert_eq!(nix.recorded().len(), 40);
}

#[test]
fn a_dry_run_that_nobody_reads_asks_for_nothing_more() {
    let nix = in_sandbox();
    let hydra = Hydra::start(&nix);
    for number in 1..=300 {
        hydra.add(made_up(number), Some(BROKEN));
    }
    hydra.evaluates(2, Duration::from_secs(60));
    let line = format!("$COMPANION import hydra {} --rate 20 --jobset project/jobset --dry-run", hydra.server().url());
    nix.run(&format!("set -o pipefail; {line} | head -1")).exits(0).prints_part("it failed ");
    // All of it would take 15 seconds, and what nobody reads is seen after two.
    assert!(asked(&hydra).len() < 200);
    nix.run(&format!("{line} > /dev/full")).exits(1).says("cannot write the output: No space left on device");
    assert!(asked(&hydra).len() < 200);
}

#[test]
fn an_import_that_is_interrupted_goes_on_where_it_was() {
    let nix = in_sandbox();
    let hydra = Hydra::start(&nix);
    for number in 1..=60 {
        hydra.add(made_up(number), Some(BROKEN));
    }
    let url = hydra.server().url();
    // With job control, what runs in the background can be interrupted.
    let line = format!(
        "set -m; $COMPANION import hydra {url} --rate 5 --eval 1 & import=$!
         until [ $($COMPANION list --json 2> /dev/null | grep -o drvPath | wc -l) -ge 10 ]; do
             kill -0 $import || exit 1; sleep 0.1
         done
         kill -INT $import; wait $import"
    );
    nix.run(&line).exits(130);
    let recorded = nix.recorded().len();
    assert!((10..60).contains(&recorded), "{recorded}");
    asked(&hydra);
    let rest = import(&nix, &hydra, "--eval 1").exits(0);
    rest.prints_part(&format!("imported {} failure", 60 - recorded));
    let logs = asked(&hydra).iter().filter(|request| request.contains("/log/")).count();
    assert_eq!(logs, 60 - recorded);
    assert_eq!(nix.recorded().len(), 60);
}
