#pragma once
/* One request, from what it would build to the goals that are run for it. */

#include "compat.hh"
#include "nix-negative-cache-plugin/src/lib.rs.h"
#include "observer.hh"
#include "second_look.hh"

namespace negative_cache {

/* The derivations that a request would build, and what the core says of them. */
struct Consultation
{
    struct Missing
    {
        nix::StorePath path;
        nix::Derivation derivation;
    };

    std::vector<Missing> missing;
    core::Verdict verdict;
    /* By what the user was warned of is known. */
    rust::Vec<rust::String> said;
    /* Whether Nix was asked what is missing. */
    bool asked = false;
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
        worker.run(goals);
    }
};

/* Makes the goals of `requests`: Nix's own, and for what is refused goals that fail, which are also added to `refused`
   (nobody else holds those that no request is for). Without keep-going, what a refusal leaves undone has no goal. */
std::vector<compat::Requested> makeGoals(
    nix::Worker & worker,
    nix::BuildMode mode,
    const std::vector<nix::DerivedPath> & requests,
    const Consultation & consultation,
    std::vector<nix::GoalPtr> & refused);

} // namespace negative_cache
