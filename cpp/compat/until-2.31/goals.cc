#include "../goals.hh"

namespace negative_cache::compat {

using namespace nix;

const StorePath & pathOf(const BuildingGoal & goal)
{
    return goal.drvPath;
}

std::optional<Derivation> derivationOf(const BuildingGoal & goal)
{
    return goal.drv ? std::optional(*goal.drv) : std::nullopt;
}

bool buildEnded(const BuildingGoal & goal)
{
    /* `started` sets `mcRunningBuilds`, and `done` resets it when the status is known. */
    return !goal.mcRunningBuilds;
}

} // namespace negative_cache::compat
