//! A log, as the builder wrote it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nix_negative_cache_core::log::tail::{MAX_BYTES, MAX_LINES, printable, turns_text};
use nix_negative_cache_fuzz::{assert_plain, log_tail};

fuzz_target!(|log: &[u8]| {
    let text = log_tail(log);
    assert!(text.len() <= MAX_BYTES && text.lines().count() <= MAX_LINES);
    assert!(text.is_empty() || text.ends_with('\n'));
    assert_plain(&text);

    let lines: Vec<&[u8]> = log.split(|byte| *byte == b'\n').collect();
    let last = &lines[lines.len().saturating_sub(MAX_LINES)..];
    assert_eq!(log_tail(&last.join(&b'\n')), text, "lines before the last ones matter");

    for line in last {
        let shown = printable(line);
        assert_plain(&shown);
        assert!(!shown.contains('\n'));
        assert_eq!(printable(shown.as_bytes()), shown, "what is printable changes");
        // Text without anything to take out stays as it is, in any script.
        let plain = String::from_utf8_lossy(line);
        if !plain.contains(|c: char| (c.is_control() && c != '\t') || turns_text(c)) {
            assert_eq!(shown, plain.trim_end());
        }
    }
});
