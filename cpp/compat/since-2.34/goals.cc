#include "building_goal.hh"
#include "../derivations.hh"
#include "unbuilt_goal.hh"

namespace negative_cache::compat {

using namespace nix;

const StorePath & pathOf(const BuildingGoal & goal)
{
    return goal.*memberOf(PathOfBuildingGoal{});
}

std::optional<Derivation> derivationOf(const BuildingGoal & goal)
{
    return fullDerivation(*(goal.*memberOf(DerivationOfBuildingGoal{})));
}

std::shared_ptr<BuildingGoal> startedGoal(Worker & worker, const StorePath & derivation)
{
    /* The derivation is only used if there is no such goal yet. */
#if NIX_AT_LEAST(2, 36)
    return worker.makeDerivationBuildingGoal(derivation, make_ref<const BasicDerivation>(), bmNormal);
#elif NIX_AT_LEAST(2, 35)
    static const auto none = make_ref<const Derivation>();
    return worker.makeDerivationBuildingGoal(derivation, none, bmNormal, false);
#else
    return worker.makeDerivationBuildingGoal(derivation, Derivation{}, bmNormal, false);
#endif
}

bool buildEnded(const BuildingGoal & goal)
{
    /* The exit code is set after the result (`Goal::doneFailure`). */
    return goal.exitCode != Goal::ecBusy;
}

Goal::Done UnbuiltGoal::done()
{
    if (refusal)
        return doneFailure(ecFailed, cachedFailure(*refusal));
    return doneFailure(
        ecFailed,
        BuildError({.status = BuildError::DependencyFailed, .msg = dependenciesFailed(*this, derivation).info().msg}));
}

} // namespace negative_cache::compat
