#include "what_is_missing.hh"
#include "guard.hh"
#include "policy.hh"
#include "request.hh"
#include "settings.hh"

namespace negative_cache {

using namespace nix;

static thread_local Asker asker = Asker::Nix;

AskedBy::AskedBy(Asker by)
    : before(std::exchange(asker, by == Asker::NeedlessWorker && !compat::workerAsksWhatIsMissing ? Asker::Worker : by))
{
}

AskedBy::~AskedBy()
{
    asker = before;
}

compat::MissingPaths whatIsMissing(Store & store, const std::vector<DerivedPath> & requests)
{
    AskedBy by(Asker::Plugin);
    return compat::queryMissing(store, requests);
}

/* For how long an answer counts. After that, other processes may have built much of it. */
static constexpr auto aMoment = std::chrono::seconds(10);

static StringSet names(Store & store, const std::vector<DerivedPath> & requests)
{
    StringSet names;
    for (auto & request : requests)
        names.insert(request.to_string(store));
    return names;
}

void LastAnswer::remember(Store & store, const std::vector<DerivedPath> & requests, Found found)
{
    std::lock_guard lock(mutex);
    this->requests = names(store, requests);
    this->found = std::move(found);
    time = std::chrono::steady_clock::now();
}

void LastAnswer::forget()
{
    std::lock_guard lock(mutex);
    requests.clear();
}

LastAnswer::Found LastAnswer::of(Store & store, const std::vector<DerivedPath> & requests)
{
    auto remembering = dynamic_cast<Remembering *>(&store);
    return remembering ? remembering->lastAnswer.take(store, requests) : Found{};
}

LastAnswer::Found LastAnswer::take(Store & store, const std::vector<DerivedPath> & requests)
{
    std::lock_guard lock(mutex);
    if (this->requests.empty() || std::chrono::steady_clock::now() - time > aMoment
        || this->requests != names(store, requests))
        return {};
    this->requests.clear();
    return std::exchange(found, {});
}

std::optional<std::vector<DerivedPath>> Remembering::askedInstead(Store & store, const std::vector<DerivedPath> & requests)
{
    if (asker == Asker::NeedlessWorker) {
        /* A worker asks once. */
        asker = Asker::Worker;
        return std::vector<DerivedPath>{};
    }
    if (asker != Asker::Nix || nextStep() != NextStep::Build || !settings().isOn())
        return std::nullopt;
    return decideUnlessItFails(bmNormal, [&]() -> std::optional<std::vector<DerivedPath>> {
        auto decided = std::make_shared<DecidedRequest>(refuseAtOnce(store, *policyFor(store), requests));
        if (!decided->refusesAny())
            return std::nullopt;
        lastAnswer.remember(store, requests, {.willBuild = {}, .refused = decided});
        return compat::keepGoing() ? notRefused(*decided, requests) : std::vector<DerivedPath>{};
    });
}

void Remembering::answeredMissing(
    Store & store,
    const std::vector<DerivedPath> & requests,
    const StorePathSet & willBuild,
    const StorePathSet & unknown)
{
    if (asker != Asker::Nix || !settings().isOn())
        return;
    /* If a derivation is not in the store yet, Nix does not know what it needs. Then the answer is incomplete and not
       remembered, and an older answer does not count any more. */
    if (unknown.empty())
        lastAnswer.remember(store, requests, {.willBuild = willBuild, .refused = {}});
    else
        lastAnswer.forget();
    if (nextStep() == NextStep::DryRun)
        for (auto & line : decideUnlessItFails(bmNormal, [&] { return foresee(store, *policyFor(store), requests); }))
            warn("%s", compat::plain(line));
}

} // namespace negative_cache
