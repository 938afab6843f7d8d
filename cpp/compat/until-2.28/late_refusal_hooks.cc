#include "../late_refusal_hooks.hh"

namespace negative_cache::compat {

using namespace nix;

bool wants(const BuildingGoal & goal, const std::string & output)
{
#if NIX_AT_LEAST(2, 18)
    return goal.wantedOutputs.contains(output);
#else
    return wantOutput(output, goal.wantedOutputs);
#endif
}

bool canBeKeptFromOtherMachines(const BuildingGoal &)
{
    return true;
}

std::unique_ptr<KeptFromOtherMachines> keepFromOtherMachines(BuildingGoal & goal)
{
    goal.useDerivation = false;
    return std::make_unique<KeptFromOtherMachines>();
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

#if NIX_AT_LEAST(2, 24)
    Co init() override
    {
        while (true) {
            errand();
            co_await Suspend{};
        }
    }
#else
    void work() override
    {
        errand();
    }
#endif

#if NIX_AT_LEAST(2, 18)
    JobCategory jobCategory() const override
    {
        return JobCategory::Build;
    }
#endif
};

} // namespace

GoalPtr makeErrand(Worker & worker, BuildingGoal & before, std::function<void()> errand)
{
    return std::make_shared<Errand>(worker, before, std::move(errand));
}

} // namespace negative_cache::compat
