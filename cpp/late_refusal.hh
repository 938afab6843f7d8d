#pragma once
/* Refuses derivations whose failure becomes known after the request was decided.

   Much can happen between the decision about a request and the start of a builder. Another process built the same
   derivation, and failed, while this one waited for its lock. A derivation turned out to be the same as another one once
   it was resolved. A promised substitute did not come. When Nix has locked the outputs, it asks the store once more
   whether they are valid (`tryToBuild` of the goal), through virtual functions. After that, the goal waits for one more
   turn before it starts the builder. At that point the plugin can make the goal fail as if its builder had failed. */

#include "caches.hh"
#include "compat.hh"
#include "counts.hh"

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
    nix::StringSet warned;
    /* The binary caches, once one was asked. All late refusals of a run share the time that they may take to answer: what
       asks them keeps the other goals waiting. */
    std::optional<Caches> caches;
    bool isLooking = false;

    using WeakGoal = std::weak_ptr<compat::BuildingGoal>;

    /* How a goal is to fail while it waits for its turn. */
    struct Plan
    {
        SingleRefusal refused;
        core::PlannedDerivation derivation;
        /* Null once the goal was made to fail, or once that turned out to be impossible. It is impossible if the goal
           has released its locks, which can happen since 2.31. Such a goal gets new locks later. */
        std::unique_ptr<compat::KeptFromOtherMachines> kept;
        nix::GoalPtr errand;
    };

    std::map<WeakGoal, Plan, std::owner_less<WeakGoal>> plans;

    std::shared_ptr<compat::BuildingGoal> goalOf(const std::string & key);
    std::optional<SingleRefusal> refusalOfKnown(const nix::StorePath & path, const core::PlannedDerivation & derivation);
    bool wasWithdrawn(const nix::StorePath & path, const core::PlannedDerivation & derivation);
    void look(const std::function<std::string()> & keyOf);
    void carryOut(Plan & plan, const WeakGoal & goal);

public:
    LateRefusal(nix::Store & store, nix::Worker & worker, nix::BuildMode mode, const core::Policy & policy);
    ~LateRefusal();
    LateRefusal(const LateRefusal &) = delete;

    /* The object that belongs to the innermost worker of this thread, or null. */
    static LateRefusal * current();

    /* The worker is about to run these goals. */
    void expect(const nix::Goals & goals);

    /* The user was told that the outputs with these keys failed in this run. */
    void alreadySaid(const rust::Vec<rust::String> & keys);

    /* The user was warned of known failures of the outputs with these keys, which are built all the same. */
    void alreadyWarned(const rust::Vec<rust::String> & keys);

    /* Nix has just asked the store `asked` for an output. `keyOf` returns the key of the output (see `outputKeys`). If
       the key is a store path, the output is missing; if it is a realisation, the output may be there. While other
       derivations are built, Nix asks again and again for every derivation that waits for its turn. */
    void outputIsMissing(nix::Store & asked, const std::function<std::string()> & keyOf);
};

} // namespace negative_cache
