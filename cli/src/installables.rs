//! What people name derivations by on a command line, as Nix takes it: store paths, links to them, flake references, and
//! attributes of a file. Only the latter two need Nix, which evaluates them.

use std::fs;
use std::path::{Path, PathBuf};

use nix_negative_cache_core::store_path::{is_in_names, is_store_path};

use crate::Failure;
use crate::args::ExpressionArguments;
use crate::nix;

/// How many links lead to one another at most.
const MAX_LINKS: usize = 40;

/// Reads an argument. What is in a store becomes a store path, and that of a derivation if outputs of one are named, as Nix
/// does it: `DRV^out`, `DRV^*`, `DRV!out`. A failure is one of the whole derivation. A flake reference stays as it is.
///
/// # Errors
///
/// If it is neither.
pub fn read(text: &str) -> Result<String, String> {
    if is_flake(text) {
        return Ok(text.to_owned());
    }
    let (path, outputs) = match text.split_once(['^', '!']) {
        Some((path, outputs)) if path.ends_with(".drv") => (path, Some(outputs)),
        _ => (text, None),
    };
    let Some(path) = in_store(path) else {
        return Err(
            "not a store path, such as /nix/store/<hash>-<name>.drv, nor a link to one such as ./result, nor a flake \
                    reference such as .#name"
                .to_owned(),
        );
    };
    let is_output = |name: &str| name == "*" || (!name.is_empty() && name.chars().all(is_in_names));
    if outputs.is_none_or(|outputs| outputs.split(',').all(is_output)) {
        Ok(path)
    } else {
        Err("not the outputs of a derivation, such as /nix/store/<hash>-<name>.drv^out".to_owned())
    }
}

/// Whether it is a flake reference, which no store path and no link is.
fn is_flake(text: &str) -> bool {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))
    };
    // Nix looks in the folders above as well. A folder of a store is a path of it, whatever is in it.
    let is_folder = || {
        let is_path = text.starts_with(['.', '/']) && Path::new(text).is_dir();
        let folder = fs::canonicalize(text).ok().filter(|folder| is_path && store_path_of(folder).is_none());
        folder.is_some_and(|folder| folder.ancestors().any(|folder| folder.join("flake.nix").exists()))
    };
    text.contains('#') || text.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme)) || is_folder()
}

/// The store path that a path is, leads to by links, or is in (`Store::followLinksToStorePath` in libstore/store-api.cc). An
/// absolute path that does not is returned as it is: it may be somebody's who asks about it.
fn in_store(text: &str) -> Option<String> {
    let mut path = std::path::absolute(text).ok()?;
    for _ in 0..MAX_LINKS {
        if let Some(found) = store_path_of(&path) {
            return Some(found.to_owned());
        }
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().map_or_else(PathBuf::new, Path::to_owned).join(target);
        path = without_dots(&path);
    }
    text.starts_with('/').then(|| text.to_owned())
}

/// The store path that a path is or is in. The outermost: a store path may have a store in it, as a file system of a machine does.
fn store_path_of(path: &Path) -> Option<&str> {
    path.ancestors().filter_map(Path::to_str).filter(|path| is_store_path(path)).last()
}

/// The path without `.` and `..`, as Nix reads it (`canonPath` in libutil/util.cc).
fn without_dots(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                clean.pop();
            }
            std::path::Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

