#pragma once
/* Refuses derivations whose failure becomes known after the request was decided.

   Between the decision about a request and the start of a builder, much can become known: another process has built the same
   derivation while this one waited for its lock; another derivation turned out to be the same one, once resolved; a substitute
   that was promised did not come. Nix itself asks once more whether the outputs are valid when it has locked them (`tryToBuild`
   of the goal), through virtual functions of the store; and before it starts the builder, the goal rests once. That is where a
   goal can be made to fail as if its builder had. */

#include "compat.hh"

#include "nix-negative-cache-plugin/src/bridge.rs.h"

namespace negative_cache {

class LateRefusal
{
    nix::Store & store;
    nix::Worker & worker;
    const core::Policy & policy;
    LateRefusal * const outer;
    nix::Goals requested;
    /* The keys of the outputs that the user was already told about in this run. */
    nix::StringSet said;
    bool isLooking = false;

    using WeakGoal = std::weak_ptr<compat::BuildingGoal>;

    /* A goal that is to fail when it rests. */
    struct Plan
    {
        compat::Refusal refusal;
        rust::Vec<rust::String> keys;
        /* Gone when the goal was made to fail, or could not be: since 2.31 it may have given back its locks, of which it
           gets new ones later. */
        std::unique_ptr<compat::KeptFromOtherMachines> kept;
        std::shared_ptr<compat::Errand> errand;
    };

    std::map<WeakGoal, Plan, std::owner_less<WeakGoal>> plans;

    std::shared_ptr<compat::BuildingGoal> goalOf(const std::string & key);
    std::optional<compat::Refusal> refusalOfKnown(const nix::StorePath & path, const rust::Vec<rust::String> & keys);
    void look(const std::function<std::string()> & keyOf);
    void carryOut(Plan & plan, const WeakGoal & goal);

public:
    LateRefusal(nix::Store & store, nix::Worker & worker, nix::BuildMode mode, const core::Policy & policy);
    ~LateRefusal();
    LateRefusal(const LateRefusal &) = delete;

    /* The one of this thread's innermost worker, or null. */
    static LateRefusal * current();

    /* The worker is about to run these goals. */
    void expect(const nix::Goals & goals);

    /* The user knows that what has these keys failed. */
    void alreadySaid(const rust::Vec<rust::String> & keys);

    /* Nix has just asked a store for an output whose key `keyOf` returns (see `outputKeys`). It is not there, unless it is a
       realisation. While others are built, Nix asks again and again for all that wait for their turn. */
    void outputIsMissing(nix::Store & asked, const std::function<std::string()> & keyOf);
};

} // namespace negative_cache
