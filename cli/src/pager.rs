//! Long output for people goes through a pager, as that of Nix and git does: if standard output is a terminal and has fewer
//! lines than the output.
//!
//! The pager is the command in `NIX_PAGER` or `PAGER`, or else `less`. If it can't be run, the output is printed as if there
//! were none; if it is closed, the rest is dropped. Neither is an error.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::{Child, Command, ExitStatus, Stdio};

use anstream::adapter::strip_bytes;
use rustix::termios::tcgetwinsize;

/// How much of the output is kept until the pager has shown that it runs: more than a pipe takes that nobody reads.
const KEPT: usize = 256 * 1024;

/// What lets `less` quit if all fits the screen, show colours, and leave the text on the screen. git has the same.
const LESS: &str = "FRX";

/// Output that goes through a pager if it is long. It has to be finished.
pub struct Paged<'a, W: Write> {
    out: &'a mut W,
    state: State,
}

enum State {
    /// It is printed as it comes.
    Through,
    /// It still fits the screen.
    Held { text: Vec<u8>, screen: Screen, lines: usize },
    /// The pager has it; and so has this process, as long as the pager may turn out not to run.
    Running { pager: Child, kept: Option<Vec<u8>> },
    /// The pager was closed, and the rest is dropped.
    Dropped,
}

/// How large a terminal is.
#[derive(Clone, Copy)]
struct Screen {
    rows: usize,
    columns: usize,
}

/// The command of the user, if there is one.
fn chosen() -> Option<OsString> {
    env::var_os("NIX_PAGER").or_else(|| env::var_os("PAGER"))
}

/// The command to run, if one is to be run.
fn command() -> Option<Command> {
    let mut command = match chosen() {
        Some(chosen) if chosen.is_empty() || chosen == "cat" => return None,
        Some(chosen) => {
            let mut command = Command::new("/bin/sh");
            command.arg("-c").arg(chosen);
            command
        }
        None => Command::new("less"),
    };
    if env::var_os("LESS").is_none() {
        command.env("LESS", LESS);
    }
    Some(command)
}

/// Whether what a pager gets may have colours. `less` shows their codes as text unless its options say otherwise; other pagers
/// are their users' choice.
pub fn shows_colours(pages: bool) -> bool {
    let command = chosen().unwrap_or_else(|| "less".into()).to_string_lossy().into_owned();
    let (program, arguments) = command.trim().split_once(char::is_whitespace).unwrap_or((command.trim(), ""));
    if !pages || program.rsplit('/').next() != Some("less") {
        return true;
    }
    let variable = env::var_os("LESS").map_or_else(|| LESS.to_owned(), |less| less.to_string_lossy().into_owned());
    passes_colours_on(&format!("{variable} {arguments}"))
}

/// Whether options of `less` have it hand the codes of colours to the terminal.
fn passes_colours_on(options: &str) -> bool {
    /// Options of one letter whose value is the rest of their word.
    const WITH_VALUE: &str = r#"#"DOPTbhjkoptxyz"#;
    let mut passes = false;
    for word in options.split_whitespace() {
        if word.starts_with("--") {
            passes |= word.to_ascii_lowercase().starts_with("--raw-control-chars");
            continue;
        }
        let letters = word.trim_start_matches('-');
        let (letters, is_set) = letters.strip_prefix('+').map_or((letters, true), |letters| (letters, false));
        if letters.chars().take_while(|letter| !WITH_VALUE.contains(*letter)).any(|letter| matches!(letter, 'R' | 'r'))
        {
            passes = is_set;
        }
    }
    passes
}

/// Whether output that is long enough goes through a pager.
pub fn may_page(wanted: bool) -> bool {
    let is_dumb = env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    wanted && !is_dumb && screen().is_some() && command().is_some()
}

fn screen() -> Option<Screen> {
    let stdout = io::stdout();
    let size = tcgetwinsize(&stdout).ok().filter(|size| stdout.is_terminal() && size.ws_row > 0 && size.ws_col > 0)?;
    Some(Screen { rows: size.ws_row.into(), columns: size.ws_col.into() })
}

