//! Asks binary caches for failures, and for the withdrawals of failures.
//!
//! A cache is first asked for the marker, and a cache without the marker is asked for nothing else. Then all failure objects
//! that could say something are asked for at once, and what is found is read. This module decides what is asked and what of
//! the answers is accepted; the plugin does the asking.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use crate::belief::{Origin, Source};
use crate::failure_object::{
    Address, FailureObject, Kind, MAX_NAR, ObjectError, content_of, marker, period, signer_of,
};
use crate::stable_hash::stable_hash;
use crate::store_path::OutputKey;

/// A derivation that may have failed elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The output that failure objects are named after; see [`crate::failure_object::main_output`].
    pub key: OutputKey,
    /// The system it is for.
    pub system: String,
}

/// A path that a cache says it has, and that one of our keys has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundPath {
    /// The index of the question.
    pub question: usize,
    /// Which of the keys that are trusted have signed it, whole. Signatures that are wrong are not among them.
    pub keys: Vec<String>,
    /// How long its NAR is.
    pub nar_size: u64,
    /// The paths that it refers to.
    pub references: Vec<String>,
}

/// A question to a cache: whether it has a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The index of the cache.
    pub cache: usize,
    /// The store path.
    pub path: String,
}

/// The bytes of a NAR, if it came.
pub type Nar = Option<Vec<u8>>;

/// Binary caches. All questions together have one deadline.
pub trait Caches {
    /// What interrupts asking. A cache that fails is none of it.
    type Error;

    /// The URLs of the caches that may be asked.
    fn urls(&self) -> Vec<String>;
    /// Asks caches whether they have paths, all at once. A cache that fails, or does not answer in time, has none.
    ///
    /// # Errors
    ///
    /// If the user interrupts it.
    fn query(&mut self, questions: &[Question]) -> Result<Vec<FoundPath>, Self::Error>;
    /// Reads the NARs of what [`Caches::query`] found last, by the indexes of its questions, and asks more `questions` at the
    /// same time. A NAR that does not come, or has another hash or size, is `None`.
    ///
    /// # Errors
    ///
    /// If the user interrupts it.
    fn read(&mut self, nars: &[usize], questions: &[Question]) -> Result<(Vec<Nar>, Vec<FoundPath>), Self::Error>;
    /// Says something about a path of a cache to users who want to know much.
    fn note(&mut self, cache: usize, path: &str, text: &str);
    /// Says to such users why a cache is asked for nothing more, unless it has failed.
    fn leave_out(&mut self, cache: usize, why: &str);
}

/// A failure that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnedFailure {
    /// What is known of it.
    pub object: FailureObject,
    /// From where.
    pub origin: Origin,
}

/// A failure that came from elsewhere and stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Learned {
    /// The output that its object is named after.
    pub key: OutputKey,
    /// Its period.
    pub period: i64,
    /// The key that has signed it.
    pub signer_key: String,
}

/// Questions whether failures were withdrawn, and which failure each is about.
struct Withdrawals<'a> {
    questions: Vec<Question>,
    asked: Vec<&'a Learned>,
}

/// What asking needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// The directory of the store.
    pub store_dir: &'a str,
    /// The public keys that are trusted.
    pub keys: &'a [String],
    /// The time.
    pub now: Timestamp,
}

/// The number of a question to binary caches, by which the database remembers it. `about` says what it is about, such as the
/// last parts of the paths of derivations, in any order that is the same each time.
pub fn question_number(about: &[String], keys: &[String], caches: &[String], now: Timestamp) -> u64 {
    let period = period(now).to_string();
    let lists = [about, keys, caches].map(|list| list.iter().map(String::as_str));
    // No text of these is empty, so an empty one tells where a list ends.
    stable_hash(lists.into_iter().flat_map(|list| list.chain([""])).chain([period.as_str()]))
}

