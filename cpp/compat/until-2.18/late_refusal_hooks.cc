#include "../late_refusal_hooks.hh"

namespace negative_cache::compat {

using namespace nix;

void refuse(BuildingGoal & goal, const Refusal & refusal)
{
    /* The goal still gets its turn, in which it must do nothing. Of the functions that can be the state of a goal, this
       one does nothing if the goal has not built. */
    goal.state = &DerivationGoal::closeLogFile;
    goal.actLock.reset();
    /* In these versions `done` leaves the locks to its callers, and the goal may live for as long as the run. */
    goal.outputLocks.unlock();
    count(goal.worker, refusal);
    goal.done(BuildResult::CachedFailure, {}, refusal.error);
}

} // namespace negative_cache::compat
