#pragma once
/* The goals that fail in the place of what is refused. */

#include "request.hh"

namespace negative_cache {

/* The goals that fail in the place of what a decision refuses. They wait for each other only. */
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

    RefusedGoals(nix::Worker & worker, const DecidedRequest & decided);

    /* Lets the worker run them. Those of known failures fail at once; dependents wake up when what they wait for has. */
    void wake();

    /* The goal for a request; null if that is not refused. */
    nix::GoalPtr find(const nix::DerivedPath & request) const;
};

} // namespace negative_cache