impl Asking<'_> {
    /// The periods in which a failure can be that is still believed.
    fn periods(&self) -> [i64; 2] {
        let this = period(self.now);
        [this, this - 1]
    }

    /// The indexes of the caches that carry failures. Only these are asked for anything else.
    ///
    /// # Errors
    ///
    /// Those of the caches.
    pub fn carriers<C: Caches>(&self, caches: &mut C) -> Result<Vec<usize>, C::Error> {
        let marker = marker(self.store_dir);
        let questions: Vec<Question> =
            (0..caches.urls().len()).map(|cache| Question { cache, path: marker.clone() }).collect();
        let found = caches.query(&questions)?.into_iter();
        let carriers: Vec<usize> = found.filter_map(|found| Some(questions.get(found.question)?.cache)).collect();
        for question in questions.iter().filter(|question| !carriers.contains(&question.cache)) {
            caches.leave_out(question.cache, "it carries none");
        }
        Ok(carriers)
    }

    /// Asks the `carriers` among `caches` for the failures of `wanted`. Those in `kept_out` do not count. Returns the newest
    /// failure of each derivation, and which failures were found but are withdrawn. They are to be kept out from then on: another
    /// cache may have them without their withdrawals.
    ///
    /// # Errors
    ///
    /// Those of the caches.
    pub fn failures<C: Caches>(
        &self,
        caches: &mut C,
        carriers: &[usize],
        wanted: &[Wanted],
        kept_out: &HashSet<(OutputKey, i64)>,
    ) -> Result<(Vec<LearnedFailure>, HashSet<Learned>), C::Error> {
        let nothing = (Vec::new(), HashSet::new());
        if self.keys.is_empty() || wanted.is_empty() {
            return Ok(nothing);
        }
        let urls = caches.urls();
        let (mut questions, mut asked) = (Vec::new(), Vec::new());
        for (wanted, period) in wanted.iter().flat_map(|wanted| self.periods().map(|period| (wanted, period))) {
            if kept_out.contains(&(wanted.key.clone(), period)) {
                continue;
            }
            for key in self.keys {
                let address = Address { kind: Kind::Failure, key: &wanted.key, period, signer: signer_of(key) };
                let path = address.path(self.store_dir);
                for &cache in carriers {
                    questions.push(Question { cache, path: path.clone() });
                    asked.push((wanted, address.clone(), key));
                }
            }
        }
        if questions.is_empty() {
            return Ok(nothing);
        }
        let mut acceptable = Vec::new();
        for found in caches.query(&questions)? {
            let (Some(question), Some((_, _, key))) = (questions.get(found.question), asked.get(found.question)) else {
                continue;
            };
            match self.problem_with(&found, key) {
                None => acceptable.push(found.question),
                Some(problem) => caches.note(question.cache, &question.path, problem),
            }
        }
        if acceptable.is_empty() {
            return Ok(nothing);
        }
        let learned = acceptable.iter().map(|index| {
            let (wanted, address, key) = &asked[*index];
            Learned { key: wanted.key.clone(), period: address.period, signer_key: (*key).clone() }
        });
        let learned: Vec<Learned> = learned.collect();
        let withdrawals = self.withdrawals(carriers, &learned);
        let (nars, found) = caches.read(&acceptable, &withdrawals.questions)?;
        let withdrawn = self.accept_withdrawals(caches, &withdrawals, &found);
        let mut newest: BTreeMap<OutputKey, LearnedFailure> = BTreeMap::new();
        for ((index, nar), learned) in acceptable.into_iter().zip(nars).zip(&learned) {
            let ((wanted, address, key), question) = (&asked[index], &questions[index]);
            let Some(nar) = nar.filter(|_| !withdrawn.contains(learned)) else { continue };
            match self.accept(&nar, address, &wanted.system) {
                Ok(object) => {
                    let cache = urls.get(question.cache).cloned().unwrap_or_default();
                    let source = Source::Cache { cache, key: (*key).clone() };
                    let origin = Origin { source, attempts: object.attempts };
                    let learned = LearnedFailure { object, origin };
                    let is_newer = |known: &LearnedFailure| known.object.last_failure < learned.object.last_failure;
                    if newest.get(&wanted.key).is_none_or(is_newer) {
                        newest.insert(wanted.key.clone(), learned);
                    }
                }
                Err(error) => caches.note(question.cache, &question.path, &error.to_string()),
            }
        }
        Ok((newest.into_values().collect(), withdrawn))
    }

    /// Which of `learned` were withdrawn by their signers, as far as the `carriers` among `caches` tell.
    ///
    /// # Errors
    ///
    /// Those of the caches.
    pub fn withdrawn<C: Caches>(
        &self,
        caches: &mut C,
        carriers: &[usize],
        learned: &[Learned],
    ) -> Result<HashSet<Learned>, C::Error> {
        let withdrawals = self.withdrawals(carriers, learned);
        if withdrawals.questions.is_empty() {
            return Ok(HashSet::new());
        }
        let found = caches.query(&withdrawals.questions)?;
        Ok(self.accept_withdrawals(caches, &withdrawals, &found))
    }

    /// The questions whether failures were withdrawn.
    fn withdrawals<'b>(&self, carriers: &[usize], learned: &'b [Learned]) -> Withdrawals<'b> {
        let mut withdrawals = Withdrawals { questions: Vec::new(), asked: Vec::new() };
        for learned in learned {
            let Learned { key, period, signer_key } = learned;
            let address = Address { kind: Kind::Withdrawal, key, period: *period, signer: signer_of(signer_key) };
            let path = address.path(self.store_dir);
            for &cache in carriers {
                withdrawals.questions.push(Question { cache, path: path.clone() });
                withdrawals.asked.push(learned);
            }
        }
        withdrawals
    }

    /// Which failures were withdrawn by their signers, after caches were asked.
    fn accept_withdrawals<C: Caches>(
        &self,
        caches: &mut C,
        withdrawals: &Withdrawals<'_>,
        found: &[FoundPath],
    ) -> HashSet<Learned> {
        let mut withdrawn = HashSet::new();
        for found in found {
            let index = found.question;
            let (Some(question), Some(learned)) = (withdrawals.questions.get(index), withdrawals.asked.get(index))
            else {
                continue;
            };
            match self.problem_with(found, &learned.signer_key) {
                None => {
                    caches.note(question.cache, &question.path, "withdraws a failure");
                    withdrawn.insert((*learned).clone());
                }
                Some(problem) => caches.note(question.cache, &question.path, problem),
            }
        }
        withdrawn
    }

    /// Why a path does not count that a cache has.
    fn problem_with(&self, found: &FoundPath, key: &str) -> Option<&'static str> {
        if !found.keys.iter().any(|signed| signed == key) {
            Some("has no signature by the key that it is named after")
        } else if found.references != [marker(self.store_dir)] {
            Some("refers to other paths than the marker")
        } else if found.nar_size > MAX_NAR {
            Some("is too large")
        } else {
            None
        }
    }

    fn accept(&self, nar: &[u8], address: &Address<'_>, system: &str) -> Result<FailureObject, ObjectError> {
        FailureObject::read(content_of(nar)?, address, self.store_dir, system, self.now)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::failure_object::nar;
    use crate::record::Output;
    use crate::record::tests::record;

    const STORE: &str = "/nix/store";
    const KEY: &str = "/nix/store/zzz0h4gj6rsaw6xnsq7vj128dpiawa94-x";
    const TRUSTED: &str = "ci-1:AAAA";

    /// What a cache in memory has of a path: signers, references and NAR.
    type Stored = (Vec<String>, Vec<String>, Vec<u8>);

    /// A cache in memory.
    #[derive(Clone, Default)]
    struct Memory {
        has: BTreeMap<String, Stored>,
        asked: Vec<Question>,
        last: Vec<Question>,
        notes: Vec<String>,
    }

    impl Memory {
        fn with_marker() -> Memory {
            let mut memory = Memory::default();
            memory.has.insert(marker(STORE), (vec![], vec![], nar(crate::failure_object::marker_text().as_bytes())));
            memory
        }

        fn publish(&mut self, kind: Kind, signed_by: &str, content: &[u8]) {
            let key = OutputKey::from(KEY);
            let address = Address { kind, key: &key, period: 1, signer: "ci-1" };
            let entry = (vec![signed_by.to_owned()], vec![marker(STORE)], nar(content));
            self.has.insert(address.path(STORE), entry);
        }
    }

    impl Caches for Memory {
        type Error = Infallible;

        fn urls(&self) -> Vec<String> {
            vec!["http://cache".to_owned()]
        }

        fn query(&mut self, questions: &[Question]) -> Result<Vec<FoundPath>, Infallible> {
            self.asked.extend_from_slice(questions);
            self.last = questions.to_vec();
            let found = questions.iter().enumerate().filter_map(|(index, question)| {
                let (keys, references, nar) = self.has.get(&question.path)?;
                let (keys, references) = (keys.clone(), references.clone());
                Some(FoundPath { question: index, keys, nar_size: nar.len() as u64, references })
            });
            Ok(found.collect())
        }

        fn read(&mut self, nars: &[usize], questions: &[Question]) -> Result<(Vec<Nar>, Vec<FoundPath>), Infallible> {
            let nars = nars.iter().map(|index| Some(self.has[&self.last[*index].path].2.clone())).collect();
            Ok((nars, self.query(questions)?))
        }

        fn note(&mut self, _: usize, _: &str, text: &str) {
            self.notes.push(text.to_owned());
        }

        fn leave_out(&mut self, _: usize, why: &str) {
            self.notes.push(why.to_owned());
        }
    }

    fn failure() -> Vec<u8> {
        let mut record = record();
        record.outputs = vec![Output { name: "out".to_owned(), key: KEY.into() }];
        FailureObject::of(&record, true).to_bytes().unwrap()
    }

    fn ask(memory: &mut Memory, keys: &[String], kept_out: &HashSet<(OutputKey, i64)>) -> Vec<LearnedFailure> {
        let asking = Asking { store_dir: STORE, keys, now: Timestamp::from_second(1_000_100).unwrap() };
        let wanted = [Wanted { key: KEY.into(), system: "x86_64-linux".to_owned() }];
        let asked = asking.carriers(memory).and_then(|carriers| asking.failures(memory, &carriers, &wanted, kept_out));
        match asked {
            Ok((failures, _)) => failures,
            Err(never) => match never {},
        }
    }

    #[test]
    fn a_failure_that_a_trusted_key_signed_is_learned() {
        let mut memory = Memory::with_marker();
        memory.publish(Kind::Failure, TRUSTED, &failure());
        let learned = ask(&mut memory, &[TRUSTED.to_owned()], &HashSet::new());
        let time = Timestamp::from_second(learned[0].object.last_failure).unwrap();
        assert_eq!((learned.len(), learned[0].origin.key(), period(time)), (1, Some(TRUSTED), 1));
        // What was forgotten stays out.
        assert!(ask(&mut memory, &[TRUSTED.to_owned()], &HashSet::from([(KEY.into(), 1)])).is_empty());
    }

    #[test]
    fn nothing_is_asked_for_without_a_key_or_a_marker() {
        let mut memory = Memory::with_marker();
        memory.publish(Kind::Failure, TRUSTED, &failure());
        assert!(ask(&mut memory, &[], &HashSet::new()).is_empty() && memory.asked.len() == 1);
        memory.asked.clear();
        memory.has.remove(&marker(STORE));
        assert!(ask(&mut memory, &[TRUSTED.to_owned()], &HashSet::new()).is_empty());
        assert_eq!((memory.asked.len(), memory.notes), (1, vec!["it carries none".to_owned()]));
    }

    #[test]
    fn others_can_do_nothing() {
        type Attack = fn(&mut Memory);
        let attacks: [Attack; 6] = [
            |memory| memory.publish(Kind::Failure, "other:BBBB", &failure()),
            // The same name, another key.
            |memory| memory.publish(Kind::Failure, "ci-1:BBBB", &failure()),
            |memory| memory.publish(Kind::Failure, TRUSTED, b"{}"),
            |memory| memory.publish(Kind::Failure, TRUSTED, &[b' '; 20_000]),
            |memory| {
                memory.publish(Kind::Failure, TRUSTED, &failure());
                memory.has.values_mut().for_each(|(_, references, _)| references.push("/nix/store/x".to_owned()));
            },
            |memory| {
                memory.publish(Kind::Failure, TRUSTED, &failure());
                memory.has.values_mut().for_each(|(_, _, nar)| nar.truncate(100));
            },
        ];
        for (index, attack) in attacks.into_iter().enumerate() {
            let mut memory = Memory::with_marker();
            attack(&mut memory);
            assert!(ask(&mut memory, &[TRUSTED.to_owned()], &HashSet::new()).is_empty(), "{index}");
            assert!(!memory.notes.is_empty(), "{index}: it is said why");
        }
    }

    #[test]
    fn what_was_withdrawn_is_told() {
        let mut memory = Memory::with_marker();
        memory.publish(Kind::Failure, TRUSTED, &failure());
        memory.publish(Kind::Withdrawal, TRUSTED, b"{}");
        let (keys, now) = ([TRUSTED.to_owned()], Timestamp::from_second(1_000_100).unwrap());
        let asking = Asking { store_dir: STORE, keys: &keys, now };
        let wanted = [Wanted { key: KEY.into(), system: "x86_64-linux".to_owned() }];
        let Ok((learned, withdrawn)) = asking.failures(&mut memory, &[0], &wanted, &HashSet::new());
        assert!(learned.is_empty());
        assert_eq!(withdrawn.len(), 1);
    }

    #[test]
    fn only_the_signer_withdraws() {
        for (by, learned) in [(TRUSTED, 0), ("ci-1:BBBB", 1), ("other:BBBB", 1)] {
            let mut memory = Memory::with_marker();
            memory.publish(Kind::Failure, TRUSTED, &failure());
            memory.publish(Kind::Withdrawal, by, b"{}");
            assert_eq!(ask(&mut memory, &[TRUSTED.to_owned()], &HashSet::new()).len(), learned, "{by}");
        }
    }
}
