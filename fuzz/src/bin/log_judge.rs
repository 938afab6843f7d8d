//! A log as it streams by: a byte of facts, one that says how it is cut into pieces, and the log.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nix_negative_cache_core::log::judge::{Facts, LogJudge, LogVerdict};
use nix_negative_cache_core::log::lines::Lines;
use nix_negative_cache_fuzz::{assert_plain, take};

fn judged(log: &[u8], piece: usize) -> LogJudge {
    let (mut judge, mut lines) = (LogJudge::default(), Lines::default());
    log.chunks(piece).for_each(|piece| lines.push(piece, |line| judge.line(line)));
    lines.finish(|line| judge.line(line));
    judge
}

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let [facts, piece] = take(&mut data);
    let facts =
        Facts { sandboxed: [None, Some(true), Some(false)][usize::from(facts % 3)], fixed_output: facts >= 0x80 };
    let judge = judged(data, data.len().max(1));
    let verdict = judge.verdict(facts);
    // How it is cut does not matter.
    let cut = judged(data, usize::from(piece).max(1));
    assert_eq!(cut.verdict(facts), verdict);
    assert_eq!(cut.identity(), judge.identity());
    if let LogVerdict::Doubtful(line) | LogVerdict::Transient(line) = &verdict {
        assert!(!line.cause.is_empty());
        assert!((1..=line.of).contains(&line.number));
        assert!(line.line.len() <= 300);
        assert_plain(&line.line);
        assert_plain(&line.text());
    }
});
