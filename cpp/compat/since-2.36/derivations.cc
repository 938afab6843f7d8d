#include "../derivations.hh"

namespace negative_cache::compat {

using namespace nix;

using Needed = std::map<std::pair<StorePath, std::string>, StorePath>;

/* The path that a needed path stands for, as far as it is known; nothing if it is not. Adds to `needed` the paths of outputs
   on the way. */
static std::optional<StorePath> find(Store & store, const SingleDerivedPath & path, Needed & needed)
{
    auto built = std::get_if<SingleDerivedPath::Built>(&path.raw());
    if (!built)
        return std::get<SingleDerivedPath::Opaque>(path.raw()).path;
    auto derivation = find(store, *built->drvPath, needed);
    if (!derivation || !store.isValidPath(*derivation))
        return std::nullopt;
    auto outputs = store.queryPartialDerivationOutputMap(*derivation);
    auto output = outputs.find(built->output);
    if (output == outputs.end() || !output->second)
        return std::nullopt;
    needed.insert_or_assign({*derivation, built->output}, *output->second);
    return *output->second;
}

std::optional<Needed> neededOutputs(Store & store, const Derivation & derivation)
{
    Needed needed;
    for (auto & input : derivation.inputs)
        if (!find(store, input, needed))
            return std::nullopt;
    return needed;
}

/* The first derivation in the chain that makes an input, and which of its outputs is needed. Nothing if the input is a
   source. */
static std::optional<std::pair<StorePath, std::string>> madeBy(const SingleDerivedPath & input)
{
    auto built = std::get_if<SingleDerivedPath::Built>(&input.raw());
    if (!built)
        return std::nullopt;
    if (auto path = std::get_if<SingleDerivedPath::Opaque>(&built->drvPath->raw()))
        return std::pair(path->path, built->output);
    return madeBy(*built->drvPath);
}

StorePathSet inputDerivations(const Derivation & derivation)
{
    StorePathSet inputs;
    for (auto & input : derivation.inputs)
        if (auto made = madeBy(input))
            inputs.insert(made->first);
    return inputs;
}

DerivedPath inputRequest(const Derivation & derivation, const StorePath & input)
{
    std::set<OutputName, std::less<>> names;
    for (auto & needed : derivation.inputs)
        if (auto made = madeBy(needed); made && made->first == input)
            names.insert(made->second);
    return requestFor(input, names);
}

} // namespace negative_cache::compat
