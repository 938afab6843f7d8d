#include "../goals.hh"
#include "../messages.hh"

namespace negative_cache::compat {

using namespace nix;

std::optional<StorePath> derivationOfRequest(Goal & goal)
{
    auto request = dynamic_cast<DerivationGoal *>(&goal);
    return request ? std::optional(request->drvPath) : std::nullopt;
}

std::optional<std::string> nameOfRequest(const Store & store, Goal & goal)
{
    if (auto request = dynamic_cast<DerivationGoal *>(&goal))
        return store.printStorePath(request->drvPath);
    if (auto request = dynamic_cast<PathSubstitutionGoal *>(&goal))
        return store.printStorePath(request->storePath);
    return std::nullopt;
}

const Goals & waiteesOf(const Goal & goal)
{
    return goal.waitees;
}

void addWaitee(const GoalPtr & goal, const GoalPtr & waitee)
{
    goal->addWaitee(waitee);
}

bool isSandboxed(const BuildingGoal & goal)
{
    auto local = dynamic_cast<const LocalDerivationGoal *>(&goal);
    return !local || local->useChroot;
}

/* The message of `DerivationGoal::inputsRealised`. */
Error dependenciesFailed(const Goal & goal, const StorePath & derivation)
{
    return Error(
        "%s",
        plain(
            fmt("%s dependencies of derivation '%s' failed to build",
                goal.nrFailed,
                goal.worker.store.printStorePath(derivation))));
}

} // namespace negative_cache::compat
