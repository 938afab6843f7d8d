//! Turns the data about logs in `src/log` into code, so that no process spends time on parsing it.
//!
//! `triggers.txt` becomes the table by which lines of logs that say nothing are passed over (`src/log/triggers.rs`): an
//! automaton made in each process would take a millisecond, and a general one three times as many instructions for each
//! byte. `sentences.toml` becomes constants of `src/log/sentences.rs`.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fmt::Write;
use std::{env, fs};

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::util::primitives::StateID;
use regex_automata::util::syntax;
use regex_automata::{Input, MatchKind};
use serde::Deserialize;
use serde::de::IgnoredAny;

const TRIGGERS: &str = "src/log/triggers.txt";
const SENTENCES: &str = "src/log/sentences.toml";
const SYSTEM_MESSAGES: &str = "src/log/system_messages.tsv";
/// As many entries as a state and a byte of 16 bits can name together.
const ENTRIES: usize = 1 << 16;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    for file in [TRIGGERS, SENTENCES, SYSTEM_MESSAGES] {
        println!("cargo::rerun-if-changed={file}");
    }
    let folder = env::var("OUT_DIR")?;
    fs::write(format!("{folder}/triggers.rs"), triggers()?)?;
    fs::write(format!("{folder}/sentences.rs"), sentences()?)?;
    Ok(())
}

/// The automaton of `triggers.txt`.
fn triggers() -> Result<String, Box<dyn Error>> {
    let text = fs::read_to_string(TRIGGERS)?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with("# "));
    let pattern = lines.collect::<Vec<_>>().join("|");
    let dfa = dense::Builder::new()
        .syntax(syntax::Config::new().unicode(false).utf8(false).case_insensitive(true))
        .configure(dense::Config::new().start_kind(StartKind::Unanchored).match_kind(MatchKind::All))
        .build(&pattern)?;
    let start = dfa.start_state_forward(&Input::new(b""))?;

    // The states in the order in which they are found. The first one is never left: the line has a trigger.
    let mut numbers: HashMap<StateID, usize> = HashMap::from([(start, 1)]);
    let mut states = vec![start];
    let mut columns: Vec<Vec<usize>> = vec![Vec::new(); 256];
    let mut next = 0;
    while let Some(&state) = states.get(next) {
        next += 1;
        for byte in 0..=u8::MAX {
            let to = dfa.next_state(state, byte);
            let number = if dfa.is_match_state(to) {
                0
            } else {
                *numbers.entry(to).or_insert_with(|| {
                    states.push(to);
                    states.len()
                })
            };
            columns[usize::from(byte)].push(number);
        }
    }
    // Bytes that lead from each state to the same one are of one class.
    let mut classes: Vec<&Vec<usize>> = Vec::new();
    let class_of: Vec<usize> = columns
        .iter()
        .map(|column| {
            classes.iter().position(|class| *class == column).unwrap_or_else(|| {
                classes.push(column);
                classes.len() - 1
            })
        })
        .collect();
    let width = classes.len();
    if (states.len() + 1) * width > ENTRIES {
        return Err(format!("{TRIGGERS} has too much: {} states of {width} classes", states.len()).into());
    }
    let mut table = vec![0; ENTRIES];
    for state in 0..states.len() {
        for (class, column) in classes.iter().enumerate() {
            table[(state + 1) * width + class] = column[state] * width;
        }
    }
    let mut code = format!("const START: u16 = {width};\nstatic CLASSES: [u16; 256] = {class_of:?};\n");
    writeln!(code, "static STATES: [u16; {ENTRIES}] = {table:?};")?;
    Ok(code)
}

/// `sentences.toml`. Its samples are for the tests.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SentencesFile {
    sentence: Vec<Sentence>,
    mentions: BTreeMap<String, Vec<String>>,
    words: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sentence {
    tells: String,
    #[serde(default)]
    weak: bool,
    #[serde(default = "anywhere")]
    at: String,
    texts: Vec<String>,
    #[serde(default)]
    errors: Vec<String>,
    #[serde(default)]
    unless: Vec<String>,
    #[serde(rename = "samples")]
    _samples: IgnoredAny,
    #[serde(rename = "innocent")]
    _innocent: IgnoredAny,
}

fn anywhere() -> String {
    "anywhere".to_owned()
}

/// What `sentences.toml` has, as constants.
fn sentences() -> Result<String, Box<dyn Error>> {
    let file: SentencesFile = toml::from_str(&fs::read_to_string(SENTENCES)?)?;
    let messages = fs::read_to_string(SYSTEM_MESSAGES)?;
    let (mut sentences, mut texts, mut meanings) = (String::new(), Vec::new(), String::new());
    for (number, sentence) in file.sentence.iter().enumerate() {
        let Sentence { tells, weak, at, .. } = sentence;
        writeln!(
            sentences,
            "    Sentence {{ tells: Tells::{}, weak: {weak}, at: At::{} }},",
            variant(tells),
            variant(at)
        )?;
        let mut add = |text: &str, unless: bool| -> Result<(), Box<dyn Error>> {
            if text.is_empty() || text.contains('\n') {
                return Err(format!("{SENTENCES}: a text must be one line: {text:?}").into());
            }
            texts.push(text.to_owned());
            Ok(writeln!(meanings, "    Meaning {{ sentence: {number}, unless: {unless} }},")?)
        };
        sentence.texts.iter().try_for_each(|text| add(text, false))?;
        for error in &sentence.errors {
            let english = messages.lines().filter_map(|line| {
                let (name, text) = line.strip_suffix("\ten")?.split_once('\t')?;
                (name == error).then_some(text)
            });
            let english: Vec<&str> = english.collect();
            if english.is_empty() {
                return Err(format!("{SYSTEM_MESSAGES} has no English text for {error}").into());
            }
            english.into_iter().try_for_each(|text| add(text, false))?;
        }
        sentence.unless.iter().try_for_each(|text| add(text, true))?;
    }
    // One text instead of many: the dynamic linker would have to relocate each of them in each process.
    let mut code = format!("static TEXTS: &str = {:?};\n", texts.join("\n"));
    writeln!(code, "static SENTENCES: [Sentence; {}] = [\n{sentences}];", file.sentence.len())?;
    writeln!(code, "static MEANINGS: [Meaning; {}] = [\n{meanings}];", texts.len())?;
    writeln!(code, "/// What words in the name of a test are about.")?;
    writeln!(code, "pub(super) const MENTIONS: [(Tells, &[&str]); {}] = [", file.mentions.len())?;
    for (tells, words) in &file.mentions {
        writeln!(code, "    (Tells::{}, &{words:?}),", variant(tells))?;
    }
    writeln!(code, "];")?;
    for (name, words) in &file.words {
        let name = name.to_uppercase().replace('-', "_");
        writeln!(code, "pub(super) const {name}: [&str; {}] = {words:?};", words.len())?;
    }
    Ok(code)
}

/// The variant of an enum that a name in `sentences.toml` stands for: `InputOutput` for `input-output`.
fn variant(name: &str) -> String {
    let capitalised = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('-').map(capitalised).collect()
}
