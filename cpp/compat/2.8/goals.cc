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

namespace {

class UnbuiltGoal : public DerivationGoal, public Unbuilt
{
    const StorePath derivation;
    const std::optional<Refusal> refusal;
    const std::string sortKey;

public:
    UnbuiltGoal(const StorePath & derivation, Worker & worker, const std::optional<Refusal> & refusal)
        : DerivationGoal(derivation, StringSet{}, worker)
        , derivation(derivation)
        , refusal(refusal)
        , sortKey(DerivationGoal::key())
    {
    }

    /* Goals are compared by their keys whenever one of them waits, wakes or ends, and Nix makes the key each time. */
    std::string key() override
    {
        return sortKey;
    }

    void work() override
    {
        if (refusal) {
            count(worker, *refusal);
            done(BuildResult::CachedFailure, {}, refusal->error);
        } else
            done(BuildResult::DependencyFailed, {}, dependenciesFailed(*this, derivation));
    }
};

} // namespace

GoalPtr makeUnbuiltGoal(const StorePath & derivation, Worker & worker, const std::optional<Refusal> & refusal)
{
    return std::make_shared<UnbuiltGoal>(derivation, worker, refusal);
}

} // namespace negative_cache::compat
