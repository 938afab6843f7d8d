#include "output_keys.hh"
#include "what_is_missing.hh"

namespace negative_cache {

using namespace nix;

rust::Vec<core::OutputKey> outputKeys(Store & store, const Derivation & derivation)
{
    rust::Vec<core::OutputKey> keys;
    if (compat::isImpure(derivation))
        return keys;

    std::optional<Derivation> resolved;
    if (!compat::typeOf(derivation).hasKnownOutputPaths())
        resolved = compat::resolve(store, derivation);
    auto & built = resolved ? *resolved : derivation;

    if (compat::typeOf(built).hasKnownOutputPaths()) {
        for (auto & [name, output] : compat::outputsAndOptPaths(built, store))
            keys.push_back({name, store.printStorePath(*output.second)});
    } else if (resolved)
        for (auto & [name, realisation] : compat::realisationsOf(store, built))
            keys.push_back({name, realisation.to_string()});
    return keys;
}

rust::Vec<rust::String> plainKeys(const rust::Vec<core::OutputKey> & outputs)
{
    rust::Vec<rust::String> keys;
    for (auto & output : outputs)
        keys.push_back(output.key);
    return keys;
}

bool isValid(Store & store, const core::OutputKey & output)
{
    std::string key(output.key);
    if (auto path = store.maybeParseStorePath(key))
        return store.isValidPath(*path);
    /* Since 2.35 realisations outlive their outputs. */
    auto realisation = store.queryRealisation(compat::parseRealisation(store, key));
    return realisation && store.isValidPath(realisation->outPath);
}

bool areBuilt(Store & store, const rust::Vec<core::OutputKey> & outputs)
{
    StorePathSet paths;
    for (auto & output : outputs)
        if (auto path = store.maybeParseStorePath(std::string(output.key)))
            paths.insert(*path);
        else if (!isValid(store, output))
            return false;
    return !outputs.empty() && store.queryValidPaths(paths).size() == paths.size();
}

bool isSubstitutable(Store & store, const StorePath & output, const std::optional<ContentAddress> & address)
{
    SubstitutablePathInfos infos;
    store.querySubstitutablePathInfos({{output, address}}, infos);
    return !infos.empty();
}

/* Whether a store from which outputs may be substituted has a realisation. */
static bool canBeSubstituted(const DrvOutput & id)
{
    for (auto & substituter : getDefaultSubstituters())
        if (substituter->queryRealisation(id))
            return true;
    return false;
}

bool canBeHad(Store & store, const Derivation & derivation, const core::OutputKey & output)
{
    bool substitutes = compat::useSubstitutes() && compat::substitutesAllowed(derivation);
    std::string key(output.key);
    if (auto path = store.maybeParseStorePath(key)) {
        if (store.isValidPath(*path))
            return true;
        if (!substitutes || !isSubstitutable(store, *path, compat::fixedAddress(derivation)))
            return false;
        /* The references of the output must be valid or substitutable as well. */
        auto missing = whatIsMissing(store, {DerivedPath::Opaque{*path}});
        return missing.unknown.empty();
    }
    return isValid(store, output) || (substitutes && canBeSubstituted(compat::parseRealisation(store, key)));
}

} // namespace negative_cache