/// Replaces flake references by the paths of their derivations, and adds those of attributes.
///
/// # Errors
///
/// If Nix does not evaluate them, or nothing comes of them: to a command, no path may mean all that is recorded, or nothing to do.
pub fn resolve(paths: &mut Vec<String>, expression: &ExpressionArguments) -> Result<(), Failure> {
    let flakes: Vec<&str> = paths.iter().map(String::as_str).filter(|path| is_flake(path)).collect();
    let mut derivations = Vec::new();
    if !flakes.is_empty() {
        derivations.extend(some(nix::derivations_of_flakes(&flakes)?, || flakes.join("' or '"))?);
    }
    if !expression.is_empty() {
        let file = expression.file.as_deref().unwrap_or("./default.nix");
        let attributes: Vec<&str> = expression.attributes.iter().map(String::as_str).collect();
        let found = nix::instantiate(file, &attributes)?;
        let name = || {
            if attributes.is_empty() { file.to_owned() } else { format!("{}' of '{file}", attributes.join("' or '")) }
        };
        derivations.extend(some(found, name)?);
    }
    paths.retain(|path| !is_flake(path));
    for derivation in derivations {
        if !paths.contains(&derivation) {
            paths.push(derivation);
        }
    }
    Ok(())
}

/// What Nix found, if that is something.
fn some(derivations: Vec<String>, name: impl Fn() -> String) -> Result<Vec<String>, Failure> {
    if derivations.is_empty() {
        return Err(Failure::Other(format!("there is no derivation in '{}'", name())));
    }
    Ok(derivations)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    const DRV: &str = "/nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv";

    #[test]
    fn outputs_of_a_derivation_stand_for_it() {
        for outputs in ["", "^out", "^*", "^out,dev", "!out", "!*"] {
            assert_eq!(read(&format!("{DRV}{outputs}")).as_deref(), Ok(DRV), "{outputs}");
        }
        for wrong in ["^", "!", "^out,", "^a b", "^out^dev"] {
            assert!(read(&format!("{DRV}{wrong}")).is_err(), "{wrong}");
        }
        assert_eq!(read("/nix/store/x!y").as_deref(), Ok("/nix/store/x!y"));
    }

    #[test]
    fn links_stand_for_what_they_lead_to() {
        let folder = TempDir::new().unwrap();
        let in_folder = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        symlink(DRV, folder.path().join("drv")).unwrap();
        symlink("./sub/../drv", folder.path().join("result")).unwrap();
        symlink("loop", folder.path().join("loop")).unwrap();
        symlink(format!("{DRV}/bin/x"), folder.path().join("inside")).unwrap();
        for link in ["drv", "result", "inside"] {
            assert_eq!(read(&in_folder(link)).as_deref(), Ok(DRV), "{link}");
        }
        assert_eq!(read(&format!("{DRV}/bin")).as_deref(), Ok(DRV));
        // Absolute paths of something else are looked up, and not found.
        for other in ["loop", "nothing", "sub"] {
            assert_eq!(read(&in_folder(other)), Ok(in_folder(other)), "{other}");
        }
        for other in ["etc/passwd", "x.drv", "./x", ""] {
            assert!(read(other).unwrap_err().starts_with("not a store path"), "{other}");
        }
    }

    #[test]
    fn flake_references_are_left_to_nix() {
        for flake in [".#x", "/home/me/project#x", "github:a/b", "git+file:///a?ref=b", "nixpkgs#hello^out", "path:."] {
            assert_eq!(read(flake).as_deref(), Ok(flake));
        }
        let folder = TempDir::new().unwrap();
        let within = folder.path().join("a/b");
        fs::create_dir_all(&within).unwrap();
        assert!(!is_flake(folder.path().to_str().unwrap()) && !is_flake(DRV) && !is_flake("./result"));
        assert!(!is_flake(within.to_str().unwrap()));
        fs::write(folder.path().join("flake.nix"), "").unwrap();
        assert!(is_flake(folder.path().to_str().unwrap()) && is_flake(within.to_str().unwrap()));
        symlink(DRV, folder.path().join("result")).unwrap();
        for other in ["flake.nix", "result", "nothing"] {
            assert!(!is_flake(folder.path().join(other).to_str().unwrap()), "{other}");
        }
    }

    #[test]
    fn a_store_in_a_store_is_part_of_it() {
        assert_eq!(read(&format!("{DRV}{DRV}/bin")).as_deref(), Ok(DRV));
    }
}
