#include "local_builder.hh"
#include "counts.hh"
#include "guard.hh"
#include "policy.hh"
#include "refused_goals.hh"
#include "request.hh"
#include "settings.hh"
#include "what_is_missing.hh"

namespace negative_cache {

using namespace nix;

/* Runs goals. `Worker::run` calls `queryMissing` only for its effect on the caches of path information. If Nix was
   `asked` just now, that had the same effect, so the question is left out. */
template<typename RunsGoals>
static void run(RunsGoals & worker, const Goals & goals, bool asked)
{
    AskedBy by(asked ? Asker::NeedlessWorker : Asker::Worker);
    worker.run(goals);
}

/* The goals of requests: Nix's own goals, or failing goals for requests that are refused. Without keep-going, a refusal
   ends the run, and requests that it leaves undone have no goal. */
static std::vector<compat::Requested> makeGoals(
    Worker & worker,
    BuildMode mode,
    const std::vector<DerivedPath> & requests,
    const DecidedRequest & decided,
    RefusedGoals & refused)
{
    std::vector<compat::Requested> requested;
    for (auto & request : requests) {
        auto goal = refused.find(request);
        if (!goal && (compat::keepGoing() || !decided.refusesAny()))
            goal = compat::makeGoal(worker, request, mode);
        else if (!goal && isThere(worker.store, request)) {
            /* The refusal will end the run. So a request that needs no build is finished first, and all others never
               start. */
            goal = compat::makeGoal(worker, request, mode);
            run(worker, Goals{goal}, false);
        }
        requested.push_back({request, goal});
    }
    for (auto & [dependent, request] : refused.alsoWanted)
        compat::addWaitee(dependent, compat::makeGoal(worker, request, bmNormal));
    refused.wake();
    return requested;
}

/* Does the same as Nix's entry points (`build/entry-points.cc`), except that refused derivations get goals that fail.
   `finish` is what an entry point does with the goals after the run. This function is not inlined, so that an exception
   which is thrown after it need not be unwound through it. */
template<typename Finish>
[[gnu::noinline]] auto LocalBuilder::build(
    const std::vector<DerivedPath> & requests,
    BuildMode mode,
    Store & evalStore,
    Finish && finish)
{
    auto policy = policyFor(store);
    CountsOfRequest counts(*policy);
    auto decided = decideUnlessItFails(mode, [&] { return decide(store, *policy, requests); });
    compat::QuietActivities quiet(decided.decision.refuses_all);
    WatchedWorker watched(store, evalStore, mode, *policy);
    RefusedGoals refused(watched.worker, decided);
    auto requested = makeGoals(watched.worker, mode, requests, decided, refused);
    Goals goals;
    for (auto & i : requested)
        if (i.goal && i.goal->exitCode == Goal::ecBusy)
            goals.insert(i.goal);
    watched.lateRefusal.alreadyWarned(decided.decision.warned_keys);
    run(watched, goals, decided.asked);
    return finish(watched.worker, requested);
}

void LocalBuilder::buildPaths(const std::vector<DerivedPath> & requests, BuildMode mode)
{
    if (!negative_cache::settings().isOn())
        return next.buildPaths(requests, mode);
    auto failure = build(requests, mode, evalStore ? *evalStore : store, [&](Worker & worker, auto & requested) {
        return compat::failureOf(store, requested, compat::exitStatus(worker));
    });
    /* The error is thrown here, where nothing is left to unwind: unwinding takes longer than all the rest of a refusal. */
    if (failure)
        std::rethrow_exception(failure);
}

compat::BuildResults LocalBuilder::buildPathsWithResults(const std::vector<DerivedPath> & requests, BuildMode mode)
{
    if (!negative_cache::settings().isOn())
        return next.buildPathsWithResults(requests, mode);
    return build(requests, mode, evalStore ? *evalStore : store, [](Worker &, auto & requested) {
        return compat::collectResults(requested);
    });
}

BuildResult LocalBuilder::buildDerivation(const StorePath & path, const BasicDerivation & derivation, BuildMode mode)
{
    if (!negative_cache::settings().isOn())
        return next.buildDerivation(path, derivation, mode);
    auto policy = policyFor(store);
    CountsOfRequest counts(*policy);
    auto refusal = decideUnlessItFails(mode, [&] { return decide(store, *policy, path, derivation); });
    WatchedWorker watched(store, store, mode, *policy);
    if (!refusal)
        return compat::buildDerivation(watched.worker, path, derivation, mode, [&](const Goals & goals) {
            run(watched, goals, false);
        });
    auto goal = compat::makeUnbuiltGoal(path, watched.worker, *refusal);
    watched.worker.wakeUp(goal);
    run(watched, {goal}, true);
    return compat::buildResult(*goal, path);
}

} // namespace negative_cache
