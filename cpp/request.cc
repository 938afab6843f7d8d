#include "request.hh"
#include "guard.hh"
#include "output_keys.hh"
#include "what_is_missing.hh"

#include <algorithm>

namespace negative_cache {

using namespace nix;

/* Prints what is known about derivations that are built all the same: warnings and, with `-v`, doubted failures. */
static void sayTheRest(const core::Decision & decision, const std::function<std::string(const core::KnownFailure &)> & path)
{
    for (auto & failure : decision.warnings)
        warn("'%s' %s", path(failure), compat::plain(std::string(failure.text)));
    for (auto & failure : decision.doubted)
        printTalkative("negative cache: '%s' %s", path(failure), compat::plain(std::string(failure.text)));
}

compat::Refusal refusal(const Store & store, const StorePath & path, const core::KnownFailure & failure)
{
    return {compat::notBuilt(store.printStorePath(path), std::string(failure.text)), failure.ending};
}

std::set<size_t> DecidedRequest::refused() const
{
    std::set<size_t> indexes(decision.dependents.begin(), decision.dependents.end());
    for (auto & failure : decision.refused)
        indexes.insert(failure.index);
    return indexes;
}

/* What is also wanted if a decision refuses something. */
static std::vector<DecidedRequest::AlsoWanted> alsoWanted(Store & store, const DecidedRequest & decided)
{
    std::vector<DecidedRequest::AlsoWanted> wanted;
    if (!compat::keepGoing())
        return wanted;
    auto & plan = *decided.plan;
    auto refused = decided.refused();
    std::vector<DerivedPath> unknown;
    for (auto index : decided.decision.dependents)
        for (auto & [input, request] : plan.inputs(index)) {
            auto isToBeBuilt = refused.count(input) ? false : plan.isToBeBuilt(input, request);
            if (isToBeBuilt.value_or(true))
                wanted.push_back({index, request});
            if (!isToBeBuilt)
                unknown.push_back(request);
        }
    if (unknown.empty())
        return wanted;
    auto willBuild = whatIsMissing(store, unknown).willBuild;
    auto isBuilt = [&](auto & request) { return willBuild.count(*compat::requestedDerivation(request)) > 0; };
    StringSet others;
    for (auto & request : unknown)
        if (!isBuilt(request))
            others.insert(request.to_string(store));
    auto end = std::remove_if(wanted.begin(), wanted.end(), [&](auto & wanted) {
        return others.count(wanted.request.to_string(store));
    });
    wanted.erase(end, wanted.end());
    return wanted;
}

void DecidedRequest::keep(Store & store, std::shared_ptr<BuildPlan> && made)
{
    if (!refusesAny())
        return;
    plan = std::move(made);
    alsoWanted = negative_cache::alsoWanted(store, *this);
}

std::vector<DerivedPath> notRefused(const DecidedRequest & decided, const std::vector<DerivedPath> & requests)
{
    auto refused = decided.refused();
    std::vector<DerivedPath> others;
    for (auto & request : requests) {
        auto path = compat::requestedDerivation(request);
        auto index = path ? decided.plan->index(*path) : std::nullopt;
        if (!index || !refused.count(*index))
            others.push_back(request);
    }
    for (auto & wanted : decided.alsoWanted)
        others.push_back(wanted.request);
    return others;
}

DecidedRequest refuseAtOnce(Store & store, const core::Policy & policy, const std::vector<DerivedPath> & requests)
{
    DecidedRequest decided;
    bool isAnyDerivation = std::any_of(requests.begin(), requests.end(), [](auto & request) {
        return compat::requestedDerivation(request).has_value();
    });
    if (!isAnyDerivation || !compat::tellsResults(store))
        return decided;
    auto plan = std::make_shared<BuildPlan>(store, requests);
    Caches caches(store, policy);
    decided.decision = fromCore([&] { return core::refuse_at_once(policy, *plan, caches, compat::keepGoing()); });
    /* Without keep-going Nix need not be asked. With it, Nix is asked what is left. */
    decided.asked = decided.refusesAny();
    decided.keep(store, std::move(plan));
    return decided;
}

std::vector<std::string> foresee(Store & store, const core::Policy & policy, const std::vector<DerivedPath> & requests)
{
    BuildPlan plan(store, requests, LastAnswer::of(store, requests).willBuild);
    std::vector<std::string> lines;
    for (auto & failure : fromCore([&] { return core::foresee(policy, plan); }))
        lines.push_back(fmt("'%s' %s", store.printStorePath(plan.path(failure.index)), std::string(failure.text)));
    return lines;
}

DecidedRequest decide(Store & store, const core::Policy & policy, const std::vector<DerivedPath> & requests)
{
    if (!compat::tellsResults(store))
        return {};
    auto sayTheRestOf = [&](const core::Decision & decision, const BuildPlan & plan) {
        sayTheRest(decision, [&](auto & failure) { return store.printStorePath(plan.path(failure.index)); });
    };
    auto found = LastAnswer::of(store, requests);
    if (found.refused) {
        sayTheRestOf(found.refused->decision, *found.refused->plan);
        countRefusals(policy, found.refused->decision.counted);
        return *found.refused;
    }
    auto plan = std::make_shared<BuildPlan>(store, requests, std::move(found.willBuild));
    Caches caches(store, policy);
    DecidedRequest decided;
    decided.decision = fromCore([&] { return core::decide(policy, *plan, caches, compat::keepGoing()); });
    decided.asked = decided.decision.asked || plan->wasAnswered();
    sayTheRestOf(decided.decision, *plan);
    countRefusals(policy, decided.decision.counted);
    decided.keep(store, std::move(plan));
    return decided;
}

std::optional<compat::Refusal> decide(
    Store & store,
    const core::Policy & policy,
    const StorePath & path,
    const BasicDerivation & basic)
{
    Caches caches(store, policy);
    if (!caches.may_be_asked() && !fromCore([&] { return core::has_database(policy); }))
        return std::nullopt;
    auto derivation = compat::fullDerivation(basic);
    if (!compat::wantsNegativeCache(derivation))
        return std::nullopt;
    auto asked = planned(store, path, derivation);
    auto & keys = asked.outputs;
    if (caches.may_be_asked() && !areBuilt(store, keys))
        fromCore([&] { return core::learn(policy, asked, caches); });
    auto isKnown = [&](auto & output) {
        return fromCore([&] { return core::is_known_failure(policy, std::string(output.key)); });
    };
    if (std::none_of(keys.begin(), keys.end(), isKnown)
        || std::all_of(keys.begin(), keys.end(), [&](auto & key) { return canBeHad(store, derivation, key); }))
        return std::nullopt;
    auto refused = refusalOf(store, policy, path, asked, caches, SayTheRest::Yes);
    if (!refused)
        return std::nullopt;
    countRefusals(policy, refused->counted);
    return refused->refusal;
}

std::optional<SingleRefusal> refusalOf(
    Store & store,
    const core::Policy & policy,
    const StorePath & path,
    const core::PlannedDerivation & derivation,
    Caches & caches,
    SayTheRest says)
{
    auto decision = fromCore([&] { return core::decide_derivation(policy, derivation, caches); });
    if (says == SayTheRest::Yes)
        sayTheRest(decision, [&](auto &) { return store.printStorePath(path); });
    if (decision.refused.empty())
        return std::nullopt;
    return SingleRefusal{refusal(store, path, decision.refused[0]), std::move(decision.counted)};
}

bool isThere(Store & store, const DerivedPath & request)
{
    auto missing = whatIsMissing(store, {request});
    return missing.willBuild.empty() && missing.willSubstitute.empty() && missing.unknown.empty();
}

WatchedWorker::WatchedWorker(Store & store, Store & evalStore, BuildMode mode, const core::Policy & policy)
    : worker(store, evalStore)
    , observer(store, worker, mode, policy)
    , lateRefusal(store, worker, mode, policy)
{
}

void WatchedWorker::run(const Goals & goals)
{
    lateRefusal.expect(goals);
    try {
        worker.run(goals);
    } catch (Interrupted &) {
        throw;
    } catch (BaseError & error) {
        observer.runFailed(error);
        throw;
    }
    observer.runEnded(goals);
}

} // namespace negative_cache