impl<'a, W: Write> Paged<'a, W> {
    /// Output to `out`, which is standard output.
    pub fn new(out: &'a mut W, wanted: bool) -> Paged<'a, W> {
        let screen = if may_page(wanted) { screen() } else { None };
        let state = screen.map_or(State::Through, |screen| State::Held { text: Vec::new(), screen, lines: 0 });
        Paged { out, state }
    }

    /// Whether a pager has the output.
    pub fn is_paged(&self) -> bool {
        matches!(self.state, State::Running { .. } | State::Dropped)
    }

    /// Whether the pager was closed, so that nobody reads the rest.
    pub fn is_dropped(&self) -> bool {
        matches!(self.state, State::Dropped)
    }

    /// Prints what is left, and waits for the pager.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub fn finish(mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.state, State::Through) {
            State::Through | State::Dropped => {}
            State::Held { text, .. } => self.out.write_all(&text)?,
            State::Running { pager, kept } => self.wait(pager, kept)?,
        }
        self.out.flush()
    }

    /// Waits for the end of a pager. If it turns out not to have run, what was kept is printed.
    fn wait(&mut self, mut pager: Child, kept: Option<Vec<u8>>) -> io::Result<()> {
        drop(pager.stdin.take());
        let status = pager.wait();
        self.state = State::Dropped;
        if let (true, Some(kept)) = (status.is_ok_and(was_not_run), kept) {
            self.state = State::Through;
            self.out.write_all(&kept)?;
        }
        Ok(())
    }

    fn start(&mut self, text: Vec<u8>) -> io::Result<()> {
        self.out.flush()?;
        // Control-C is for the pager. A caught signal is not caught any more in what this process starts.
        stay_at_interrupts();
        let Some(Ok(pager)) = command().map(|mut command| command.stdin(Stdio::piped()).spawn()) else {
            self.state = State::Through;
            return self.out.write_all(&text);
        };
        self.state = State::Running { pager, kept: Some(Vec::new()) };
        self.write_all(&text)
    }
}

/// Whether the shell says that it could not run the command.
fn was_not_run(status: ExitStatus) -> bool {
    matches!(status.code(), Some(126 | 127))
}

impl<W: Write> Write for Paged<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.state {
            State::Through => return self.out.write(bytes),
            State::Dropped => {}
            State::Held { text, screen, lines } => {
                *lines += lines_of(bytes, screen.columns);
                text.extend_from_slice(bytes);
                // The last row is for the prompt.
                if *lines >= screen.rows {
                    let text = std::mem::take(text);
                    self.start(text)?;
                }
            }
            State::Running { pager, kept } => {
                if let Some(text) = kept {
                    text.extend_from_slice(bytes);
                    if text.len() > KEPT {
                        *kept = None;
                    }
                }
                let written = pager.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(bytes));
                if written.is_err()
                    && let State::Running { pager, kept } = std::mem::replace(&mut self.state, State::Dropped)
                {
                    self.wait(pager, kept)?;
                }
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.state {
            State::Through => self.out.flush(),
            State::Held { .. } | State::Running { .. } | State::Dropped => Ok(()),
        }
    }
}

/// How many rows a piece of text takes on a terminal with so many columns.
fn lines_of(bytes: &[u8], columns: usize) -> usize {
    let ends = bytes.iter().filter(|byte| **byte == b'\n').count();
    if bytes.len() <= columns {
        return ends;
    }
    let wrapped = |line: &[u8]| {
        let shown: usize = strip_bytes(line).map(|part| String::from_utf8_lossy(part).chars().count()).sum();
        shown.saturating_sub(1) / columns
    };
    ends + bytes.split(|byte| *byte == b'\n').map(wrapped).sum::<usize>()
}

/// Has interrupts from the terminal not end this process.
#[allow(unsafe_code)]
fn stay_at_interrupts() {
    extern "C" fn nothing(_: libc::c_int) {}
    for signal in [libc::SIGINT, libc::SIGQUIT] {
        // SAFETY: the handler does nothing, so it may run at any moment.
        unsafe { libc::signal(signal, nothing as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_less_are_read() {
        for options in ["FRX", "-R", "-iR -M", "--RAW-CONTROL-CHARS", "-r", "-i --raw-control-chars", "-x4 -R"] {
            assert!(passes_colours_on(options), "{options}");
        }
        for options in ["", "-i", "-PRest", "--quit-if-one-screen --prompt=R", "-R -+R", "-x4R", "--no-init --mouse"] {
            assert!(!passes_colours_on(options), "{options}");
        }
    }

    #[test]
    fn rows_are_counted_as_the_terminal_shows_them() {
        assert_eq!(lines_of(b"one\ntwo\n", 80), 2);
        assert_eq!(lines_of("x".repeat(81).as_bytes(), 80), 1);
        assert_eq!(lines_of(("x".repeat(80) + "\n").as_bytes(), 80), 1);
        let coloured = format!("\x1b[1m{}\x1b[0m\n", "x".repeat(78));
        assert_eq!(lines_of(coloured.as_bytes(), 80), 1);
    }
}
