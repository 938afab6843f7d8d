#include "last_answer.hh"
#include "settings.hh"

namespace negative_cache {

using namespace nix;

/* For how long an answer counts. After that, other processes may have built much of it. */
static constexpr auto aMoment = std::chrono::seconds(10);

static StringSet names(Store & store, const std::vector<DerivedPath> & requests)
{
    StringSet names;
    for (auto & request : requests)
        names.insert(request.to_string(store));
    return names;
}

void LastAnswer::remember(Store & store, const std::vector<DerivedPath> & requests, const StorePathSet & willBuild)
{
    std::lock_guard lock(mutex);
    this->requests = names(store, requests);
    this->willBuild = willBuild;
    time = std::chrono::steady_clock::now();
}

void LastAnswer::forget()
{
    std::lock_guard lock(mutex);
    requests.clear();
}

std::optional<StorePathSet> LastAnswer::take(Store & store, const std::vector<DerivedPath> & requests)
{
    std::lock_guard lock(mutex);
    if (this->requests.empty() || std::chrono::steady_clock::now() - time > aMoment
        || this->requests != names(store, requests))
        return std::nullopt;
    this->requests.clear();
    return std::move(willBuild);
}

static thread_local bool leftUnanswered = false;

UnansweredWorker::UnansweredWorker(bool unanswered)
{
    leftUnanswered = unanswered && compat::workerAsksWhatIsMissing;
}

UnansweredWorker::~UnansweredWorker()
{
    leftUnanswered = false;
}

bool UnansweredWorker::isAsking()
{
    return std::exchange(leftUnanswered, false);
}

void Remembering::answeredMissing(
    Store & store,
    const std::vector<DerivedPath> & requests,
    const StorePathSet & willBuild,
    const StorePathSet & unknown)
{
    if (!settings().isOn())
        return;
    /* If a derivation is not in the store yet, Nix does not know what it needs. Then the answer is incomplete and not
       remembered, and an older answer does not count any more. */
    if (unknown.empty())
        lastAnswer.remember(store, requests, willBuild);
    else
        lastAnswer.forget();
}

} // namespace negative_cache
