#include "unbuilt_goal.hh"
#include "../coroutine.hh"
#include "../private_member.hh"

namespace negative_cache::compat {

using namespace nix;

GoalPtr makeGoal(Worker & worker, const DerivedPath & request, BuildMode mode)
{
    return worker.makeGoal(request, mode);
}

GoalPtr makeGoal(Worker & worker, const StorePath & path, const BasicDerivation & derivation, BuildMode mode)
{
#if NIX_AT_LEAST(2, 36)
    return worker.makeDerivationTrampolineGoal(path, OutputsSpec::All{}, fullDerivation(derivation), mode);
#elif NIX_AT_LEAST(2, 31)
    return worker.makeDerivationTrampolineGoal(path, OutputsSpec::All{}, derivation, mode);
#else
    return worker.makeBasicDerivationGoal(path, derivation, OutputsSpec::All{}, mode);
#endif
}

std::optional<StorePath> derivationOfRequest(Goal & goal)
{
    if (auto request = dynamic_cast<RequestGoal *>(&goal))
        if (auto path = std::get_if<SingleDerivedPath::Opaque>(&request->drvReq->raw()))
            return path->path;
    return std::nullopt;
}

std::optional<std::string> nameOfRequest(const Store & store, Goal & goal)
{
    if (auto request = dynamic_cast<RequestGoal *>(&goal))
        return request->drvReq->to_string(store);
    if (auto request = dynamic_cast<PathSubstitutionGoal *>(&goal))
        return store.printStorePath(request->storePath);
    return std::nullopt;
}

struct WaiteesOfGoal
{
    friend auto memberOf(WaiteesOfGoal);
};

template struct PrivateMember<WaiteesOfGoal, &Goal::waitees>;

const Goals & waiteesOf(const Goal & goal)
{
    return goal.*memberOf(WaiteesOfGoal{});
}

void addWaitee(const GoalPtr & goal, const GoalPtr & waitee)
{
    /* The same as `Goal::await` does for a goal that is running. */
    ((*goal).*memberOf(WaiteesOfGoal{})).insert(waitee);
    addToWeakGoals(waitee->waiters, goal);
}

#if NIX_AT_LEAST(2, 31)
BuildResult buildResult(const Goal & goal, const StorePath &)
{
    return goal.buildResult;
}

const BuildResult & resultOf(const BuildingGoal & goal)
{
    return goal.buildResult;
}
#else
BuildResult buildResult(const Goal & goal, const StorePath & derivation)
{
    return goal.getBuildResult(
        DerivedPath::Built{.drvPath = makeConstantStorePathRef(derivation), .outputs = OutputsSpec::All{}});
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
#endif

bool willBuildAgain(const BuildingGoal &)
{
    return false;
}

bool isSandboxed(const BuildingGoal &)
{
#if __linux__
    return mountAndPidNamespacesSupported();
#else
    return true;
#endif
}

/* The message of `DerivationBuildingGoal::gaveUpOnSubstitution`. */
Error dependenciesFailed(const Goal & goal, const StorePath & derivation)
{
    auto & worker = goal.worker;
    auto text =
        fmt("Cannot build '%s'.\nReason: " ANSI_RED "%d %s failed" ANSI_NORMAL ".",
            Magenta(worker.store.printStorePath(derivation)),
            goal.nrFailed,
            goal.nrFailed == 1 ? "dependency" : "dependencies");
    StorePathSet outputs;
    try {
        for (auto & [_, output] : outputsAndOptPaths(worker.evalStore.readDerivation(derivation), worker.store))
            if (output.second)
                outputs.insert(*output.second);
    } catch (Error &) {
        /* The derivation was there a moment ago. Without it, the message does not list the outputs. */
    }
    if (!outputs.empty())
        text += "\nOutput paths:";
    for (auto & output : outputs)
        text += fmt("\n  %s", Magenta(worker.store.printStorePath(output)));
    return Error("%s", Uncolored(text));
}

UnbuiltGoal::UnbuiltGoal(const StorePath & derivation, Worker & worker, const std::optional<Refusal> & refusal)
    : RequestGoal(makeConstantStorePathRef(derivation), OutputsSpec::All{}, worker)
    , derivation(derivation)
    , refusal(refusal)
{
    continueWith(*this, fail());
}

Goal::Co UnbuiltGoal::fail()
{
    /* The same as in `DerivationBuildingGoal`, in whose place this goal stands as well. */
    if (refusal) {
        count(worker, *refusal);
        worker.failedBuilds++;
    }
#if !NIX_AT_LEAST(2, 31)
    mcExpectedBuilds.reset();
#endif
    worker.updateProgress();
    co_return done();
}

GoalPtr makeUnbuiltGoal(const StorePath & derivation, Worker & worker, const std::optional<Refusal> & refusal)
{
    return std::make_shared<UnbuiltGoal>(derivation, worker, refusal);
}

} // namespace negative_cache::compat
