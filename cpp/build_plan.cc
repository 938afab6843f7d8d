#include "build_plan.hh"
#include "last_answer.hh"
#include "output_keys.hh"

#include "nix-negative-cache-plugin/src/bridge.rs.h"

#include <algorithm>

namespace negative_cache {

using namespace nix;

BuildPlan::BuildPlan(Store & store, const std::vector<DerivedPath> & requests)
    : store(store)
    , requests(requests)
    , remembering(dynamic_cast<Remembering *>(&store))
    , lastAnswer(remembering ? remembering->lastAnswer.take(store, requests) : std::nullopt)
{
}

std::optional<size_t> BuildPlan::index(const StorePath & path) const
{
    auto found = std::lower_bound(paths.begin(), paths.end(), path);
    if (found == paths.end() || !(*found == path))
        return std::nullopt;
    return found - paths.begin();
}

const Derivation & BuildPlan::read(size_t index)
{
    auto found = derivations.find(index);
    if (found == derivations.end())
        found = derivations.emplace(index, store.readDerivation(path(index))).first;
    return found->second;
}

/* For more requests than this, it can take longer to look whether their outputs are valid than to open a database. */
static constexpr size_t aFew = 8;

/* Whether the outputs that a request asks for are already valid. False if the derivation does not tell their paths. */
static bool hasOutputs(Store & store, const DerivedPath & request)
{
    auto path = compat::requestedDerivation(request);
    if (!path || !store.isValidPath(*path))
        return false;
    auto derivation = store.readDerivation(*path);
    if (!compat::typeOf(derivation).hasKnownOutputPaths())
        return false;
    auto outputs = compat::outputsAndOptPaths(derivation, store);
    return std::all_of(outputs.begin(), outputs.end(), [&](auto & output) {
        return !compat::requests(request, output.first) || store.isValidPath(*output.second.second);
    });
}

bool BuildPlan::nothing_to_build(bool may_look) const
{
    if (lastAnswer)
        return lastAnswer->empty();
    return may_look && requests.size() <= aFew
        && std::all_of(requests.begin(), requests.end(), [&](auto & request) { return hasOutputs(store, request); });
}

core::PlanList BuildPlan::list(core::List which)
{
    core::PlanList list{.is_known = true, .store_dir = store.storeDir};
    StorePathSet requested;
    for (auto & request : requests)
        if (auto path = compat::requestedDerivation(request))
            requested.insert(*path);
        else if (which == core::List::Requested)
            list.is_known = false;

    derivations.clear();
    paths.clear();
    auto fill = [&](const StorePathSet & from) { paths.assign(from.begin(), from.end()); };
    switch (which) {
    case core::List::LastAnswer:
        if (lastAnswer)
            fill(*lastAnswer);
        list.is_known = bool(lastAnswer);
        break;
    case core::List::Requested:
        fill(requested);
        break;
    default:
        fill(compat::queryMissing(store, requests).willBuild);
        /* The store has remembered this answer too (`answeredMissing`). It is taken out again: no later request must
           take it for an answer about its own time. */
        if (remembering)
            remembering->lastAnswer.take(store, requests);
    }

    list.base_names.reserve(paths.size());
    for (auto & path : paths) {
        auto name = path.to_string();
        list.base_names.emplace_back(name.data(), name.size());
    }
    for (auto & path : requested)
        if (auto place = index(path))
            list.requested.push_back(*place);
    return list;
}

core::PlannedDerivation BuildPlan::derivation(size_t index)
{
    auto & derivation = read(index);
    core::PlannedDerivation planned{.path = store.printStorePath(path(index))};
    if (compat::wantsNegativeCache(derivation)) {
        planned.outputs = outputKeys(store, derivation);
        planned.is_resolved = !compat::typeOf(derivation).hasKnownOutputPaths();
    }
    return planned;
}

rust::Vec<size_t> BuildPlan::users(size_t index) const
{
    StorePathSet referrers;
    store.queryReferrers(path(index), referrers);
    rust::Vec<size_t> users;
    for (auto & referrer : referrers)
        if (auto user = this->index(referrer))
            users.push_back(*user);
    return users;
}

bool BuildPlan::can_be_had(size_t index) const
{
    auto & derivation = derivations.at(index);
    auto outputs = outputKeys(store, derivation);
    return std::any_of(outputs.begin(), outputs.end(), [&](auto & output) { return canBeHad(store, derivation, output); });
}

/* Whether a request wants an output that is neither valid nor can be substituted. */
static bool isMissing(Store & store, const DerivedPath & request, const core::OutputKey & output)
{
    auto path = store.maybeParseStorePath(std::string(output.key));
    if (!path || !compat::requests(request, std::string(output.name)) || store.isValidPath(*path))
        return false;
    SubstitutablePathInfos infos;
    if (compat::useSubstitutes())
        store.querySubstitutablePathInfos({{*path, std::nullopt}}, infos);
    return infos.empty();
}

bool BuildPlan::must_be_built(size_t index, const rust::Vec<core::OutputKey> & outputs) const
{
    return store.isValidPath(path(index)) && std::any_of(requests.begin(), requests.end(), [&](auto & request) {
               return compat::requestedDerivation(request) == path(index)
                   && std::any_of(outputs.begin(), outputs.end(), [&](auto & output) {
                          return isMissing(store, request, output);
                      });
           });
}

} // namespace negative_cache
