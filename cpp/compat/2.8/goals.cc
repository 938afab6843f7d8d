#include "../goals.hh"

namespace negative_cache::compat {

using namespace nix;

GoalPtr makeGoal(Worker & worker, const DerivedPath & request, BuildMode mode)
{
    if (auto built = std::get_if<DerivedPath::Built>(&request.raw()))
        return worker.makeDerivationGoal(built->drvPath, built->outputs, mode);
    return upcast_goal(worker.makePathSubstitutionGoal(
        std::get<DerivedPath::Opaque>(request.raw()).path,
        mode == bmRepair ? Repair : NoRepair));
}

GoalPtr makeGoal(Worker & worker, const StorePath & path, const BasicDerivation & derivation, BuildMode mode)
{
    return worker.makeBasicDerivationGoal(path, derivation, {}, mode);
}

BuildResult buildResult(const Goal & goal, const StorePath &)
{
    return goal.buildResult;
}

std::shared_ptr<BuildingGoal> startedGoal(Worker & worker, const StorePath & derivation)
{
    /* Nix has no function that finds a goal without adding an output to those that it wants. No derivation has an output
       of this name, and the name is removed right away, so that the goal is as it was. (The goal may also be marked to
       restart for more outputs, but that does not matter any more once the builder runs.) */
    static const std::string probe = "negative-cache-probe?";
    auto goal = worker.makeDerivationGoal(derivation, {probe});
    goal->wantedOutputs.erase(probe);
    return goal;
}

bool willBuildAgain(const BuildingGoal & goal)
{
    return goal.curRound < goal.nrRounds;
}

const BuildResult & resultOf(const BuildingGoal & goal)
{
    return goal.buildResult;
}

} // namespace negative_cache::compat
