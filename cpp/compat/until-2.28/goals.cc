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

bool isSandboxed([[maybe_unused]] const BuildingGoal & goal)
{
#if NIX_AT_LEAST(2, 24) && !NIX_AT_LEAST(2, 26)
    return mountAndPidNamespacesSupported();
#else
    auto local = dynamic_cast<const LocalDerivationGoal *>(&goal);
    return !local || local->useChroot;
#endif
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

namespace {

class UnbuiltGoal : public DerivationGoal, public Unbuilt
{
    const StorePath derivation;
    const std::optional<Refusal> refusal;
    const std::string sortKey;

public:
    UnbuiltGoal(const StorePath & derivation, Worker & worker, const std::optional<Refusal> & refusal)
#if NIX_AT_LEAST(2, 18)
        : DerivationGoal(derivation, OutputsSpec::All{}, worker)
#else
        : DerivationGoal(derivation, StringSet{}, worker)
#endif
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

    /* Nix's own function looks into the derivation, which this goal has not read. Up to 2.23 it does so without asking
       whether there is one. */
    void waiteeDone(GoalPtr waitee, ExitCode result) override
    {
        Goal::waiteeDone(waitee, result); // NOLINT(bugprone-parent-virtual-call): the class between is left out
    }

#if NIX_AT_LEAST(2, 24)
    Co init() override
    {
        if (refusal) {
            count(worker, *refusal);
            co_return done(BuildResult::CachedFailure, {}, refusal->error);
        }
        co_return done(BuildResult::DependencyFailed, {}, dependenciesFailed(*this, derivation));
    }
#else
    void work() override
    {
        if (refusal) {
            count(worker, *refusal);
            done(BuildResult::CachedFailure, {}, refusal->error);
        } else
            done(BuildResult::DependencyFailed, {}, dependenciesFailed(*this, derivation));
    }
#endif
};

} // namespace

GoalPtr makeUnbuiltGoal(const StorePath & derivation, Worker & worker, const std::optional<Refusal> & refusal)
{
    return std::make_shared<UnbuiltGoal>(derivation, worker, refusal);
}

} // namespace negative_cache::compat
