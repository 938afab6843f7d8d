//! Tells which builds of a list are worth a request. This happens while the list is read, as most builds of an evaluation are not
//! finished or have not failed, and need not be kept.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use nix_negative_cache_core::hydra::{HydraBuild, LeftOut};

/// How many builds that are left out are told from one another, so that those of several evaluations count once. The others count once
/// for each.
const MOST_TOLD_APART: usize = 100_000;

/// What is left out of the lists of an import without a request, with numbers.
#[derive(Debug, Default)]
pub struct LeftOutOfLists {
    /// Why, and how many.
    pub counts: BTreeMap<LeftOut, usize>,
    /// The numbers of the builds.
    builds: HashSet<u64>,
}

/// Keeps what is worth a request, and counts what else was asked for.
pub struct Sieve<'a> {
    /// The builds that need not be asked about again, and until when.
    known: &'a HashMap<u64, Timestamp>,
    /// Whether a build is one of those that were asked for.
    is_wanted: &'a dyn Fn(&HydraBuild) -> bool,
    /// The time from which it is counted how long something stands.
    start: Timestamp,
    /// What was counted in earlier lists.
    earlier: &'a LeftOutOfLists,
    until: Cell<Timestamp>,
    left: RefCell<LeftOutOfLists>,
}

impl<'a> Sieve<'a> {
    /// One for a list of which nothing was read yet.
    pub fn new(
        known: &'a HashMap<u64, Timestamp>,
        is_wanted: &'a dyn Fn(&HydraBuild) -> bool,
        start: Timestamp,
        earlier: &'a LeftOutOfLists,
    ) -> Sieve<'a> {
        let (until, left) = (Cell::new(Timestamp::MAX), RefCell::default());
        Sieve { known, is_wanted, start, earlier, until, left }
    }

    /// Forgets what was read: the list is read again.
    pub fn restart(&self) {
        self.until.set(Timestamp::MAX);
        self.left.take();
    }

    /// Whether a build is worth a request now.
    pub fn keeps(&self, build: &HydraBuild, now: Timestamp) -> bool {
        if !(self.is_wanted)(build) {
            return false;
        }
        let until = match (self.known.get(&build.id), build.may_count(now)) {
            (Some(until), _) => *until,
            (None, Ok(())) => return true,
            (None, Err(why)) => {
                let until = self.start + why.stands_for();
                // Most builds have succeeded.
                if !matches!(why, LeftOut::OtherEnd { .. }) {
                    self.count(build.id, why);
                }
                until
            }
        };
        self.until.set(self.until.get().min(until));
        false
    }

    fn count(&self, build: u64, why: LeftOut) {
        let mut left = self.left.borrow_mut();
        if self.earlier.builds.contains(&build) || left.builds.contains(&build) {
            return;
        }
        if self.earlier.builds.len() + left.builds.len() < MOST_TOLD_APART {
            left.builds.insert(build);
        }
        *left.counts.entry(why).or_default() += 1;
    }

    /// Until when the builds that were not kept need not be looked at again, and what was left out.
    pub fn finish(self) -> (Timestamp, LeftOutOfLists) {
        (self.until.get(), self.left.into_inner())
    }
}

impl LeftOutOfLists {
    /// Adds what was left out of another list.
    pub fn add(&mut self, other: LeftOutOfLists) {
        self.builds.extend(other.builds);
        for (why, count) in other.counts {
            *self.counts.entry(why).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use nix_negative_cache_core::failure_object::PERIOD;
    use nix_negative_cache_core::hydra::REMEMBERED;

    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn start() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    fn build(id: u64, status: Option<i64>, stop: i64) -> HydraBuild {
        let json = serde_json::json!({
            "id": id, "finished": i64::from(status.is_some()), "buildstatus": status, "stoptime": stop, "job": "x",
            "system": if id == 0 { "other" } else { "x86_64-linux" }, "drvpath": "x",
        });
        serde_json::from_value(json).unwrap()
    }

    /// What becomes of a list: which builds are kept, for how many hours the others stand, and what is counted.
    fn sifted(
        known: &[(u64, Timestamp)],
        earlier: &mut LeftOutOfLists,
        builds: &[HydraBuild],
    ) -> (Vec<u64>, Option<i64>, Vec<(LeftOut, usize)>) {
        let known: HashMap<u64, Timestamp> = known.iter().copied().collect();
        let is_wanted = |build: &HydraBuild| build.system != "other";
        let sieve = Sieve::new(&known, &is_wanted, start(), earlier);
        // The first time the list does not come whole.
        builds.iter().take(2).for_each(|build| _ = sieve.keeps(build, start()));
        sieve.restart();
        let kept = builds.iter().filter(|build| sieve.keeps(build, start())).map(|build| build.id).collect();
        let (until, left) = sieve.finish();
        let counts = left.counts.clone().into_iter().collect();
        earlier.add(left);
        (kept, (until < Timestamp::MAX).then(|| until.duration_since(start()).as_hours()), counts)
    }

    #[test]
    fn only_what_may_count_is_kept() {
        let days = REMEMBERED.as_hours();
        let mut none = LeftOutOfLists::default();
        let failed = |id| build(id, Some(1), NOW - 60);
        assert_eq!(sifted(&[], &mut none, &[failed(1), failed(2)]), (vec![1, 2], None, vec![]));
        let succeeded = [build(3, Some(0), NOW - 60), failed(4)];
        assert_eq!(sifted(&[], &mut none, &succeeded), (vec![4], Some(days), vec![]));
        let cancelled = [build(3, Some(4), NOW - 60), build(4, Some(0), NOW - 60)];
        assert_eq!(sifted(&[], &mut none, &cancelled), (vec![], Some(24), vec![]));
        let old = [build(5, Some(1), NOW - PERIOD - 1)];
        assert_eq!(sifted(&[], &mut none, &old), (vec![], Some(days), vec![(LeftOut::Old, 1)]));
        let others = [build(6, None, NOW - 60), failed(7), build(8, Some(1), NOW + 1000), build(9, None, NOW)];
        let counts = vec![(LeftOut::Unfinished, 2), (LeftOut::Future, 1)];
        assert_eq!(sifted(&[], &mut none, &others), (vec![7], Some(0), counts));
        // What nobody asked for, or what is known, does not count.
        let known = [(10, start() + SignedDuration::from_hours(5))];
        assert_eq!(sifted(&known, &mut none, &[build(0, None, NOW), failed(10)]), (vec![], Some(5), vec![]));
    }

    #[test]
    fn a_build_of_several_evaluations_counts_once() {
        let mut earlier = LeftOutOfLists::default();
        let [one, two, three] = [1, 2, 3].map(|id| build(id, None, NOW));
        let first = [one.clone(), two.clone(), one];
        assert_eq!(sifted(&[], &mut earlier, &first).2, [(LeftOut::Unfinished, 2)]);
        assert_eq!(sifted(&[], &mut earlier, &[two, three]).2, [(LeftOut::Unfinished, 1)]);
        assert_eq!(earlier.counts, BTreeMap::from([(LeftOut::Unfinished, 3)]));
    }

    #[test]
    fn a_build_that_ended_meanwhile_is_no_build_of_the_future() {
        let (known, earlier) = (HashMap::new(), LeftOutOfLists::default());
        let sieve = Sieve::new(&known, &|_| true, start(), &earlier);
        let late = build(1, Some(1), NOW + 3600);
        assert!(!sieve.keeps(&late, start()));
        assert!(sieve.keeps(&late, start() + SignedDuration::from_hours(1)));
    }
}
