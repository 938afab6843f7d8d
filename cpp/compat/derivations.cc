#include "derivations.hh"
#include "settings.hh"

namespace negative_cache::compat {

using namespace nix;

/* ---- Requests ---- */

std::optional<StorePath> requestedDerivation(const DerivedPath & request)
{
    auto built = std::get_if<DerivedPath::Built>(&request.raw());
    if (!built)
        return std::nullopt;
#if NIX_AT_LEAST(2, 26)
    auto path = std::get_if<SingleDerivedPath::Opaque>(&built->drvPath->raw());
    return path ? std::optional(path->path) : std::nullopt;
#else
    return built->drvPath;
#endif
}

bool requests(const DerivedPath & request, const std::string & output)
{
    auto built = std::get_if<DerivedPath::Built>(&request.raw());
#if NIX_AT_LEAST(2, 26)
    return built && built->outputs.contains(output);
#else
    return built && wantOutput(output, built->outputs);
#endif
}

/* ---- Attributes ---- */

/* The structured attributes, if the derivation has them. They are not a JSON object if somebody wrote something else by
   hand. */
static std::optional<nlohmann::json> structuredAttributes(const BasicDerivation & derivation)
{
#if NIX_AT_LEAST(2, 31)
    if (derivation.structuredAttrs)
        return derivation.structuredAttrs->structuredAttrs;
#else
    if (auto text = derivation.env.find("__json"); text != derivation.env.end())
        return nlohmann::json::parse(text->second);
#endif
    return std::nullopt;
}

/* Reads an attribute in the same way as `ParsedDerivation::getBoolAttr` and, later,
   `derivationOptionsFromStructuredAttrs`. There, a structured attribute that is no Boolean is an error. Here it counts
   as `otherwise`, because Nix meets the error itself. */
static bool booleanAttribute(const BasicDerivation & derivation, const std::string & name, bool otherwise)
{
    if (auto attributes = structuredAttributes(derivation)) {
        auto value = attributes->find(name);
        return value != attributes->end() && value->is_boolean() ? value->get<bool>() : otherwise;
    }
    auto value = derivation.env.find(name);
    return value == derivation.env.end() ? otherwise : value->second == "1";
}

static StringSet stringsAttribute(const BasicDerivation & derivation, const std::string & name)
{
    StringSet strings;
    if (auto attributes = structuredAttributes(derivation)) {
        auto value = attributes->find(name);
        if (value != attributes->end() && value->is_array())
            for (auto & string : *value)
                if (string.is_string())
                    strings.insert(string.get<std::string>());
    } else if (auto value = derivation.env.find(name); value != derivation.env.end())
        strings = tokenizeString<StringSet>(value->second);
    return strings;
}

bool substitutesAllowed(const BasicDerivation & derivation)
{
    return alwaysAllowSubstitutes() || booleanAttribute(derivation, "allowSubstitutes", true);
}

bool wantsNegativeCache(const BasicDerivation & derivation)
{
    return booleanAttribute(derivation, "negativeCache", true);
}

bool usesRecursiveNix(const BasicDerivation & derivation)
{
    return stringsAttribute(derivation, "requiredSystemFeatures").count("recursive-nix");
}

bool refusesSandbox(const BasicDerivation & derivation)
{
    return booleanAttribute(derivation, "__noChroot", false);
}

bool canBuildHere([[maybe_unused]] Store & store, const BasicDerivation & derivation)
{
#if NIX_AT_LEAST(2, 34)
    auto & features = store.config.systemFeatures.get();
    auto jobs = settings.getWorkerSettings().maxBuildJobs.get();
#elif NIX_AT_LEAST(2, 31)
    auto & features = store.config.systemFeatures.get();
    auto jobs = settings.maxBuildJobs.get();
#else
    auto & features = store.systemFeatures.get();
    auto jobs = settings.maxBuildJobs.get();
#endif
    auto required = stringsAttribute(derivation, "requiredSystemFeatures");
    bool isOurSystem = derivation.platform == settings.thisSystem.get()
        || settings.extraPlatforms.get().count(derivation.platform) || derivation.isBuiltin();
    return jobs > 0 && isOurSystem && std::includes(features.begin(), features.end(), required.begin(), required.end());
}

/* ---- Outputs ---- */

#if NIX_AT_LEAST(2, 26)
/* Adds to `found` the paths that `tryResolve` will ask for. Returns whether all of them are known. */
static bool findOutputs(
    Store & store,
    const StorePath & input,
    const DerivedPathMap<StringSet>::ChildNode & node,
    std::map<std::pair<StorePath, std::string>, StorePath> & found)
{
    auto outputs = store.queryPartialDerivationOutputMap(input);
    auto find = [&](const std::string & name) {
        auto output = outputs.find(name);
        if (output == outputs.end() || !output->second)
            return false;
        found.insert_or_assign({input, name}, *output->second);
        return true;
    };
    for (auto & name : node.value)
        if (!find(name))
            return false;
    for (auto & [name, child] : node.childMap)
        if (!find(name) || !store.isValidPath(found.at({input, name}))
            || !findOutputs(store, found.at({input, name}), child, found))
            return false;
    return true;
}
#endif

std::optional<Derivation> resolve(Store & store, const Derivation & derivation)
{
    /* `tryResolve` warns if it can't find an output, so it is only called when all outputs are known. */
    std::map<std::pair<StorePath, std::string>, StorePath> found;
#if NIX_AT_LEAST(2, 26)
    for (auto & [input, node] : derivation.inputDrvs.map)
        if (!store.isValidPath(input) || !findOutputs(store, input, node, found))
            return std::nullopt;
#else
    for (auto & [input, names] : derivation.inputDrvs) {
        if (!store.isValidPath(input))
            return std::nullopt;
        auto outputs = store.queryPartialDerivationOutputMap(input);
        for (auto & name : names) {
            auto output = outputs.find(name);
            if (output == outputs.end() || !output->second)
                return std::nullopt;
            found.insert_or_assign({input, name}, *output->second);
        }
    }
#endif
#if NIX_AT_LEAST(2, 31)
    auto resolved = derivation.tryResolve(store);
#else
    auto resolved = derivation.tryResolve(store, found);
#endif
    return resolved ? std::optional(Derivation(*resolved)) : std::nullopt;
}

StorePathSet inputDerivations(const Derivation & derivation)
{
    StorePathSet inputs;
#if NIX_AT_LEAST(2, 26)
    for (auto & [path, node] : derivation.inputDrvs.map)
#else
    for (auto & [path, node] : derivation.inputDrvs)
#endif
        inputs.insert(path);
    return inputs;
}

DerivedPath inputRequest(const Derivation & derivation, const StorePath & input)
{
#if NIX_AT_LEAST(2, 26)
    auto & outputs = derivation.inputDrvs.map.at(input).value;
    /* There are no names if `input` makes derivations and only the outputs of those are needed. */
    return DerivedPath::Built{
        .drvPath = makeConstantStorePathRef(input),
        .outputs = outputs.empty() ? OutputsSpec(OutputsSpec::All{}) : OutputsSpec(OutputsSpec::Names(outputs)),
    };
#else
    return DerivedPath::Built{.drvPath = input, .outputs = derivation.inputDrvs.at(input)};
#endif
}

std::map<std::string, DrvOutput> realisationsOf(Store & store, const Derivation & derivation)
{
    std::map<std::string, DrvOutput> realisations;
#if NIX_AT_LEAST(2, 35)
    auto path = computeStorePath(store, derivation);
    for (auto & [name, _] : derivation.outputs)
        realisations.emplace(name, DrvOutput{path, name});
#else
    for (auto & [name, hash] : staticOutputHashes(store, derivation))
        realisations.emplace(name, DrvOutput{hash, name});
#endif
    return realisations;
}

DrvOutput parseRealisation([[maybe_unused]] const Store & store, const std::string & text)
{
#if NIX_AT_LEAST(2, 35)
    /* Nix declares `from_string`, but none of its libraries has it. */
    return DrvOutput::parse(store, store.storeDir + "/" + text);
#else
    return DrvOutput::parse(text);
#endif
}

} // namespace negative_cache::compat
