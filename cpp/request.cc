#include "request.hh"
#include "outputs.hh"
#include "trouble.hh"

#include <algorithm>

namespace negative_cache {

using namespace nix;

static bool hasKnownFailures(const core::Policy & policy)
{
    auto answer = core::has_known_failures(policy);
    report(answer.trouble);
    return answer.yes;
}

static bool isKnown(const core::Policy & policy, const rust::Vec<core::Output> & keys)
{
    for (auto & key : keys) {
        auto answer = core::is_known_failure(policy, std::string(key.path));
        report(answer.trouble);
        if (answer.yes)
            return true;
    }
    return false;
}

/* The core's verdict; what does not stand in the way is said here. */
static core::Verdict judge(
    const core::Policy & policy,
    const rust::Vec<rust::String> & requested,
    const rust::Vec<core::MissingDerivation> & missing)
{
    auto verdict = core::judge_request(policy, requested, missing);
    report(verdict.trouble);
    for (auto & failure : verdict.warnings)
        warn("'%s' %s", std::string(missing.at(failure.place).path), compat::plain(std::string(failure.text)));
    for (auto & failure : verdict.doubted)
        printTalkative(
            "negative cache: '%s' %s",
            std::string(missing.at(failure.place).path),
            compat::plain(std::string(failure.text)));
    return verdict;
}

static BuildResult::Status nixStatus(core::Status status)
{
    switch (status) {
    case core::Status::PermanentFailure:
        return BuildResult::PermanentFailure;
    case core::Status::TimedOut:
        return BuildResult::TimedOut;
    default:
        return BuildResult::MiscFailure;
    }
}

static compat::Refusal refusal(const Store & store, const StorePath & path, const core::KnownFailure & failure)
{
    return {
        Error("'%s' %s", store.printStorePath(path), compat::plain(std::string(failure.text))),
        nixStatus(failure.status)};
}

Consultation consult(Store & store, const core::Policy & policy, const std::vector<DerivedPath> & requests)
{
    Consultation consultation;
    if (!hasKnownFailures(policy))
        return consultation;

    rust::Vec<core::MissingDerivation> facts;
    for (auto & path : compat::queryMissing(store, requests).willBuild) {
        auto derivation = store.readDerivation(path);
        core::MissingDerivation fact{.path = store.printStorePath(path), .outputs = {}};
        auto keys = outputKeys(store, derivation);
        /* What it resolves to, Nix was not asked about. Whether all that is wanted of it can be had shows later. */
        bool mayBeHad = !derivation.type().hasKnownOutputPaths() && isKnown(policy, keys)
            && std::any_of(keys.begin(), keys.end(), [&](auto & key) { return canBeHad(store, path, derivation, key); });
        if (!mayBeHad && compat::wantsNegativeCache(path, derivation))
            fact.outputs = plainKeys(keys);
        for (auto & input : compat::inputDerivations(derivation))
            fact.inputs.push_back(store.printStorePath(input));
        consultation.missing.push_back({path, std::move(derivation)});
        facts.push_back(std::move(fact));
    }
    rust::Vec<rust::String> requested;
    for (auto & request : requests)
        if (auto path = compat::requestedDerivation(request))
            requested.push_back(store.printStorePath(*path));
    consultation.asked = true;
    consultation.verdict = judge(policy, requested, facts);
    for (auto & warning : consultation.verdict.warnings)
        for (auto & key : facts.at(warning.place).outputs)
            consultation.said.push_back(key);
    return consultation;
}

std::optional<compat::Refusal> consult(
    Store & store, const core::Policy & policy, const StorePath & path, const BasicDerivation & derivation)
{
    if (!hasKnownFailures(policy))
        return std::nullopt;

    auto keys = outputKeys(store, Derivation(derivation));
    if (!isKnown(policy, keys) || !compat::wantsNegativeCache(path, derivation)
        || std::all_of(keys.begin(), keys.end(), [&](auto & key) { return canBeHad(store, path, derivation, key); }))
        return std::nullopt;
    return refusalOf(store, policy, path, plainKeys(keys));
}

std::optional<compat::Refusal> refusalOf(
    Store & store, const core::Policy & policy, const StorePath & path, const rust::Vec<rust::String> & keys)
{
    rust::Vec<rust::String> requested;
    requested.push_back(store.printStorePath(path));
    rust::Vec<core::MissingDerivation> facts;
    facts.push_back({.path = requested[0], .outputs = keys});
    auto verdict = judge(policy, requested, facts);
    if (verdict.known.empty())
        return std::nullopt;
    return refusal(store, path, verdict.known[0]);
}

/* Whether nothing has to be built or substituted for a request. */
static bool isThere(Store & store, const DerivedPath & request)
{
    auto missing = compat::queryMissing(store, {request});
    return missing.willBuild.empty() && missing.willSubstitute.empty() && missing.unknown.empty();
}

std::vector<compat::Requested> makeGoals(
    Worker & worker,
    BuildMode mode,
    const std::vector<DerivedPath> & requests,
    const Consultation & consultation,
    std::vector<GoalPtr> & refused)
{
    auto & missing = consultation.missing;
    auto & verdict = consultation.verdict;
    auto & store = worker.store;

    std::vector<compat::Requested> requested;
    for (auto & request : requests)
        requested.push_back({request, nullptr});

    if (verdict.known.empty()) {
        for (auto & i : requested)
            i.goal = compat::makeGoal(worker, i.request, mode);
        return requested;
    }

    if (!settings.keepGoing)
        /* The refusal will end the run, so what is there is done with first; the rest never starts. */
        for (auto & i : requested)
            if (isThere(store, i.request)) {
                i.goal = compat::makeGoal(worker, i.request, mode);
                worker.run(Goals{i.goal});
            }

    std::map<StorePath, std::shared_ptr<compat::UnbuiltGoal>> unbuilt;
    auto add = [&](size_t place, std::optional<compat::Refusal> error) {
        auto & path = missing.at(place).path;
        auto goal = std::make_shared<compat::UnbuiltGoal>(path, worker, std::move(error));
        unbuilt.emplace(path, goal);
        refused.push_back(goal);
        return goal;
    };
    for (auto & known : verdict.known)
        /* Awake: it fails at once. Dependents wake up when what they wait for has failed. */
        worker.wakeUp(add(known.place, refusal(store, missing.at(known.place).path, known)));
    for (auto place : verdict.dependents)
        add(place, std::nullopt);

    StorePathSet alsoMissing;
    if (settings.keepGoing)
        for (auto & i : missing)
            alsoMissing.insert(i.path);
    for (auto place : verdict.dependents) {
        auto & [path, derivation] = missing.at(place);
        auto & goal = unbuilt.at(path);
        for (auto & input : compat::inputDerivations(derivation))
            if (auto other = unbuilt.find(input); other != unbuilt.end())
                goal->addWaitee(other->second);
            else if (alsoMissing.count(input))
                /* Nobody can use it now, but the user asked for as much as can be built. What could be downloaded
                   stays away: it would only be of use for a build that does not happen. */
                goal->addWaitee(compat::makeInputGoal(worker, derivation, input));
    }

    for (auto & i : requested) {
        auto path = compat::requestedDerivation(i.request);
        if (auto goal = path ? unbuilt.find(*path) : unbuilt.end(); goal != unbuilt.end())
            i.goal = goal->second;
        else if (settings.keepGoing)
            i.goal = compat::makeGoal(worker, i.request, mode);
    }
    return requested;
}

} // namespace negative_cache
