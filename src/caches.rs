//! Learns failures from binary caches: between the core, which knows what to ask, Nix, which asks, and the database.

use std::collections::HashSet;
use std::pin::Pin;

use jiff::Timestamp;
use nix_negative_cache_core::elsewhere::{
    self, Asking, Caches as _, FoundPath, Learned, Nar, Question, Wanted, question_number,
};
use nix_negative_cache_core::failure_object::main_output;
use nix_negative_cache_core::record::Output;
use nix_negative_cache_core::request::PlannedDerivation;
use nix_negative_cache_core::store_url;

use crate::bridge::{self, CacheAnswers, CacheQuestion, Caches};
use crate::connections::with_own;
use crate::guard::Failure;
use crate::policy::Policy;

/// The binary caches of a request, which C++ asks.
struct Asked<'a>(Pin<&'a mut Caches>);

/// The binary caches of a request, and what was found out about them.
pub struct NixsCaches<'a> {
    caches: Asked<'a>,
    store_dir: String,
    /// The indexes of those that carry failures, once they were asked.
    carriers: Option<Vec<usize>>,
    /// Whether they are asked even if nothing came of the same question lately.
    anew: bool,
}

impl elsewhere::Caches for Asked<'_> {
    type Error = Failure;

    /// Without secrets: other users see them as the origins of failures.
    fn urls(&self) -> Vec<String> {
        self.0.urls().iter().map(|url| store_url::shown(url)).collect()
    }

    fn query(&mut self, questions: &[Question]) -> Result<Vec<FoundPath>, Failure> {
        let questions = questions.iter().map(CacheQuestion::from).collect();
        Ok(self.0.as_mut().query(&questions)?.into_iter().map(FoundPath::from).collect())
    }

    fn read(&mut self, nars: &[usize], questions: &[Question]) -> Result<(Vec<Nar>, Vec<FoundPath>), Failure> {
        let questions = questions.iter().map(CacheQuestion::from).collect();
        let CacheAnswers { nars, paths } = self.0.as_mut().read(&nars.to_vec(), &questions)?;
        let nars = nars.into_iter().map(|nar| nar.is_there.then_some(nar.bytes)).collect();
        Ok((nars, paths.into_iter().map(FoundPath::from).collect()))
    }

    fn note(&mut self, cache: usize, path: &str, text: &str) {
        self.0.note(cache, path, text);
    }

    fn leave_out(&mut self, cache: usize, why: &str) {
        self.0.leave_out(cache, why);
    }
}

impl From<&Question> for CacheQuestion {
    fn from(question: &Question) -> CacheQuestion {
        CacheQuestion { cache: question.cache, path: question.path.clone() }
    }
}

impl From<bridge::FoundPath> for FoundPath {
    fn from(found: bridge::FoundPath) -> FoundPath {
        let bridge::FoundPath { question, keys, nar_size, references } = found;
        FoundPath { question, keys, nar_size, references }
    }
}

impl<'a> NixsCaches<'a> {
    /// The caches of a request to the store with this directory.
    pub fn new(caches: Pin<&'a mut Caches>) -> NixsCaches<'a> {
        let store_dir = caches.store_dir();
        NixsCaches { caches: Asked(caches), store_dir, carriers: None, anew: false }
    }

    /// The same, asked even if nothing came of the same question lately.
    pub fn asked_anew(self) -> NixsCaches<'a> {
        NixsCaches { anew: true, ..self }
    }

    /// Whether there is any cache that may be asked, and anybody who is believed. If somebody is believed and nobody may be
    /// asked, says why to users who want to know much.
    ///
    /// # Errors
    ///
    /// Those of the settings.
    pub fn may_be_asked(&self, policy: &Policy) -> Result<bool, Failure> {
        let settings = policy.settings()?;
        // If a daemon decides, it asks as well.
        if settings.trusted_public_keys.is_empty() || policy.daemon_decides() {
            return Ok(false);
        }
        let asked = settings.consults() && self.caches.0.may_be_asked();
        if !asked {
            let why = if settings.retry {
                "'negative-cache-retry' is on".to_owned()
            } else if settings.keep_failed {
                "'keep-failed' is on".to_owned()
            } else {
                self.caches.0.why_not_asked()
            };
            self.caches.0.ask_nobody(&why);
        }
        Ok(asked)
    }

