//! Makes the table by which lines of logs that say nothing are passed over (`src/log/triggers.rs`). An automaton made in each
//! process would take a millisecond, and a general one three times as many instructions for each byte.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write;
use std::{env, fs};

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::util::primitives::StateID;
use regex_automata::util::syntax;
use regex_automata::{Input, MatchKind};

const TRIGGERS: &str = "src/log/triggers.txt";
/// As many entries as a state and a byte of 16 bits can name together.
const ENTRIES: usize = 1 << 16;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={TRIGGERS}");
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
    fs::write(format!("{}/triggers.rs", env::var("OUT_DIR")?), code)?;
    Ok(())
}
