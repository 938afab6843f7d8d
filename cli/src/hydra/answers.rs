//! What a Hydra answers, and how it is read within bounds of memory: the builds of an evaluation are read one by one.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use nix_negative_cache_core::hydra::{HydraBuild, HydraLog};
use nix_negative_cache_core::log::lines::Lines;
use serde::Deserialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::client::{Bounded, ReadError, TooLarge};

/// How many builds an evaluation has at most.
const MOST_BUILDS: usize = 500_000;
/// How many failures of one evaluation are kept at most, and how many bytes of memory they take at most.
const MOST_KEPT: (usize, usize) = (50_000, 48 << 20);
/// How many evaluations a page has at most. A Hydra has 20 on one.
const MOST_EVALUATIONS: usize = 100;
/// How many bytes the list of all builds of an evaluation has at most.
const MOST_OF_LIST: u64 = 1 << 30;
/// How many bytes one build has at most.
const MOST_OF_BUILD: u64 = 1 << 20;
/// How many bytes a page of evaluations has at most, with the numbers of all their builds, which are not kept.
const MOST_OF_PAGE: u64 = 256 << 20;
/// How many bytes a text has at most, wherever it is. Evaluations have one with all errors of Nix.
const MOST_OF_TEXT: usize = 16 << 20;
/// How many lists and objects may be within one another.
const MOST_LEVELS: usize = 100;
/// How many bytes of a log are read at most. Where a Hydra has its logs elsewhere, they come whole.
const MOST_OF_LOG: u64 = 128 << 20;

/// The builds of an evaluation of a jobset.
#[derive(Debug, Deserialize)]
pub struct Evaluation {
    /// Their numbers.
    #[serde(deserialize_with = "at_most::<_, _, MOST_BUILDS>")]
    pub builds: Vec<u64>,
}

/// An evaluation of a jobset, without its builds.
#[derive(Debug, Deserialize)]
pub struct Listed {
    /// Its number.
    pub id: u64,
    /// When it was made, in seconds since 1970.
    pub timestamp: Option<i64>,
}

/// A page of the evaluations of a jobset, newest first.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// The evaluations.
    #[serde(deserialize_with = "at_most::<_, _, MOST_EVALUATIONS>")]
    pub evals: Vec<Listed>,
    /// There if there is another page.
    pub next: Option<IgnoredAny>,
}

/// A list that is not longer than `MOST`.
fn at_most<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MOST: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct AtMost<T, const MOST: usize>(std::marker::PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for AtMost<T, MOST> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of {MOST} at most")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut all = Vec::new();
            while let Some(one) = list.next_element()? {
                if all.len() == MOST {
                    return Err(serde::de::Error::invalid_length(MOST + 1, &self));
                }
                all.push(one);
            }
            Ok(all)
        }
    }

    deserializer.deserialize_seq(AtMost::<T, MOST>(std::marker::PhantomData))
}

/// Reads a small answer.
fn whole<T: DeserializeOwned>(answer: impl Read, most: u64) -> Result<T, ReadError> {
    Ok(serde_json::from_reader(BufReader::new(Shallow::new(Bounded::new(answer, most))))?)
}

/// Reads JSON without long texts and many levels. What reads it next needs memory for these two, also for what it then ignores.
struct Shallow<R> {
    inner: R,
    /// How many bytes a text has so far, if what comes next is of one.
    text: Option<usize>,
    /// Whether the next byte is that after a backslash.
    is_escaped: bool,
    levels: usize,
}

impl<R: Read> Shallow<R> {
    fn new(inner: R) -> Shallow<R> {
        Shallow { inner, text: None, is_escaped: false, levels: 0 }
    }

    fn pass(&mut self, byte: u8) {
        match (self.text, byte) {
            (Some(_), b'"') if !self.is_escaped => self.text = None,
            (Some(length), _) => {
                self.text = Some(length + 1);
                self.is_escaped = byte == b'\\' && !self.is_escaped;
            }
            (None, b'"') => self.text = Some(0),
            (None, b'[' | b'{') => self.levels += 1,
            (None, b']' | b'}') => self.levels = self.levels.saturating_sub(1),
            (None, _) => {}
        }
    }
}

impl<R: Read> Read for Shallow<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(bytes)?;
        for byte in bytes.iter().take(length) {
            self.pass(*byte);
            if self.levels > MOST_LEVELS || self.text.is_some_and(|length| length > MOST_OF_TEXT) {
                return Err(io::Error::other(TooLarge));
            }
        }
        Ok(length)
    }
}

