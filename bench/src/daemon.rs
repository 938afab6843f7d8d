//! A daemon for an installation, and requests over one open connection to it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::Result;
use crate::installation::{Installation, Plugin};

/// A daemon that runs until this is dropped.
pub struct Daemon(Child);

impl Daemon {
    /// Starts a daemon at a socket of this name, with the plugin in this state and with more settings.
    pub fn start(installation: &Installation, socket: &str, plugin: Plugin, settings: &[&str]) -> Result<Daemon> {
        let socket = installation.path(socket);
        let _ = std::fs::remove_file(&socket);
        let line = shell_words::split(&installation.with(plugin, settings)?)?;
        let mut command = Command::new(&line[0]);
        installation.environment(&mut command);
        command.env("NIX_DAEMON_SOCKET_PATH", &socket).args(&line[1..]);
        let daemon = Daemon(command.arg("nix-daemon").stderr(Stdio::null()).spawn()?);
        for _ in 0..200 {
            // The daemon's process for this connection opens the store before it answers. Without waiting for the answer,
            // nobody could tell when that process has closed the store again.
            if Connection::open(&socket).is_ok() {
                return Ok(daemon);
            }
            sleep(Duration::from_millis(50));
        }
        Err(format!("there is no daemon at {}", socket.display()).into())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A connection to a daemon that speaks as the clients of Nix 2.3 do (worker-protocol.hh), which every daemon understands.
struct Connection(UnixStream);

const CLIENT_MAGIC: u64 = 0x6e69_7863;
const DAEMON_MAGIC: u64 = 0x6478_696f;
const VERSION: u64 = (1 << 8) | 21;
const BUILD_PATHS: u64 = 9;
const STDERR_NEXT: u64 = 0x6f6c_6d67;
const STDERR_LAST: u64 = 0x616c_7473;
const STDERR_ERROR: u64 = 0x6378_7470;
const STDERR_START_ACTIVITY: u64 = 0x5354_5254;
const STDERR_STOP_ACTIVITY: u64 = 0x5354_4f50;
const STDERR_RESULT: u64 = 0x5253_4c54;

impl Connection {
    fn open(socket: &Path) -> Result<Connection> {
        let mut connection = Connection(UnixStream::connect(socket)?);
        connection.send(&[CLIENT_MAGIC], &[], &[])?;
        if connection.number()? != DAEMON_MAGIC {
            return Err("this is no Nix daemon".into());
        }
        connection.number()?;
        // The two zeros: no processor affinity, and no space reserved.
        connection.send(&[VERSION, 0, 0], &[], &[])?;
        connection.answer()?;
        Ok(connection)
    }

    /// Sends numbers, a list of texts, and numbers.
    fn send(&mut self, before: &[u64], texts: &[&str], after: &[u64]) -> io::Result<()> {
        let mut bytes = Vec::new();
        before.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        for text in texts {
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        after.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        self.0.write_all(&bytes)
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn text(&mut self) -> Result<String> {
        let length = usize::try_from(self.number()?)?;
        let mut bytes = vec![0; length.next_multiple_of(8)];
        self.0.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn fields(&mut self) -> Result<()> {
        for _ in 0..self.number()? {
            match self.number()? {
                0 => drop(self.number()?),
                _ => drop(self.text()?),
            }
        }
        Ok(())
    }

    /// Reads an answer to its end, and returns the error message if it has one.
    fn answer(&mut self) -> Result<Option<String>> {
        loop {
            match self.number()? {
                STDERR_LAST => return Ok(None),
                STDERR_ERROR => {
                    let error = self.text()?;
                    self.number()?;
                    return Ok(Some(error));
                }
                STDERR_NEXT => drop(self.text()?),
                STDERR_START_ACTIVITY => {
                    for _ in 0..3 {
                        self.number()?;
                    }
                    self.text()?;
                    self.fields()?;
                    self.number()?;
                }
                STDERR_STOP_ACTIVITY => drop(self.number()?),
                STDERR_RESULT => {
                    self.number()?;
                    self.number()?;
                    self.fields()?;
                }
                other => return Err(format!("the daemon says {other:#x}").into()),
            }
        }
    }
}

/// Asks `times` times for a derivation that is known to fail.
pub fn ask(socket: &Path, derivation: &str, times: u32) -> Result<()> {
    let mut connection = Connection::open(socket)?;
    for _ in 0..times {
        connection.send(&[BUILD_PATHS, 1], &[&format!("{derivation}!out")], &[0])?;
        match connection.answer()? {
            Some(error) if error.contains("failed") => {}
            other => return Err(format!("'{derivation}' was not refused: {other:?}").into()),
        }
    }
    Ok(())
}
