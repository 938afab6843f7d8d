//! The program of `negative-cache-hook`, which is started after a failure was recorded: whether root may start it, and what it
//! sees of the environment. The plugin starts it.

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::database::location::{BELONGS_TO_OTHERS, WRITABLE_BY_OTHERS};

/// The variable that every hook has. Where it is set, no hook is started: a hook may use Nix itself, whose failures would start
/// hooks without end.
pub const WITHIN_HOOK: &str = "NIX_NEGATIVE_CACHE_HOOK";

/// What a hook sees of the environment: what a program needs to find others and to reach this user, and where Nix is. All else
/// can be a secret of the command that happened to fail, or would have the hook depend on it.
const PASSED_ON: [&str; 19] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TZ",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "NIX_REMOTE",
    "NIX_DAEMON_SOCKET_PATH",
    "NIX_STORE_DIR",
    "NIX_STATE_DIR",
    "NIX_LOCALSTATE_DIR",
    "NIX_LOG_DIR",
    "NIX_CONF_DIR",
    "NIX_USER_CONF_FILES",
    "NIX_SSL_CERT_FILE",
];

fn is_passed_on(name: &OsStr) -> bool {
    PASSED_ON.iter().any(|passed| name == *passed)
}

/// The environment of a hook, made of that of the process that starts it.
pub fn environment(all: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let mut environment: Vec<_> = all.into_iter().filter(|(name, _)| is_passed_on(name)).collect();
    environment.push((WITHIN_HOOK.into(), "1".into()));
    environment
}

/// What others than root could change of a program.
#[derive(Debug, PartialEq, Eq)]
pub struct Distrusted {
    path: PathBuf,
    why: &'static str,
}

impl Display for Distrusted {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' {}", self.path.display(), self.why)
    }
}

/// What keeps root from starting a program: the file, a folder on its path, or a symbolic link there that others could change.
/// `None` if nothing does.
///
/// # Errors
///
/// If the program can't be found.
pub fn distrusted(program: &Path) -> io::Result<Option<Distrusted>> {
    distrusted_by(program, 0)
}

/// The same for the user `owner`, so that it can be tested by everybody.
fn distrusted_by(program: &Path, owner: u32) -> io::Result<Option<Distrusted>> {
    /// As many as Linux follows.
    const MOST_LINKS: usize = 40;
    let mut links = 0;
    let mut at = PathBuf::new();
    // The last one is the next one.
    let mut left = backwards(program);
    while let Some(name) = left.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        let metadata = fs::symlink_metadata(&next)?;
        let found = |why| Ok(Some(Distrusted { path: next.clone(), why }));
        if metadata.uid() != owner && metadata.uid() != 0 {
            return found(BELONGS_TO_OTHERS);
        }
        if metadata.is_symlink() {
            links += 1;
            if links > MOST_LINKS {
                return Err(rustix::io::Errno::LOOP.into());
            }
            left.extend(backwards(&fs::read_link(&next)?));
            continue;
        }
        // In a folder with the sticky bit, such as /tmp and the store, others may add files, but not change or replace what does
        // not belong to them.
        let is_kept = metadata.is_dir() && metadata.mode() & 0o1000 != 0;
        if metadata.mode() & 0o022 != 0 && !is_kept {
            return found(WRITABLE_BY_OTHERS);
        }
        at = next;
    }
    Ok(None)
}

/// The parts of a path, the last one first.
fn backwards(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    parts.map(|part| part.as_os_str().to_owned()).rev().collect()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::process::geteuid;
    use tempfile::TempDir;

    use super::*;

    /// A folder in which the paths of a test are, without symbolic links on its own path.
    fn folder() -> (TempDir, PathBuf) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().canonicalize().unwrap();
        (folder, path)
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn found(program: &Path) -> Option<String> {
        distrusted_by(program, geteuid().as_raw()).unwrap().map(|found| found.to_string())
    }

    #[test]
    fn only_root_may_be_able_to_change_a_hook() {
        let (_guard, at) = folder();
        let (open, kept, hook) = (at.join("open"), at.join("kept"), at.join("kept/hook"));
        for (path, of_folder) in [(&open, 0o777), (&kept, 0o755)] {
            fs::create_dir(path).unwrap();
            mode(path, of_folder);
        }
        fs::write(&hook, "").unwrap();
        let open_to_others = |path: &Path| Some(format!("'{}' can be written to by others than root", path.display()));
        for (of_folder, of_hook, expected) in [
            (0o755, 0o755, None),
            (0o755, 0o775, open_to_others(&hook)),
            (0o755, 0o757, open_to_others(&hook)),
            (0o775, 0o755, open_to_others(&kept)),
            (0o757, 0o755, open_to_others(&kept)),
            // As the store, which its builders may add to.
            (0o1775, 0o755, None),
            (0o1777, 0o755, None),
        ] {
            mode(&hook, of_hook);
            mode(&kept, of_folder);
            assert_eq!(found(&hook), expected, "{of_folder:o} {of_hook:o}");
        }
        // A link is as good as the folder that it is in, and the program that it leads to.
        symlink(&hook, open.join("link")).unwrap();
        assert_eq!(found(&open.join("link")), open_to_others(&open));
        assert_eq!(found(&at.join("kept/../open/../kept/hook")), open_to_others(&open));
        symlink("../open/program", kept.join("link")).unwrap();
        fs::write(open.join("program"), "").unwrap();
        assert_eq!(found(&kept.join("link")), open_to_others(&open));
        mode(&open, 0o755);
        assert_eq!(found(&open.join("link")), None);
        assert_eq!(found(&kept.join("link")), None);
        symlink("circle", at.join("circle")).unwrap();
        assert!(
            distrusted(&at.join("nowhere")).is_err() && distrusted_by(&at.join("circle"), geteuid().as_raw()).is_err()
        );
    }

    #[test]
    fn what_belongs_to_others_is_not_started_by_root() {
        let (_guard, at) = folder();
        fs::write(at.join("hook"), "").unwrap();
        // Root's own files do not belong to others, whoever asks.
        let found = distrusted_by(&at.join("hook"), 12345).unwrap().map(|found| found.why);
        assert_eq!(found, (!geteuid().is_root()).then_some("does not belong to root"));
    }

    #[test]
    fn the_environment_of_a_hook_has_no_secrets() {
        let all = [
            "PATH",
            "HOME",
            "NIX_STATE_DIR",
            "NIX_CONFIG",
            "NIX_SIGNING_KEY",
            "NIX_NEGATIVE_CACHE_HOOK",
            "AWS_SECRET_ACCESS_KEY",
            "LD_PRELOAD",
        ];
        let seen = environment(all.map(|name| (name.into(), "x".into())));
        let seen: Vec<_> = seen.iter().map(|(name, value)| (name.to_str().unwrap(), value.to_str().unwrap())).collect();
        assert_eq!(seen, [("PATH", "x"), ("HOME", "x"), ("NIX_STATE_DIR", "x"), ("NIX_NEGATIVE_CACHE_HOOK", "1")]);
    }
}
