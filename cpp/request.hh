#pragma once
/* Decides about a request, and has the worker that carries out the decision. */

#include "build_observer.hh"
#include "build_plan.hh"
#include "caches.hh"
#include "compat.hh"
#include "late_refusal.hh"

#include "nix-negative-cache-plugin/src/bridge.rs.h"

namespace negative_cache {

/* What the core has decided about a request. */
struct DecidedRequest
{
    /* The plan that the indexes of the decision refer to; null if nothing is refused. */
    std::shared_ptr<BuildPlan> plan;
    core::Decision decision;
    /* Whether Nix was asked what it would build, or does not need to be asked. */
    bool asked = false;

    bool refusesAny() const
    {
        return !decision.refused.empty();
    }

    /* The refused derivations, by index. */
    std::set<size_t> refused() const;

    /* A request for a dependency of a dependent, which is to be built and not refused. Nothing can use it in this run, but with
       keep-going the user asked to build as much as possible. Dependencies that could be substituted are left out: they
       would only be of use for a build that does not happen. */
    struct AlsoWanted
    {
        /* The index of the dependent. */
        size_t dependent;
        nix::DerivedPath request;
    };

    std::vector<AlsoWanted> alsoWanted;

    /* Keeps the plan if anything is refused. */
    void keep(nix::Store & store, std::shared_ptr<BuildPlan> && made);
};

/* Decides about `requests`, before anything is built or substituted. Nothing is refused if the store is that of a daemon which
   can't tell which of several requests failed (before Nix 2.8): such a daemon can't be asked for a part of the requests. Refusals
   are counted. */
DecidedRequest decide(nix::Store & store, const core::Policy & policy, const std::vector<nix::DerivedPath> & requests);

/* Decides about requests before Nix is asked what it would build for them. If nothing is refused, nothing is decided. */
DecidedRequest refuseAtOnce(
    nix::Store & store,
    const core::Policy & policy,
    const std::vector<nix::DerivedPath> & requests);

/* What is still built and substituted, with keep-going, if some of `requests` are refused: the others, and those
   dependencies of refused derivations that are not refused. */
std::vector<nix::DerivedPath> notRefused(const DecidedRequest & decided, const std::vector<nix::DerivedPath> & requests);

/* What to say of the known failures that would stand in the way of `requests`. Nix must have answered what it would build for
   them. */
std::vector<std::string> foresee(
    nix::Store & store,
    const core::Policy & policy,
    const std::vector<nix::DerivedPath> & requests);

/* The refusal of a derivation that is built without its dependencies (`buildDerivation`), if the derivation is known to
   fail. It is counted. */
std::optional<compat::Refusal> decide(
    nix::Store & store,
    const core::Policy & policy,
    const nix::StorePath & path,
    const nix::BasicDerivation & derivation);

/* Whether warnings, and failures that are doubted, are printed of a derivation that is built all the same. */
enum class SayTheRest { No, Yes };

/* The refusal of a derivation that is about to be built. It is refused if a failure is recorded for one of its outputs and
   is believed. If that came from a binary cache, `caches` are asked whether it was withdrawn. */
std::optional<SingleRefusal> refusalOf(
    nix::Store & store,
    const core::Policy & policy,
    const nix::StorePath & path,
    const core::PlannedDerivation & derivation,
    Caches & caches,
    SayTheRest says);

compat::Refusal refusal(const nix::Store & store, const nix::StorePath & path, const core::KnownFailure & failure);

/* Whether nothing has to be built or substituted for a request. */
bool isThere(nix::Store & store, const nix::DerivedPath & request);

/* Nix's worker, with an observer of its builds. Its goals must be destroyed before it is. */
class WatchedWorker
{
    /* The order matters: the worker's activities need the logger, and the observer needs the worker. */
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
