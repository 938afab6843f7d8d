#include "../late_refusal_hooks.hh"
#include "../derivations.hh"

namespace negative_cache::compat {

using namespace nix;

bool wants(const BuildingGoal & goal, const std::string & output)
{
    for (auto & weak : goal.waiters)
        if (auto waiter = std::dynamic_pointer_cast<DerivationGoal>(weak.lock()))
#if NIX_AT_LEAST(2, 31)
            if (waiter->wantedOutput == output)
#else
            if (waiter->wantedOutputs.contains(output))
#endif
                return true;
    return false;
}

bool canBeKeptFromOtherMachines(const BuildingGoal & goal)
{
    return canBuildHere(goal.worker.store, *derivationOf(goal));
}

namespace {

class WithoutBuildHook : public KeptFromOtherMachines
{
    Worker & worker;
    const bool before;

public:
    explicit WithoutBuildHook(Worker & worker)
        : worker(worker)
        , before(std::exchange(worker.tryBuildHook, false))
    {
    }

    ~WithoutBuildHook() override
    {
        worker.tryBuildHook |= before;
    }
};

class Errand : public Goal
{
    const std::string sortKey;
    const std::function<void()> errand;

    Co run()
    {
        while (true) {
            errand();
            co_await Suspend{};
        }
    }

public:
    Errand(Worker & worker, BuildingGoal & before, std::function<void()> errand)
        : Goal(worker, run())
        , sortKey(keyRightBefore(before))
        , errand(std::move(errand))
    {
        name = "negative cache";
    }

    std::string key() override
    {
        return sortKey;
    }

#if !NIX_AT_LEAST(2, 34)
    void timedOut(Error &&) override {}
#endif

    JobCategory jobCategory() const override
    {
        return JobCategory::Build;
    }
};

} // namespace

std::unique_ptr<KeptFromOtherMachines> keepFromOtherMachines(BuildingGoal & goal)
{
    return std::make_unique<WithoutBuildHook>(goal.worker);
}

GoalPtr makeErrand(Worker & worker, BuildingGoal & before, std::function<void()> errand)
{
    return std::make_shared<Errand>(worker, before, std::move(errand));
}

} // namespace negative_cache::compat
