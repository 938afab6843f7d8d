#include "unbuilt_goal.hh"

namespace negative_cache::compat {

using namespace nix;

std::shared_ptr<BuildingGoal> startedGoal(Worker & worker, const StorePath & derivation)
{
    /* The derivation is only used if there is no such goal yet. */
    return worker.makeDerivationBuildingGoal(derivation, Derivation{});
}

Goal::Done UnbuiltGoal::done()
{
    auto error = refusal ? refusal->error : dependenciesFailed(*this, derivation);
    buildResult.status = refusal ? BuildResult::CachedFailure : BuildResult::DependencyFailed;
    buildResult.errorMsg = error.info().msg.str();
    return amDone(ecFailed, error);
}

} // namespace negative_cache::compat
