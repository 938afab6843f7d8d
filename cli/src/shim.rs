//! Nix with the plugin's flags, whichever Nix it is: called by the name of one of Nix's programs, this one finds the real
//! program, turns the flags into configuration, has the plugin loaded if nothing else does, and becomes it.
//!
//! Every call of Nix goes through here, so it comes before `main` and looks at little: the arguments, a few folders, and the
//! configuration of Nix. What is not asked of the plugin reaches Nix as it came.

mod completions;
mod configuration;
mod flags;
pub mod process;
mod real;

use std::convert::Infallible;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use configuration::Configuration;
use flags::MissingValue;
use real::Real;

use crate::streams::say;

/// The programs that Nix installs.
pub const PROGRAMS: [&str; 12] = [
    "nix",
    "nix-build",
    "nix-channel",
    "nix-collect-garbage",
    "nix-copy-closure",
    "nix-daemon",
    "nix-env",
    "nix-hash",
    "nix-instantiate",
    "nix-prefetch-url",
    "nix-shell",
    "nix-store",
];

/// The variable that names the plugin's file, instead of the one that is installed with this program.
const PLUGIN_VARIABLE: &str = "NIX_NEGATIVE_CACHE_PLUGIN";

/// Where the plugin is installed, seen from the folder of this program.
const PLUGIN_FOLDER: &str = "../lib/nix-negative-cache/loader";

/// Why Nix could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    #[error("error: {0}\nTry 'nix --help' for more information.")]
    MissingValue(#[from] MissingValue),
    #[error("nix-negative-cache: {0}")]
    NoNix(#[from] real::NotFound),
    #[error("nix-negative-cache: cannot run '{}': {}", .0.display(), .1)]
    CannotRun(PathBuf, io::Error),
    #[error("nix-negative-cache: cannot write the output: {0}")]
    CannotWrite(io::Error),
}

impl ShimError {
    /// The exit status, as shells and Nix have it.
    pub fn status(&self) -> i32 {
        match self {
            ShimError::MissingValue(_) | ShimError::CannotWrite(_) => 1,
            ShimError::CannotRun(_, error) if error.kind() == io::ErrorKind::NotFound => 127,
            ShimError::CannotRun(..) => 126,
            ShimError::NoNix(_) => 127,
        }
    }
}

/// Becomes the program of Nix by whose name this one was called; none if it was not.
pub fn called_as_nix() -> Option<ShimError> {
    let arguments: Vec<OsString> = env::args_os().collect();
    let program = program(arguments.first()?)?;
    Some(become_nix(program, arguments))
}

/// Which program of Nix a command means.
pub fn program(command: &OsStr) -> Option<&'static str> {
    let name = Path::new(command).file_name()?;
    PROGRAMS.into_iter().find(|program| name == *program)
}

/// Becomes a program of Nix with these arguments, the name it is called by among them. Comes back only if it can't.
pub fn become_nix(program: &'static str, arguments: Vec<OsString>) -> ShimError {
    match try_to_become(program, arguments) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn try_to_become(program: &'static str, mut arguments: Vec<OsString>) -> Result<Infallible, ShimError> {
    let real = real::find(program)?;
    if !is_taken_as_it_is(program, &arguments) {
        if program == "nix"
            && let Some(place) = completions::place(arguments.len())
        {
            return completions::complete(real, arguments, place);
        }
        arguments = with_plugin(program, arguments)?;
    }
    Err(real.become_with(&arguments))
}

/// Whether Nix tells by the first argument that the others are not its flags: scripts with `#! nix-shell` or `#! nix` lines,
/// and what Nix's programs say to each other.
fn is_taken_as_it_is(program: &str, arguments: &[OsString]) -> bool {
    let Some(first) = arguments.get(1).map(|argument| argument.as_bytes()) else { return false };
    match program {
        "nix" => first.starts_with(b"__") || (!first.starts_with(b"-") && is_script(first, Some("nix"))),
        "nix-shell" => is_script(first, None),
        _ => false,
    }
}

/// Whether a file is a script, which has further lines that begin with `#!` and a word if there has to be one.
fn is_script(path: &[u8], word: Option<&str>) -> bool {
    let path = Path::new(OsStr::from_bytes(path));
    // Reading a pipe would take from Nix what is in it.
    if !path.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return false;
    }
    let Ok(text) = fs::read(path) else { return false };
    let mut lines = text.split(|byte| *byte == b'\n');
    if !lines.next().is_some_and(|line| line.starts_with(b"#!")) {
        return false;
    }
    word.is_none_or(|word| {
        lines.filter_map(|line| line.strip_prefix(b"#!")).any(|line| line.trim_ascii().starts_with(word.as_bytes()))
    })
}

/// The arguments for a Nix that reads the plugin's flags as configuration, and has loaded it if it is asked for.
fn with_plugin(program: &str, arguments: Vec<OsString>) -> Result<Vec<OsString>, MissingValue> {
    let configuration = Configuration::read(&arguments);
    let (mut arguments, flag) = flags::translate(program, arguments)?;
    if configuration.loads_plugin || !(flag.is_some() || configuration.mentions_plugin) {
        return Ok(arguments);
    }
    match (plugin(), flag) {
        (Ok(plugin), _) => {
            // Nix 2.8 loads plugins when it comes to the first argument that is no flag. From 2.33 on, Nix knows no
            // `extra-plugin-files`.
            let mut files = configuration.plugin_files;
            files.push(plugin.into_os_string());
            arguments.splice(1..1, ["--option".into(), "plugin-files".into(), files.join(OsStr::new(" "))]);
        }
        (Err(why), Some(flag)) => say(format_args!("nix-negative-cache: {flag} does nothing, as {why}")),
        (Err(_), None) => {}
    }
    Ok(arguments)
}

/// The file of the plugin; the error says why there is none.
fn plugin() -> Result<PathBuf, String> {
    let path = match env::var_os(PLUGIN_VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => {
            let program = env::current_exe().and_then(|path| path.canonicalize());
            let program =
                program.map_err(|error| format!("it is not known where this program is installed: {error}"))?;
            program.parent().unwrap_or(Path::new("/")).join(PLUGIN_FOLDER).join(configuration::plugin_name())
        }
    };
    // Without `..` in it, it is one file for the dynamic linker, however this program was found.
    let path = path.canonicalize().map_err(|error| format!("the plugin '{}' can't be had: {error}", path.display()))?;
    if path.as_os_str().as_bytes().iter().any(u8::is_ascii_whitespace) {
        return Err(format!("Nix takes the white space in '{}' for the end of the name", path.display()));
    }
    Ok(path)
}

impl Real {
    /// Becomes this program; comes back with the error if it can't.
    fn become_with(self, arguments: &[OsString]) -> ShimError {
        let error = process::exec(&self.path, arguments, self.variable());
        ShimError::CannotRun(self.path, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_by_their_names() {
        assert_eq!(program("nix".as_ref()), Some("nix"));
        assert_eq!(program("/a/b/nix-build".as_ref()), Some("nix-build"));
        for other in ["", "/", "nix-negative-cache", "nix-", "Nix", "/nix/store/nix-2.8/bin/sh"] {
            assert_eq!(program(other.as_ref()), None, "{other}");
        }
    }
}
