#include "store.hh"
#include "daemon_store.hh"
#include "policy.hh"
#include "request.hh"
#include "settings.hh"
#include "trouble.hh"

namespace negative_cache {

using namespace nix;

/* If Nix was asked just now what is missing, that had the same effect on the caches of path information as to ask again. */
static void run(WatchedWorker & watched, const Goals & goals, bool asked)
{
    Unanswered unanswered(asked);
    watched.run(goals);
}

/* Nix's goals for requests, and in the place of what is refused goals that fail. Without keep-going, what a refusal leaves
   undone has no goal. */
static std::vector<compat::Requested> makeGoals(
    Worker & worker,
    BuildMode mode,
    const std::vector<DerivedPath> & requests,
    Consultation & consultation,
    RefusedGoals & refused)
{
    bool anyKnown = !consultation.verdict.known.empty();
    std::vector<compat::Requested> requested;
    for (auto & request : requests) {
        auto goal = refused.find(request);
        if (!goal && (compat::keepGoing() || !anyKnown))
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
[[gnu::noinline]] static auto build(
    nix::LocalStore & store,
    const std::vector<DerivedPath> & requests,
    BuildMode mode,
    const std::shared_ptr<Store> & evalStore,
    Finish && finish)
{
    auto policy = policyFor(store);
    auto consultation = consultUnlessItFails(mode, [&] { return consult(store, *policy, requests); });
    Unannounced unannounced(consultation.refusesAll);
    WatchedWorker watched(store, evalStore ? *evalStore : store, mode, *policy);
    RefusedGoals refused(watched.worker, consultation);
    auto requested = makeGoals(watched.worker, mode, requests, consultation, refused);
    Goals goals;
    for (auto & i : requested)
        if (i.goal && i.goal->exitCode == Goal::ecBusy)
            goals.insert(i.goal);
    watched.secondLook.alreadySaid(consultation.said);
    run(watched, goals, consultation.asked);
    return finish(watched.worker, requested);
}

void negative_cache::LocalStore::buildPaths(
    nix::LocalStore & store,
    const std::vector<DerivedPath> & requests,
    BuildMode mode,
    const std::shared_ptr<Store> & evalStore)
{
    if (!settings().enable)
        return store.LocalStore::buildPaths(requests, mode, evalStore);
    auto failure = build(store, requests, mode, evalStore, [&](Worker & worker, auto & requested) {
        return compat::failureOf(store, requested, compat::exitStatus(worker));
    });
    /* Here, where nothing is left that would have to be unwound, which takes longer than all the rest of a refusal. */
    if (failure)
        std::rethrow_exception(failure);
}

compat::BuildResults negative_cache::LocalStore::buildPathsWithResults(
    nix::LocalStore & store,
    const std::vector<DerivedPath> & requests,
    BuildMode mode,
    const std::shared_ptr<Store> & evalStore)
{
    if (!settings().enable)
        return store.LocalStore::buildPathsWithResults(requests, mode, evalStore);
    return build(store, requests, mode, evalStore, [](Worker &, auto & requested) {
        return compat::collectResults(requested);
    });
}

BuildResult negative_cache::LocalStore::buildDerivation(
    nix::LocalStore & store, const StorePath & path, const BasicDerivation & derivation, BuildMode mode)
{
    if (!settings().enable)
        return store.LocalStore::buildDerivation(path, derivation, mode);
    auto policy = policyFor(store);
    auto refusal = consultUnlessItFails(mode, [&] { return consult(store, *policy, path, derivation); });
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

bool negative_cache::LocalStore::isValidPath(nix::LocalStore & store, const StorePath & path, bool valid)
{
    if (valid || !settings().enable)
        return valid;
    auto text = path.to_string();
    if (rust::Str name(text.data(), text.size()); core::is_message(name)) {
        harmless([&] { report(core::hear(*policyFor(store), store.storeDir, std::string(text))); });
        return core::is_greeting(name);
    }
    if (auto secondLook = SecondLook::current())
        secondLook->missing(store, [&] { return store.printStorePath(path); });
    return valid;
}

void negative_cache::LocalStore::askedForRealisation(nix::LocalStore & store, const DrvOutput & id) noexcept
{
    if (auto secondLook = SecondLook::current())
        try {
            secondLook->missing(store, [&] { return id.to_string(); });
        } catch (...) {
            /* Nix finds out by itself: it was interrupted, or nobody reads its messages any more. */
        }
}

void registerStore(bool on)
{
    if (on || !compat::localUrlsAreNixs)
        compat::replaceLocalStore<compat::LocalStoreWith<LocalStore>>();
    if (on || isSwitchedOff())
        compat::replaceDaemonStore<compat::DaemonStoreWith<DaemonStore>>();
    auto registered = on || isSwitchedOff() ? compat::registeredSpellingOfDefaultStore() : std::nullopt;
    /* Switched off, it has something to say to a daemon and nothing else to do. */
    if (registered && (on || hasPrefix(*registered, "unix://")))
        compat::setDefaultStore(*registered);
}

} // namespace negative_cache
