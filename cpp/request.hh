#pragma once
/* What is done about a request, and the worker that carries it out. */

#include "build_observer.hh"
#include "build_plan.hh"
#include "compat.hh"
#include "late_refusal.hh"

#include "nix-negative-cache-plugin/src/bridge.rs.h"

namespace negative_cache {

/* What the core has decided about a request. */
struct DecidedRequest
{
    /* What the indexes of the decision are about; none if nothing is refused. */
    std::shared_ptr<BuildPlan> plan;
    core::Decision decision;
    /* Whether Nix was asked what it would build, or need not be. */
    bool asked = false;

    bool refusesAny() const
    {
        return !decision.refused.empty();
    }
};

/* Decides about `requests`, before anything is built or substituted. */
DecidedRequest decide(nix::Store & store, const core::Policy & policy, const std::vector<nix::DerivedPath> & requests);

/* The refusal of a derivation that is built without its dependencies, if it is known to fail. */
std::optional<compat::Refusal> decide(
    nix::Store & store,
    const core::Policy & policy,
    const nix::StorePath & path,
    const nix::BasicDerivation & derivation);

/* The refusal of a derivation that is about to be built, if a failure of one of its outputs is known by `keys` (see
   `outputKeys`) and believed. */
std::optional<compat::Refusal> refusalOf(
    nix::Store & store,
    const core::Policy & policy,
    const nix::StorePath & path,
    const rust::Vec<rust::String> & keys);

compat::Refusal refusal(const nix::Store & store, const nix::StorePath & path, const core::KnownFailure & failure);

/* Whether nothing has to be built or substituted for a request. */
bool isThere(nix::Store & store, const nix::DerivedPath & request);

/* Nix's worker, watched. Its goals must be gone before it is. */
class WatchedWorker
{
    /* In this order: the worker's activities need the logger, the observer needs the worker. */
    compat::ListeningLogger logger;

public:
    nix::Worker worker;

private:
    BuildObserver observer;

public:
    LateRefusal lateRefusal;

    WatchedWorker(nix::Store & store, nix::Store & evalStore, nix::BuildMode mode, const core::Policy & policy);

    void run(const nix::Goals & goals);
};

} // namespace negative_cache
