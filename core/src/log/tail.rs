//! The end of a build log: bounded while the build runs, and made safe to show when the build is over.

use anstream::adapter::strip_bytes;

/// How many lines a record keeps.
pub const MAX_LINES: usize = 25;
/// How many of the last lines are kept to be looked at when the build has failed.
const RECENT: usize = 256;
/// How many bytes a record keeps at most, line ends included.
pub const MAX_BYTES: usize = 8 * 1024;

/// The last lines of a log that is still being written.
#[derive(Clone, Debug, Default)]
pub struct LogTail {
    /// A ring: the oldest line is replaced next.
    lines: Vec<Vec<u8>>,
    next: usize,
}

impl LogTail {
    /// Adds a line, without its line end, in whatever encoding the builder chose.
    pub fn push(&mut self, line: &[u8]) {
        // If a line is longer than a record, its end says more than its start.
        let line = &line[line.len().saturating_sub(MAX_BYTES)..];
        match self.lines.get_mut(self.next) {
            Some(room) => {
                room.clear();
                room.extend_from_slice(line);
            }
            None => self.lines.push(line.to_vec()),
        }
        self.next = (self.next + 1) % RECENT;
    }

    /// The last lines, the last one first.
    pub fn recent(&self) -> impl Iterator<Item = &[u8]> {
        // Until it is full, nothing is behind the line that was added last.
        let (newer, older) = self.lines.split_at(self.next.min(self.lines.len()));
        newer.iter().rev().chain(older.iter().rev()).map(Vec::as_slice)
    }

