#include "../late_refusal_hooks.hh"

namespace negative_cache::compat {

using namespace nix;

bool canBeKeptFromOtherMachines(const BuildingGoal &)
{
    return true;
}

std::unique_ptr<KeptFromOtherMachines> keepFromOtherMachines(BuildingGoal & goal)
{
    goal.useDerivation = false;
    return std::make_unique<KeptFromOtherMachines>();
}

} // namespace negative_cache::compat
