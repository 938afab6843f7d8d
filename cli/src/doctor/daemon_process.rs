//! The process of nix-daemon: when it started, and which of the files that it reads or loads at its start were changed later.
//!
//! Every user may see when a process started. Only root and the owner of the process may see what it has loaded; other users
//! have only the times of the files.

use std::env;
use std::ffi::{OsStr, c_int};
use std::fs::{self, Metadata};
use std::io::{self, Read, Write};
use std::mem;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// A daemon that runs.
#[derive(Debug)]
pub struct DaemonProcess {
    pub id: i32,
    pub started: Timestamp,
    /// The files of its configuration that were changed since.
    pub changed_files: Vec<PathBuf>,
    /// The files of plugins that it has loaded and that were replaced or removed since; none if this user may not look.
    pub replaced_plugins: Vec<PathBuf>,
}

impl DaemonProcess {
    /// The process that serves a socket, if this user can tell.
    pub fn of(socket: &Path, configuration: &Path, plugin: &str) -> Option<DaemonProcess> {
        let listener = listener(socket).ok()?;
        // systemd listens itself, and starts the daemon when somebody connects.
        let id = if is_nix(listener) { listener } else { only_daemon_of(listener)? };
        let started = started(id)?;
        let changed = |path: &PathBuf| fs::metadata(path).is_ok_and(|file| is_later(&file, started));
        Some(DaemonProcess {
            id,
            started: Timestamp::try_from(started).ok()?,
            changed_files: files_of(configuration, DEPTH).into_iter().filter(changed).collect(),
            replaced_plugins: replaced(id, plugin),
        })
    }
}

/// The id of the process that listens on a socket.
#[allow(unsafe_code)]
fn listener(socket: &Path) -> io::Result<i32> {
    let connection = UnixStream::connect(socket)?;
    // SAFETY: three integers, for which zero is a value.
    let mut peer: libc::ucred = unsafe { mem::zeroed() };
    let mut size = libc::socklen_t::try_from(mem::size_of::<libc::ucred>()).unwrap_or_default();
    // SAFETY: the descriptor is open, and the kernel writes no more than `size` bytes.
    let result: c_int = unsafe {
        let peer = (&raw mut peer).cast();
        libc::getsockopt(connection.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, peer, &raw mut size)
    };
    let error = io::Error::last_os_error();
    // The daemon would complain about a client that leaves without a word.
    let _ = greet(connection);
    if result == 0 { Ok(peer.pid) } else { Err(error) }
}

/// Says what a client of Nix 2.0 says first, and that this is all.
fn greet(mut connection: UnixStream) -> io::Result<()> {
    const MAGIC: u64 = 0x6e69_7863;
    const VERSION: u64 = 0x112;
    connection.set_read_timeout(Some(Duration::from_secs(1)))?;
    connection.set_write_timeout(Some(Duration::from_secs(1)))?;
    // The last two are the affinity and the reserved space, which no daemon uses any more.
    for number in [MAGIC, VERSION, 0, 0] {
        connection.write_all(&number.to_le_bytes())?;
    }
    connection.shutdown(Shutdown::Write)?;
    // No daemon has more to say to that.
    connection.take(64 * 1024).read_to_end(&mut Vec::new()).map(drop)
}

/// The name of the program that a process runs, and its first argument.
fn command(process: i32) -> Option<(String, String)> {
    let words = fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let mut words = words.split(|byte| *byte == 0).map(OsStr::from_bytes);
    let program = Path::new(words.next()?).file_name()?.to_string_lossy().into_owned();
    Some((program, words.next().unwrap_or_default().to_string_lossy().into_owned()))
}

/// Whether a process that listens where clients look for the daemon is Nix itself.
fn is_nix(process: i32) -> bool {
    command(process).is_some_and(|(program, _)| program == "nix-daemon" || program == "nix")
}

/// Whether a process is nix-daemon, by whichever of its names; and not a client, as `nix build --store daemon` is.
fn is_daemon(process: i32) -> bool {
    command(process).is_some_and(|(program, first)| program == "nix-daemon" || (program == "nix" && first == "daemon"))
}

/// The only daemon that a process started; none if there are several.
fn only_daemon_of(parent: i32) -> Option<i32> {
    let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut daemons = processes.filter(|process| is_daemon(*process) && field(*process, PARENT) == Some(parent.into()));
    let found = daemons.next()?;
    daemons.next().is_none().then_some(found)
}

