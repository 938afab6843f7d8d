//! Decides what is done about a request: build it, warn, or refuse what is known to fail.
//!
//! The derivations that the request would build are in a list, and their indices stand for them. What needs what is only
//! asked for where it matters: of thousands of derivations, few have anything to do with a failure.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::settings::Settings;

/// What is done about a request. Derivations are given by their indices among all that would be built, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing stands in the way.
    Build,
    /// These are known to fail; they are built after a warning.
    Warn(Vec<usize>),
    /// Known failures are not built, nor is what depends on them; the rest is up to Nix and `keep-going`.
    Refuse {
        /// The known failures that the request needs.
        known: Vec<usize>,
        /// What can't be built because it needs one of `known`, directly or not. With `keep-going`, all of that. Without,
        /// the first failure ends the request, so these are only enough to lead from each of `known` to a requested
        /// derivation.
        dependents: Vec<usize>,
    },
}

/// Decides about a request for the derivations `requested`, given by index, of which `known` failed before.
/// `mentioned_by(index)` returns which of the derivations that would be built mention the one at `index`, and
/// `needs(user, index)` whether such a one needs an output of it, or only has the derivation itself as a source.
///
/// # Errors
///
/// Those of `mentioned_by` and `needs`.
pub fn decide<E>(
    settings: &Settings,
    keep_going: bool,
    requested: &HashSet<usize>,
    known: &BTreeSet<usize>,
    mentioned_by: impl FnMut(usize) -> Result<Vec<usize>, E>,
    needs: impl FnMut(usize, usize) -> Result<bool, E>,
) -> Result<Decision, E> {
    if known.is_empty() || !settings.consults() {
        return Ok(Decision::Build);
    }
    let thorough = keep_going && !settings.warn;
    let mut walk = Walk { requested, known, mentioned_by, needs, thorough, needed: BTreeMap::new() };
    for &index in known {
        walk.go(index)?;
    }
    let (known, dependents): (Vec<usize>, Vec<usize>) = walk
        .needed
        .iter()
        .filter(|(_, needed)| **needed)
        .map(|(index, _)| index)
        .partition(|index| known.contains(index));
    Ok(match known.is_empty() {
        true => Decision::Build,
        false if settings.warn => Decision::Warn(known),
        false => Decision::Refuse { known, dependents },
    })
}

/// The search from known failures to the requested derivations that need them.
struct Walk<'a, MentionedBy, Needs> {
    requested: &'a HashSet<usize>,
    known: &'a BTreeSet<usize>,
    mentioned_by: MentionedBy,
    needs: Needs,
    /// Whether to look at all that needs a known failure, or only until a requested derivation is found.
    thorough: bool,
    /// The derivations that were looked at, and whether each is still needed if known failures are not built. What only
    /// another known failure needs is not.
    needed: BTreeMap<usize, bool>,
}

/// A derivation on the way to a requested one, and those of the derivations that mention it that are still to be looked at.
struct Step {
    index: usize,
    mentioned_by: std::vec::IntoIter<usize>,
}

