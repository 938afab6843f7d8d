//! The plugins beside the loader: `nix-VERSION/libnix_negative_cache.so`, each for exactly that version of Nix, and
//! `determinate-nix-VERSION/…`, with Determinate Nix's own version. The loader has a folder of its own, since Nix opens every
//! file in a folder that `plugin-files` names.
//!
//! The folder of a development version may have the version of Nix's libraries (`nix-2.36.0pre`), or that of its program.

use std::env::consts::DLL_SUFFIX;
use std::fs;
use std::io::ErrorKind;
use std::iter;
use std::path::{Path, PathBuf};

use nix_version::{Flavour, Nix, NixVersion};

/// An installation, found by the path of its loader.
#[derive(Debug)]
pub struct Installation {
    loader: PathBuf,
}

impl Installation {
    /// The installation that this loader belongs to.
    pub fn around(loader: &Path) -> Installation {
        Installation { loader: loader.to_owned() }
    }

    /// The folders in which plugins are looked for: the one of the loader and, if the loader is a link, the one of its
    /// target. A profile consists of links to packages, and each package may have only one plugin.
    fn folders(&self) -> impl Iterator<Item = PathBuf> {
        let folder = |loader: &Path| Some(loader.parent()?.parent()?.to_owned());
        let real = move || fs::canonicalize(&self.loader).ok().as_deref().and_then(folder);
        folder(&self.loader).into_iter().chain(iter::once_with(real).flatten())
    }

    /// The plugin for a Nix, if there is one. A file that this process may not inspect counts as one.
    pub fn plugin(&self, nix: &Nix) -> Option<PathBuf> {
        let missing =
            |path: &Path| matches!(path.symlink_metadata(), Err(error) if error.kind() == ErrorKind::NotFound);
        let find = |nix: &Nix| {
            let file = format!("{}/libnix_negative_cache{DLL_SUFFIX}", nix.folder()?);
            self.folders().map(|folder| folder.join(&file)).find(|path| !missing(path))
        };
        find(nix).or_else(|| find(&nix.of_libraries()?))
    }

    /// The versions of each flavour for which there are plugins, oldest first.
    fn versions(&self, flavour: Flavour) -> Vec<String> {
        let entries = self.folders().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let mut versions: Vec<String> = entries
            .filter_map(|entry| Nix::from_folder(&entry.file_name().into_string().ok()?))
            .filter(|nix| nix.flavour == flavour && self.plugin(nix).is_some())
            .map(|nix| nix.version)
            .collect();
        versions.sort_by_cached_key(|version| (NixVersion::parse(version), version.clone()));
        versions.dedup();
        versions
    }

    /// A sentence that says which plugins there are, and where.
    pub fn what_it_has(&self) -> String {
        let mut folders: Vec<String> = self
            .folders()
            .map(|folder| format!("'{}'", fs::canonicalize(&folder).unwrap_or(folder).display()))
            .collect();
        folders.dedup();
        let of = |flavour| {
            let versions = self.versions(flavour);
            (!versions.is_empty()).then(|| format!("{flavour} {}", versions.join(", ")))
        };
        let all: Vec<String> = [Flavour::Nix, Flavour::Determinate].into_iter().filter_map(of).collect();
        let all = if all.is_empty() { "no Nix".to_owned() } else { all.join(" and ") };
        format!("{} has plugins for {all}", folders.join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn with_versions(folder: &Path, versions: &[&str]) -> PathBuf {
        fs::create_dir_all(folder.join("loader")).unwrap();
        let loader = folder.join("loader/libnix_negative_cache.so");
        fs::write(&loader, "").unwrap();
        for version in versions {
            fs::create_dir(folder.join(format!("nix-{version}"))).unwrap();
            fs::write(folder.join(format!("nix-{version}/libnix_negative_cache{DLL_SUFFIX}")), "").unwrap();
        }
        loader
    }

    #[test]
    fn the_plugins_are_beside_the_folder_of_the_loader() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let loader = with_versions(&root, &["2.26.3", "2.8.0", "2.32.0pre1"]);
        fs::create_dir(root.join("nix-2.9.0")).unwrap();
        let installation = Installation::around(&loader);
        assert_eq!(installation.plugin(&Nix::released("2.9.0")), None);
        let plugin = root.join(format!("nix-2.8.0/libnix_negative_cache{DLL_SUFFIX}"));
        assert_eq!(installation.plugin(&Nix::released("2.8.0")), Some(plugin));
        let words = format!("'{}' has plugins for Nix 2.8.0, 2.26.3, 2.32.0pre1", root.display());
        assert_eq!(installation.what_it_has(), words);

        let determinate = Nix::determinate("2.8.0");
        assert_eq!(installation.plugin(&determinate), None);
        fs::create_dir(root.join("determinate-nix-2.8.0")).unwrap();
        let plugin = root.join(format!("determinate-nix-2.8.0/libnix_negative_cache{DLL_SUFFIX}"));
        fs::write(&plugin, "").unwrap();
        assert_eq!(installation.plugin(&determinate), Some(plugin));
        assert_eq!(installation.what_it_has(), words + " and Determinate Nix 2.8.0");
    }

    #[test]
    fn a_development_version_has_the_folder_of_its_libraries_or_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let installation = Installation::around(&with_versions(&root, &["2.36.0pre", "2.37.0pre20260901_a"]));
        let folder_of =
            |version| installation.plugin(&Nix::released(version)).map(|file| file.parent().unwrap().to_owned());
        let libraries = Some(root.join("nix-2.36.0pre"));
        assert_eq!((folder_of("2.36.0pre"), folder_of("2.36.0pre20260812_0123abc")), (libraries.clone(), libraries));
        let program = Some(root.join("nix-2.37.0pre20260901_a"));
        assert_eq!((folder_of("2.37.0pre20260901_a"), folder_of("2.37.0pre20260902_b")), (program, None));
        assert_eq!((folder_of("2.37.0pre"), folder_of("2.36.0")), (None, None));
        with_versions(&root, &["2.36.0pre20260812_0123abc"]);
        assert_eq!(folder_of("2.36.0pre20260812_0123abc"), Some(root.join("nix-2.36.0pre20260812_0123abc")));
    }

    #[test]
    fn a_profile_of_links_has_what_either_side_has() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let loader = with_versions(&root.join("package"), &["2.8.0"]);
        let profile = with_versions(&root.join("profile"), &["2.26.3"]);
        fs::remove_file(&profile).unwrap();
        symlink(loader, &profile).unwrap();
        let installation = Installation::around(&profile);
        assert!(
            installation.plugin(&Nix::released("2.8.0")).is_some()
                && installation.plugin(&Nix::released("2.26.3")).is_some()
        );
        assert!(installation.what_it_has().ends_with("has plugins for Nix 2.8.0, 2.26.3"));
    }
}