/// Reads a build.
///
/// # Errors
///
/// If it is none, or can't be read.
pub fn build(answer: impl Read) -> Result<HydraBuild, ReadError> {
    whole(answer, MOST_OF_BUILD)
}

/// Reads an evaluation.
///
/// # Errors
///
/// If it is none, or can't be read.
pub fn evaluation(answer: impl Read) -> Result<Evaluation, ReadError> {
    whole(answer, MOST_OF_PAGE)
}

/// Reads a page of evaluations.
///
/// # Errors
///
/// If it is none, or can't be read.
pub fn page(answer: impl Read) -> Result<Page, ReadError> {
    whole(answer, MOST_OF_PAGE)
}

/// Reads a log, judging it as it comes.
///
/// # Errors
///
/// If it can't be read to its end.
pub fn log(answer: impl Read) -> Result<HydraLog, ReadError> {
    let (mut log, mut lines) = (HydraLog::default(), Lines::default());
    let mut reader = BufReader::with_capacity(64 * 1024, Bounded::new(answer, MOST_OF_LOG));
    loop {
        let piece = match reader.fill_buf() {
            Ok(piece) => piece,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        if piece.is_empty() {
            break;
        }
        lines.push(piece, |line| log.line(line));
        let length = piece.len();
        reader.consume(length);
    }
    lines.finish(|line| log.line(line));
    Ok(log)
}

/// Reads all builds of an evaluation, and keeps those that `keep` wants. Returns nothing if they take more memory than they may.
///
/// # Errors
///
/// If it is no list of builds, or can't be read to its end.
pub fn builds(answer: impl Read, keep: &dyn Fn(&HydraBuild) -> bool) -> Result<Option<Vec<HydraBuild>>, ReadError> {
    builds_within(answer, MOST_KEPT, keep)
}

fn builds_within(
    answer: impl Read,
    most: (usize, usize),
    keep: &dyn Fn(&HydraBuild) -> bool,
) -> Result<Option<Vec<HydraBuild>>, ReadError> {
    let left = Rc::new(Cell::new(MOST_OF_BUILD));
    let reader = PerBuild { inner: BufReader::new(Bounded::new(answer, MOST_OF_LIST)), left: Rc::clone(&left) };
    let mut json = serde_json::Deserializer::from_reader(reader);
    let kept = Builds { keep, most, left: &left }.deserialize(&mut json)?;
    json.end()?;
    Ok(kept)
}

/// Reads what is of one build after another, each of which may have so many bytes: nobody else bounds a text in it.
struct PerBuild<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for PerBuild<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(bytes)?;
        let left = self.left.get().checked_sub(length as u64).ok_or_else(|| io::Error::other(TooLarge))?;
        self.left.set(left);
        Ok(length)
    }
}

/// A list of builds, or an object of them.
struct Builds<'a> {
    keep: &'a dyn Fn(&HydraBuild) -> bool,
    most: (usize, usize),
    left: &'a Cell<u64>,
}

impl Builds<'_> {
    fn collect<E>(
        &self,
        mut next: impl FnMut() -> Result<Option<HydraBuild>, E>,
    ) -> Result<Option<Vec<HydraBuild>>, E> {
        let (mut kept, mut memory, mut too_many) = (Vec::new(), 0, false);
        while let Some(build) = next()? {
            self.left.set(MOST_OF_BUILD);
            if !too_many && (self.keep)(&build) {
                memory += build.memory();
                too_many = kept.len() == self.most.0 || memory > self.most.1;
                if too_many {
                    // Nothing is done with them, and what is read after them needs no memory.
                    kept = Vec::new();
                } else {
                    kept.push(build);
                }
            }
        }
        Ok((!too_many).then_some(kept))
    }
}

