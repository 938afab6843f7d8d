#include "remote_builder.hh"
#include "counts.hh"
#include "daemon_observer.hh"
#include "guard.hh"
#include "policy.hh"
#include "refused_goals.hh"
#include "request.hh"
#include "settings.hh"
#include "what_is_missing.hh"

namespace negative_cache {

using namespace nix;

/* The exit status that a daemon's error stands for. The protocol passes on no other status (`readError`, serialise.cc). */
static constexpr unsigned int errorStatus = 1;

/* Calls `ask`, which asks the daemon for builds. Learns from the results, or from the error that is thrown. */
template<typename Ask>
static auto learningFrom(DaemonObserver & observer, Ask && ask)
{
    try {
        auto results = ask();
        for (auto & result : results)
            observer.errorLogged(compat::errorExcerpt(result));
        observer.settle();
        return results;
    } catch (Interrupted &) {
        throw;
    } catch (BaseError & error) {
        observer.errorLogged(error.info().msg.str());
        /* `settle` asks the daemon for outputs. If the error does not come from the daemon, the daemon may be gone. */
        if (observer.heardOfFailures())
            observer.settle();
        throw;
    }
}

/* Runs goals that do nothing but fail. */
static void run(Worker & worker, const Goals & goals)
{
    AskedBy by(Asker::NeedlessWorker);
    worker.run(goals);
}

/* Prints the error of a result as Nix prints it. Returns whether the result is a failure. */
static bool sayFailure(const BuildResult & result)
{
    auto message = compat::errorMessage(result);
    if (!message.empty())
        logError(Error("%s", compat::plain(message)).info());
    return !message.empty();
}

namespace {

/* Requests of which some are refused. The daemon is asked for the others. */
struct PartlyRefused
{
    Worker worker;
    RefusedGoals goals;
    /* The requests that the daemon still gets: those that need no build and, with keep-going, all that can be built. */
    std::vector<DerivedPath> asked;
    /* The refused requests, and the requests that the daemon does not get because of them. */
    std::vector<compat::Requested> requested;
    /* The daemon's answer. */
    compat::BuildResults results;

    template<typename Ask>
    PartlyRefused(
        Store & store,
        Store & evalStore,
        const std::vector<DerivedPath> & requests,
        const DecidedRequest & decided,
        Ask && ask)
        : worker(store, evalStore)
        , goals(worker, decided)
    {
        StringSet names;
        for (auto & request : requests)
            if (auto goal = goals.find(request))
                requested.push_back({request, goal});
            else if (compat::keepGoing() || isThere(store, request)) {
                asked.push_back(request);
                names.insert(request.to_string(store));
            } else
                requested.push_back({request, nullptr});
        for (auto & i : goals.alsoWanted)
            if (!names.count(i.request.to_string(store)))
                asked.push_back(i.request);
        if (!asked.empty())
            for (auto & result : ask(asked)) {
                if (names.count(result.path.to_string(store)))
                    results.push_back(result);
                else
                    /* This path was not requested, so its failure is printed like that of a dependency. Nothing else
                       would tell the user. */
                    sayFailure(result);
            }
        Goals all;
        for (auto & i : requested)
            if (i.goal)
                all.insert(i.goal);
        goals.wake();
        run(worker, all);
    }
};

} // namespace

void RemoteBuilder::buildPaths(const std::vector<DerivedPath> & requests, BuildMode mode)
{
    if (!negative_cache::settings().isOn())
        return next.buildPaths(requests, mode);
    auto policy = policyFor(store);
    CountsOfRequest counts(*policy);
    auto decided = decideUnlessItFails(mode, [&] { return decide(store, *policy, requests); });
    if (!decided.refusesAny()) {
        DaemonObserver observer(store, mode, *policy);
        learningFrom(observer, [&] {
            next.buildPaths(requests, mode);
            return compat::BuildResults{};
        });
        return;
    }
    PartlyRefused
        partly(store, evalStore ? *evalStore : store, requests, decided, [&](const std::vector<DerivedPath> & asked) {
            DaemonObserver observer(store, mode, *policy);
            return learningFrom(observer, [&] { return next.buildPathsWithResults(asked, mode); });
        });
    for (auto & result : partly.results)
        if (sayFailure(result))
            partly.requested.push_back({result.path, nullptr});
    if (auto failure = compat::failureOf(store, partly.requested, errorStatus))
        std::rethrow_exception(failure);
}

compat::BuildResults RemoteBuilder::buildPathsWithResults(const std::vector<DerivedPath> & requests, BuildMode mode)
{
    if (!negative_cache::settings().isOn())
        return next.buildPathsWithResults(requests, mode);
    auto policy = policyFor(store);
    CountsOfRequest counts(*policy);
    auto decided = decideUnlessItFails(mode, [&] { return decide(store, *policy, requests); });
    auto ask = [&](const std::vector<DerivedPath> & asked) {
        DaemonObserver observer(store, mode, *policy);
        return learningFrom(observer, [&] { return next.buildPathsWithResults(asked, mode); });
    };
    if (!decided.refusesAny())
        return ask(requests);
    PartlyRefused partly(store, evalStore ? *evalStore : store, requests, decided, ask);
    for (auto & result : compat::collectResults(partly.requested))
        partly.results.push_back(result);
    return std::move(partly.results);
}

BuildResult RemoteBuilder::buildDerivation(const StorePath & path, const BasicDerivation & derivation, BuildMode mode)
{
    if (!negative_cache::settings().isOn())
        return next.buildDerivation(path, derivation, mode);
    auto policy = policyFor(store);
    CountsOfRequest counts(*policy);
    auto refusal = decideUnlessItFails(mode, [&] { return decide(store, *policy, path, derivation); });
    if (!refusal) {
        DaemonObserver observer(store, mode, *policy);
        /* The store may not have the derivation. */
        observer.expect(path, compat::fullDerivation(derivation));
        return learningFrom(observer, [&] { return std::vector{next.buildDerivation(path, derivation, mode)}; })[0];
    }
    Worker worker(store, store);
    auto goal = compat::makeUnbuiltGoal(path, worker, *refusal);
    worker.wakeUp(goal);
    run(worker, {goal});
    return compat::buildResult(*goal, path);
}

} // namespace negative_cache
