#include "local_builder.hh"
#include "guard.hh"
#include "last_answer.hh"
#include "policy.hh"
#include "refused_goals.hh"
#include "request.hh"
#include "settings.hh"

namespace negative_cache {

using namespace nix;

/* If Nix was asked just now what is missing, that had the same effect on the caches of path information as to ask again. */
static void run(WatchedWorker & watched, const Goals & goals, bool asked)
{
    UnansweredWorker unanswered(asked);
    watched.run(goals);
}

/* Nix's goals for requests, and in the place of what is refused goals that fail. Without keep-going, what a refusal leaves
   undone has no goal. */
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
            /* The refusal will end the run, so what is there is done with first; the rest never starts. */
            goal = compat::makeGoal(worker, request, mode);
            worker.run(Goals{goal});
        }
        requested.push_back({request, goal});
    }
    for (auto & [dependent, derivation, input] : refused.alsoWanted)
        compat::addWaitee(dependent, compat::makeGoal(worker, compat::inputRequest(derivation, input), bmNormal));
    refused.wake();
    return requested;
}

/* Does as the entry points of Nix (`build/entry-points.cc`), but for the goals of what is known to fail; `finish` is
   what they do with the goals. Not inline: what is thrown afterwards need not be unwound through it. */
template<typename Finish>
[[gnu::noinline]] auto LocalBuilder::build(
    const std::vector<DerivedPath> & requests,
    BuildMode mode,
    Store & evalStore,
    Finish && finish)
{
    auto policy = policyFor(store);
    auto decided = decideUnlessItFails(mode, [&] { return decide(store, *policy, requests); });
    compat::QuietActivities quiet(decided.decision.refuses_all);
    WatchedWorker watched(store, evalStore, mode, *policy);
    RefusedGoals refused(watched.worker, decided);
    auto requested = makeGoals(watched.worker, mode, requests, decided, refused);
    Goals goals;
    for (auto & i : requested)
        if (i.goal && i.goal->exitCode == Goal::ecBusy)
            goals.insert(i.goal);
    watched.lateRefusal.alreadySaid(decided.decision.warned_keys);
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
    /* Here, where nothing is left that would have to be unwound, which takes longer than all the rest of a refusal. */
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
    auto refusal = decideUnlessItFails(mode, [&] { return decide(store, *policy, path, derivation); });
    WatchedWorker watched(store, store, mode, *policy);
    if (!refusal)
        return compat::buildDerivation(watched.worker, path, derivation, mode, [&](const Goals & goals) {
            watched.run(goals);
        });
    auto goal = std::make_shared<compat::UnbuiltGoal>(path, watched.worker, *refusal);
    watched.worker.wakeUp(goal);
    run(watched, {goal}, true);
    return compat::buildResult(*goal, path);
}

} // namespace negative_cache
