//! From what a request would build and what is known to fail to what is done about it.
//!
//! The derivations that would be built are told apart by their places in a list of them, and what needs what is only asked
//! for where it matters: of thousands of derivations, few have anything to do with a failure.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::settings::Settings;

/// What is done about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing stands in the way.
    Build,
    /// These are known to fail; they are built after a warning.
    Warn(Vec<usize>),
    /// Known failures are not built, nor is what depends on them; the rest is up to Nix and `keep-going`.
    Refuse {
        /// The places of the known failures, in their order.
        known: Vec<usize>,
        /// The places of what can't be built because it needs one of them, directly or not, in their order: with
        /// `keep-going` all of that; without, when the first failure ends the request, enough to lead from each of `known`
        /// to a request.
        dependents: Vec<usize>,
    },
}

/// Decides about a request for the derivations at the places `requested`, of which those at `known` failed before. `users`
/// tells which of the derivations that would be built need the one at a place.
///
/// # Errors
///
/// Those of `users`.
pub fn decide<E>(
    settings: &Settings,
    keep_going: bool,
    requested: &HashSet<usize>,
    known: &BTreeSet<usize>,
    users: impl FnMut(usize) -> Result<Vec<usize>, E>,
) -> Result<Verdict, E> {
    if known.is_empty() || !settings.consults() {
        return Ok(Verdict::Build);
    }
    let mut walk = Walk { requested, known, users, thorough: keep_going && !settings.warn, needed: BTreeMap::new() };
    for &place in known {
        walk.go(place)?;
    }
    let (known, dependents): (Vec<usize>, Vec<usize>) = walk
        .needed
        .iter()
        .filter(|(_, needed)| **needed)
        .map(|(place, _)| place)
        .partition(|place| known.contains(place));
    Ok(match known.is_empty() {
        true => Verdict::Build,
        false if settings.warn => Verdict::Warn(known),
        false => Verdict::Refuse { known, dependents },
    })
}

/// From known failures to the requests that they stand in the way of.
struct Walk<'a, Users> {
    requested: &'a HashSet<usize>,
    known: &'a BTreeSet<usize>,
    users: Users,
    /// Whether all that needs a known failure is looked at, or only as much as it takes to find a request.
    thorough: bool,
    /// Whether what was looked at is still needed if known failures are not built: what only another one needs is not.
    needed: BTreeMap<usize, bool>,
}

/// A derivation on the way up.
struct Step {
    place: usize,
    users: std::vec::IntoIter<usize>,
}

