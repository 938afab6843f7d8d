#include "../goals.hh"
#include "../private_member.hh"

namespace negative_cache::compat {

using namespace nix;

GoalPtr makeGoal(Worker & worker, const DerivedPath & request, BuildMode mode)
{
    return worker.makeGoal(request, mode);
}

GoalPtr makeGoal(Worker & worker, const StorePath & path, const BasicDerivation & derivation, BuildMode mode)
{
    return worker.makeBasicDerivationGoal(path, derivation, OutputsSpec::All{}, mode);
}

BuildResult buildResult(const Goal & goal, const StorePath & derivation)
{
    return goal.getBuildResult(
        DerivedPath::Built{.drvPath = makeConstantStorePathRef(derivation), .outputs = OutputsSpec::All{}});
}

std::shared_ptr<BuildingGoal> startedGoal(Worker & worker, const StorePath & derivation)
{
    /* Nix has no function that finds a goal without adding an output to those that it wants. No derivation has an output
       of this name, and the name is removed right away, so that the goal is as it was. (The goal may also be marked to
       restart for more outputs, but that does not matter any more once the builder runs.) */
    static const std::string probe = "negative-cache-probe?";
    auto goal = worker.makeDerivationGoal(derivation, OutputsSpec::Names{probe});
    if (auto names = std::get_if<OutputsSpec::Names>(&goal->wantedOutputs.raw))
        names->erase(probe);
    return goal;
}

bool willBuildAgain(const BuildingGoal &)
{
    return false;
}

struct ResultOfGoal
{
    friend auto memberOf(ResultOfGoal);
};

template struct PrivateMember<ResultOfGoal, &Goal::buildResult>;

const BuildResult & resultOf(const BuildingGoal & goal)
{
    return goal.*memberOf(ResultOfGoal{});
}

} // namespace negative_cache::compat
