//! What shells ask `nix` for to complete a command line: `NIX_GET_COMPLETIONS` is the place of the argument that is being
//! typed. Nix is asked without the plugin's flags, which it does not know, and those that fit are added to its answer.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::ShimError;
use super::flags::{self, Word};
use super::real::Real;
use crate::streams::Output;

const VARIABLE: &str = "NIX_GET_COMPLETIONS";

/// The place of the argument to complete among so many; none if that is not what is asked for.
pub fn place(count: usize) -> Option<usize> {
    let place = env::var(VARIABLE).ok()?.parse().ok()?;
    (1..count).contains(&place).then_some(place)
}

/// Answers with what Nix answers.
pub fn complete(real: Real, arguments: Vec<OsString>, place: usize) -> Result<Infallible, ShimError> {
    let words = flags::read("nix", &arguments[1..]);
    // The argument that is being typed is nothing yet, but it can be the value of a flag.
    let is_typed = |index: usize| index + 1 == place;
    if words.iter().enumerate().any(|(index, word)| is_typed(index) && *word == Word::Value) {
        return answer_with(b"normal\n", 0);
    }
    let is_nixs = |index: usize| is_typed(index) || words[index] == Word::Nixs;
    let typed = &arguments[place];
    // After `--` and the like nothing is a flag of Nix; whatever is typed there is tried as if it were one.
    let mut tried = arguments[1..place].to_vec();
    tried.push("--negative-cache".into());
    let can_be_flag = flags::read("nix", &tried).last() != Some(&Word::Nixs) && flags::begins_flag(typed);
    if !can_be_flag && (0..words.len()).all(is_nixs) {
        return Err(real.become_with(&arguments));
    }

    let left_out = (0..place).filter(|index| !is_nixs(*index)).count();
    let kept = (0..words.len()).filter(|index| is_nixs(*index)).map(|index| &arguments[index + 1]);
    let answer = Command::new(&real.path)
        .arg0(&arguments[0])
        .args(kept)
        .env(VARIABLE, (place - left_out).to_string())
        .envs(real.variable())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| ShimError::CannotRun(real.path, error))?;
    let mut out = answer.stdout;
    if can_be_flag {
        let typed = typed.to_string_lossy();
        for (flag, _) in flags::all().filter(|(flag, _)| flag.starts_with(&*typed)) {
            out.extend_from_slice(format!("{flag}\t\n").as_bytes());
        }
    }
    answer_with(&out, answer.status.code().unwrap_or(1))
}

/// Prints an answer, and ends.
fn answer_with(text: &[u8], status: i32) -> Result<Infallible, ShimError> {
    let mut out = Output::standard();
    out.write_all(text).and_then(|()| out.flush()).map_err(ShimError::CannotWrite)?;
    std::process::exit(status);
}
