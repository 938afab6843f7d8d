//! The sentences that programs have for shortages and passing faults. They are data, `sentences.toml`, which the build
//! script turns into constants; so are the words that the rules of [`super::reading`] look for.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

include!(concat!(env!("OUT_DIR"), "/sentences.rs"));

/// What a line can tell of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    /// Memory was short.
    Memory,
    /// A process was ended from outside.
    Killed,
    /// A disk was full.
    Disk,
    /// A device failed.
    InputOutput,
    /// A file reached a limit of its size.
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
    /// A test expects it.
    Expectation,
    /// Something definite that has nothing to do with a shortage.
    Cause,
    /// The build sets a limit itself.
    OwnLimit,
    /// Something was tried again.
    Recovery,
}

impl Tells {
    /// The cause in words.
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

/// Where in a message a text counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Anywhere,
    Start,
    End,
}

/// A sentence: what all its texts tell of.
#[derive(Clone, Copy, Debug)]
struct Sentence {
    tells: Tells,
    weak: bool,
    at: At,
}

/// What a text stands for.
#[derive(Clone, Copy)]
struct Meaning {
    /// The number of the sentence.
    sentence: usize,
    /// Whether the text takes the sentence back.
    unless: bool,
}

/// Finds the texts of all sentences; `None` if it can't be made, and then no sentence is found.
static FINDER: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        // Made in each process that sees a line worth reading, so it must be made quickly.
        .kind(Some(AhoCorasickKind::NoncontiguousNFA))
        .prefilter(false)
        .build(TEXTS.split('\n'))
        .ok()
});

/// What a message says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// What is sure evidence, in the order of the file.
    pub strong: Vec<Tells>,
    /// What is evidence of less weight.
    pub weak: Vec<Tells>,
    /// Whether a test expects it.
    pub expectation: bool,
    /// Whether it names a cause of the build's own.
    pub cause: bool,
    /// Whether the build sets a limit itself.
    pub own_limit: bool,
    /// Whether something was tried again.
    pub recovery: bool,
}

/// Finds the sentences in `message`.
pub fn said(message: &str) -> Said {
    let mut said = Said::default();
    let Some(finder) = FINDER.as_ref() else { return said };
    let mut found = [false; SENTENCES.len()];
    let mut taken_back = [false; SENTENCES.len()];
    let of_word = |c: char| c.is_alphanumeric() || c == '_';
    for text in finder.find_overlapping_iter(message) {
        let meaning = MEANINGS[text.pattern()];
        if meaning.unless {
            taken_back[meaning.sentence] = true;
            continue;
        }
        let (Some(before), Some(after)) = (message.get(..text.start()), message.get(text.end()..)) else { continue };
        let begins = message[text.start()..].starts_with(of_word);
        let ends = message[..text.end()].ends_with(of_word);
        // Names of files and options are no words of a sentence.
        let evidence = SENTENCES[meaning.sentence].tells.is_evidence();
        let joins = |c: char| of_word(c) || !evidence && matches!(c, '-' | '/');
        let part = begins && before.ends_with(joins) || ends && after.starts_with(joins);
        let placed = match SENTENCES[meaning.sentence].at {
            At::Anywhere => true,
            At::Start => before.is_empty(),
            At::End => after.trim_end_matches(['.', '!', ')', ']', '\'', '"', '`', ' ', '>', ';', ',']).is_empty(),
        };
        found[meaning.sentence] |= placed && !part;
    }
    let kept = |number: &usize| found[*number] && !taken_back[*number];
    for sentence in (0..SENTENCES.len()).filter(kept).map(|number| SENTENCES[number]) {
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

    /// The entries of the file, which are in the order of [`SENTENCES`].
    fn entries() -> Vec<(Sentence, toml::Table)> {
        let file: toml::Table = include_str!("sentences.toml").parse().unwrap();
        let entries = file["sentence"].as_array().unwrap().iter().map(|entry| entry.as_table().unwrap().clone());
        assert_eq!(entries.len(), SENTENCES.len());
        SENTENCES.into_iter().zip(entries).collect()
    }

    fn list<'a>(entry: &'a toml::Table, name: &str) -> Vec<&'a str> {
        entry[name].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
    }

    #[test]
    fn each_sentence_finds_its_samples_and_not_the_innocent() {
        for (sentence, entry) in &entries() {
            let (samples, innocent) = (list(entry, "samples"), list(entry, "innocent"));
            assert!(!samples.is_empty() && !innocent.is_empty(), "{sentence:?}");
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
            for sample in samples {
                assert!(finds(sample), "{:?}: {sample}", sentence.tells);
                assert!(
                    sentence.tells.is_network()
                        || matches!(sentence.tells, Tells::Recovery | Tells::Answer)
                        || is_worth_reading(sample.as_bytes()),
                    "passed over: {sample}"
                );
            }
            for line in innocent {
                assert!(!finds(line), "{:?}: {line}", sentence.tells);
            }
        }
    }

    #[test]
    fn each_text_that_counts_wherever_it_stands_is_worth_reading() {
        let texts = TEXTS.split('\n').zip(MEANINGS).filter(|(_, meaning)| {
            let tells = SENTENCES[meaning.sentence].tells;
            !meaning.unless && !tells.is_network() && tells != Tells::Recovery
        });
        let passed_over: Vec<&str> =
            texts.map(|(text, _)| text).filter(|text| !is_worth_reading(text.as_bytes())).collect();
        assert_eq!(passed_over, Vec::<&str>::new());
        assert_eq!(TEXTS.split('\n').count(), MEANINGS.len());
    }
}
