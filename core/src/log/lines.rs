//! Splits a log that comes in pieces into lines, as Nix does (`DerivationGoal::handleChildOutput`).

/// How many bytes of the beginning and of the end of a line are judged, if it is longer than both.
pub const HALF: usize = 4 * 1024;

/// How many bytes of a line are kept before its middle is left out.
const MOST: usize = 64 * 1024;

/// The beginning and the end of a line that is too long to be judged whole.
pub fn shorten(line: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if line.len() <= 2 * HALF {
        return line.into();
    }
    [&line[..HALF], &line[line.len() - HALF..]].concat().into()
}

/// The line whose end has not come yet.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    line: Vec<u8>,
    /// Whether the last byte was a carriage return. The next text writes over the line, unless the line ends here.
    returned: bool,
}

impl Lines {
    /// Adds a piece of the log and calls `each` with each line that is complete, without its end.
    pub fn push(&mut self, piece: &[u8], mut each: impl FnMut(&[u8])) {
        for part in piece.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (text, end) = match part.split_last() {
                Some((end @ (b'\n' | b'\r'), text)) => (text, Some(*end)),
                _ => (part, None),
            };
            if self.returned && !(text.is_empty() && end.is_some()) {
                self.line.clear();
                self.returned = false;
            }
            self.add(text);
            match end {
                Some(b'\n') => {
                    each(&self.line);
                    self.line.clear();
                    self.returned = false;
                }
                Some(_) => self.returned = true,
                None => {}
            }
        }
    }

    /// Calls `each` with the last line, if it has no end.
    pub fn finish(&mut self, each: impl FnOnce(&[u8])) {
        if !self.line.is_empty() {
            each(&self.line);
            self.line.clear();
        }
        self.returned = false;
    }

    fn add(&mut self, text: &[u8]) {
        for part in text.chunks(MOST) {
            self.line.extend_from_slice(part);
            if self.line.len() > MOST {
                self.line.drain(HALF..self.line.len() - super::tail::MAX_BYTES);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.push(piece, |line| found.push(line.to_vec()));
        }
        lines.finish(|line| found.push(line.to_vec()));
        found
    }

    #[test]
    fn lines_and_carriage_returns() {
        assert_eq!(split(&[b"one\ntwo"]), [b"one".to_vec(), b"two".to_vec()]);
        assert_eq!(split(&[b"10%\r20%\rdone\n\n"]), [b"done".to_vec(), b"".to_vec()]);
        assert_eq!(split(&[b"one\r\ntwo\r", b"\n"]), [b"one".to_vec(), b"two".to_vec()]);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(log in prop::collection::vec(prop::sample::select(&b"ab\r\n"[..]), 0..200), cuts in prop::collection::vec(0..200usize, 0..8)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(log.len())).collect();
            cuts.sort_unstable();
            let mut pieces: Vec<&[u8]> = Vec::new();
            let mut start = 0;
            for cut in cuts.into_iter().chain([log.len()]) {
                pieces.push(&log[start..cut]);
                start = cut;
            }
            prop_assert_eq!(split(&pieces), split(&[&log]));
        }

        #[test]
        fn a_line_without_end_takes_no_memory(count in 1..40usize) {
            let mut lines = Lines::default();
            for _ in 0..count {
                lines.push(&[b'x'; 100_000], |_| ());
                prop_assert!(lines.line.capacity() <= 4 * MOST);
            }
        }
    }
}
