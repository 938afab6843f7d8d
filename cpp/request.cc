#include "request.hh"
#include "outputs.hh"
#include "trouble.hh"

namespace negative_cache {

using namespace nix;

static bool hasKnownFailures(const core::Policy & policy)
{
    auto answer = core::has_known_failures(policy);
    report(answer.trouble);
    return answer.yes;
}

/* The core's verdict; what is only to be warned of is said here. */
static core::Verdict judge(
    const core::Policy & policy,
    const rust::Vec<rust::String> & requested,
    const rust::Vec<core::MissingDerivation> & missing)
{
    auto verdict = core::judge_request(policy, requested, missing);
    report(verdict.trouble);
    for (auto & failure : verdict.warnings)
        warn("'%s' %s", std::string(missing.at(failure.place).path), compat::plain(std::string(failure.text)));
    return verdict;
}

static Error refusal(const Store & store, const StorePath & path, const rust::String & text)
{
    return Error("'%s' %s", store.printStorePath(path), compat::plain(std::string(text)));
}

Consultation consult(Store & store, const core::Policy & policy, const std::vector<DerivedPath> & requests)
{
    Consultation consultation;
    if (!hasKnownFailures(policy))
        return consultation;

    rust::Vec<core::MissingDerivation> facts;
    for (auto & path : compat::queryMissing(store, requests).willBuild) {
        auto derivation = store.readDerivation(path);
        core::MissingDerivation fact{.path = store.printStorePath(path), .outputs = plainKeys(outputKeys(store, derivation))};
        for (auto & input : compat::inputDerivations(derivation))
            fact.inputs.push_back(store.printStorePath(input));
        facts.push_back(std::move(fact));
        consultation.missing.push_back({path, std::move(derivation)});
    }
    rust::Vec<rust::String> requested;
    for (auto & request : requests)
        if (auto path = compat::requestedDerivation(request))
            requested.push_back(store.printStorePath(*path));
    consultation.asked = true;
    consultation.verdict = judge(policy, requested, facts);
    return consultation;
}

std::optional<Error> consult(
    Store & store, const core::Policy & policy, const StorePath & path, const BasicDerivation & derivation)
{
    if (!hasKnownFailures(policy))
        return std::nullopt;

    std::vector<DerivedPath> requests;
    for (auto & [name, output] : derivation.outputsAndOptPaths(store))
        if (output.second)
            requests.push_back(DerivedPath::Opaque{*output.second});
    /* A derivation whose output paths are not known can't be found valid or substituted this early. */
    if (!requests.empty()) {
        auto missing = compat::queryMissing(store, requests);
        /* What is not valid can't be had, if it is in `unknown`, or may not. */
        if (missing.unknown.empty() && (missing.willSubstitute.empty() || compat::substitutesAllowed(path, derivation)))
            return std::nullopt;
    }
    return refusalOf(store, policy, path, plainKeys(outputKeys(store, Derivation(derivation))));
}

std::optional<Error> refusalOf(
    Store & store, const core::Policy & policy, const StorePath & path, const rust::Vec<rust::String> & keys)
{
    rust::Vec<rust::String> requested;
    requested.push_back(store.printStorePath(path));
    rust::Vec<core::MissingDerivation> facts;
    facts.push_back({.path = requested[0], .outputs = keys});
    auto verdict = judge(policy, requested, facts);
    if (verdict.known.empty())
        return std::nullopt;
    return refusal(store, path, verdict.known[0].text);
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
    auto add = [&](size_t place, std::optional<Error> error) {
        auto & path = missing.at(place).path;
        auto goal = std::make_shared<compat::UnbuiltGoal>(path, worker, std::move(error));
        unbuilt.emplace(path, goal);
        refused.push_back(goal);
        return goal;
    };
    for (auto & known : verdict.known)
        /* Awake: it fails at once. Dependents wake up when what they wait for has failed. */
        worker.wakeUp(add(known.place, refusal(store, missing.at(known.place).path, known.text)));
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
