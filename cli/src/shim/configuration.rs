//! What the configuration of the real Nix says of the plugin, read as Nix would read it: whether it is asked for, and whether
//! it is loaded. Where Nix was built to look in another place, `NIX_CONF_DIR` has to say so; else it is as if there were none.

use std::env;
use std::env::consts::DLL_SUFFIX;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix_negative_cache_core::settings::ENABLE;

/// The name of the plugin's file.
pub fn plugin_name() -> String {
    format!("libnix_negative_cache{DLL_SUFFIX}")
}

/// How deep files may include others; one that includes itself is Nix's business.
const DEPTH: u8 = 8;

/// What the configuration says.
#[derive(Debug, Default)]
pub struct Configuration {
    /// Whether there is anything of the plugin's settings in it.
    pub mentions_plugin: bool,
    /// Whether it has the plugin loaded.
    pub loads_plugin: bool,
    /// The `plugin-files` of the files and `NIX_CONFIG`.
    pub plugin_files: Vec<OsString>,
    /// The same with those of the command line.
    in_force: Vec<OsString>,
}

impl Configuration {
    /// Reads the files, `NIX_CONFIG` and the command line.
    pub fn read(arguments: &[OsString]) -> Configuration {
        let mut configuration = Configuration::default();
        let folder = env::var_os("NIX_CONF_DIR").map_or_else(|| PathBuf::from("/etc/nix"), PathBuf::from);
        configuration.read_file(&folder.join("nix.conf"), DEPTH);
        for file in users_files().iter().rev() {
            configuration.read_file(file, DEPTH);
        }
        if let Some(text) = env::var_os("NIX_CONFIG") {
            configuration.read_text(text.as_bytes(), Path::new(""), DEPTH);
        }
        configuration.plugin_files.clone_from(&configuration.in_force);
        configuration.read_arguments(arguments);
        configuration
    }

    fn read_file(&mut self, path: &Path, depth: u8) {
        if let Ok(text) = fs::read(path) {
            self.read_text(&text, path.parent().unwrap_or(Path::new("/")), depth);
        }
    }

    fn read_text(&mut self, text: &[u8], folder: &Path, depth: u8) {
        for line in text.split(|byte| *byte == b'\n') {
            let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
            let mut words = line.split(|byte| b" \t\r".contains(byte)).filter(|word| !word.is_empty());
            match (words.next(), words.next()) {
                (Some(b"include" | b"!include"), Some(file)) if depth > 0 => {
                    self.read_file(&folder.join(OsStr::from_bytes(file)), depth - 1);
                }
                (Some(name), Some(b"=")) => self.set(name, words),
                _ => {}
            }
        }
    }

    fn read_arguments(&mut self, arguments: &[OsString]) {
        let words: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
        for (place, word) in words.iter().enumerate() {
            let value = |place: usize| words.get(place).copied().unwrap_or_default().split(u8::is_ascii_whitespace);
            match *word {
                b"--option" => self.set(words.get(place + 1).copied().unwrap_or_default(), value(place + 2)),
                [b'-', b'-', name @ ..] if name.ends_with(b"plugin-files") => self.set(name, value(place + 1)),
                _ => {}
            }
        }
    }

    fn set<'a>(&mut self, name: &[u8], value: impl Iterator<Item = &'a [u8]>) {
        self.mentions_plugin |= name.starts_with(ENABLE.as_bytes());
        match name {
            b"plugin-files" => self.in_force.clear(),
            b"extra-plugin-files" => {}
            _ => return,
        }
        let words = value.filter(|word| !word.is_empty());
        self.in_force.extend(words.map(|word| OsStr::from_bytes(word).to_owned()));
        self.loads_plugin = self.in_force.iter().any(|file| is_plugin(Path::new(file)));
    }
}

/// The files of the user's configuration; the first one counts most.
fn users_files() -> Vec<PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(files) = variable("NIX_USER_CONF_FILES") {
        return env::split_paths(&files).collect();
    }
    let home = variable("NIX_CONFIG_HOME").map(PathBuf::from).or_else(|| {
        let folder = variable("XDG_CONFIG_HOME").map(PathBuf::from);
        Some(folder.or_else(|| Some(env::home_dir()?.join(".config")))?.join("nix"))
    });
    let others = variable("XDG_CONFIG_DIRS").unwrap_or_else(|| "/etc/xdg".into());
    let others = env::split_paths(&others).map(|folder| folder.join("nix")).collect::<Vec<_>>();
    home.into_iter().chain(others).map(|folder| folder.join("nix.conf")).collect()
}

/// Whether a file in `plugin-files` is the plugin, or a folder with it.
fn is_plugin(path: &Path) -> bool {
    let name = plugin_name();
    path.file_name().is_some_and(|file| *file == *name) || path.join(&name).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> (bool, bool) {
        let mut configuration = Configuration::default();
        configuration.read_text(text.as_bytes(), Path::new("/"), DEPTH);
        (configuration.mentions_plugin, configuration.loads_plugin)
    }

    #[test]
    fn other_plugins_are_found() {
        let mut configuration = Configuration::default();
        let text = b"plugin-files = /x\nplugin-files = /a  /b # /y\nextra-plugin-files = /c";
        configuration.read_text(text, Path::new("/"), DEPTH);
        assert_eq!(configuration.in_force, ["/a", "/b", "/c"]);
    }

    #[test]
    fn settings_are_found_as_nix_finds_them() {
        let plugin = format!("/a/{}", plugin_name());
        for (text, expected) in [
            (String::new(), (false, false)),
            ("cores = 4 # negative-cache = true".to_owned(), (false, false)),
            ("\tnegative-cache-ttl\t= 3\r".to_owned(), (true, false)),
            (format!("plugin-files = /other.so {plugin}"), (false, true)),
            (format!("plugin-files = {plugin}\nextra-plugin-files = /other.so"), (false, true)),
            (format!("plugin-files = {plugin}\nplugin-files = /other.so"), (false, false)),
            (format!("extra-plugin-files = {plugin}\nnegative-cache = true"), (true, true)),
            (format!("#plugin-files = {plugin}"), (false, false)),
        ] {
            assert_eq!(said(&text), expected, "{text}");
        }
    }
}
