#include "../late_refusal_hooks.hh"

namespace negative_cache::compat {

using namespace nix;

bool wants(const BuildingGoal & goal, const std::string & output)
{
    return wantOutput(output, goal.wantedOutputs);
}

namespace {

class Errand : public Goal
{
    const std::string sortKey;
    const std::function<void()> errand;

public:
    Errand(Worker & worker, BuildingGoal & before, std::function<void()> errand)
        : Goal(worker, DerivedPath::Opaque{before.drvPath})
        , sortKey(keyRightBefore(before))
        , errand(std::move(errand))
    {
        name = "negative cache";
    }

    std::string key() override
    {
        return sortKey;
    }

    void timedOut(Error &&) override {}

    void work() override
    {
        errand();
    }
};

} // namespace

GoalPtr makeErrand(Worker & worker, BuildingGoal & before, std::function<void()> errand)
{
    return std::make_shared<Errand>(worker, before, std::move(errand));
}

void refuse(BuildingGoal & goal, const Refusal & refusal)
{
    /* The goal still gets its turn, in which it must do nothing. Of the functions that can be the state of a goal, this
       one does nothing if the goal has not built. */
    goal.state = &DerivationGoal::closeLogFile;
    goal.actLock.reset();
    /* In this version `done` leaves the locks to its callers, and the goal may live for as long as the run. */
    goal.outputLocks.unlock();
    count(goal.worker, refusal);
    goal.done(BuildResult::CachedFailure, {}, refusal.error);
}

} // namespace negative_cache::compat
