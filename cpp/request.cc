#include "request.hh"
#include "outputs.hh"
#include "trouble.hh"

#include <algorithm>
#include <atomic>

namespace negative_cache {

using namespace nix;

static bool isKnown(const core::Policy & policy, const rust::Vec<core::Output> & keys)
{
    return std::any_of(keys.begin(), keys.end(), [&](auto & key) {
        return isYes(core::is_known_failure(policy, std::string(key.path)));
    });
}

/* Says what does not stand in the way. */
static void say(const MissingDerivations & missing, Store & store, const core::Verdict & verdict)
{
    auto path = [&](const core::KnownFailure & failure) { return store.printStorePath(missing.path(failure.place)); };
    for (auto & failure : verdict.warnings)
        warn("'%s' %s", path(failure), compat::plain(std::string(failure.text)));
    for (auto & failure : verdict.doubted)
        printTalkative("negative cache: '%s' %s", path(failure), compat::plain(std::string(failure.text)));
}

static compat::Ending ending(core::Status status)
{
    switch (status) {
    case core::Status::PermanentFailure:
        return compat::Ending::PermanentFailure;
    case core::Status::TimedOut:
        return compat::Ending::TimedOut;
    case core::Status::OutputRejected:
        return compat::Ending::OutputRejected;
    default:
        return compat::Ending::Other;
    }
}

static compat::Refusal refusal(const Store & store, const StorePath & path, const core::KnownFailure & failure)
{
    return {compat::notBuilt(store.printStorePath(path), std::string(failure.text)), ending(failure.status)};
}

/* Looks up what is known of some of the derivations that a request would build. */
class Look
{
    Store & store;
    const core::Policy & policy;
    MissingDerivations & missing;

public:
    rust::Box<core::Consultation> found = core::new_consultation();
    /* What was looked up, by the places of the derivations. */
    std::map<size_t, rust::Vec<core::Output>> keys;

    Look(Store & store, const core::Policy & policy, MissingDerivations & missing)
        : store(store)
        , policy(policy)
        , missing(missing)
    {
    }

    template<typename Places>
    void at(const Places & places)
    {
        rust::Vec<core::MissingDerivation> facts;
        for (size_t place : places) {
            auto & path = missing.path(place);
            auto & derivation = missing.derivation(place);
            auto [known, isNew] = keys.emplace(place, rust::Vec<core::Output>());
            if (!isNew || !compat::wantsNegativeCache(derivation))
                continue;
            known->second = outputKeys(store, derivation);
            /* What it resolves to, Nix was not asked about. Whether all that is wanted of it can be had shows later. */
            if (!derivation.type().hasKnownOutputPaths() && isKnown(policy, known->second) && someCanBeHad(place))
                continue;
            facts.push_back(
                {.place = place, .path = store.printStorePath(path), .outputs = plainKeys(known->second)});
        }
        report(core::look(*found, policy, facts));
    }

