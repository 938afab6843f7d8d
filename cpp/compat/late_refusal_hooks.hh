#pragma once
/* The hooks by which `LateRefusal` makes one of Nix's own goals fail between its lock and its builder. Of all that the
   plugin uses, they lean on Nix's insides most: locks that are found among a goal's members or among the descriptors, a
   coroutine that is replaced by another one, and the order in which a worker runs goals.

   Each era of goals has a file that implements them. With the feature `without-late-refusal` of the crate, none of these
   files is compiled, and without-late-refusal/late_refusal_hooks.cc takes their place. Then no failure is refused that
   became known after the decision about a request, and no locks are kept (`KeptLocks`). All else works. */

#include "goals.hh"

namespace negative_cache::compat {

/* The descriptors by which a goal holds the locks on its outputs. */
std::vector<int> lockDescriptors(const BuildingGoal & goal);

/* Whether a goal has its locks and all else that it needs to build, and has not started to build. */
bool isAboutToBuild(const BuildingGoal & goal);

/* Whether this output of a goal is wanted. */
bool wants(const BuildingGoal & goal, const std::string & output);

/* Whether `keepFromOtherMachines` works for a goal. Since 2.30 it does not if this machine can't build the goal, and then
   there is no moment at which the goal could be refused. */
bool canBeKeptFromOtherMachines(const BuildingGoal & goal);

/* While an object of this class lives, a goal is not given to another machine. */
class KeptFromOtherMachines
{
public:
    KeptFromOtherMachines() = default;
    virtual ~KeptFromOtherMachines() = default;
    KeptFromOtherMachines(const KeptFromOtherMachines &) = delete;
};

/* Keeps a goal that is running and about to build from being given to another machine (`tryBuildHook`). Since 2.30 this
   ends when the object is destroyed; in older versions it lasts. */
std::unique_ptr<KeptFromOtherMachines> keepFromOtherMachines(BuildingGoal & goal);

/* A goal of the plugin's, which is never done. Each time that it is woken, it runs the `errand`, right before the turn of
   the goal `before`. It must not be awake when the last of the other goals is done, because Nix checks that. */
nix::GoalPtr makeErrand(nix::Worker & worker, BuildingGoal & before, std::function<void()> errand);

/* The key of an errand. Nix runs goals in the order of their keys, and a key comes right after its own beginning. */
inline std::string keyRightBefore(nix::Goal & goal)
{
    auto key = goal.key();
    return key.substr(0, key.size() - 1);
}

/* Makes a goal fail that is about to build. The goal must not be running. It fails when its next turn comes, or before. */
void refuse(BuildingGoal & goal, const Refusal & refusal);

} // namespace negative_cache::compat