impl<'de> DeserializeSeed<'de> for Builds<'_> {
    type Value = Option<Vec<HydraBuild>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Builds<'_> {
    type Value = Option<Vec<HydraBuild>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of builds")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        self.collect(|| list.next_element())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        self.collect(|| Ok(map.next_entry::<IgnoredAny, HydraBuild>()?.map(|(_, build)| build)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build_of(id: u64, job: &str) -> String {
        format!(
            r#"{{"id":{id},"finished":1,"buildstatus":{},"starttime":1,"stoptime":2,"job":"{job}","system":"x86_64-linux",
                "drvpath":"/nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv","buildoutputs":{{"out":{{"path":"/nix/store/x"}}}},
                "buildmetrics":{{}},"releasename":null}}"#,
            id % 2
        )
    }

    fn kept_within(text: &str, most: (usize, usize)) -> Result<Option<Vec<u64>>, ReadError> {
        let kept = builds_within(text.as_bytes(), most, &|build| build.status == Some(1))?;
        Ok(kept.map(|kept| kept.into_iter().map(|build| build.id).collect()))
    }

    fn kept(text: &str, most: usize) -> Result<Option<Vec<u64>>, ReadError> {
        kept_within(text, (most, usize::MAX))
    }

    #[test]
    fn failed_builds_are_kept_of_lists_and_objects() {
        let list = format!("[{},{},{}]", build_of(1, "a"), build_of(2, "b"), build_of(3, "c"));
        assert_eq!(kept(&list, 2).unwrap(), Some(vec![1, 3]));
        assert_eq!(kept(&list, 1).unwrap(), None);
        assert_eq!(kept("[]", 1).unwrap(), Some(vec![]));
        assert_eq!(kept(&format!(r#"{{"1":{}}}"#, build_of(1, "a")), 2).unwrap(), Some(vec![1]));
        for wrong in ["", "<html>", "{", "[1]", "3", &list[..list.len() / 2], &format!("{list}]"), r#"[{"id":1}]"#] {
            assert!(matches!(kept(wrong, 2), Err(ReadError::Broken(_))), "{wrong}");
        }
    }

    #[test]
    fn no_text_of_a_build_is_longer_than_any_should_be() {
        let long = "x".repeat(2 << 20);
        for text in [format!("[{}]", build_of(1, &long)), format!(r#"[{{"{long}":1}}]"#), " ".repeat(2 << 20)] {
            assert!(matches!(kept(&text, 2), Err(ReadError::TooLarge)), "{}", text.len());
        }
        for text in [build_of(1, &long), " ".repeat(2 << 20)] {
            assert!(matches!(build(text.as_bytes()), Err(ReadError::TooLarge)));
        }
    }

    #[test]
    fn builds_of_a_list_take_no_more_memory_than_they_may() {
        let long = "x".repeat(1 << 16);
        let list = |number, count| format!("[{}]", vec![build_of(number, &long); count].join(","));
        let most = (50, 8 << 16);
        assert_eq!(kept_within(&list(1, 7), most).unwrap(), Some(vec![1; 7]));
        assert_eq!(kept_within(&list(1, 8), most).unwrap(), None);
        // Builds with even numbers have succeeded, and are not kept.
        assert_eq!(kept_within(&list(2, 50), most).unwrap(), Some(vec![]));
    }

    #[test]
    fn what_is_ignored_needs_no_memory() {
        let long = "x".repeat(MOST_OF_TEXT + 1);
        let many = |what: &str| what.repeat(MOST_LEVELS);
        for text in [
            format!(r#"{{"evals":[],"{long}":1}}"#),
            format!(r#"{{"evals":[],"error":"\"{long}"}}"#),
            format!(r#"{{"evals":[],"x":{}{}}}"#, many("["), many("]")),
            many("[") + "[",
        ] {
            assert!(matches!(page(text.as_bytes()), Err(ReadError::TooLarge)), "{}", text.len());
        }
        let text = format!(r#"{{"evals":[{{"id":1,"error":"\\\"{}"}}],"x":[[]]}}"#, many("["));
        assert_eq!(page(text.as_bytes()).unwrap().evals[0].id, 1);
    }

    #[test]
    fn lists_have_an_end() {
        let numbers = "1,".repeat(MOST_BUILDS) + "1";
        let text = format!(r#"{{"id":1,"builds":[{numbers}]}}"#);
        assert!(matches!(evaluation(text.as_bytes()), Err(ReadError::Broken(_))));
        assert!(evaluation(&br#"{"id":1}"#[..]).is_err());
        let text =
            format!(r#"{{"evals":[{}{{"id":1}}],"next":"?page=2"}}"#, r#"{"id":1},"#.repeat(MOST_EVALUATIONS - 1));
        let read = page(text.as_bytes()).unwrap();
        assert_eq!((read.evals.len(), read.next.is_some()), (MOST_EVALUATIONS, true));
        assert!(page(text.replace("[{", r#"[{"id":2},{"#).as_bytes()).is_err());
        assert!(page(&br#"{"evals":[]}"#[..]).unwrap().next.is_none());
    }
}
