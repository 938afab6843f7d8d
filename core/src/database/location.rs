//! The file of a database: who may read it, whether it can be trusted, and where a broken one goes.

use std::env;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{Access, AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, accessat, chownat, flock};
use rustix::process::{Uid, geteuid};

use super::DatabaseError;

/// The name of the folder that a database has for itself, where nobody chose another one.
const FOLDER: &str = "negative-cache";
const FILE: &str = "failures.sqlite";

/// Where the database of a store is by default.
///
/// `state_dir` is the store's state directory, such as `/nix/var/nix`.
pub fn default_path(state_dir: &Path) -> PathBuf {
    state_dir.join(FOLDER).join(FILE)
}

/// Whether a database has a folder for itself, as in a default place.
pub fn has_own_folder(path: &Path) -> bool {
    let folder = path.parent().and_then(Path::file_name);
    path.file_name().is_some_and(|name| name == FILE) && folder.is_some_and(|name| name == FOLDER)
}

/// Where this user has the failures of builds that a daemon did: in the folder for the state of programs (XDG Base
/// Directory Specification, `XDG_STATE_HOME`). `None` without a home, or in somebody else's, as with sudo(8).
pub fn personal_path() -> Option<PathBuf> {
    let is_own = |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.uid() == geteuid().as_raw());
    // What is not there yet belongs to whom the folder above belongs.
    let own = |path: &PathBuf| path.ancestors().find(|folder| folder.exists()).is_some_and(is_own);
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let in_home = || absolute("HOME").filter(own).map(|home| home.join(".local/state"));
    let chosen = absolute("XDG_STATE_HOME").filter(own);
    Some(default_path(&chosen.or_else(in_home)?.join("nix")))
}

/// Who may read a database. Only its owner may ever write to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Everybody on the machine, as Nix's own database and logs.
    Everybody,
    /// Its owner.
    Owner,
}

impl Audience {
    /// The mode of the folder, then of the file, from which SQLite takes that of the files beside it.
    pub fn modes(self) -> [u32; 2] {
        match self {
            Audience::Everybody => [0o755, 0o644],
            Audience::Owner => [0o700, 0o600],
        }
    }
}

