//! What the fuzz targets share.

use nix_negative_cache_core::log::judge::LogJudge;
use nix_negative_cache_core::log::tail::{LogTail, turns_text};

/// Takes `N` bytes from the start, zeros where there are none.
pub fn take<const N: usize>(data: &mut &[u8]) -> [u8; N] {
    let (taken, rest) = data.split_at(data.len().min(N));
    *data = rest;
    let mut bytes = [0; N];
    bytes[..taken.len()].copy_from_slice(taken);
    bytes
}

/// What is before and after the first NUL, so that seeds of two texts can be written with printf.
pub fn split(data: &[u8]) -> (&[u8], &[u8]) {
    let place = data.iter().position(|byte| *byte == 0);
    place.map_or((data, &[]), |place| (&data[..place], &data[place + 1..]))
}

/// The end of a log as the plugin keeps it.
pub fn log_tail(log: &[u8]) -> String {
    let mut tail = LogTail::default();
    log.split(|byte| *byte == b'\n').for_each(|line| tail.push(line));
    tail.text()
}

/// A log as it is judged.
pub fn log_judge(log: &[u8]) -> LogJudge {
    let mut judge = LogJudge::default();
    log.split(|byte| *byte == b'\n').for_each(|line| judge.line(line));
    judge
}

/// Fails if `text` has a character that a terminal could obey, other than tab and newline.
pub fn assert_plain(text: &str) {
    let control = text.chars().find(|c| (c.is_control() && !matches!(c, '\t' | '\n')) || turns_text(*c));
    assert_eq!(control, None, "a control character in {text:?}");
}
