#include "request.hh"
#include "trouble.hh"

#include <algorithm>

namespace negative_cache {

using namespace nix;

static rust::Vec<rust::String> outputPaths(const Store & store, const BasicDerivation & derivation)
{
    rust::Vec<rust::String> paths;
    for (auto & [_, output] : derivation.outputsAndOptPaths(store))
        if (output.second)
            paths.push_back(store.printStorePath(*output.second));
    return paths;
}

Consultation consult(Store & store, const core::Policy & policy, const std::vector<DerivedPath> & requests)
{
    Consultation consultation;
    auto answer = core::has_known_failures(policy);
    report(answer.trouble);
    if (!answer.yes)
        return consultation;

    rust::Vec<core::MissingDerivation> facts;
    for (auto & path : compat::willBuild(store, requests)) {
        auto derivation = store.readDerivation(path);
        core::MissingDerivation fact{.path = store.printStorePath(path), .outputs = outputPaths(store, derivation)};
        for (auto & input : compat::inputDerivations(derivation))
            fact.inputs.push_back(store.printStorePath(input));
        facts.push_back(std::move(fact));
        consultation.missing.push_back({path, std::move(derivation)});
    }
    consultation.asked = true;
    consultation.verdict = core::judge_request(policy, facts);
    report(consultation.verdict.trouble);
    for (auto & failure : consultation.verdict.warnings)
        warn(
            "'%s' %s",
            store.printStorePath(consultation.missing.at(failure.place).path),
            compat::plain(std::string(failure.text)));
    return consultation;
}

static Error refusal(const Store & store, const StorePath & path, const rust::String & text)
{
    return Error("'%s' %s", store.printStorePath(path), compat::plain(std::string(text)));
}

std::optional<Error> consult(
    Store & store, const core::Policy & policy, const StorePath & path, const BasicDerivation & derivation)
{
    auto answer = core::has_known_failures(policy);
    report(answer.trouble);
    if (!answer.yes)
        return std::nullopt;

    auto outputs = outputPaths(store, derivation);
    StorePathSet missing;
    for (auto & output : outputs)
        if (auto output2 = store.parseStorePath(std::string(output)); !store.isValidPath(output2))
            missing.insert(output2);
    if (missing.empty() || store.querySubstitutablePaths(missing).size() == missing.size())
        return std::nullopt;

    rust::Vec<core::MissingDerivation> facts;
    facts.push_back({.path = store.printStorePath(path), .outputs = outputs});
    auto verdict = core::judge_request(policy, facts);
    report(verdict.trouble);
    for (auto & failure : verdict.warnings)
        warn("'%s' %s", store.printStorePath(path), compat::plain(std::string(failure.text)));
    if (verdict.known.empty())
        return std::nullopt;
    return refusal(store, path, verdict.known[0].text);
}

std::vector<compat::Requested> makeGoals(
    Worker & worker,
    BuildMode mode,
    const std::vector<DerivedPath> & requests,
    const Consultation & consultation,
    std::vector<GoalPtr> & others)
{
    auto & missing = consultation.missing;
    auto & verdict = consultation.verdict;
    auto & store = worker.store;
    bool refuses = !verdict.known.empty();

    std::map<StorePath, std::shared_ptr<compat::UnbuiltGoal>> unbuilt;
    for (auto & known : verdict.known) {
        auto & path = missing.at(known.place).path;
        auto goal = std::make_shared<compat::UnbuiltGoal>(
            path, worker, BuildResult::CachedFailure, refusal(store, path, known.text));
        unbuilt.emplace(path, goal);
    }
    for (auto & dependent : verdict.dependents) {
        auto & path = missing.at(dependent.place).path;
        unbuilt.emplace(
            path,
            std::make_shared<compat::UnbuiltGoal>(
                path,
                worker,
                BuildResult::DependencyFailed,
                Error(
                    "'%s' is not built: it depends on '%s', which is known to fail",
                    store.printStorePath(path),
                    store.printStorePath(missing.at(dependent.blame).path))));
    }
    StorePathSet missingPaths;
    if (settings.keepGoing)
        for (auto & i : missing)
            missingPaths.insert(i.path);
    for (auto & dependent : verdict.dependents) {
        auto & [path, derivation] = missing.at(dependent.place);
        auto & goal = unbuilt.at(path);
        for (auto & input : compat::inputDerivations(derivation))
            if (auto other = unbuilt.find(input); other != unbuilt.end())
                goal->addWaitee(other->second);
            else if (missingPaths.count(input))
                /* Nobody can use it now, but the user asked for as much as can be built. What could be downloaded
                   stays away: it would only be of use for a build that does not happen. */
                goal->addWaitee(compat::makeInputGoal(worker, derivation, input));
    }

    std::vector<compat::Requested> requested;
    for (auto & request : requests) {
        auto path = compat::requestedDerivation(request);
        auto refused = path ? unbuilt.find(*path) : unbuilt.end();
        if (refused != unbuilt.end())
            requested.push_back({request, refused->second});
        else if (refuses && !settings.keepGoing)
            /* The refusal ends the run, so this one never starts. */
            requested.push_back({request, nullptr});
        else
            requested.push_back({request, compat::makeGoal(worker, request, mode)});
    }
    /* Dependents wake up when what they wait for has failed. A known failure that only another one needs never does. */
    for (auto & known : verdict.known) {
        auto & goal = unbuilt.at(missing.at(known.place).path);
        bool isRequested = std::any_of(
            requested.begin(), requested.end(), [&](auto & i) { return i.goal == goal; });
        if (isRequested || !goal->waiters.empty())
            worker.wakeUp(goal);
    }
    for (auto & [_, goal] : unbuilt)
        others.push_back(goal);
    return requested;
}

} // namespace negative_cache
