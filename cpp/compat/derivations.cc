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
#if NIX_AT_LEAST(2, 18)
    auto path = std::get_if<SingleDerivedPath::Opaque>(&built->drvPath->raw());
    return path ? std::optional(path->path) : std::nullopt;
#else
    return built->drvPath;
#endif
}

bool requests(const DerivedPath & request, const std::string & output)
{
    auto built = std::get_if<DerivedPath::Built>(&request.raw());
#if NIX_AT_LEAST(2, 18)
    return built && built->outputs.contains(output);
#else
    return built && wantOutput(output, built->outputs);
#endif
}

DerivedPath requestFor(const StorePath & derivation)
{
#if NIX_AT_LEAST(2, 18)
    return DerivedPath::Built{.drvPath = makeConstantStorePathRef(derivation), .outputs = OutputsSpec::All{}};
#else
    return DerivedPath::Built{.drvPath = derivation};
#endif
}

DerivedPath requestFor(const StorePath & derivation, const StringSet & names)
{
#if NIX_AT_LEAST(2, 18)
    return DerivedPath::Built{
        .drvPath = makeConstantStorePathRef(derivation),
        .outputs = OutputsSpec::Names(names.begin(), names.end()),
    };
#else
    return DerivedPath::Built{.drvPath = derivation, .outputs = names};
#endif
}

std::optional<std::string> textOf(Store & store, const StorePath & derivation)
{
    auto local = dynamic_cast<LocalFSStore *>(&store);
    if (!local)
        return std::nullopt;
    try {
        return readFile(local->getRealStoreDir() + "/" + std::string(derivation.to_string()));
    } catch (Error &) {
        return std::nullopt;
    }
}

/* ---- Kinds of derivations ---- */

Derivation fullDerivation(const BasicDerivation & derivation)
{
#if NIX_AT_LEAST(2, 36)
    return nix::derivation::unresolve(derivation);
#else
    return Derivation(derivation);
#endif
}

std::optional<ContentAddress> fixedAddress(const Derivation & derivation)
{
#if NIX_AT_LEAST(2, 18)
    auto address = getDerivationCA(derivation);
    return address ? std::optional(*address) : std::nullopt;
#else
    return getDerivationCA(derivation);
#endif
}

bool isImpure(const Derivation & derivation)
{
#if NIX_AT_LEAST(2, 24)
    return typeOf(derivation).isImpure();
#else
    return !typeOf(derivation).isPure();
#endif
}

/* ---- Attributes ---- */

/* The structured attributes, if the derivation has them. They are not a JSON object if somebody wrote something else by
   hand. */
static std::optional<nlohmann::json> structuredAttributes(const Derivation & derivation)
{
#if NIX_AT_LEAST(2, 31)
    if (derivation.structuredAttrs)
        return std::make_optional<nlohmann::json>(derivation.structuredAttrs->structuredAttrs);
#else
    if (auto text = derivation.env.find("__json"); text != derivation.env.end())
        return std::make_optional<nlohmann::json>(nlohmann::json::parse(text->second));
#endif
    return std::nullopt;
}

/* Reads an attribute in the same way as `ParsedDerivation::getBoolAttr` and, later,
   `derivationOptionsFromStructuredAttrs`. There, a structured attribute that is no Boolean is an error. Here it counts
   as `otherwise`, because Nix meets the error itself. */
static bool booleanAttribute(const Derivation & derivation, const std::string & name, bool otherwise)
{
    if (auto attributes = structuredAttributes(derivation)) {
        auto value = attributes->find(name);
        return value != attributes->end() && value->is_boolean() ? value->get<bool>() : otherwise;
    }
    auto value = derivation.env.find(name);
    return value == derivation.env.end() ? otherwise : value->second == "1";
}

/* An attribute that is a text. */
static std::optional<std::string> stringAttribute(const Derivation & derivation, const std::string & name)
{
    if (auto attributes = structuredAttributes(derivation)) {
        auto value = attributes->find(name);
        if (value == attributes->end() || !value->is_string())
            return std::nullopt;
        return value->get<std::string>();
    }
    auto value = derivation.env.find(name);
    return value == derivation.env.end() ? std::nullopt : std::optional(value->second);
}

static StringSet stringsAttribute(const Derivation & derivation, const std::string & name)
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

bool substitutesAllowed(const Derivation & derivation)
{
    return alwaysAllowSubstitutes() || booleanAttribute(derivation, "allowSubstitutes", true);
}

bool wantsNegativeCache(const Derivation & derivation)
{
    return booleanAttribute(derivation, "negativeCache", true) || staysOnThisMachine(derivation);
}

bool staysOnThisMachine(const Derivation & derivation)
{
    return stringAttribute(derivation, "negativeCache") == "local";
}

bool usesRecursiveNix(const Derivation & derivation)
{
    return stringsAttribute(derivation, "requiredSystemFeatures").count("recursive-nix");
}

bool refusesSandbox(const Derivation & derivation)
{
    return booleanAttribute(derivation, "__noChroot", false);
}

bool canBuildHere(Store & store, const Derivation & derivation)
{
#if NIX_AT_LEAST(2, 30)
    auto & features = store.config.systemFeatures.get();
#else
    auto & features = store.systemFeatures.get();
#endif
    auto required = stringsAttribute(derivation, "requiredSystemFeatures");
    bool isOurSystem = derivation.platform == settings.thisSystem.get()
        || settings.extraPlatforms.get().count(derivation.platform) || derivation.isBuiltin();
    return maxBuildJobs() > 0 && isOurSystem
        && std::includes(features.begin(), features.end(), required.begin(), required.end());
}

/* ---- Outputs ---- */

std::optional<Derivation> resolve(Store & store, const Derivation & derivation)
{
    /* `tryResolve` warns if it can't find an output, so it is only called when all outputs are known. */
    auto needed = neededOutputs(store, derivation);
    if (!needed)
        return std::nullopt;
#if NIX_AT_LEAST(2, 36)
    auto resolved = nix::derivation::tryResolve(derivation, store);
#elif NIX_AT_LEAST(2, 30)
    auto resolved = derivation.tryResolve(store);
#else
    auto resolved = derivation.tryResolve(store, *needed);
#endif
    return resolved ? std::optional(fullDerivation(*resolved)) : std::nullopt;
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
