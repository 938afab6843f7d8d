//! The links by which a shell finds this program under Nix's names.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::shim::{PROGRAMS, process};

/// Why links could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("it is not known where this program is: {0}")]
    Unknown(io::Error),
    #[error("this user has no home folder for the links; set XDG_CACHE_HOME")]
    Homeless,
    #[error("cannot use the folder '{}': {}", .0.display(), .1)]
    Folder(PathBuf, io::Error),
    #[error("cannot make the link '{}': {}", .0.display(), .1)]
    Make(PathBuf, io::Error),
    #[error("cannot remove the link '{}': {}", .0.display(), .1)]
    Remove(PathBuf, io::Error),
    #[error("'{}' is there and is no link to nix-negative-cache; name another folder, or move it away", .0.display())]
    Foreign(PathBuf),
}

/// The programs that links may lead to: this one, and one that is nothing but the shim and so starts faster.
const TARGETS: [&str; 2] = [env!("CARGO_PKG_NAME"), concat!(env!("CARGO_PKG_NAME"), "-shim")];

/// What is at the place of a link.
#[derive(PartialEq, Eq)]
enum Entry {
    Nothing,
    /// A link to this program, wherever it was installed.
    Ours(PathBuf),
    Other,
}

fn look(path: &Path) -> Entry {
    match fs::read_link(path) {
        Ok(target) if target.file_name().is_some_and(|name| TARGETS.iter().any(|target| name == *target)) => {
            Entry::Ours(target)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Entry::Nothing,
        _ => Entry::Other,
    }
}

/// What links lead to, by the path that outlives an upgrade if this program was started by one.
fn target() -> Result<PathBuf, LinkError> {
    let started_as = process::started_as().map(Path::new).filter(|path| path.is_absolute());
    let program =
        started_as.map_or_else(|| env::current_exe().map_err(LinkError::Unknown), |path| Ok(path.to_owned()))?;
    let shim = program.with_file_name(TARGETS[1]);
    Ok(if shim.exists() { shim } else { program })
}

/// Makes the links in a folder, and the folder. Nothing is touched if something else has one of the names.
///
/// # Errors
///
/// If something else is in the place of a link, or a link can't be made.
pub fn install(folder: &Path) -> Result<(), LinkError> {
    let program = target()?;
    fs::create_dir_all(folder).map_err(|error| LinkError::Folder(folder.to_owned(), error))?;
    let links = PROGRAMS.map(|name| folder.join(name));
    if let Some(path) = links.iter().find(|path| look(path) == Entry::Other) {
        return Err(LinkError::Foreign(path.clone()));
    }
    for path in links.into_iter().filter(|path| look(path) != Entry::Ours(program.clone())) {
        // Renamed to its place, so that at no time there is none.
        let new = path.with_extension(format!("new-{}", std::process::id()));
        if let Err(error) = symlink(&program, &new).and_then(|()| fs::rename(&new, &path)) {
            let _ = fs::remove_file(&new);
            return Err(LinkError::Make(path, error));
        }
    }
    Ok(())
}

/// Removes the links in a folder, and the folder if that was all; how many there were.
///
/// # Errors
///
/// If a link can't be removed.
pub fn remove(folder: &Path) -> Result<usize, LinkError> {
    let links = PROGRAMS.map(|name| folder.join(name)).into_iter().filter(|path| matches!(look(path), Entry::Ours(_)));
    let mut count = 0;
    for path in links {
        fs::remove_file(&path).map_err(|error| LinkError::Remove(path, error))?;
        count += 1;
    }
    if count > 0 {
        // It may have more in it.
        let _ = fs::remove_dir(folder);
    }
    Ok(count)
}

/// The folder with links that `run` puts into PATH: that of the installation, or one of this user's.
///
/// # Errors
///
/// If there is no folder for the links, and none can be made.
pub fn folder() -> Result<PathBuf, LinkError> {
    let program = env::current_exe().map_err(LinkError::Unknown)?;
    let installed = program.parent().unwrap_or(Path::new("/")).join("../libexec/nix-negative-cache/bin");
    if installed.join("nix").exists() {
        return Ok(installed);
    }
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let cache = cache.or_else(|| Some(env::home_dir()?.join(".cache")));
    let folder = cache.ok_or(LinkError::Homeless)?.join("nix-negative-cache/bin");
    install(&folder)?;
    Ok(folder)
}
