//! Standard output and standard error: the one way by which this program prints. `clippy` rejects the macros that print
//! elsewhere, as those panic if they can't.
//!
//! If the reader of a pipe has gone, as `head` does, the rest of the output is dropped without a word, and the exit status is
//! as if it had been read: a script that looks at the status of `check` in a pipeline gets its answer.

use std::fmt::Display;
use std::io::{self, StdoutLock, Write};

/// Standard output.
pub struct Output<W: Write = StdoutLock<'static>> {
    stream: W,
    /// Whether nobody reads it any more, which is known once something was written in vain.
    pub is_dropped: bool,
}

impl Output {
    /// Standard output of this process.
    pub fn standard() -> Output {
        Output { stream: io::stdout().lock(), is_dropped: false }
    }
}

impl<W: Write> Output<W> {
    fn unless_dropped<T>(&mut self, instead: T, write: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<T> {
        if self.is_dropped {
            return Ok(instead);
        }
        match write(&mut self.stream) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_dropped = true;
                Ok(instead)
            }
            other => other,
        }
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unless_dropped(bytes.len(), |stream| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_dropped((), W::flush)
    }
}

/// Prints a line on standard error. If that can't be written to, there is nobody left to tell.
pub fn say(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that takes so many bytes and then fails.
    struct Failing(usize, io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(self.1.into());
            }
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            if self.0 == 0 { Err(self.1.into()) } else { Ok(()) }
        }
    }

    #[test]
    fn a_pipe_without_a_reader_is_no_error_and_a_full_device_is_one() {
        for (kind, fails) in [(io::ErrorKind::BrokenPipe, false), (io::ErrorKind::StorageFull, true)] {
            for takes in [0, 3] {
                let mut out = Output { stream: Failing(takes, kind), is_dropped: false };
                let written = write!(out, "more than that").and_then(|()| out.flush());
                assert_eq!(written.map_err(|error| error.kind()), if fails { Err(kind) } else { Ok(()) });
                assert_eq!(out.is_dropped, !fails);
            }
        }
    }
}