    /// The lines of a record as text: valid UTF-8, without escape sequences or other control characters than tab,
    /// at most [`MAX_LINES`] lines and [`MAX_BYTES`] bytes, each line ended by a newline.
    pub fn text(&self) -> String {
        let printed = |line: &[u8]| {
            let text = printable(line);
            // An empty line is the builder's wish; one of control characters alone says nothing.
            (line.is_empty() || !text.is_empty()).then_some(text)
        };
        let mut lines: Vec<String> = self.recent().take(MAX_LINES).filter_map(printed).collect();
        lines.reverse();
        let mut text = String::new();
        let mut first = lines.len();
        let mut size = 0;
        while first > 0 && size + lines[first - 1].len() < MAX_BYTES {
            first -= 1;
            size += lines[first].len() + 1;
        }
        if first == lines.len() {
            // Not even the last line fits whole.
            if let Some(line) = lines.last() {
                let start = line.ceil_char_boundary(line.len().saturating_sub(MAX_BYTES - 1));
                text.push_str(&line[start..]);
                text.push('\n');
            }
        }
        for line in &lines[first..] {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// `bytes` as valid UTF-8, without colours, other terminal escapes, and marks for the direction of writing. Runs of other
/// control characters except tab become a space between words.
pub fn printable(bytes: &[u8]) -> String {
    // Decoded first: a cut or wrong sequence must not swallow what follows it.
    plain(&String::from_utf8_lossy(bytes)).trim_end().to_owned()
}

/// The same with its colours, which end with the line.
pub fn printable_in_colour(line: &[u8]) -> String {
    const START: &str = "\x1b[";
    const RESET: &str = "\x1b[0m";
    let decoded = String::from_utf8_lossy(line);
    let (mut printed, mut pieces) = (String::new(), decoded.split(START));
    let mut is_coloured = false;
    printed.push_str(&plain(pieces.next().unwrap_or_default()));
    for piece in pieces {
        let numbers = piece.find(|c: char| !c.is_ascii_digit() && !matches!(c, ';' | ':')).unwrap_or(piece.len());
        if let Some(text) = piece[numbers..].strip_prefix('m') {
            let sequence = &piece[..numbers];
            printed.push_str(&format!("{START}{sequence}m"));
            printed.push_str(&plain(text));
            is_coloured = !matches!(sequence, "" | "0");
        } else {
            printed.push_str(&plain(&format!("{START}{piece}")));
        }
    }
    printed.truncate(printed.trim_end().len());
    if is_coloured {
        printed.push_str(RESET);
    }
    printed
}

/// `decoded` without anything that a terminal obeys.
fn plain(decoded: &str) -> String {
    // Control characters that do not belong to escape sequences are not the stripper's business.
    let other = |c: char| c.is_control() && !matches!(c, '\t' | '\x1b' | '\x07');
    let spaced = decoded.split(other).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    let plain = strip_bytes(spaced.as_bytes()).into_vec();
    let unseen = |c: char| (c.is_control() && c != '\t') || turns_text(c);
    String::from_utf8_lossy(&plain).replace(unseen, "")
}

/// The beginning of a text that Nix printed, safe to show: at most [`MAX_BYTES`], without escapes.
pub fn beginning(text: &str) -> String {
    // A line may be as long as a log.
    let lines = text.lines().map(|line| printable(&line.as_bytes()[..line.len().min(MAX_BYTES)]));
    let mut beginning = String::new();
    for line in lines.take(MAX_LINES) {
        beginning.push_str(&line);
        beginning.push('\n');
    }
    beginning.truncate(beginning.floor_char_boundary(MAX_BYTES));
    beginning.trim_end().to_owned()
}

/// Whether a character makes others appear in another order (Unicode Standard Annex 9, table 4), so that one text passes
/// for another.
pub fn turns_text(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn beginnings_are_short_and_plain() {
        assert_eq!(beginning("\x1b[1mone\x1b[0m\n  two\n"), "one\n  two");
        let long = beginning(&format!("first\n{}\n{}", "é".repeat(MAX_BYTES), "x\n".repeat(1_000_000)));
        assert!(long.len() <= MAX_BYTES && long.starts_with("first\né"));
    }

    fn tail(lines: &[&[u8]]) -> String {
        let mut tail = LogTail::default();
        lines.iter().for_each(|line| tail.push(line));
        tail.text()
    }

    #[test]
    fn keeps_the_last_lines() {
        let lines: Vec<String> = (0..30).map(|n| n.to_string()).collect();
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        let text = tail(&lines);
        assert_eq!(text.lines().count(), MAX_LINES);
        assert!(text.starts_with("5\n") && text.ends_with("29\n"), "{text}");
    }

    #[test]
    fn colours_escapes_and_control_characters_are_gone() {
        let line = b"\x1b[31merror:\x1b[0m\tno\x1b]0;title\x07 such\rfile\x08\x00";
        assert_eq!(tail(&[line]), "error:\tno such file\n");
    }

    #[test]
    fn what_nix_2_8_logs_when_a_builder_cannot_be_executed() {
        let lines: [&[u8]; 3] = [b"\x01", b"\x05\0\0Error\0\0>\0executing 'y': No such file or directory\0\0", b""];
        assert_eq!(tail(&lines), "Error > executing 'y': No such file or directory\n\n");
    }

    #[test]
    fn wrong_utf8_is_replaced() {
        assert_eq!(tail(&[b"caf\xe9 ok"]), "caf\u{fffd} ok\n");
    }

    #[test]
    fn a_line_longer_than_a_record_keeps_its_end() {
        let text = tail(&[b"before", "é".repeat(MAX_BYTES).as_bytes()]);
        assert!(text.len() <= MAX_BYTES && text.len() > MAX_BYTES - 8, "{}", text.len());
        assert!(text.starts_with('é') || text.starts_with('\u{fffd}'));
    }

    #[test]
    fn colours_may_stay() {
        for (line, printed) in [
            ("plain \x1b[31mred\x1b[0m \x1b[1;38:5:2mgreen", "plain \x1b[31mred\x1b[0m \x1b[1;38:5:2mgreen\x1b[0m"),
            ("\x1b[31m\x1b[2J\x1b]0;title\x07red\x1b[m", "\x1b[31mred\x1b[m"),
            ("\x1b]0;ti\x1b[31mtle\x07x\x08\r\u{202e}", "\x1b[31mtlex\x1b[0m"),
            ("\x1b[31", ""),
            ("\x1b[1A\x1b[31;", ""),
            ("", ""),
        ] {
            assert_eq!(printable_in_colour(line.as_bytes()), printed, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_but_colours_is_obeyed(line in "(\\x1b|\\[|\\]|[0-9;:mJ ]|\\PC|.){0,60}") {
            let printed = printable_in_colour(line.as_bytes());
            for piece in printed.split("\x1b[").skip(1) {
                let end = piece.find('m');
                prop_assert!(end.is_some_and(|end| piece[..end].chars().all(|c| c.is_ascii_digit() || ";:".contains(c))));
            }
            let rest = printed.replace("\x1b[", "");
            prop_assert!(rest.chars().all(|c| (!c.is_control() || c == '\t') && !turns_text(c)), "{:?}", printed);
        }

        #[test]
        fn any_log_is_bounded_and_printable(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..40)) {
            let mut tail = LogTail::default();
            lines.iter().for_each(|line| tail.push(line));
            let text = tail.text();
            prop_assert!(text.len() <= MAX_BYTES);
            prop_assert!(text.lines().count() <= MAX_LINES);
            prop_assert!(text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()));
        }
    }
}
