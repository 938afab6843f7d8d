//! From what a request would build and what is known to fail to what is done about it.

use std::collections::{HashMap, HashSet};

use crate::settings::Settings;
use crate::store_path::{DerivationPath, OutputPath};

/// A derivation that Nix would build for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The derivation.
    pub derivation: DerivationPath,
    /// Those of its outputs whose paths are known before the build.
    pub outputs: Vec<OutputPath>,
    /// The derivations it needs outputs of, missing or not.
    pub inputs: Vec<DerivationPath>,
}

/// What is done about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing stands in the way.
    Build,
    /// These are known to fail; they are built after a warning.
    Warn(Vec<usize>),
    /// Known failures are not built, nor is what depends on them; the rest is up to Nix and `keep-going`.
    Refuse {
        /// The places of the known failures, in the order of the missing derivations.
        known: Vec<usize>,
        /// The places of what can't be built because it needs one of them, directly or not, in the same order.
        dependents: Vec<usize>,
    },
}

/// Decides about a request for `requested` that would build `missing`, of which `known` (places in `missing`) failed
/// before.
pub fn decide(
    settings: &Settings,
    requested: &HashSet<DerivationPath>,
    missing: &[Missing],
    known: &HashSet<usize>,
) -> Verdict {
    if known.is_empty() || !settings.consults() {
        return Verdict::Build;
    }
    let places: HashMap<&DerivationPath, usize> =
        missing.iter().enumerate().map(|(place, missing)| (&missing.derivation, place)).collect();
    let needed = needed(&places, requested, missing, known);
    let known: Vec<usize> = (0..missing.len()).filter(|place| needed[*place] && known.contains(place)).collect();
    if known.is_empty() {
        return Verdict::Build;
    }
    if settings.warn {
        Verdict::Warn(known)
    } else {
        Verdict::Refuse { dependents: dependents(&places, missing, &known, &needed), known }
    }
}

/// Whether each of `missing` is still needed if known failures are not built: what only a known failure needs is not.
fn needed(
    places: &HashMap<&DerivationPath, usize>,
    requested: &HashSet<DerivationPath>,
    missing: &[Missing],
    known: &HashSet<usize>,
) -> Vec<bool> {
    let mut needed = vec![false; missing.len()];
    let mut reached: Vec<usize> = requested.iter().filter_map(|path| places.get(path).copied()).collect();
    while let Some(place) = reached.pop() {
        if !std::mem::replace(&mut needed[place], true) && !known.contains(&place) {
            reached.extend(missing[place].inputs.iter().filter_map(|input| places.get(input)));
        }
    }
    needed
}

fn dependents(
    places: &HashMap<&DerivationPath, usize>,
    missing: &[Missing],
    known: &[usize],
    needed: &[bool],
) -> Vec<usize> {
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); missing.len()];
    for (place, derivation) in missing.iter().enumerate() {
        for input in derivation.inputs.iter().filter_map(|input| places.get(input)) {
            users[*input].push(place);
        }
    }
    let mut fails = vec![false; missing.len()];
    let mut reached = known.to_vec();
    while let Some(place) = reached.pop() {
        if !std::mem::replace(&mut fails[place], true) {
            reached.extend(&users[place]);
        }
    }
    (0..missing.len()).filter(|place| fails[*place] && needed[*place] && known.binary_search(place).is_err()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Derivations named by their places, with the places of their inputs.
    fn graph(inputs: &[&[usize]]) -> Vec<Missing> {
        let name = |place: usize| DerivationPath::from(format!("/nix/store/{place}.drv"));
        let missing = |(place, inputs): (usize, &&[usize])| Missing {
            derivation: name(place),
            outputs: vec![OutputPath::from(format!("/nix/store/{place}"))],
            inputs: inputs.iter().map(|input| name(*input)).collect(),
        };
        inputs.iter().enumerate().map(missing).collect()
    }

    /// Asks for all of `missing`.
    fn decide_all(settings: &Settings, missing: &[Missing], known: &[usize]) -> Verdict {
        let requested = missing.iter().map(|missing| missing.derivation.clone()).collect();
        decide(settings, &requested, missing, &known.iter().copied().collect())
    }

    fn refused(missing: &[Missing], known: &[usize]) -> Vec<usize> {
        match decide_all(&Settings::default(), missing, known) {
            Verdict::Refuse { dependents, .. } => dependents,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_known_is_built() {
        assert_eq!(decide_all(&Settings::default(), &graph(&[&[], &[0]]), &[]), Verdict::Build);
    }

    #[test]
    fn dependents_are_refused_and_siblings_are_not() {
        // 0 is needed by 1, 1 by 2; 3 is a sibling; 4 needs both.
        let missing = graph(&[&[], &[0], &[1], &[], &[2, 3]]);
        assert_eq!(refused(&missing, &[0]), [1, 2, 4]);
        assert_eq!(refused(&missing, &[3]), [4]);
        assert!(refused(&missing, &[4]).is_empty());
    }

    #[test]
    fn a_known_failure_that_needs_another_is_not_its_dependent() {
        assert!(refused(&graph(&[&[], &[0]]), &[0, 1]).is_empty());
    }

    #[test]
    fn what_only_a_known_failure_needs_does_not_matter() {
        // 0 is needed by 1, 1 by 2; 0 and 2 are known, only 2 is asked for.
        let missing = graph(&[&[], &[0], &[1]]);
        let ask = |requested: usize| {
            let requested = HashSet::from([missing[requested].derivation.clone()]);
            decide(&Settings::default(), &requested, &missing, &HashSet::from([0, 2]))
        };
        assert_eq!(ask(2), Verdict::Refuse { known: vec![2], dependents: vec![] });
        assert_eq!(ask(1), Verdict::Refuse { known: vec![0], dependents: vec![1] });
    }

    #[test]
    fn inputs_that_are_not_missing_do_not_matter() {
        assert_eq!(refused(&graph(&[&[7], &[0, 9]]), &[0]), [1]);
    }

    #[test]
    fn settings() {
        let missing = graph(&[&[]]);
        let table = [
            (Settings { retry: true, ..Settings::default() }, Verdict::Build),
            (Settings { keep_failed: true, ..Settings::default() }, Verdict::Build),
            (Settings { warn: true, ..Settings::default() }, Verdict::Warn(vec![0])),
            (Settings { retry: true, warn: true, ..Settings::default() }, Verdict::Build),
            (Settings::default(), Verdict::Refuse { known: vec![0], dependents: vec![] }),
        ];
        for (settings, expected) in table {
            assert_eq!(decide_all(&settings, &missing, &[0]), expected, "{settings:?}");
        }
    }

    proptest! {
        #[test]
        fn exactly_what_reaches_a_known_failure_is_refused(
            edges in prop::collection::vec((0..12usize, 0..12usize), 0..40),
            known in prop::collection::btree_set(0..12usize, 1..4),
        ) {
            let mut inputs: Vec<Vec<usize>> = vec![Vec::new(); 12];
            for (a, b) in edges {
                // Inputs have lower places, as derivations can't be built in circles.
                if a != b { inputs[a.max(b)].push(a.min(b)); }
            }
            let slices: Vec<&[usize]> = inputs.iter().map(Vec::as_slice).collect();
            let known: Vec<usize> = known.into_iter().collect();
            let refused = refused(&graph(&slices), &known);
            let mut reaches = [false; 12];
            for place in 0..12 {
                reaches[place] = known.contains(&place) || inputs[place].iter().any(|input| reaches[*input]);
                let expected = reaches[place] && !known.contains(&place);
                prop_assert_eq!(refused.contains(&place), expected);
            }
        }
    }
}
