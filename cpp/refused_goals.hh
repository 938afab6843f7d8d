#pragma once
/* The goals that fail in place of refused derivations. */

#include "request.hh"

namespace negative_cache {

/* The goals that fail in place of the derivations that a decision refuses, and of the derivations that need these. By
   themselves, they wait only for each other. */
class RefusedGoals
{
    nix::Worker & worker;
    std::map<nix::StorePath, nix::GoalPtr> goals;
    std::vector<nix::GoalPtr> known;

public:
    /* See `DecidedRequest::AlsoWanted`. */
    struct AlsoWanted
    {
        nix::GoalPtr dependent;
        nix::DerivedPath request;
    };

    std::vector<AlsoWanted> alsoWanted;

    RefusedGoals(nix::Worker & worker, const DecidedRequest & decided);

    /* Lets the worker run the goals. The goals of known failures fail at once. A dependent wakes up when the goals that
       it waits for have ended. */
    void wake();

    /* The goal for a request; null if the request is not refused. */
    nix::GoalPtr find(const nix::DerivedPath & request) const;
};

} // namespace negative_cache