/// Makes an empty file for a database, and its folder, with the right modes whatever the umask.
pub(super) fn create(path: &Path, audience: Audience) -> Result<(), DatabaseError> {
    let [folder_mode, file_mode] = audience.modes();
    // The mode is right at once, but for what the umask took: a process that is killed right here leaves no file behind that
    // nobody can read.
    let make = || -> io::Result<()> {
        if let Some(folder) = path.parent() {
            if let Some(above) = folder.parent() {
                fs::create_dir_all(above)?;
            }
            match DirBuilder::new().mode(folder_mode).create(folder) {
                Ok(()) => fs::set_permissions(folder, Permissions::from_mode(folder_mode))?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        match OpenOptions::new().write(true).create_new(true).mode(file_mode).open(path) {
            Ok(file) => file.set_permissions(Permissions::from_mode(file_mode)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    };
    make().map_err(|source| DatabaseError::Folder { path: path.to_owned(), source })
}

/// Why root can't trust a file or folder: it belongs to somebody else.
pub const BELONGS_TO_OTHERS: &str = "does not belong to root";
/// The same: somebody else may write there.
pub const WRITABLE_BY_OTHERS: &str = "can be written to by others than root";

/// Why root can't trust a file or folder: somebody else may write there. `None` if root can.
pub fn distrust(metadata: &Metadata) -> Option<&'static str> {
    if metadata.uid() != 0 {
        Some(BELONGS_TO_OTHERS)
    } else if metadata.mode() & 0o002 != 0 || (metadata.mode() & 0o020 != 0 && metadata.gid() != 0) {
        Some(WRITABLE_BY_OTHERS)
    } else {
        None
    }
}

/// Whether there is a file at `path`, which must be one that can be used.
pub(super) fn exists(path: &Path) -> Result<bool, DatabaseError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => metadata,
        // Opening a FIFO would wait for a writer.
        Ok(_) => return Err(DatabaseError::NotAFile { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        // SQLite's own words would leave out that it is the folder that can't be read.
        Err(source) => return Err(DatabaseError::Hidden { path: path.to_owned(), source }),
    };
    // Root builds for everybody, so nobody else may have a say in what it refuses.
    if geteuid().is_root() {
        let folder = path.parent().map(fs::metadata).transpose();
        let folder = folder.map_err(|source| DatabaseError::Hidden { path: path.to_owned(), source })?;
        if let Some(why) = folder.as_ref().and_then(distrust).or_else(|| distrust(&metadata)) {
            return Err(DatabaseError::Untrusted { path: path.to_owned(), why });
        }
    }
    Ok(true)
}

/// Where a broken database is moved to. An earlier one there is replaced.
pub fn broken_path(path: &Path) -> PathBuf {
    beside(path, ".broken")
}

/// The path of a file beside the database, such as its write-ahead log.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    name.into()
}

/// Whether this process may write to the file at `path`, or make the file and its folders if it is not there.
///
/// # Errors
///
/// If it may not: why.
pub fn may_write(path: &Path) -> io::Result<()> {
    let there = path.ancestors().find_map(|there| Some((there, fs::metadata(there).ok()?)));
    let Some((there, metadata)) = there else { return Err(io::ErrorKind::NotFound.into()) };
    if there != path && !metadata.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let access = if there == path { Access::WRITE_OK } else { Access::WRITE_OK | Access::EXEC_OK };
    Ok(accessat(CWD, there, access, AtFlags::EACCESS)?)
}

/// Gives a file or folder another mode and, if wanted, another owner. It never follows a symbolic link, and leaves a
/// file alone that has other names: somebody could have put it there to have it changed.
///
/// # Errors
///
/// If it is something else than a folder or a file with one name, or may not be changed.
pub fn correct(path: &Path, mode: u32, owner: Option<u32>) -> io::Result<()> {
    // A descriptor that is good for nothing else: opening the file in any other way and closing it again would take SQLite's
    // locks from this process, and wait for a writer of a FIFO.
    let held = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let found = rustix::fs::fstat(&held)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => {}
        FileType::RegularFile if found.st_nlink == 1 => {}
        FileType::RegularFile => return Err(io::Error::other("it has other names (hard links)")),
        FileType::Symlink => return Err(io::Error::other("it is a symbolic link")),
        _ => return Err(io::Error::other("it is neither a file nor a folder")),
    }
    if let Some(owner) = owner.filter(|owner| *owner != found.st_uid) {
        chownat(&held, "", Some(Uid::from_raw(owner)), None, AtFlags::EMPTY_PATH)?;
    }
    // The system call for such a descriptor is newer than many a kernel; this has the same effect.
    fs::set_permissions(format!("/proc/self/fd/{}", held.as_raw_fd()), Permissions::from_mode(mode))
}

/// Moves a broken database out of the way, so that the next process makes a new one. Returns where it is.
///
/// Nothing is moved if the place is not a default one, as the file may be another program's; if another process was
/// faster, so that the database is not broken any more; or if this process may not move it.
pub fn move_away(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?;
    if !has_own_folder(path) {
        return None;
    }
    // Held until the end, so that only one process decides at a time.
    let lock = File::open(folder).ok()?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
    if !is_broken(path) {
        return None;
    }
    let broken = broken_path(path);
    fs::rename(path, &broken).ok()?;
    let _ = fs::rename(beside(path, "-wal"), beside(&broken, "-wal"));
    let _ = fs::remove_file(beside(path, "-shm"));
    Some(broken)
}

/// Whether SQLite finds that a file is none of its databases, or a damaged one.
pub fn is_broken(path: &Path) -> bool {
    let check = || {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        super::open::keep_readable(&connection)?;
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
    };
    match check() {
        Ok(found) => found != "ok",
        Err(error) => is_damage(&error),
    }
}

/// Whether an error says that a database is damaged, and not only out of reach.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}
