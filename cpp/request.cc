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

static thread_local bool leftUnanswered = false;

Unanswered::Unanswered(bool unanswered)
{
    leftUnanswered = unanswered;
}

Unanswered::~Unanswered()
{
    leftUnanswered = false;
}

bool Unanswered::answers(uint64_t & downloadSize, uint64_t & narSize)
{
    if (!std::exchange(leftUnanswered, false))
        return false;
    downloadSize = narSize = 0;
    return true;
}

bool isThere(Store & store, const DerivedPath & request)
{
    auto missing = compat::queryMissing(store, {request});
    return missing.willBuild.empty() && missing.willSubstitute.empty() && missing.unknown.empty();
}

RefusedGoals::RefusedGoals(Worker & worker, const Consultation & consultation)
    : worker(worker)
{
    auto & missing = consultation.missing;
    auto & verdict = consultation.verdict;
    auto add = [&](size_t place, std::optional<compat::Refusal> error) {
        auto & path = missing.at(place).path;
        auto goal = std::make_shared<compat::UnbuiltGoal>(path, worker, std::move(error));
        goals.emplace(path, goal);
        return goal;
    };
    for (auto & failure : verdict.known)
        known.push_back(add(failure.place, refusal(worker.store, missing.at(failure.place).path, failure)));
    for (auto place : verdict.dependents)
        add(place, std::nullopt);

    StorePathSet alsoMissing;
    if (settings.keepGoing)
        for (auto & i : missing)
            alsoMissing.insert(i.path);
    for (auto place : verdict.dependents) {
        auto & [path, derivation] = missing.at(place);
        auto & goal = goals.at(path);
        for (auto & input : compat::inputDerivations(derivation))
            if (auto other = goals.find(input); other != goals.end())
                goal->addWaitee(other->second);
            else if (alsoMissing.count(input))
                alsoWanted.push_back({goal, derivation, input});
    }
}

void RefusedGoals::wake()
{
    for (auto & goal : known)
        worker.wakeUp(goal);
}

GoalPtr RefusedGoals::find(const DerivedPath & request) const
{
    auto path = compat::requestedDerivation(request);
    auto goal = path ? goals.find(*path) : goals.end();
    return goal == goals.end() ? nullptr : goal->second;
}

} // namespace negative_cache
