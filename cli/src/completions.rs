//! The completions of shells. `clap_complete` makes scripts that know the commands and options. For recorded values, such as paths
//! and names, the scripts run this program (`__complete`) with the words of the command line up to the one that is being typed.

use std::collections::BTreeSet;
use std::env;
use std::io::{self, Write};

use clap::{Arg, Command, CommandFactory, Parser};
use clap_complete::Shell;
use nix_negative_cache_core::belief::Source;
use nix_negative_cache_core::failure_object::signer_of;
use nix_negative_cache_core::record::FailureSummary;

use crate::args::Arguments;
use crate::databases::Databases;

/// The first argument with which the scripts run this program. It is no subcommand, so that no help shows it.
const COMPLETE: &str = "__complete";

/// A kind of recorded value that an argument can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recorded {
    /// Paths of derivations and outputs, which are also found by the names of the derivations.
    Paths,
    Names,
    Origins,
    Systems,
}

/// The kind of recorded value that an argument has, if it has one.
fn recorded(argument: &Arg) -> Option<Recorded> {
    Some(match argument.get_id().as_str() {
        "paths" | "derivations" => Recorded::Paths,
        "name" => Recorded::Names,
        "origin" => Recorded::Origins,
        "system" => Recorded::Systems,
        _ => return None,
    })
}

/// The words of a command line that is to be completed, if that is what this process was asked for.
pub fn asked() -> Option<Vec<String>> {
    let mut arguments = env::args_os().skip(1);
    let words = arguments.next().filter(|first| first == COMPLETE).map(|_| arguments);
    Some(words?.map(|word| word.to_string_lossy().into_owned()).collect())
}

/// Prints what the last word can become, a line each. Whatever goes wrong, there is nothing to complete then.
///
/// # Errors
///
/// If it can't be written.
pub fn complete(words: &[String], out: &mut impl Write) -> io::Result<()> {
    let root = Arguments::command();
    let Some(typed) = Typed::read(&root, words) else { return Ok(()) };
    let mut line = vec![root.get_name()];
    line.extend(typed.databases.iter().map(String::as_str).chain(["path"]));
    let Ok(arguments) = Arguments::try_parse_from(line) else { return Ok(()) };
    // One that can't be read does not keep the others from being completed.
    let databases = arguments.database.paths().into_iter().filter_map(|path| Databases::open(vec![path]).ok());
    let databases: Vec<Databases> = databases.collect();
    let records: Vec<_> = databases.iter().filter_map(|database| database.summaries().ok()).flatten().collect();
    let records: Vec<&FailureSummary> = records.iter().map(|seen| &seen.record).collect();
    let found = match typed.recorded {
        Recorded::Paths if typed.word.starts_with('/') => {
            let outputs = databases.iter().filter_map(|database| database.outputs_starting_with(typed.word).ok());
            paths(&records, typed.word).into_iter().chain(outputs.flatten()).collect()
        }
        Recorded::Paths => paths(&records, typed.word),
        Recorded::Names => starting_with(typed.word, records.iter().map(|record| pattern(&record.name))),
        Recorded::Systems => starting_with(typed.word, records.iter().map(|record| record.system.clone())),
        Recorded::Origins => starting_with(typed.word, records.iter().flat_map(|record| origins(record))),
    };
    found.iter().try_for_each(|found| writeln!(out, "{found}"))
}

/// What is being typed.
#[derive(Debug)]
struct Typed<'a> {
    recorded: Recorded,
    /// As much of the value as there is.
    word: &'a str,
    /// The options that say which database.
    databases: Vec<String>,
}