    /// What asking needs to know, the caches to ask, and the indexes of those that carry failures, which are asked for their
    /// marker once in a request.
    fn asking<'b>(&'b mut self, policy: &'b Policy) -> Result<(Asking<'b>, &'b mut Asked<'a>, &'b [usize]), Failure> {
        let keys = &policy.settings()?.trusted_public_keys;
        let asking = Asking { store_dir: &self.store_dir, keys, now: Timestamp::now() };
        if self.carriers.is_none() {
            self.carriers = Some(asking.carriers(&mut self.caches)?);
        }
        Ok((asking, &mut self.caches, self.carriers.as_deref().unwrap_or_default()))
    }

    /// The number of a question about these things.
    fn question(&self, policy: &Policy, about: &[String], now: Timestamp) -> Result<u64, Failure> {
        Ok(question_number(about, &policy.settings()?.trusted_public_keys, &self.caches.urls(), now))
    }

    /// Whether nothing came of a question about these things lately.
    fn was_asked(&self, policy: &Policy, about: &[String]) -> Result<bool, Failure> {
        let now = Timestamp::now();
        let question = self.question(policy, about, now)?;
        Ok(with_own(policy, false, |database| match database {
            Some(database) => database.was_asked(question, now),
            None => Ok(false),
        })?)
    }

    /// Whether any cache carries failures, and none of them was asked lately about the derivations whose paths have these last
    /// parts.
    ///
    /// # Errors
    ///
    /// Those of the database and settings, and if the user interrupts it.
    pub fn may_know(&mut self, policy: &Policy, base_names: &[String]) -> Result<bool, Failure> {
        if !self.anew && self.was_asked(policy, base_names)? {
            self.caches.0.ask_nobody("they knew nothing of this within the last hour");
            return Ok(false);
        }
        self.carry_any(policy)
    }

    /// Whether any cache carries failures.
    ///
    /// # Errors
    ///
    /// Those of the settings, and if the user interrupts it.
    pub fn carry_any(&mut self, policy: &Policy) -> Result<bool, Failure> {
        let (_, _, carriers) = self.asking(policy)?;
        Ok(!carriers.is_empty())
    }

    /// Remembers for a while that no cache knows anything about these things, such as derivations, if all caches have answered.
    ///
    /// # Errors
    ///
    /// Those of the database and settings.
    pub fn know_nothing(&self, policy: &Policy, about: &[String]) -> Result<(), Failure> {
        if !self.caches.0.all_answered() {
            return Ok(());
        }
        let now = Timestamp::now();
        let question = self.question(policy, about, now)?;
        Ok(with_own(policy, true, |database| {
            database.into_iter().for_each(|database| database.note_asked(question, now));
            Ok(())
        })?)
    }

    /// Asks about derivations, and records what failed elsewhere. Returns whether anything was recorded.
    ///
    /// # Errors
    ///
    /// Those of the database and settings, and if the user interrupts it.
    pub fn learn(&mut self, policy: &Policy, derivations: &[PlannedDerivation]) -> Result<bool, Failure> {
        let wanted: Vec<Wanted> = derivations
            .iter()
            .filter(|derivation| derivation.may_be_substituted && !derivation.is_fetch)
            .filter_map(|derivation| {
                let main: &Output = main_output(&derivation.outputs, |output| &output.name)?;
                Some(Wanted { key: main.key.clone(), system: derivation.system.clone() })
            })
            .collect();
        if wanted.is_empty() {
            return Ok(false);
        }
        let kept_out = with_own(policy, false, |database| match database {
            Some(database) => database.kept_out(wanted.iter().map(|wanted| &wanted.key)),
            None => Ok(HashSet::new()),
        })?;
        let (asking, caches, carriers) = self.asking(policy)?;
        let (learned, withdrawn) = asking.failures(caches, carriers, &wanted, &kept_out)?;
        if learned.is_empty() && withdrawn.is_empty() {
            return Ok(false);
        }
        Ok(with_own(policy, true, |database| match database {
            Some(database) => database.learn(&learned, &withdrawn).map(|count| count > 0),
            None => Ok(false),
        })?)
    }

    /// Asks whether failures were withdrawn, at most once in an hour, and forgets those that were. Returns whether any was.
    ///
    /// # Errors
    ///
    /// Those of the database and settings, and if the user interrupts it.
    pub fn forget_withdrawn(&mut self, policy: &Policy, learned: &[Learned]) -> Result<bool, Failure> {
        let about: Vec<String> = learned.iter().map(|learned| format!("{} {}", learned.key, learned.period)).collect();
        if self.was_asked(policy, &about)? {
            return Ok(false);
        }
        let (asking, caches, carriers) = self.asking(policy)?;
        let withdrawn = asking.withdrawn(caches, carriers, learned)?;
        if withdrawn.is_empty() {
            self.know_nothing(policy, &about)?;
            return Ok(false);
        }
        with_own(policy, false, |database| match database {
            Some(database) => database.withdraw(&withdrawn),
            None => Ok(()),
        })?;
        Ok(true)
    }
}