impl<E, MentionedBy, Needs> Walk<'_, MentionedBy, Needs>
where
    MentionedBy: FnMut(usize) -> Result<Vec<usize>, E>,
    Needs: FnMut(usize, usize) -> Result<bool, E>,
{
    fn step(&mut self, index: usize) -> Result<Step, E> {
        let needed = self.requested.contains(&index);
        self.needed.insert(index, needed);
        let mentioned_by = if needed && !self.thorough { Vec::new() } else { (self.mentioned_by)(index)? };
        Ok(Step { index, mentioned_by: mentioned_by.into_iter() })
    }

    fn go(&mut self, start: usize) -> Result<(), E> {
        let mut way = vec![self.step(start)?];
        while let Some(last) = way.last_mut() {
            let arrived = !self.thorough && self.needed[&last.index];
            match last.mentioned_by.next().filter(|_| !arrived) {
                Some(user) if self.known.contains(&user) || !(self.needs)(user, last.index)? => {}
                Some(user) => match self.needed.get(&user) {
                    Some(needed) => self.is_needed(way.last(), *needed),
                    None => way.push(self.step(user)?),
                },
                None => {
                    let needed = self.needed[&last.index];
                    way.pop();
                    self.is_needed(way.last(), needed);
                }
            }
        }
        Ok(())
    }

    /// Notes whether a user of a derivation is needed.
    fn is_needed(&mut self, step: Option<&Step>, needed: bool) {
        if let (Some(step), true) = (step, needed) {
            self.needed.insert(step.index, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// What each of some derivations needs; asks for all of them. Each derivation mentions all before it.
    fn decide_all(settings: &Settings, keep_going: bool, inputs: &[&[usize]], known: &[usize]) -> Decision {
        decide_some(settings, keep_going, inputs, known, &(0..inputs.len()).collect())
    }

    fn decide_some(
        settings: &Settings,
        keep_going: bool,
        inputs: &[&[usize]],
        known: &[usize],
        requested: &HashSet<usize>,
    ) -> Decision {
        let mentioned_by = |index: usize| Ok::<_, Infallible>((index + 1..inputs.len()).collect());
        let needs = |user: usize, index: usize| Ok(inputs[user].contains(&index));
        match decide(settings, keep_going, requested, &known.iter().copied().collect(), mentioned_by, needs) {
            Ok(decision) => decision,
            Err(never) => match never {},
        }
    }

    fn refused(inputs: &[&[usize]], known: &[usize]) -> Vec<usize> {
        match decide_all(&Settings::default(), true, inputs, known) {
            Decision::Refuse { dependents, .. } => dependents,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_known_is_built() {
        assert_eq!(decide_all(&Settings::default(), true, &[&[], &[0]], &[]), Decision::Build);
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
            assert_eq!(ask(2), Decision::Refuse { known: vec![2], dependents: vec![] });
            assert_eq!(ask(1), Decision::Refuse { known: vec![0], dependents: vec![1] });
        }
    }

    #[test]
    fn without_keep_going_one_way_to_a_request_is_enough() {
        // 0 is needed by 1 and 2, both by 3.
        let inputs: &[&[usize]] = &[&[], &[0], &[0], &[1, 2]];
        let ask = |keep_going| decide_some(&Settings::default(), keep_going, inputs, &[0], &HashSet::from([3]));
        assert_eq!(ask(false), Decision::Refuse { known: vec![0], dependents: vec![1, 3] });
        assert_eq!(ask(true), Decision::Refuse { known: vec![0], dependents: vec![1, 2, 3] });
    }

    #[test]
    fn settings() {
        let table = [
            (Settings { retry: true, ..Settings::default() }, Decision::Build),
            (Settings { keep_failed: true, ..Settings::default() }, Decision::Build),
            (Settings { warn: true, ..Settings::default() }, Decision::Warn(vec![0])),
            (Settings { retry: true, warn: true, ..Settings::default() }, Decision::Build),
            (Settings::default(), Decision::Refuse { known: vec![0], dependents: vec![] }),
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
                // Inputs have lower indices, as derivations can't be built in circles.
                if a != b { inputs[a.max(b)].push(a.min(b)); }
            }
            let mut needed = [false; 12];
            let mut reaches = [false; 12];
            for index in (0..12).rev() {
                let user = |user: &usize| inputs[*user].contains(&index) && needed[*user] && !known.contains(user);
                needed[index] = requested.contains(&index) || (0..12).any(|index| user(&index));
            }
            for index in 0..12 {
                reaches[index] = known.contains(&index) || inputs[index].iter().any(|input| reaches[*input]);
            }
            // By way of known failures nothing is reached: they are not tried, so what needs only them fails because of them.
            let (of_known, of_others): (Vec<usize>, Vec<usize>) = (0..12)
                .filter(|index| needed[*index] && reaches[*index])
                .partition(|index| known.contains(index));

            let slices: Vec<&[usize]> = inputs.iter().map(Vec::as_slice).collect();
            let known: Vec<usize> = known.into_iter().collect();
            let ask = |keep_going| decide_some(&Settings::default(), keep_going, &slices, &known, &requested);
            let expected = match of_known.is_empty() {
                true => Decision::Build,
                false => Decision::Refuse { known: of_known.clone(), dependents: of_others.clone() },
            };
            prop_assert_eq!(ask(true), expected);
            match ask(false) {
                Decision::Refuse { known, dependents } => {
                    prop_assert_eq!(&known, &of_known);
                    let refused: Vec<usize> = known.iter().chain(&dependents).copied().collect();
                    for index in &refused {
                        // From each, a way of refused ones leads to a request.
                        let user = |user: &usize| inputs[*user].contains(index) && dependents.contains(user);
                        prop_assert!(requested.contains(index) || refused.iter().any(user));
                    }
                    prop_assert!(dependents.iter().all(|index| of_others.contains(index)));
                }
                other => prop_assert_eq!(other, Decision::Build),
            }
        }
    }
}
