#include "build_plan.hh"
#include "output_keys.hh"
#include "what_is_missing.hh"

#include "nix-negative-cache-plugin/src/bridge.rs.h"

#include <algorithm>

namespace negative_cache {

using namespace nix;

BuildPlan::BuildPlan(Store & store, const std::vector<DerivedPath> & requests, std::optional<StorePathSet> && lastAnswer)
    : store(store)
    , requests(requests)
    , lastAnswer(std::move(lastAnswer))
{
}

std::optional<size_t> BuildPlan::index(const StorePath & path) const
{
    auto found = std::lower_bound(paths.begin(), paths.end(), path);
    if (found == paths.end() || !(*found == path))
        return std::nullopt;
    return found - paths.begin();
}

/* The derivations that a derivation needs, with requests for their outputs, as Nix reads them. */
static std::map<StorePath, DerivedPath> readInputs(Store & store, const StorePath & path)
{
    std::map<StorePath, DerivedPath> inputs;
    auto derivation = store.readDerivation(path);
    for (auto & input : compat::inputDerivations(derivation))
        inputs.emplace(input, compat::inputRequest(derivation, input));
    return inputs;
}

/* The same without Nix, whose reader takes much longer; nothing if that can't be done. */
static std::optional<std::map<StorePath, DerivedPath>> scanInputs(Store & store, const StorePath & path)
{
    auto text = compat::textOf(store, path);
    if (!text)
        return std::nullopt;
    auto read = core::input_derivations({reinterpret_cast<const uint8_t *>(text->data()), text->size()});
    if (!read.is_known)
        return std::nullopt;
    std::map<StorePath, DerivedPath> inputs;
    for (auto & input : read.inputs) {
        auto derivation = store.maybeParseStorePath(std::string(input.path));
        if (!derivation)
            return std::nullopt;
        StringSet names;
        for (auto & name : input.outputs)
            names.emplace(name);
        inputs.emplace(*derivation, compat::requestFor(*derivation, names));
    }
    return inputs;
}

const BuildPlan::Inputs & BuildPlan::inputs(size_t index) const
{
    auto found = inputsByIndex.find(index);
    if (found != inputsByIndex.end())
        return found->second;
    auto all = scanInputs(store, path(index));
    Inputs listed;
    for (auto & [input, request] : all ? *all : readInputs(store, path(index)))
        if (auto other = this->index(input))
            listed.emplace(*other, request);
    return inputsByIndex.emplace(index, std::move(listed)).first->second;
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

StorePathSet BuildPlan::requestedDerivations() const
{
    StorePathSet requested;
    for (auto & request : requests)
        if (auto path = compat::requestedDerivation(request))
            requested.insert(*path);
    return requested;
}

core::PlanList BuildPlan::list(core::List which)
{
    core::PlanList list{.is_known = true, .store_dir = store.storeDir};
    auto requested = requestedDerivations();
    for (auto & request : requests) {
        if (compat::requestedDerivation(request))
            continue;
        list.other_requests = true;
        if (!std::get_if<DerivedPath::Opaque>(&request.raw()) && which != core::List::LastAnswer
            && which != core::List::All)
            list.is_known = false;
    }

    derivations.clear();
    inputsByIndex.clear();
    outputsByIndex.clear();
    paths.clear();
    isUnbuilt = which == core::List::Unbuilt;
    isCertain = true;
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
    case core::List::Unbuilt:
        if (auto unbuilt = list.is_known ? compat::unbuiltDerivations(store, requested) : std::nullopt)
            paths = std::move(*unbuilt);
        else
            list.is_known = false;
        break;
    default:
        fill(whatIsMissing(store, requests).willBuild);
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

core::PlannedDerivation planned(Store & store, const StorePath & path, const Derivation & derivation)
{
    core::PlannedDerivation planned{
        .path = store.printStorePath(path),
        .outputs = {},
        .is_resolved = false,
        .system = rust::String::lossy(derivation.platform),
        .is_fetch = compat::typeOf(derivation).isFixed(),
        .may_be_substituted = compat::substitutesAllowed(derivation),
    };
    if (compat::wantsNegativeCache(derivation)) {
        planned.outputs = outputKeys(store, derivation);
        planned.is_resolved = !compat::typeOf(derivation).hasKnownOutputPaths();
    }
    return planned;
}

/* A plain derivation, read without Nix, whose reader takes much longer; nothing if that can't be done. */
static std::optional<core::PlannedDerivation> scanPlain(Store & store, const StorePath & path)
{
    auto text = compat::textOf(store, path);
    if (!text)
        return std::nullopt;
    auto read = core::plain_derivation({reinterpret_cast<const uint8_t *>(text->data()), text->size()});
    if (!read.is_plain)
        return std::nullopt;
    return core::PlannedDerivation{
        .path = store.printStorePath(path),
        .outputs = std::move(read.outputs),
        .is_resolved = false,
        .system = std::move(read.system),
        .is_fetch = false,
        .may_be_substituted = true,
    };
}

const Derivation & BuildPlan::read(size_t index) const
{
    auto found = derivations.find(index);
    if (found == derivations.end())
        found = derivations.emplace(index, store.readDerivation(path(index))).first;
    return found->second;
}

core::PlannedDerivation BuildPlan::derivation(size_t index)
{
    if (auto plain = scanPlain(store, path(index)))
        return *plain;
    return planned(store, path(index), read(index));
}

rust::Vec<size_t> BuildPlan::mentioned_by(size_t index) const
{
    StorePathSet referrers;
    store.queryReferrers(path(index), referrers);
    rust::Vec<size_t> listed;
    for (auto & referrer : referrers)
        if (auto other = this->index(referrer))
            listed.push_back(*other);
    return listed;
}

std::optional<BuildPlan::Outputs> BuildPlan::readOutputs(size_t index) const
{
    Outputs outputs;
    if (auto plain = scanPlain(store, path(index))) {
        for (auto & output : plain->outputs)
            outputs.paths.emplace(std::string(output.name), store.parseStorePath(std::string(output.key)));
        return outputs;
    }
    auto & derivation = read(index);
    if (!compat::typeOf(derivation).hasKnownOutputPaths())
        return std::nullopt;
    for (auto & [name, output] : compat::outputsAndOptPaths(derivation, store))
        outputs.paths.emplace(name, *output.second);
    outputs.address = compat::fixedAddress(derivation);
    outputs.maySubstitute = compat::substitutesAllowed(derivation);
    return outputs;
}

const std::optional<BuildPlan::Outputs> & BuildPlan::outputs(size_t index) const
{
    auto found = outputsByIndex.find(index);
    if (found == outputsByIndex.end())
        found = outputsByIndex.emplace(index, readOutputs(index)).first;
    return found->second;
}

bool BuildPlan::canBeSubstituted(const StorePath & output, const std::optional<ContentAddress> & address) const
{
    auto found = substitutable.find(output);
    if (found == substitutable.end())
        found = substitutable.emplace(output, isSubstitutable(store, output, address)).first;
    return found->second;
}

/* Whether a store could substitute anything. What a daemon could is not known. */
static bool substitutes(Store & store)
{
    return compat::useSubstitutes() && (!dynamic_cast<nix::LocalStore *>(&store) || !getDefaultSubstituters().empty());
}

/* More questions to substituters than this, one after the other, are left to Nix, which asks many at once. */
static constexpr size_t mostQuestions = 16;

/* Whether the derivation at an index must be built for a request. Nothing if only Nix can tell. This is what
   `Store::queryMissing` decides about each derivation (misc.cc). */
std::optional<bool> BuildPlan::mustBeBuilt(size_t index, const DerivedPath & request) const
{
    auto & outputs = this->outputs(index);
    if (!outputs)
        return std::nullopt;
    StorePaths missing;
    for (auto & [name, output] : outputs->paths)
        if (compat::requests(request, name) && !store.isValidPath(output))
            missing.push_back(output);
    if (missing.empty())
        return false;
    if (!outputs->maySubstitute || !substitutes(store))
        return true;
    if (substitutable.size() >= mostQuestions)
        return std::nullopt;
    return !std::all_of(missing.begin(), missing.end(), [&](auto & output) {
        return canBeSubstituted(output, outputs->address);
    });
}

std::optional<bool> BuildPlan::isToBeBuilt(size_t index, const DerivedPath & request) const
{
    return isUnbuilt ? mustBeBuilt(index, request) : true;
}

/* Whether the derivation at an index must be built for any of the requests. */
std::optional<bool> BuildPlan::isRequestToBeBuilt(size_t index) const
{
    bool isKnown = true;
    for (auto & request : requests) {
        if (compat::requestedDerivation(request) != path(index))
            continue;
        auto must = mustBeBuilt(index, request);
        if (must.value_or(false))
            return true;
        isKnown &= must.has_value();
    }
    return isKnown ? std::optional(false) : std::nullopt;
}

bool BuildPlan::needs(size_t user, size_t index) const
{
    auto & inputs = this->inputs(user);
    auto input = inputs.find(index);
    if (input == inputs.end())
        return false;
    auto isToBeBuilt = this->isToBeBuilt(index, input->second);
    isCertain &= isToBeBuilt.has_value();
    return isToBeBuilt.value_or(false);
}

bool BuildPlan::is_wanted(size_t index) const
{
    auto isToBeBuilt = isUnbuilt ? isRequestToBeBuilt(index) : true;
    isCertain &= isToBeBuilt.has_value();
    return isToBeBuilt.value_or(false);
}

bool BuildPlan::is_sure() const
{
    return isCertain;
}

bool BuildPlan::may_need(const rust::Vec<rust::String> & derivations) const
{
    StorePaths paths;
    for (auto & derivation : derivations)
        if (auto path = store.maybeParseStorePath(std::string(derivation)))
            paths.push_back(*path);
    return compat::mayNeed(store, requestedDerivations(), paths);
}

bool BuildPlan::can_be_had(size_t index) const
{
    auto & derivation = read(index);
    auto outputs = outputKeys(store, derivation);
    return std::any_of(outputs.begin(), outputs.end(), [&](auto & output) { return canBeHad(store, derivation, output); });
}

bool BuildPlan::must_be_built(size_t index) const
{
    return store.isValidPath(path(index)) && isRequestToBeBuilt(index).value_or(false);
}

} // namespace negative_cache
