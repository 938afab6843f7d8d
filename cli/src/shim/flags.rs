//! The plugin's settings as flags of Nix, spelled as Nix spells its own: `--negative-cache`, `--no-negative-cache`,
//! `--negative-cache-ttl 3600`. Nix reads its command line before it loads plugins, so that it does not know them;
//! `--option` it keeps until then.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use nix_negative_cache_core::settings::{ALL, Kind, SettingInfo};

/// A flag without its value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("flag '{0}' requires 1 argument(s), but only 0 were given")]
pub struct MissingValue(pub String);

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Nix's.
    Nixs,
    /// A flag that sets a setting to a value.
    Switch(&'static str, &'static str),
    /// A flag of a setting whose value is the next argument.
    Flag(&'static str),
    /// The value of the flag before it.
    Value,
}

/// All flags.
pub fn all() -> impl Iterator<Item = (String, Word)> {
    ALL.iter().flat_map(|SettingInfo { name, kind, .. }| {
        let (flag, opposite) = match kind {
            Kind::Switch => (Word::Switch(name, "true"), Some((format!("--no-{name}"), Word::Switch(name, "false")))),
            Kind::Number(_) | Kind::Text(_) => (Word::Flag(name), None),
        };
        [(format!("--{name}"), flag)].into_iter().chain(opposite)
    })
}

/// The flag that an argument spells.
fn flag(argument: &[u8]) -> Option<Word> {
    let name = argument.strip_prefix(b"--")?;
    let find = |name: &[u8]| {
        let setting = ALL.iter().find(|setting| setting.name.as_bytes() == name)?;
        Some((setting.name, setting.kind == Kind::Switch))
    };
    match (find(name), name.strip_prefix(b"no-").and_then(find)) {
        (Some((setting, true)), _) => Some(Word::Switch(setting, "true")),
        (Some((setting, false)), _) => Some(Word::Flag(setting)),
        (None, Some((setting, true))) => Some(Word::Switch(setting, "false")),
        _ => None,
    }
}

/// Tells what each argument is; the first one is what comes after the program's name.
pub fn read(program: &str, arguments: &[OsString]) -> Vec<Word> {
    let mut takes = Takes::Nothing;
    let mut own = false;
    arguments
        .iter()
        .map(|argument| {
            let argument = argument.as_bytes();
            match takes {
                Takes::TheRest => return Word::Nixs,
                Takes::Values(more) => {
                    takes = if more > 1 { Takes::Values(more - 1) } else { Takes::Nothing };
                    return if own { Word::Value } else { Word::Nixs };
                }
                Takes::Nothing => {}
            }
            let word = flag(argument);
            own = word.is_some();
            takes = match word {
                Some(Word::Flag(_)) => Takes::Values(1),
                Some(_) => Takes::Nothing,
                None => what_takes(program, argument),
            };
            word.unwrap_or(Word::Nixs)
        })
        .collect()
}

/// The arguments, the program's name among them, with `--option` for each flag, and the first flag that was there.
pub fn translate(program: &str, arguments: Vec<OsString>) -> Result<(Vec<OsString>, Option<String>), MissingValue> {
    let words = read(program, arguments.get(1..).unwrap_or_default());
    let spelled = |word: OsString| word.to_string_lossy().into_owned();
    if let Some(Word::Flag(name)) = words.last() {
        return Err(MissingValue(format!("--{name}")));
    }
    let mut first = None;
    let mut translated = Vec::with_capacity(arguments.len() + 8);
    let option = |name: &str| ["--option", name].map(OsString::from);
    for (argument, word) in arguments.into_iter().zip([Word::Nixs].into_iter().chain(words)) {
        match word {
            Word::Nixs | Word::Value => translated.push(argument),
            Word::Flag(name) => {
                translated.extend(option(name));
                first.get_or_insert_with(|| spelled(argument));
            }
            Word::Switch(name, value) => {
                translated.extend(option(name).into_iter().chain([value.into()]));
                first.get_or_insert_with(|| spelled(argument));
            }
        }
    }
    Ok((translated, first))
}

/// What a flag of Nix takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Nothing,
    Values(u8),
    /// All that follows, which are the arguments of another program.
    TheRest,
}

const EVERYWHERE: &[&str] = &super::PROGRAMS;
const NIX: &[&str] = &["nix"];
const BUILD: &[&str] = &["nix-build", "nix-shell"];
const SHELL: &[&str] = &["nix-shell"];
const ENV: &[&str] = &["nix-env"];
const ATTRIBUTES: &[&str] = &["nix-build", "nix-shell", "nix-instantiate", "nix-prefetch-url"];
const ROOTS: &[&str] = &["nix-store", "nix-instantiate"];

/// The flags of Nix's programs that take something which can be any text. What is not here is taken to have no value: that
/// is wrong only if its value is spelled like a flag of the plugin.
const FLAGS: &[(&[&str], &[&str], Takes)] = &[
    (EVERYWHERE, &["--"], Takes::TheRest),
    (EVERYWHERE, &["--arg", "--argstr", "--arg-from-file", "--option", "--override-flake"], Takes::Values(2)),
    (EVERYWHERE, &["--arg-from-stdin", "--include", "-I", "--eval-store", "--store"], Takes::Values(1)),
    (EVERYWHERE, &["--log-format", "--max-jobs", "-j", "--out-link", "-o", "--file", "-f"], Takes::Values(1)),
    (NIX, &["--command", "-c"], Takes::TheRest),
    (NIX, &["--override-input", "--redirect", "--set-env-var"], Takes::Values(2)),
    (NIX, &["--apply", "--bundler", "--exclude", "--expr", "--from", "--inputs-from", "--name"], Takes::Values(1)),
    (NIX, &["--phase", "--profile", "--template", "--to"], Takes::Values(1)),
    (SHELL, &["--command", "--run"], Takes::Values(1)),
    (BUILD, &["--drv-link", "--exclude", "--keep"], Takes::Values(1)),
    (ATTRIBUTES, &["--attr", "-A"], Takes::Values(1)),
    (ROOTS, &["--add-root"], Takes::Values(1)),
    (ENV, &["--from-profile", "--profile", "-p", "--system-filter"], Takes::Values(1)),
    (&["nix-prefetch-url"], &["--name"], Takes::Values(1)),
];