impl<E, Users: FnMut(usize) -> Result<Vec<usize>, E>> Walk<'_, Users> {
    fn step(&mut self, place: usize) -> Result<Step, E> {
        let needed = self.requested.contains(&place);
        self.needed.insert(place, needed);
        let users = if needed && !self.thorough { Vec::new() } else { (self.users)(place)? };
        Ok(Step { place, users: users.into_iter() })
    }

    fn go(&mut self, start: usize) -> Result<(), E> {
        let mut way = vec![self.step(start)?];
        while let Some(last) = way.last_mut() {
            let arrived = !self.thorough && self.needed[&last.place];
            match last.users.next().filter(|_| !arrived) {
                Some(user) if self.known.contains(&user) => {}
                Some(user) => match self.needed.get(&user) {
                    Some(needed) => self.needs(way.last(), *needed),
                    None => way.push(self.step(user)?),
                },
                None => {
                    let needed = self.needed[&last.place];
                    way.pop();
                    self.needs(way.last(), needed);
                }
            }
        }
        Ok(())
    }

    /// Notes that one of the users of a derivation is needed.
    fn needs(&mut self, step: Option<&Step>, needed: bool) {
        if let (Some(step), true) = (step, needed) {
            self.needed.insert(step.place, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// What each of some derivations needs; asks for all of them.
    fn decide_all(settings: &Settings, keep_going: bool, inputs: &[&[usize]], known: &[usize]) -> Verdict {
        decide_some(settings, keep_going, inputs, known, &(0..inputs.len()).collect())
    }

    fn decide_some(
        settings: &Settings,
        keep_going: bool,
        inputs: &[&[usize]],
        known: &[usize],
        requested: &HashSet<usize>,
    ) -> Verdict {
        let users = |place: usize| {
            let users = (0..inputs.len()).filter(|user| inputs[*user].contains(&place));
            Ok::<_, Infallible>(users.collect())
        };
        match decide(settings, keep_going, requested, &known.iter().copied().collect(), users) {
            Ok(verdict) => verdict,
            Err(never) => match never {},
        }
    }

    fn refused(inputs: &[&[usize]], known: &[usize]) -> Vec<usize> {
        match decide_all(&Settings::default(), true, inputs, known) {
            Verdict::Refuse { dependents, .. } => dependents,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_known_is_built() {
        assert_eq!(decide_all(&Settings::default(), true, &[&[], &[0]], &[]), Verdict::Build);
    }

    #[test]
    fn dependents_are_refused_and_siblings_are_not() {
        // 0 is needed by 1, 1 by 2; 3 is a sibling; 4 needs both.
        let inputs: &[&[usize]] = &[&[], &[0], &[1], &[], &[2, 3]];
        assert_eq!(refused(inputs, &[0]), [1, 2, 4]);
        assert_eq!(refused(inputs, &[3]), [4]);
        assert!(refused(inputs, &[4]).is_empty());
    }

    #[test]
    fn a_known_failure_that_needs_another_is_not_its_dependent() {
        assert!(refused(&[&[], &[0]], &[0, 1]).is_empty());
    }

    #[test]
    fn what_only_a_known_failure_needs_does_not_matter() {
        // 0 is needed by 1, 1 by 2; 0 and 2 are known.
        let inputs: &[&[usize]] = &[&[], &[0], &[1]];
        for keep_going in [false, true] {
            let ask = |requested: usize| {
                decide_some(&Settings::default(), keep_going, inputs, &[0, 2], &HashSet::from([requested]))
            };
            assert_eq!(ask(2), Verdict::Refuse { known: vec![2], dependents: vec![] });
            assert_eq!(ask(1), Verdict::Refuse { known: vec![0], dependents: vec![1] });
        }
    }

    #[test]
    fn without_keep_going_one_way_to_a_request_is_enough() {
        // 0 is needed by 1 and 2, both by 3.
        let inputs: &[&[usize]] = &[&[], &[0], &[0], &[1, 2]];
        let ask = |keep_going| decide_some(&Settings::default(), keep_going, inputs, &[0], &HashSet::from([3]));
        assert_eq!(ask(false), Verdict::Refuse { known: vec![0], dependents: vec![1, 3] });
        assert_eq!(ask(true), Verdict::Refuse { known: vec![0], dependents: vec![1, 2, 3] });
    }

    #[test]
    fn settings() {
        let table = [
            (Settings { retry: true, ..Settings::default() }, Verdict::Build),
            (Settings { keep_failed: true, ..Settings::default() }, Verdict::Build),
            (Settings { warn: true, ..Settings::default() }, Verdict::Warn(vec![0])),
            (Settings { retry: true, warn: true, ..Settings::default() }, Verdict::Build),
            (Settings::default(), Verdict::Refuse { known: vec![0], dependents: vec![] }),
        ];
        for (settings, expected) in table {
            assert_eq!(decide_all(&settings, false, &[&[]], &[0]), expected, "{settings:?}");
        }
    }

    proptest! {
        #[test]
        fn exactly_what_is_needed_and_reaches_a_known_failure_is_refused(
            edges in prop::collection::vec((0..12usize, 0..12usize), 0..40),
            known in prop::collection::btree_set(0..12usize, 1..4),
            requested in prop::collection::hash_set(0..12usize, 1..12),
        ) {
            let mut inputs: Vec<Vec<usize>> = vec![Vec::new(); 12];
            for (a, b) in edges {
                // Inputs have lower places, as derivations can't be built in circles.
                if a != b { inputs[a.max(b)].push(a.min(b)); }
            }
            let mut needed = [false; 12];
            let mut reaches = [false; 12];
            for place in (0..12).rev() {
                let user = |user: &usize| inputs[*user].contains(&place) && needed[*user] && !known.contains(user);
                needed[place] = requested.contains(&place) || (0..12).any(|place| user(&place));
            }
            for place in 0..12 {
                reaches[place] = known.contains(&place) || inputs[place].iter().any(|input| reaches[*input]);
            }
            // By way of known failures nothing is reached: they are not tried, so what needs only them fails because of them.
            let (of_known, of_others): (Vec<usize>, Vec<usize>) = (0..12)
                .filter(|place| needed[*place] && reaches[*place])
                .partition(|place| known.contains(place));

            let slices: Vec<&[usize]> = inputs.iter().map(Vec::as_slice).collect();
            let known: Vec<usize> = known.into_iter().collect();
            let ask = |keep_going| decide_some(&Settings::default(), keep_going, &slices, &known, &requested);
            let expected = match of_known.is_empty() {
                true => Verdict::Build,
                false => Verdict::Refuse { known: of_known.clone(), dependents: of_others.clone() },
            };
            prop_assert_eq!(ask(true), expected);
            match ask(false) {
                Verdict::Refuse { known, dependents } => {
                    prop_assert_eq!(&known, &of_known);
                    let refused: Vec<usize> = known.iter().chain(&dependents).copied().collect();
                    for place in &refused {
                        // From each, a way of refused ones leads to a request.
                        let user = |user: &usize| inputs[*user].contains(place) && dependents.contains(user);
                        prop_assert!(requested.contains(place) || refused.iter().any(user));
                    }
                    prop_assert!(dependents.iter().all(|place| of_others.contains(place)));
                }
                other => prop_assert_eq!(other, Verdict::Build),
            }
        }
    }
}