impl<'a> Typed<'a> {
    /// Reads the words of a command line. `None` if nothing is to be completed that is recorded.
    fn read(root: &Command, words: &'a [String]) -> Option<Typed<'a>> {
        let (last, before) = words.split_last()?;
        let (mut command, mut databases) = (root, Vec::new());
        let mut words = before.iter().map(String::as_str).filter(|word| *word != "=").peekable();
        let mut only_values = false;
        while let Some(word) = words.next() {
            if only_values {
                continue;
            }
            if word == "--" {
                only_values = true;
            } else if let Some((option, value)) = option(root, command, word) {
                let takes_value = option.get_action().takes_values();
                if takes_value && value.is_none() && words.peek().is_none() {
                    // bash takes the equals sign for a word.
                    let word = if last == "=" { "" } else { last.as_str() };
                    return Some(Typed { recorded: recorded(option)?, word, databases });
                }
                let value = if takes_value { value.or_else(|| words.next()) } else { None };
                if let (Some(value), "database" | "store_state") = (value, option.get_id().as_str()) {
                    databases.push(format!("--{}={value}", option.get_long()?));
                }
            } else if let Some(found) = command.find_subcommand(word) {
                command = found;
            }
        }
        if !only_values && let Some((option, value)) = option(root, command, last) {
            return Some(Typed { recorded: recorded(option)?, word: value?, databases });
        }
        let recorded = command.get_positionals().find_map(recorded)?;
        (only_values || !last.starts_with('-')).then_some(Typed { recorded, word: last, databases })
    }
}

/// The option that a word is, with the value if the word has it.
fn option<'a, 'b>(root: &'a Command, command: &'a Command, word: &'b str) -> Option<(&'a Arg, Option<&'b str>)> {
    let mut options = command.get_arguments().chain(root.get_arguments().filter(|argument| argument.is_global_set()));
    if let Some(long) = word.strip_prefix("--") {
        let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
        return options.find(|option| option.get_long() == Some(name)).map(|option| (option, value));
    }
    let mut letters = word.strip_prefix('-')?.chars();
    let letter = letters.next()?;
    let value = Some(letters.as_str()).filter(|value| !value.is_empty());
    options.find(|option| option.get_short() == Some(letter)).map(|option| (option, value))
}

fn starting_with(start: &str, all: impl Iterator<Item = String>) -> BTreeSet<String> {
    all.filter(|text| text.starts_with(start)).collect()
}

/// A regular expression for a name that needs no quotes in a shell.
fn pattern(name: &str) -> String {
    name.replace(['+', '?'], ".")
}

fn origins(record: &FailureSummary) -> Vec<String> {
    match record.origin().map(|origin| &origin.source) {
        None => vec!["here".to_owned()],
        Some(Source::Cache { cache, key }) => vec![cache.clone(), signer_of(key).to_owned()],
        Some(Source::File { file }) => vec!["file".to_owned(), file.clone()],
        Some(Source::Hydra { hydra, .. }) => vec!["hydra".to_owned(), hydra.clone()],
    }
}

/// The paths of derivations that begin with what was typed. If that is a name, names complete it, and the path of the derivation
/// takes its place once there is only one derivation of that name.
fn paths(records: &[&FailureSummary], typed: &str) -> BTreeSet<String> {
    let all = records.iter().map(|record| record.derivation.to_string());
    if typed.is_empty() || typed.starts_with('/') {
        return starting_with(typed, all);
    }
    let named: Vec<&&FailureSummary> = records.iter().filter(|record| record.name.starts_with(typed)).collect();
    let names: BTreeSet<&str> = named.iter().map(|record| record.name.as_str()).collect();
    let is_only = names.len() == 1;
    // Shells put what several paths begin with in place of the name, which is lost then.
    let is_unique = |record: &FailureSummary| named.iter().filter(|other| other.name == record.name).count() == 1;
    let path_or_name = |record: &&&FailureSummary| {
        let is_meant = (is_only || record.name == typed) && is_unique(record);
        if is_meant { record.derivation.to_string() } else { record.name.clone() }
    };
    named.iter().map(path_or_name).collect()
}

/// The script for a shell.
pub fn script(shell: Shell) -> Vec<u8> {
    let mut command = Arguments::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, &name, &mut script);
    let generated = String::from_utf8_lossy(&script).into_owned();
    match shell {
        Shell::Bash => bash(&name, &generated),
        Shell::Zsh => zsh(&command, &generated),
        Shell::Fish => fish(&command, &generated),
        _ => generated,
    }
    .into_bytes()
}

