#include "../late_refusal_hooks.hh"

namespace negative_cache::compat {

using namespace nix;

std::vector<int> lockDescriptors(const BuildingGoal &)
{
    return {};
}

/* No goal is ever found, so that nothing below is called. */
bool isAboutToBuild(const BuildingGoal &)
{
    return false;
}

bool wants(const BuildingGoal &, const std::string &)
{
    return false;
}

bool canBeKeptFromOtherMachines(const BuildingGoal &)
{
    return false;
}

std::unique_ptr<KeptFromOtherMachines> keepFromOtherMachines(BuildingGoal &)
{
    return nullptr;
}

/* The other files that define this function keep the errand. */
// NOLINTNEXTLINE(performance-unnecessary-value-param)
GoalPtr makeErrand(Worker &, BuildingGoal &, std::function<void()>)
{
    return nullptr;
}

void refuse(BuildingGoal &, const Refusal &) {}

} // namespace negative_cache::compat