    bool someCanBeHad(size_t place) const
    {
        auto & outputs = keys.at(place);
        return std::any_of(outputs.begin(), outputs.end(), [&](auto & key) {
            return canBeHad(store, missing.derivation(place), key);
        });
    }
};

/* What stands in the way of `requests`, if they would build `willBuild`. If that was so some time ago, nothing if any of
   what does can be had by now. */
static std::optional<Consultation> consult(
    Store & store,
    const core::Policy & policy,
    const std::vector<DerivedPath> & requests,
    const StorePathSet & willBuild,
    bool someTimeAgo)
{
    Consultation consultation{.missing = std::make_shared<MissingDerivations>(store, willBuild), .asked = true};
    auto & missing = *consultation.missing;
    std::set<size_t> requested;
    for (auto & request : requests)
        if (auto path = compat::requestedDerivation(request))
            if (auto place = missing.place(*path))
                requested.insert(*place);

    Look look(store, policy, missing);
    look.at(requested);
    /* Where the requests themselves are refused, nothing else matters. */
    bool all = compat::keepGoing() || policy.warns();
    if (look.found->known_count() < (all ? requested.size() : std::min<size_t>(1, requested.size()))) {
        auto names = missing.names();
        auto candidates = core::candidates(policy, {names.data(), names.size()});
        report(candidates.trouble);
        look.at(candidates.places);
    }

    std::vector<size_t> places(requested.begin(), requested.end());
    auto & verdict = consultation.verdict;
    verdict = core::verdict(*look.found, policy, {places.data(), places.size()}, compat::keepGoing(), missing);
    missing.rethrow();
    report(verdict.trouble);
    if (someTimeAgo && std::any_of(verdict.known.begin(), verdict.known.end(), [&](auto & failure) {
            return look.someCanBeHad(failure.place);
        }))
        return std::nullopt;
    say(missing, store, verdict);
    /* Here, where it is no reason for the request to fail if that can't be done. */
    for (auto place : verdict.dependents)
        missing.derivation(place);
    for (auto & warning : verdict.warnings)
        for (auto & key : look.keys.at(warning.place))
            consultation.said.push_back(key.path);
    if (verdict.known.empty())
        consultation.missing.reset();
    return consultation;
}

/* More, and it can take longer to see whether they are there than to open a database. */
static constexpr size_t aFew = 8;

/* Whether all that is requested is there already, as far as the names of the outputs tell. */
static bool areThere(Store & store, const std::vector<DerivedPath> & requests)
{
    return std::all_of(requests.begin(), requests.end(), [&](auto & request) {
        auto path = compat::requestedDerivation(request);
        if (!path || !store.isValidPath(*path))
            return false;
        auto derivation = store.readDerivation(*path);
        if (!derivation.type().hasKnownOutputPaths())
            return false;
        auto outputs = derivation.outputsAndOptPaths(store);
        return std::all_of(outputs.begin(), outputs.end(), [&](auto & output) {
            return !compat::requests(request, output.first) || store.isValidPath(*output.second.second);
        });
    });
}

/* Whether any output that a request wants is neither there nor can be substituted. */
static bool hasToBeBuilt(Store & store, const DerivedPath & request, const rust::Vec<core::Output> & outputs)
{
    return std::any_of(outputs.begin(), outputs.end(), [&](auto & output) {
        auto path = store.maybeParseStorePath(std::string(output.path));
        if (!path || !compat::requests(request, std::string(output.name)) || store.isValidPath(*path))
            return false;
        SubstitutablePathInfos infos;
        if (compat::useSubstitutes())
            store.querySubstitutablePathInfos({{*path, std::nullopt}}, infos);
        return infos.empty();
    });
}

/* What stands in the way of `requests` if that is themselves, by the very derivations that failed. Then it does not matter
   what else would be built, and Nix need not be asked, which takes long. */
static std::optional<Consultation>
consultRequested(Store & store, const core::Policy & policy, const std::vector<DerivedPath> & requests)
{
    StorePathSet paths;
    for (auto & request : requests)
        if (auto path = compat::requestedDerivation(request))
            paths.insert(*path);
        else
            return std::nullopt;
    Consultation consultation{.missing = std::make_shared<MissingDerivations>(store, paths), .asked = true};
    auto & missing = *consultation.missing;
    rust::Vec<rust::String> derivations;
    for (auto & path : paths)
        derivations.push_back(store.printStorePath(path));
    auto found = core::new_consultation();
    auto failed = core::look_by_derivation(*found, policy, derivations);
    report(failed.trouble);
    if (failed.requests.empty() || failed.requests.size() < (compat::keepGoing() ? paths.size() : 1))
        return std::nullopt;
    std::vector<size_t> requested;
    for (auto & failure : failed.requests) {
        auto hasTo = [&](auto & request) {
            return compat::requestedDerivation(request) == missing.path(failure.place)
                && hasToBeBuilt(store, request, failure.outputs);
        };
        if (!store.isValidPath(missing.path(failure.place)) || std::none_of(requests.begin(), requests.end(), hasTo))
            return std::nullopt;
        requested.push_back(failure.place);
    }
    consultation.verdict =
        core::verdict(*found, policy, {requested.data(), requested.size()}, compat::keepGoing(), missing);
    missing.rethrow();
    report(consultation.verdict.trouble);
    consultation.refusesAll = consultation.verdict.known.size() == paths.size();
    return consultation;
}

Consultation consult(Store & store, const core::Policy & policy, const std::vector<DerivedPath> & requests)
{
    auto remembering = dynamic_cast<Remembering *>(&store);
    auto remembered = remembering ? remembering->lastAnswer.take(store, requests) : std::nullopt;
    /* Where nothing is to be built, nobody need know what failed, and the database need not be opened. Who comes back is
       better off with an open one. */
    static std::atomic<bool> cameBefore = false;
    bool isFirst = !cameBefore.exchange(true);
    bool nothingToBuild = remembered ? remembered->empty()
                                     : isFirst && requests.size() <= aFew && isYes(core::has_unopened_database(policy))
                                         && areThere(store, requests);
    if (nothingToBuild || !isYes(core::has_known_failures(policy))) {
        Consultation nothingInTheWay;
        nothingInTheWay.asked = bool(remembered);
        return nothingInTheWay;
    }
    if (!policy.warns())
        if (auto consultation = consultRequested(store, policy, requests))
            return std::move(*consultation);
    if (remembered)
        if (auto consultation = consult(store, policy, requests, *remembered, true))
            return std::move(*consultation);
    auto willBuild = compat::queryMissing(store, requests).willBuild;
    if (remembering)
        remembering->lastAnswer.take(store, requests);
    return *consult(store, policy, requests, willBuild, false);
}

std::optional<compat::Refusal> consult(
    Store & store, const core::Policy & policy, const StorePath & path, const BasicDerivation & derivation)
{
    if (!isYes(core::has_known_failures(policy)))
        return std::nullopt;

    auto keys = outputKeys(store, Derivation(derivation));
    if (!isKnown(policy, keys) || !compat::wantsNegativeCache(derivation)
        || std::all_of(keys.begin(), keys.end(), [&](auto & key) { return canBeHad(store, derivation, key); }))
        return std::nullopt;
    return refusalOf(store, policy, path, plainKeys(keys));
}

std::optional<compat::Refusal> refusalOf(
    Store & store, const core::Policy & policy, const StorePath & path, const rust::Vec<rust::String> & keys)
{
    MissingDerivations missing(store, {path});
    auto found = core::new_consultation();
    rust::Vec<core::MissingDerivation> facts;
    facts.push_back({.place = 0, .path = store.printStorePath(path), .outputs = keys});
    report(core::look(*found, policy, facts));
    size_t requested = 0;
    auto verdict = core::verdict(*found, policy, {&requested, 1}, compat::keepGoing(), missing);
    missing.rethrow();
    report(verdict.trouble);
    say(missing, store, verdict);
    if (verdict.known.empty())
        return std::nullopt;
    return refusal(store, path, verdict.known[0]);
}

bool isThere(Store & store, const DerivedPath & request)
{
    auto missing = compat::queryMissing(store, {request});
    return missing.willBuild.empty() && missing.willSubstitute.empty() && missing.unknown.empty();
}

RefusedGoals::RefusedGoals(Worker & worker, Consultation & consultation)
    : worker(worker)
{
    if (!consultation.missing)
        return;
    auto & missing = *consultation.missing;
    auto & verdict = consultation.verdict;
    auto add = [&](size_t place, std::optional<compat::Refusal> error) {
        auto & path = missing.path(place);
        auto goal = std::make_shared<compat::UnbuiltGoal>(path, worker, std::move(error));
        goals.emplace(path, goal);
        return goal;
    };
    for (auto & failure : verdict.known)
        known.push_back(add(failure.place, refusal(worker.store, missing.path(failure.place), failure)));
    for (auto place : verdict.dependents)
        add(place, std::nullopt);

    for (auto place : verdict.dependents) {
        auto & goal = goals.at(missing.path(place));
        auto & derivation = missing.derivation(place);
        for (auto & input : compat::inputDerivations(derivation))
            if (auto other = goals.find(input); other != goals.end())
                compat::addWaitee(goal, other->second);
            else if (compat::keepGoing() && missing.place(input))
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
