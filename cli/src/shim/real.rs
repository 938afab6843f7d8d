//! Where the real program is behind the shim: never the shim itself, and never one that would lead back to it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::process;

/// The variable that names the folder of the real programs.
pub const FOLDER_VARIABLE: &str = "NIX_NEGATIVE_CACHE_NIX_BIN";

/// Where an installation may have a link to the folder of the real programs, seen from the folder of the shim.
const FOLDER_LINK: &str = "../lib/nix-negative-cache/nix-bin";

/// The variable with the scripts that were taken for the real programs before. They may call the shim.
const SCRIPTS_VARIABLE: &str = "NIX_NEGATIVE_CACHE_SCRIPTS";

/// Where Nix is when PATH does not lead to it, as for sudo.
const USUAL_FOLDERS: [&str; 5] =
    ["/run/current-system/sw/bin", "/nix/var/nix/profiles/default/bin", "/usr/local/bin", "/usr/bin", "/bin"];

/// A program that is not the shim.
#[derive(Debug)]
pub struct Real {
    /// Where it is.
    pub path: PathBuf,
    /// The value of [`SCRIPTS_VARIABLE`] to go on with.
    scripts: Option<OsString>,
}

impl Real {
    /// The variable to start it with.
    pub fn variable(&self) -> Option<(&'static str, &OsStr)> {
        Some((SCRIPTS_VARIABLE, self.scripts.as_deref()?))
    }
}

/// There is no such program.
#[derive(Debug, thiserror::Error)]
pub enum NotFound {
    #[error(
        "there is no '{0}' in PATH but this one, which needs the real one; put the folder of Nix's programs into PATH, \
             or into {FOLDER_VARIABLE}"
    )]
    InPath(&'static str),
    #[error("there is no '{}' in '{}', which {FOLDER_VARIABLE} names", .0, .1.display())]
    InFolder(&'static str, PathBuf),
}

/// Finds the real program of a name: where the environment or the installation says, or the next one in PATH.
pub fn find(program: &'static str) -> Result<Real, NotFound> {
    let myself = Shim::new(program);
    if !myself.was_called_by_another {
        if let Some(folder) = env::var_os(FOLDER_VARIABLE).filter(|folder| !folder.is_empty()) {
            let folder = PathBuf::from(folder);
            return myself.candidate(&folder).ok_or(NotFound::InFolder(program, folder));
        }
        if let Some(folder) = process::started_as().and_then(|path| Path::new(path).parent())
            && let Some(real) = myself.candidate(&folder.join(FOLDER_LINK))
        {
            return Ok(real);
        }
    }
    let path = env::var_os("PATH").unwrap_or_default();
    // What is empty stands for the folder that one happens to be in.
    let folders = env::split_paths(&path).filter(|folder| !folder.as_os_str().is_empty());
    let folders: Vec<PathBuf> = folders.chain(USUAL_FOLDERS.map(PathBuf::from)).collect();
    myself.next_in(&folders).ok_or(NotFound::InPath(program))
}

/// What tells files apart, by whatever path.
type Identity = (u64, u64);

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// This program under the name of one of Nix's.
struct Shim {
    program: &'static str,
    identity: Option<Identity>,
    /// By a copy of it. Then it looks only at what comes behind it in PATH, or they would call each other for ever.
    was_called_by_another: bool,
    scripts: OsString,
}

impl Shim {
    fn new(program: &'static str) -> Shim {
        let metadata = env::current_exe().and_then(fs::metadata);
        Shim {
            program,
            identity: metadata.as_ref().map(identity).ok(),
            was_called_by_another: process::started_as()
                .is_none_or(|path| path.as_bytes().ends_with(spelled(Path::new(""), program).as_os_str().as_bytes())),
            scripts: env::var_os(SCRIPTS_VARIABLE).unwrap_or_default(),
        }
    }

    /// The program in a folder that is neither the shim nor a script that was called before.
    fn candidate(&self, folder: &Path) -> Option<Real> {
        let metadata = runnable(&folder.join(self.program))?;
        (Some(identity(&metadata)) != self.identity).then(|| self.real(folder)).flatten()
    }

    fn next_in(&self, folders: &[PathBuf]) -> Option<Real> {
        let found =
            folders.iter().filter_map(|folder| Some((folder, identity(&runnable(&folder.join(self.program))?))));
        if !self.was_called_by_another {
            let mut others = found.filter(|(_, identity)| Some(*identity) != self.identity);
            return others.find_map(|(folder, _)| self.real(folder));
        }
        let found: Vec<(&PathBuf, Identity)> = found.collect();
        let own = found.iter().position(|(_, identity)| Some(*identity) == self.identity);
        let (before, after) = found.split_at(own.map_or(0, |own| own + 1));
        let before: Vec<Identity> = before.iter().map(|(_, identity)| *identity).collect();
        after.iter().filter(|(_, identity)| !before.contains(identity)).find_map(|(folder, _)| self.real(folder))
    }

    fn real(&self, folder: &Path) -> Option<Real> {
        let path = folder.join(self.program);
        if !is_script(&path) {
            return Some(Real { path: spelled(folder, self.program), scripts: None });
        }
        let seen: Vec<PathBuf> = env::split_paths(&self.scripts).filter(|path| !path.as_os_str().is_empty()).collect();
        if seen.contains(&path) {
            return None;
        }
        let scripts = env::join_paths(seen.iter().chain([&path])).ok()?;
        Some(Real { path, scripts: Some(scripts) })
    }
}

/// The path by which shims call programs, and by which another shim can tell.
fn spelled(folder: &Path, program: &str) -> PathBuf {
    let mut path = folder.as_os_str().to_owned();
    path.push("/./");
    path.push(program);
    path.into()
}

fn runnable(path: &Path) -> Option<Metadata> {
    let metadata = fs::metadata(path).ok()?;
    (metadata.is_file() && metadata.permissions().mode() & 0o111 != 0).then_some(metadata)
}

fn is_script(path: &Path) -> bool {
    let mut start = [0; 2];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *b"#!"
}
