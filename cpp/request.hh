#pragma once
/* One request, from what it would build to the goals that are run for it. */

#include "compat.hh"
#include "missing.hh"
#include "nix-negative-cache-plugin/src/lib.rs.h"
#include "observer.hh"
#include "second_look.hh"

namespace negative_cache {

/* What a request would build, and what the core says of that. */
struct Consultation
{
    /* None if nothing is known to fail. */
    std::shared_ptr<MissingDerivations> missing;
    core::Verdict verdict;
    /* By what the user was warned of is known. */
    rust::Vec<rust::String> said;
    /* Whether Nix was asked what is missing, or need not be. */
    bool asked = false;
    /* Whether all requests are refused because of themselves, so that nothing is left to do. */
    bool refusesAll = false;
};

/* Asks what stands in the way of `requests`, before anything is built or substituted. */
Consultation consult(nix::Store & store, const core::Policy & policy, const std::vector<nix::DerivedPath> & requests);

/* The refusal of a derivation that is built without its dependencies, if it is known to fail. */
std::optional<compat::Refusal> consult(
    nix::Store & store,
    const core::Policy & policy,
    const nix::StorePath & path,
    const nix::BasicDerivation & derivation);

/* The refusal of a derivation that is about to be built, if one of `keys` (see `outputKeys`) is known to fail. */
std::optional<compat::Refusal> refusalOf(
    nix::Store & store,
    const core::Policy & policy,
    const nix::StorePath & path,
    const rust::Vec<rust::String> & keys);

/* Nix's worker, watched. Its goals must be gone before it is. */
class WatchedWorker
{
    /* In this order: the worker's activities need the logger, the observer needs the worker. */
    Eavesdropping eavesdropping;

public:
    nix::Worker worker;

private:
    Observer observer;

public:
    SecondLook secondLook;

    WatchedWorker(nix::Store & store, nix::Store & evalStore, nix::BuildMode mode, const core::Policy & policy)
        : worker(store, evalStore)
        , observer(store, worker, mode, policy)
        , secondLook(store, worker, mode, policy)
    {
    }

    void run(const nix::Goals & goals)
    {
        secondLook.expect(goals);
        try {
            worker.run(goals);
        } catch (nix::Interrupted &) {
            throw;
        } catch (nix::BaseError & error) {
            observer.runFailed(error);
            throw;
        }
        observer.runEnded(goals);
    }
};

/* Whether nothing has to be built or substituted for a request. */
bool isThere(nix::Store & store, const nix::DerivedPath & request);

/* The goals that fail in the place of what a consultation refuses. They wait for each other only. */
class RefusedGoals
{
    nix::Worker & worker;
    std::map<nix::StorePath, std::shared_ptr<compat::UnbuiltGoal>> goals;
    std::vector<nix::GoalPtr> known;

public:
    /* What a dependent needs and nobody can use now; but with keep-going the user asked for as much as can be built. What
       could be downloaded stays away: it would only be of use for a build that does not happen. */
    struct AlsoWanted
    {
        std::shared_ptr<compat::UnbuiltGoal> dependent;
        const nix::Derivation & derivation;
        nix::StorePath input;
    };

    std::vector<AlsoWanted> alsoWanted;

    RefusedGoals(nix::Worker & worker, Consultation & consultation);

    /* Lets the worker run them. Those of known failures fail at once; dependents wake up when what they wait for has. */
    void wake();

    /* The goal for a request; null if that is not refused. */
    nix::GoalPtr find(const nix::DerivedPath & request) const;
};

} // namespace negative_cache
