#include "outputs.hh"

#include <fcntl.h>

namespace negative_cache {

using namespace nix;

rust::Vec<core::Output> outputKeys(Store & store, const Derivation & derivation)
{
    rust::Vec<core::Output> keys;
    auto type = derivation.type();
    if (compat::isImpure(type))
        return keys;

    std::optional<Derivation> resolved;
    if (!type.hasKnownOutputPaths())
        resolved = compat::resolve(store, derivation);
    auto & built = resolved ? *resolved : derivation;

    if (built.type().hasKnownOutputPaths()) {
        for (auto & [name, output] : built.outputsAndOptPaths(store))
            keys.push_back({name, store.printStorePath(*output.second)});
    } else if (resolved)
        for (auto & [name, realisation] : compat::realisationsOf(store, built))
            keys.push_back({name, realisation.to_string()});
    return keys;
}

rust::Vec<rust::String> plainKeys(const rust::Vec<core::Output> & keys)
{
    rust::Vec<rust::String> plain;
    for (auto & key : keys)
        plain.push_back(key.path);
    return plain;
}

bool isValid(Store & store, const core::Output & key)
{
    std::string name(key.path);
    if (auto output = store.maybeParseStorePath(name))
        return store.isValidPath(*output);
    /* Since 2.35 realisations outlive their outputs. */
    auto realisation = store.queryRealisation(compat::parseRealisation(store, name));
    return realisation && store.isValidPath(realisation->outPath);
}

bool areBuilt(Store & store, const rust::Vec<core::Output> & keys)
{
    StorePathSet paths;
    for (auto & key : keys)
        if (auto output = store.maybeParseStorePath(std::string(key.path)))
            paths.insert(*output);
        else if (!isValid(store, key))
            return false;
    return !keys.empty() && store.queryValidPaths(paths).size() == paths.size();
}

/* Whether a store from which outputs may be substituted has a realisation. */
static bool canBeSubstituted(const DrvOutput & id)
{
    for (auto & substituter : getDefaultSubstituters())
        if (substituter->queryRealisation(id))
            return true;
    return false;
}

bool canBeHad(Store & store, const BasicDerivation & derivation, const core::Output & key)
{
    bool substitutes = compat::useSubstitutes() && compat::substitutesAllowed(derivation);
    std::string name(key.path);
    if (auto output = store.maybeParseStorePath(name)) {
        if (store.isValidPath(*output))
            return true;
        SubstitutablePathInfos infos;
        if (substitutes)
            store.querySubstitutablePathInfos({{*output, std::nullopt}}, infos);
        if (infos.empty())
            return false;
        /* As far as its references can be had as well. */
        auto missing = compat::queryMissing(store, {DerivedPath::Opaque{*output}});
        return missing.unknown.empty();
    }
    return isValid(store, key) || (substitutes && canBeSubstituted(compat::parseRealisation(store, name)));
}

KeptLocks::KeptLocks(const compat::BuildingGoal & goal)
{
    /* A lock (flock(2)) belongs to the open file, so that a duplicate of the descriptor holds it as well. */
    for (auto descriptor : compat::lockDescriptors(goal))
        if (AutoCloseFD duplicate{::fcntl(descriptor, F_DUPFD_CLOEXEC, 0)}; duplicate)
            descriptors.push_back(std::move(duplicate));
}

} // namespace negative_cache