const BASH: &str = r#"
_nix_negative_cache_and_recorded() {
    local recorded word current=${COMP_WORDS[COMP_CWORD]} before= words=()
    _nix__negative__cache "$@"
    # bash parts words at colons and equals signs.
    for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
        if [[ ${#words[@]} -gt 0 && $word != -* && ${words[-1]} != -* && ${words[-1]} != = ]] &&
            [[ $word == [:=] || ${words[-1]} == *[:=] ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
    done
    mapfile -t recorded < <("$1" __complete "${words[@]}" 2> /dev/null)
    [[ ${#recorded[@]} -ne 0 ]] || return 0
    # Only what is behind the last of these is replaced.
    [[ $current != [:=] ]] || current=
    [[ ${words[-1]} == = ]] || before=${words[-1]%"$current"}
    COMPREPLY=()
    for word in "${recorded[@]}"; do
        printf -v word %q "${word#"$before"}"
        COMPREPLY+=("$word")
    done
}

complete -F _nix_negative_cache_and_recorded -o bashdefault -o default nix-negative-cache
"#;

const ZSH: &str = r#"
_nix-negative-cache_recorded() {
    local -a recorded
    recorded=(${(f)"$(_call_program recorded nix-negative-cache __complete ${(q)nix_negative_cache_words})"})
    (( $#recorded )) && compadd -U -i "$IPREFIX" -a recorded || _default
}
"#;

/// All words, before zsh leaves out those before the subcommand.
const ZSH_ENTRY: &str = r#"    local -a nix_negative_cache_words=("${(@)words[2,CURRENT]}")"#;

const FISH: &str = r#"
function __fish_nix_negative_cache_recorded
    set -l words (commandline -opc) (commandline -ct)
    command $words[1] __complete $words[2..-1] 2> /dev/null
end

"#;

/// Adds the function that asks for what is recorded. clap_complete 4.6 sets one name for each command and looks for another one
/// if the program has hyphens in its name, so that no option would be completed.
fn bash(name: &str, generated: &str) -> String {
    generated.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__")) + BASH
}

/// Has the arguments that take something recorded complete it: their lines end with what zsh does by default.
fn zsh(command: &Command, generated: &str) -> String {
    let takers: Vec<String> = arguments(command).filter_map(|(_, argument)| zsh_beginning(argument)).collect();
    let mut lines = Vec::new();
    for (index, line) in generated.lines().enumerate() {
        if index == 1 {
            lines.extend(ZSH.trim_end().lines().map(str::to_owned));
        }
        // Options that exclude others begin with those in parentheses.
        let body = line.trim_start_matches('\'');
        let body = if body.starts_with('(') { body.split_once(')').map_or(body, |(_, body)| body) } else { body };
        let takes = takers.iter().any(|beginning| body.starts_with(beginning.as_str()));
        let is_entry = line == r#"_nix-negative-cache() {"#;
        lines.push(match line.strip_suffix(":_default' \\") {
            // Two colons would hide the words before.
            Some(line) if takes => format!("{}:_nix-negative-cache_recorded' \\", line.replacen("'*::", "'*:", 1)),
            _ => line.to_owned(),
        });
        if is_entry {
            lines.push(ZSH_ENTRY.to_owned());
        }
    }
    lines.join("\n") + "\n"
}

fn zsh_beginning(argument: &Arg) -> Option<String> {
    Some(match argument.get_long() {
        Some(long) => format!("--{long}=["),
        None => format!("*::{} -- ", argument.get_id()),
    })
}

/// Adds a line for each argument that takes something recorded.
fn fish(command: &Command, generated: &str) -> String {
    let lines = arguments(command).map(|(command, argument)| {
        let option = argument.get_long().map(|long| format!(" -l {long} -r -f")).unwrap_or_default();
        let command = command.get_name();
        format!(
            r#"complete -c nix-negative-cache -n "__fish_nix_negative_cache_using_subcommand {command}"{option} -a '(__fish_nix_negative_cache_recorded)'"#
        ) + "\n"
    });
    format!("{generated}{FISH}{}", lines.collect::<String>())
}

/// The arguments of subcommands that take something recorded.
fn arguments<'a>(command: &'a Command) -> impl Iterator<Item = (&'a Command, &'a Arg)> {
    let of = |command: &'a Command| command.get_arguments().map(move |argument| (command, argument));
    command.get_subcommands().flat_map(of).filter(|(_, argument)| recorded(argument).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::summary;

    fn typed(line: &str) -> Option<(Recorded, String, Vec<String>)> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let root = Arguments::command();
        Typed::read(&root, &words).map(|typed| (typed.recorded, typed.word.to_owned(), typed.databases))
    }

    #[test]
    fn what_is_being_typed() {
        for (line, expected, word) in [
            ("show ", Recorded::Paths, ""),
            ("show /nix", Recorded::Paths, "/nix"),
            ("--color never show --explain /a --ttl 12h /b", Recorded::Paths, "/b"),
            ("check -A x /b", Recorded::Paths, "/b"),
            ("check -- -b", Recorded::Paths, "-b"),
            ("list --name li", Recorded::Names, "li"),
            ("list --name=li", Recorded::Names, "li"),
            ("list --name = li", Recorded::Names, "li"),
            ("list --name =", Recorded::Names, ""),
            ("forget --name ", Recorded::Names, ""),
            ("list --all --origin h", Recorded::Origins, "h"),
            ("list --system ", Recorded::Systems, ""),
        ] {
            assert_eq!(typed(line), Some((expected, word.to_owned(), Vec::new())), "{line}");
        }
        for line in ["", "li", "list ", "list --na", "list --since 1", "show --ex", "show -A ", "judge x", "run -- nix"]
        {
            assert_eq!(typed(line), None, "{line}");
        }
        let (_, _, databases) = typed("--database /a show --store-state=/b ").unwrap();
        assert_eq!(databases, ["--database=/a", "--store-state=/b"]);
    }

    #[test]
    fn names_lead_to_paths() {
        let record = |hash: char, name: &str| {
            let derivation = format!("/nix/store/{}-{name}.drv", hash.to_string().repeat(32)).into();
            FailureSummary { derivation, name: name.to_owned(), ..summary() }
        };
        let records = [record('a', "lib"), record('b', "library"), record('c', "library"), record('d', "tool")];
        let records: Vec<&FailureSummary> = records.iter().collect();
        let found = |typed: &str| paths(&records, typed).into_iter().collect::<Vec<_>>();
        let path = |record: usize| records[record].derivation.to_string();
        assert_eq!(found(""), [path(0), path(1), path(2), path(3)]);
        assert_eq!(found("/nix/store/aa"), [path(0)]);
        assert_eq!(found("t"), [path(3)]);
        assert_eq!(found("l"), ["lib", "library"]);
        assert_eq!(found("lib"), [path(0), "library".to_owned()]);
        assert_eq!((found("libr"), found("library")), (vec!["library".to_owned()], vec!["library".to_owned()]));
        assert!(found("x").is_empty());
    }

    #[test]
    fn every_script_asks_for_what_is_recorded() {
        let command = Arguments::command();
        let takers = arguments(&command).count();
        assert!(takers > 10, "{takers}");
        let count = |shell: Shell, text: &str| String::from_utf8(script(shell)).unwrap().matches(text).count();
        assert_eq!(count(Shell::Zsh, ":_nix-negative-cache_recorded' \\"), takers);
        assert_eq!(count(Shell::Zsh, ZSH_ENTRY), 1);
        assert_eq!(count(Shell::Fish, "'(__fish_nix_negative_cache_recorded)'"), takers);
        assert_eq!(count(Shell::Bash, "-F _nix_negative_cache_and_recorded "), 1);
    }
}
