#include "missing.hh"
#include "settings.hh"

#include <algorithm>

namespace negative_cache {

using namespace nix;

std::optional<size_t> MissingDerivations::place(const StorePath & path) const
{
    auto found = std::lower_bound(paths.begin(), paths.end(), path);
    if (found == paths.end() || !(*found == path))
        return std::nullopt;
    return found - paths.begin();
}

std::vector<rust::Str> MissingDerivations::names() const
{
    std::vector<rust::Str> names;
    names.reserve(paths.size());
    for (auto & path : paths) {
        auto name = path.name();
        name.remove_suffix(std::min(name.size(), drvExtension.size()));
        names.emplace_back(name.data(), name.size());
    }
    return names;
}

const Derivation & MissingDerivations::derivation(size_t place)
{
    auto found = derivations.find(place);
    if (found == derivations.end())
        found = derivations.emplace(place, store.readDerivation(path(place))).first;
    return found->second;
}

rust::Vec<size_t> MissingDerivations::users(size_t place) const noexcept
{
    rust::Vec<size_t> users;
    try {
        StorePathSet referrers;
        store.queryReferrers(path(place), referrers);
        for (auto & referrer : referrers)
            if (auto user = this->place(referrer))
                users.push_back(*user);
    } catch (...) {
        problem = std::current_exception();
    }
    return users;
}

/* Longer ago, and other processes may have built much of it. */
static constexpr auto aMoment = std::chrono::seconds(10);

static StringSet names(Store & store, const std::vector<DerivedPath> & targets)
{
    StringSet names;
    for (auto & target : targets)
        names.insert(target.to_string(store));
    return names;
}

void LastAnswer::remember(Store & store, const std::vector<DerivedPath> & targets, const StorePathSet & willBuild)
{
    std::lock_guard lock(mutex);
    this->targets = names(store, targets);
    this->willBuild = willBuild;
    time = std::chrono::steady_clock::now();
}

void LastAnswer::forget()
{
    std::lock_guard lock(mutex);
    targets.clear();
}

std::optional<StorePathSet> LastAnswer::take(Store & store, const std::vector<DerivedPath> & targets)
{
    std::lock_guard lock(mutex);
    if (this->targets.empty() || std::chrono::steady_clock::now() - time > aMoment || this->targets != names(store, targets))
        return std::nullopt;
    this->targets.clear();
    return std::move(willBuild);
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

bool Unanswered::isAsked()
{
    return std::exchange(leftUnanswered, false);
}

void Remembering::answeredMissing(
    Store & store,
    const std::vector<DerivedPath> & targets,
    const StorePathSet & willBuild,
    const StorePathSet & unknown)
{
    if (!settings().enable)
        return;
    /* Of a derivation that is not there yet, Nix does not know what it needs. That is no answer, and ends an older one. */
    if (unknown.empty())
        lastAnswer.remember(store, targets, willBuild);
    else
        lastAnswer.forget();
}

} // namespace negative_cache
