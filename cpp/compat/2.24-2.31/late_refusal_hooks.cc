#include "../late_refusal_hooks.hh"
#include "../coroutine.hh"

namespace negative_cache::compat {

using namespace nix;

static Goal::Co refusing(BuildingGoal & goal, Refusal refusal)
{
    goal.actLock.reset();
    count(goal.worker, refusal);
    goal.outputLocks.unlock();
    co_return goal.done(BuildResult::CachedFailure, {}, refusal.error);
}

void refuse(BuildingGoal & goal, const Refusal & refusal)
{
    continueWith(goal, refusing(goal, refusal));
}

} // namespace negative_cache::compat