fn what_takes(program: &str, argument: &[u8]) -> Takes {
    let look_up = |flag: &[u8]| {
        let here = |(programs, flags, _): &&(&[&str], &[&str], Takes)| {
            flags.iter().any(|other| other.as_bytes() == flag) && programs.contains(&program)
        };
        FLAGS.iter().find(here).map_or(Takes::Nothing, |(_, _, takes)| *takes)
    };
    match argument {
        [b'-', b'-', ..] => look_up(argument),
        // Nix takes `-iA` for `-i -A`, and `-j3` for `-j 3`.
        [b'-', letters @ ..] if letters.first().is_some_and(u8::is_ascii_alphabetic) => {
            let mut takes = Takes::Nothing;
            for (place, letter) in letters.iter().enumerate() {
                let word = if letter.is_ascii_alphabetic() { &[b'-', *letter][..] } else { &letters[place..] };
                takes = match takes {
                    Takes::TheRest => return takes,
                    Takes::Values(more) if more > 1 => Takes::Values(more - 1),
                    Takes::Values(_) => Takes::Nothing,
                    Takes::Nothing => look_up(word),
                };
                if !letter.is_ascii_alphabetic() {
                    break;
                }
            }
            takes
        }
        _ => Takes::Nothing,
    }
}

/// Whether an argument can be the beginning of one of the plugin's flags.
pub fn begins_flag(argument: &OsStr) -> bool {
    let argument = argument.as_bytes();
    argument.starts_with(b"--") && all().any(|(flag, _)| flag.as_bytes().starts_with(argument))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(program: &str, line: &str) -> String {
        let arguments = [program].into_iter().chain(line.split_whitespace()).map(OsString::from).collect();
        let (arguments, _) = translate(program, arguments).unwrap();
        arguments[1..].iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn flags_become_options_where_they_stand() {
        for (flag, options) in [
            ("--negative-cache", "--option negative-cache true"),
            ("--no-negative-cache", "--option negative-cache false"),
            ("--negative-cache-retry", "--option negative-cache-retry true"),
            ("--negative-cache-action warn", "--option negative-cache-action warn"),
            ("--negative-cache-ttl --negative-cache", "--option negative-cache-ttl --negative-cache"),
        ] {
            assert_eq!(translated("nix", &format!("build {flag} .")), format!("build {options} ."));
            assert_eq!(translated("nix-store", &format!("-r x {flag}")), format!("-r x {options}"));
        }
        for other in ["--negative", "--negative-cache=true", "--negative-cache-new", "--no-negative-cache-ttl", "-n"] {
            assert_eq!(translated("nix", other), other);
        }
    }

    #[test]
    fn every_setting_has_its_flags() {
        let flags: Vec<(String, Word)> = all().collect();
        for (spelled, word) in &flags {
            assert_eq!(flag(spelled.as_bytes()), Some(*word), "{spelled}");
            assert!(begins_flag(OsStr::new(&spelled[..spelled.len() - 1])));
        }
        let switches = ALL.iter().filter(|setting| setting.kind == Kind::Switch).count();
        assert_eq!(flags.len(), ALL.len() + switches);
    }

    #[test]
    fn what_is_not_a_flag_of_nix_stays() {
        const FLAG: &str = "--negative-cache";
        for (program, before) in [
            ("nix", "run x --"),
            ("nix", "develop -c"),
            ("nix", "shell x --command bash"),
            ("nix", "shell x -c bash --option a b"),
            ("nix", "build --option a"),
            ("nix", "build --argstr a"),
            ("nix", "eval --expr"),
            ("nix", "eval --apply"),
            ("nix-shell", "--run"),
            ("nix-shell", "-p x --command"),
            ("nix-build", "-A"),
            ("nix-build", "-QA"),
            ("nix-instantiate", "--arg a"),
            ("nix-env", "-p"),
            ("nix-store", "-r --"),
        ] {
            let line = format!("{before} {FLAG} after");
            assert_eq!(translated(program, &line), line, "{program} {line}");
        }
        for (program, before) in [
            ("nix", "build --option a b"),
            ("nix", "build"),
            ("nix-build", "-E"),
            ("nix-build", "-j3"),
            ("nix-build", "--expr"),
            ("nix-env", "-i"),
            ("nix-env", "-iA x"),
            ("nix-env", "-f x -iA x"),
            ("nix-shell", "--command x"),
            ("nix-store", "-r"),
            ("nix-store", "-A"),
            ("nix-build", "-"),
        ] {
            let line = format!("{before} {FLAG} after");
            assert_eq!(
                translated(program, &line),
                format!("{before} --option negative-cache true after"),
                "{program} {line}"
            );
        }
    }

    #[test]
    fn a_missing_value_is_an_error() {
        let arguments = ["nix", "build", "--negative-cache-ttl"].map(OsString::from).to_vec();
        assert_eq!(translate("nix", arguments), Err(MissingValue("--negative-cache-ttl".to_owned())));
    }
}