/// The places of numbers in /proc/PID/stat behind the name of the program (proc(5)).
const PARENT: usize = 1;
const START: usize = 19;

fn field(process: i32, place: usize) -> Option<i64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(place)?.parse().ok()
}

/// When a process was started.
fn started(process: i32) -> Option<SystemTime> {
    /// The unit in which the kernel tells programs times, on all machines (`USER_HZ`, proc(5)).
    const TICKS_PER_SECOND: f64 = 100.0;
    let ticks = u32::try_from(field(process, START)?).ok()?;
    let uptime: f64 = fs::read_to_string("/proc/uptime").ok()?.split_whitespace().next()?.parse().ok()?;
    let age = Duration::try_from_secs_f64(uptime - f64::from(ticks) / TICKS_PER_SECOND).unwrap_or_default();
    SystemTime::now().checked_sub(age)
}

/// Whether the contents of a file were changed after a time, by more than a second. The time of the last change of its inode
/// does not count, because it also changes when `nix store optimise` gives a file in the store another name.
fn is_later(file: &Metadata, time: SystemTime) -> bool {
    const ABOUT: Duration = Duration::from_secs(1);
    let seconds = u64::try_from(file.mtime()).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(seconds) > time + ABOUT
}

/// How deep files may include others.
const DEPTH: u8 = 8;

/// A file of Nix's configuration, and those that it includes.
fn files_of(path: &Path, depth: u8) -> Vec<PathBuf> {
    let mut files = vec![path.to_owned()];
    let text = fs::read(path).unwrap_or_default();
    for line in text.split(|byte| *byte == b'\n').filter(|_| depth > 0) {
        let mut words = line.split(|byte| b" \t\r#".contains(byte)).filter(|word| !word.is_empty());
        if let (Some(b"include" | b"!include"), Some(file)) = (words.next(), words.next()) {
            let folder = path.parent().unwrap_or(Path::new("/"));
            files.extend(files_of(&folder.join(OsStr::from_bytes(file)), depth - 1));
        }
    }
    files
}

/// The files of this name that a process has in its memory and that are not the ones at their paths any more.
fn replaced(process: i32, name: &str) -> Vec<PathBuf> {
    const GONE: &str = " (deleted)";
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap_or_default();
    let mut replaced = Vec::new();
    for line in maps.lines() {
        // Addresses, rights, offset, device, inode, and the path (proc(5)).
        let Some(start) = line.find('/') else { continue };
        let path = Path::new(line[start..].trim_end_matches(GONE));
        let is_another = || match fs::metadata(path) {
            Ok(file) => line[..start].split_whitespace().nth(4) != Some(&file.ino().to_string()),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if path.file_name().is_some_and(|file| file == name)
            && !replaced.iter().any(|other| other == path)
            && is_another()
        {
            replaced.push(path.to_owned());
        }
    }
    replaced
}

/// Where a daemon listens (`nixDaemonSocketFile` in globals.cc), unless the address of the store names a socket.
pub fn socket(state: &Path, store: Option<&str>) -> PathBuf {
    let named = store.and_then(|url| url.strip_prefix("unix://")).map(|url| url.split('?').next().unwrap_or_default());
    if let Some(path) = named.filter(|path| !path.is_empty()) {
        return PathBuf::from(path);
    }
    env::var_os("NIX_DAEMON_SOCKET_PATH").map_or_else(|| state.join("daemon-socket/socket"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_and_what_is_younger_than_it() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(field(own, PARENT).is_some_and(|parent| parent > 0));
        // The kernel counts in ticks, so a process that has just started may seem to start a tick later.
        let tick = Duration::from_millis(10);
        let age = (SystemTime::now() + tick).duration_since(started(own).unwrap()).unwrap();
        assert!(age < Duration::from_secs(3600), "{age:?}");
        assert!(!is_nix(own) && !is_daemon(own) && only_daemon_of(own).is_none());
        assert!(command(own).is_some());
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("nix.conf"), "cores = 4 # include x\ninclude more\n!include none\n").unwrap();
        fs::write(folder.path().join("more"), "include nix.conf\n").unwrap();
        let files = files_of(&folder.path().join("nix.conf"), 1);
        assert_eq!(files, ["nix.conf", "more", "none"].map(|name| folder.path().join(name)));
        let file = fs::metadata(&files[0]).unwrap();
        assert!(
            is_later(&file, SystemTime::now() - Duration::from_secs(60)) && !is_later(&file, SystemTime::now() + tick)
        );
    }
}
