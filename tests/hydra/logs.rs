//! Failures whose log says nothing, can't be read or is not to be had.

use std::time::Duration;

use nix_negative_cache_tests::caches::Answer;
use nix_negative_cache_tests::hydra::{Hydra, made_up};

use super::again::{PAGE, passes};
use super::{BROKEN, asked, import, in_sandbox, log_of};

/// Nobody can tell whether such a failure would pass. A builder that was killed early has an empty log.
#[test]
fn a_failure_without_a_log_that_can_be_read_is_not_imported() {
    let nix = in_sandbox();
    let hydra = Hydra::start(&nix);
    for (number, log) in [(1, Some(BROKEN)), (2, Some("")), (3, Some("\n\u{1b}[0m\n \r\n")), (4, None)] {
        hydra.add(made_up(number), log);
    }
    let binary: Vec<u8> = (0..2000_u32).map(|place| place.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let encoded = |encoding: &str| Answer::new(200, BROKEN).header("Content-Encoding", encoding);
    let page = |media: &str| Answer::new(200, "<html>Log in to go on</html>").header("Content-Type", media);
    for (number, answer) in [
        (5, encoded("zstd")),
        (6, encoded("gzip, xz")),
        (7, page("text/html; charset=utf-8")),
        (8, page("application/xhtml+xml")),
        (9, Answer::new(200, binary)),
        (10, Answer::new(403, "<Error><Code>AccessDenied</Code></Error>")),
        (11, Answer::new(410, "")),
    ] {
        hydra.add(made_up(number), Some(BROKEN));
        hydra.answers_first(&log_of(number), [answer]);
    }
    hydra.add(made_up(12), None);
    hydra.answers_first(&log_of(12), [encoded("identity")]);
    import(&nix, &hydra, "--jobset project/jobset")
        .exits(0)
        .prints_part("imported 2 failures from ")
        .prints_part("; 5 left out because there is no log;")
        .prints_part("; 5 left out because the log can't be read as text\n");
    // Each was asked for once, and may be there after a day.
    let requests = asked(&hydra);
    assert_eq!(requests.iter().filter(|request| request.contains("/log/")).count(), 12, "{requests:?}");
    import(&nix, &hydra, "--jobset project/jobset").exits(0).prints_part("imported 0 failures");
    assert_eq!(asked(&hydra), [PAGE]);
    passes(&nix, 24);
    import(&nix, &hydra, "--jobset project/jobset").exits(0).prints_part("imported 7 failures");
}

#[test]
fn many_logs_that_are_not_shown_do_not_end_an_import() {
    let nix = in_sandbox();
    let hydra = Hydra::start(&nix);
    for number in 1..=30 {
        hydra.add(made_up(number), Some(BROKEN));
        if number <= 25 {
            hydra.answers_first(&log_of(number), [Answer::new(403, "no")]);
        }
    }
    import(&nix, &hydra, "--eval 1")
        .exits(0)
        .prints_part("imported 5 failures")
        .prints_part("; 25 left out because there is no log\n");
    assert_eq!(asked(&hydra).len(), 31);
}

#[test]
fn a_log_that_is_too_large_is_asked_for_once() {
    let nix = in_sandbox();
    let hydra = Hydra::start(&nix);
    hydra.add(made_up(1), Some(BROKEN));
    hydra.answers_first(&log_of(1), [Answer::endless("x")]);
    import(&nix, &hydra, "--jobset project/jobset")
        .exits(0)
        .prints_part("imported 0 failures")
        .prints_part("; 1 left out because the log is too large\n");
    for hours in [48, 48] {
        passes(&nix, hours);
        asked(&hydra);
        import(&nix, &hydra, "--jobset project/jobset").exits(0).prints_part("imported 0 failures");
        assert_eq!(asked(&hydra), [PAGE]);
    }
}

/// Builds end while an import is going on.
#[test]
fn a_build_that_ended_after_the_start_of_the_import_counts() {
    let nix = in_sandbox();
    let hydra = Hydra::start(&nix);
    let ends = |number: u64, seconds: u64| {
        let mut build = made_up(number);
        build["stoptime"] = (build["stoptime"].as_u64().unwrap() + 60 + seconds).into();
        hydra.add(build, Some(BROKEN));
    };
    // A clock may be wrong by five minutes. The list comes eight seconds after the start of the import, and no sooner.
    ends(1, 5 * 60 + 4);
    ends(2, 3600);
    hydra.server().delayed(Duration::from_secs(4));
    let url = hydra.server().url();
    nix.run(&format!("$COMPANION import hydra {url} --rate 1000 --jobset project/jobset"))
        .exits(0)
        .prints_part("imported 1 failure from ")
        .prints_part("; 1 left out because they are in the future: a clock was wrong\n");
    // What is asked for by itself is judged by its own time as well.
    hydra.server().delayed(Duration::ZERO);
    ends(3, 5 * 60 + 3);
    hydra.answers_first("/eval/1/builds", [Answer::never(), Answer::never()]);
    nix.run(&format!("$COMPANION import hydra {url} --rate 1000 --timeout 3s --eval 1"))
        .exits(0)
        .says("so its builds are asked for one by one")
        .prints_part("imported 1 failure from ")
        .prints_part("; 1 left out because they are in the future: a clock was wrong\n");
}
