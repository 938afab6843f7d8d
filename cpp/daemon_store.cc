#include "daemon_store.hh"
#include "daemon_observer.hh"
#include "policy.hh"
#include "request.hh"
#include "settings.hh"
#include "trouble.hh"

namespace negative_cache {

using namespace nix;

/* What a daemon's errors count for: it does not pass on more (`readError`, serialise.cc). */
static constexpr unsigned int errorStatus = 1;

/* What stands in the way of requests. Nothing does with daemons that can't tell which of several requests failed (before
   Nix 2.8): then they can't be asked for a part. */
static Consultation consultDaemon(
    Store & store, BuildMode mode, const core::Policy & policy, const std::vector<DerivedPath> & requests)
{
    return consultUnlessItFails(mode, [&] {
        return compat::tellsResults(store) ? consult(store, policy, requests) : Consultation{};
    });
}

/* Calls `ask`, which asks the daemon for builds, and learns from the answer. */
template<typename Ask>
static auto learningFrom(Store & store, BuildMode mode, const core::Policy & policy, Ask && ask)
{
    DaemonObserver observer(store, mode, policy);
    try {
        auto answer = ask();
        for (auto & result : answer)
            observer.errorLogged(compat::errorExcerpt(result));
        observer.settle();
        return answer;
    } catch (Interrupted &) {
        throw;
    } catch (BaseError & error) {
        observer.errorLogged(error.info().msg.str());
        /* Where it is not the daemon that says so, there may be nobody left to ask. */
        if (observer.heardOfFailures())
            observer.settle();
        throw;
    }
}

/* Runs goals that have nothing to do but to fail. */
static void run(Worker & worker, const Goals & goals)
{
    Unanswered unanswered;
    worker.run(goals);
}

/* Returns whether a result is one of a failure, which is said as Nix says it. */
static bool sayFailure(const BuildResult & result)
{
    auto message = compat::errorMessage(result);
    if (!message.empty())
        logError(Error("%s", compat::plain(message)).info());
    return !message.empty();
}

namespace {

/* Requests of which something is refused. */
struct PartlyRefused
{
    Worker worker;
    RefusedGoals goals;
    /* What the daemon is asked for all the same: what is there, and with keep-going all that can be built. */
    std::vector<DerivedPath> asked;
    /* What is refused, and what is not asked for because of that. */
    std::vector<compat::Requested> requested;
    /* The daemon's answer. */
    compat::BuildResults results;

    template<typename Ask>
    PartlyRefused(
        Store & store,
        Store & evalStore,
        const std::vector<DerivedPath> & requests,
        Consultation & consultation,
        Ask && ask)
        : worker(store, evalStore)
        , goals(worker, consultation)
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
            if (auto request = compat::inputRequest(i.derivation, i.input); !names.count(request.to_string(store)))
                asked.push_back(request);
        if (!asked.empty())
            for (auto & result : ask(asked)) {
                if (names.count(result.path.to_string(store)))
                    results.push_back(result);
                else
                    /* As of a dependency: nobody is told otherwise. */
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

void DaemonStore::buildPaths(
    UDSRemoteStore & store,
    const std::vector<DerivedPath> & requests,
    BuildMode mode,
    const std::shared_ptr<Store> & evalStore)
{
    if (!negative_cache::settings().enable)
        return store.UDSRemoteStore::buildPaths(requests, mode, evalStore);
    auto derivations = evalStore ? evalStore : store.shared_from_this();
    auto policy = policyFor(store);
    auto consultation = consultDaemon(store, mode, *policy, requests);
    if (consultation.verdict.known.empty()) {
        learningFrom(store, mode, *policy, [&] {
            store.UDSRemoteStore::buildPaths(requests, mode, evalStore);
            return compat::BuildResults{};
        });
        return;
    }
    PartlyRefused partly(store, *derivations, requests, consultation, [&](const std::vector<DerivedPath> & asked) {
        return learningFrom(
            store, mode, *policy, [&] { return store.UDSRemoteStore::buildPathsWithResults(asked, mode, derivations); });
    });
    for (auto & result : partly.results)
        if (sayFailure(result))
            partly.requested.push_back({result.path, nullptr});
    if (auto failure = compat::failureOf(store, partly.requested, errorStatus))
        std::rethrow_exception(failure);
}

compat::BuildResults DaemonStore::buildPathsWithResults(
    UDSRemoteStore & store,
    const std::vector<DerivedPath> & requests,
    BuildMode mode,
    const std::shared_ptr<Store> & evalStore)
{
    if (!negative_cache::settings().enable)
        return store.UDSRemoteStore::buildPathsWithResults(requests, mode, evalStore);
    auto derivations = evalStore ? evalStore : store.shared_from_this();
    auto policy = policyFor(store);
    auto consultation = consultDaemon(store, mode, *policy, requests);
    auto ask = [&](const std::vector<DerivedPath> & asked) {
        return learningFrom(
            store, mode, *policy, [&] { return store.UDSRemoteStore::buildPathsWithResults(asked, mode, derivations); });
    };
    if (consultation.verdict.known.empty())
        return ask(requests);
    PartlyRefused partly(store, *derivations, requests, consultation, ask);
    for (auto & result : compat::collectResults(partly.requested))
        partly.results.push_back(result);
    return std::move(partly.results);
}

BuildResult DaemonStore::buildDerivation(
    UDSRemoteStore & store, const StorePath & path, const BasicDerivation & derivation, BuildMode mode)
{
    if (!negative_cache::settings().enable)
        return store.UDSRemoteStore::buildDerivation(path, derivation, mode);
    auto policy = policyFor(store);
    auto refusal = consultUnlessItFails(mode, [&] { return consult(store, *policy, path, derivation); });
    if (!refusal)
        return store.UDSRemoteStore::buildDerivation(path, derivation, mode);
    Worker worker(store, store);
    auto goal = std::make_shared<compat::UnbuiltGoal>(path, worker, *refusal);
    worker.wakeUp(goal);
    run(worker, {goal});
    return compat::buildResult(*goal, path);
}

void DaemonStore::setOptions(
    UDSRemoteStore & store, RemoteStore::Connection & connection, const std::function<void()> & setNixs)
{
    if (!negative_cache::settings().enable && !isSwitchedOff())
        return setNixs();
    {
        [[maybe_unused]] compat::PluginsStayHere here;
        setNixs();
    }
    /* Not through `settings`, of which the daemon takes these from nobody, and complains if the user is not trusted. */
    auto tell = [&](const rust::String & message) {
        return compat::askValidity(connection, store.storeDir + "/" + std::string(message));
    };
    if (tell(core::greeting()))
        hasPlugin = true;
    for (auto & message : core::settings_to_tell(*policyForDaemon(store)))
        tell(message);
}

} // namespace negative_cache
