//! The sentences that programs have for shortages and passing faults; they are data: `sentences.toml`.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use serde::Deserialize;

/// What a line can tell of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tells {
    /// Memory was short.
    Memory,
    /// A process was ended from outside.
    Killed,
    /// A disk was full.
    Disk,
    /// A device failed.
    InputOutput,
    /// A file was to grow beyond a limit.
    FileSize,
    /// There were too many processes or threads.
    Processes,
    /// There were too many open files.
    Files,
    /// A file or device was in use.
    Busy,
    /// A network address was in use.
    Port,
    /// A display was in use.
    Display,
    /// The hardware is not to be trusted.
    Hardware,
    /// A connection that had come about broke, or was slow.
    Faltered,
    /// A connection did not come about.
    Unreachable,
    /// A server said no.
    Answer,
    /// A test wants it so.
    Expectation,
    /// Something definite that has nothing to do with a shortage.
    Cause,
    /// It has a limit of its own.
    OwnLimit,
    /// It was tried again.
    Recovery,
}

impl Tells {
    /// The cause as people read it.
    pub fn cause(self) -> &'static str {
        match self {
            Tells::Memory => "out of memory",
            Tells::Killed => "something it ran was killed",
            Tells::Disk => "no space left",
            Tells::InputOutput => "an input/output error",
            Tells::FileSize => "a file larger than allowed",
            Tells::Processes => "too many processes",
            Tells::Files => "too many open files",
            Tells::Busy => "a file that was busy",
            Tells::Port => "an address that was in use",
            Tells::Display => "a display that was in use",
            Tells::Hardware => "faulty hardware",
            Tells::Faltered => "a connection that failed",
            Tells::Unreachable => "a network that could not be reached",
            Tells::Answer => "a server that said no",
            Tells::Expectation => "a test expects it",
            Tells::Cause => "the build has a cause of its own",
            Tells::OwnLimit => "it has a limit of its own",
            Tells::Recovery => "it was tried again",
        }
    }

    /// Whether it is about the network.
    pub fn is_network(self) -> bool {
        matches!(self, Tells::Faltered | Tells::Unreachable | Tells::Answer)
    }

    /// Whether it is evidence of a shortage or a passing fault.
    pub fn is_evidence(self) -> bool {
        !matches!(self, Tells::Expectation | Tells::Cause | Tells::OwnLimit | Tells::Recovery)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum At {
    #[default]
    Anywhere,
    Start,
    End,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sentence {
    tells: Tells,
    #[serde(default)]
    weak: bool,
    #[serde(default)]
    at: At,
    texts: Vec<String>,
    #[serde(default)]
    unless: Vec<String>,
    #[cfg_attr(not(test), expect(dead_code, reason = "for the test, next to the texts that they show"))]
    samples: Vec<String>,
    #[cfg_attr(not(test), expect(dead_code, reason = "for the test, next to the texts that they show"))]
    innocent: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    sentence: Vec<Sentence>,
}

/// What a text stands for.
#[derive(Clone, Copy)]
struct Meaning {
    sentence: usize,
    /// Whether it takes the sentence back.
    unless: bool,
}

struct Sentences {
    sentences: Vec<Sentence>,
    texts: AhoCorasick,
    meanings: Vec<Meaning>,
}

fn parse(text: &str) -> Result<Sentences, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut texts = Vec::new();
    let mut meanings = Vec::new();
    for (place, sentence) in file.sentence.iter().enumerate() {
        for (list, unless) in [(&sentence.texts, false), (&sentence.unless, true)] {
            texts.extend(list.iter());
            meanings.extend(list.iter().map(|_| Meaning { sentence: place, unless }));
        }
    }
    let texts = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        // Made in each process that sees a line worth reading, so it must be made quickly.
        .kind(Some(AhoCorasickKind::NoncontiguousNFA))
        .prefilter(false)
        .build(texts)
        .map_err(|error| error.to_string())?;
    Ok(Sentences { sentences: file.sentence, texts, meanings })
}

static SENTENCES: LazyLock<Result<Sentences, String>> = LazyLock::new(|| parse(include_str!("sentences.toml")));

/// What a message says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// What is sure evidence, in the order of the file.
    pub strong: Vec<Tells>,
    /// What is evidence of less weight.
    pub weak: Vec<Tells>,
    /// Whether a test wants it so.
    pub expectation: bool,
    /// Whether it is a cause of its own.
    pub cause: bool,
    /// Whether it has a limit of its own.
    pub own_limit: bool,
    /// Whether it was tried again.
    pub recovery: bool,
}

/// What `message` says in sentences that are known.
pub fn said(message: &str) -> Said {
    let mut said = Said::default();
    let Ok(known) = SENTENCES.as_ref() else { return said };
    let mut found = vec![false; known.sentences.len()];
    let mut taken_back = vec![false; known.sentences.len()];
    let of_word = |c: char| c.is_alphanumeric() || c == '_';
    for text in known.texts.find_overlapping_iter(message) {
        let meaning = known.meanings[text.pattern()];
        if meaning.unless {
            taken_back[meaning.sentence] = true;
            continue;
        }
        let (Some(before), Some(after)) = (message.get(..text.start()), message.get(text.end()..)) else { continue };
        let begins = message[text.start()..].starts_with(of_word);
        let ends = message[..text.end()].ends_with(of_word);
        // Names of files and options are no words of a sentence.
        let evidence = known.sentences[meaning.sentence].tells.is_evidence();
        let joins = |c: char| of_word(c) || !evidence && matches!(c, '-' | '/');
        let part = begins && before.ends_with(joins) || ends && after.starts_with(joins);
        let placed = match known.sentences[meaning.sentence].at {
            At::Anywhere => true,
            At::Start => before.is_empty(),
            At::End => after.trim_end_matches(['.', '!', ')', ']', '\'', '"', '`', ' ', '>', ';', ',']).is_empty(),
        };
        found[meaning.sentence] |= placed && !part;
    }
    let kept = |place: &usize| found[*place] && !taken_back[*place];
    for sentence in (0..known.sentences.len()).filter(kept).map(|place| &known.sentences[place]) {
        match sentence.tells {
            Tells::Expectation => said.expectation = true,
            Tells::Cause => said.cause = true,
            Tells::OwnLimit => said.own_limit = true,
            Tells::Recovery => said.recovery = true,
            tells if sentence.weak => said.weak.push(tells),
            tells => said.strong.push(tells),
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::line::{Line, Shape};
    use crate::log::triggers::is_worth_reading;

    #[test]
    fn each_sentence_finds_its_samples_and_not_the_innocent() {
        let known = SENTENCES.as_ref().unwrap();
        for sentence in &known.sentences {
            assert!(!sentence.samples.is_empty() && !sentence.innocent.is_empty(), "{:?}", sentence.texts);
            let finds = |line: &str| {
                let line = Line::read(line.as_bytes());
                let said = said(line.message());
                line.shape == Shape::Message
                    && match sentence.tells {
                        Tells::Expectation => said.expectation,
                        Tells::Cause => said.cause,
                        Tells::OwnLimit => said.own_limit,
                        Tells::Recovery => said.recovery,
                        tells if sentence.weak => said.weak.contains(&tells),
                        tells => said.strong.contains(&tells),
                    }
            };
            for sample in &sentence.samples {
                assert!(finds(sample), "{:?}: {sample}", sentence.tells);
                assert!(
                    sentence.tells.is_network()
                        || matches!(sentence.tells, Tells::Recovery | Tells::Answer)
                        || is_worth_reading(sample.as_bytes()),
                    "passed over: {sample}"
                );
            }
            for line in &sentence.innocent {
                assert!(!finds(line), "{:?}: {line}", sentence.tells);
            }
        }
    }

    #[test]
    fn each_text_that_counts_wherever_it_stands_is_worth_reading() {
        let sentences = SENTENCES
            .as_ref()
            .unwrap()
            .sentences
            .iter()
            .filter(|sentence| !sentence.tells.is_network() && sentence.tells != Tells::Recovery);
        let texts = sentences.flat_map(|sentence| sentence.texts.iter());
        let passed_over: Vec<&String> = texts.filter(|text| !is_worth_reading(text.as_bytes())).collect();
        assert_eq!(passed_over, Vec::<&String>::new());
    }
}
