#include "../derivations.hh"

namespace negative_cache::compat {

using namespace nix;

using Needed = std::map<std::pair<StorePath, std::string>, StorePath>;

/* Adds to `needed` the paths that `tryResolve` will ask for. Returns whether all of them are known. */
static bool findOutputs(
    Store & store,
    const StorePath & input,
    const DerivedPathMap<StringSet>::ChildNode & node,
    Needed & needed)
{
    auto outputs = store.queryPartialDerivationOutputMap(input);
    auto find = [&](const std::string & name) {
        auto output = outputs.find(name);
        if (output == outputs.end() || !output->second)
            return false;
        needed.insert_or_assign({input, name}, *output->second);
        return true;
    };
    for (auto & name : node.value)
        if (!find(name))
            return false;
    for (auto & [name, child] : node.childMap)
        if (!find(name) || !store.isValidPath(needed.at({input, name}))
            || !findOutputs(store, needed.at({input, name}), child, needed))
            return false;
    return true;
}

std::optional<Needed> neededOutputs(Store & store, const Derivation & derivation)
{
    Needed needed;
    for (auto & [input, node] : derivation.inputDrvs.map)
        if (!store.isValidPath(input) || !findOutputs(store, input, node, needed))
            return std::nullopt;
    return needed;
}

StorePathSet inputDerivations(const Derivation & derivation)
{
    StorePathSet inputs;
    for (auto & [path, _] : derivation.inputDrvs.map)
        inputs.insert(path);
    return inputs;
}

DerivedPath inputRequest(const Derivation & derivation, const StorePath & input)
{
    auto & outputs = derivation.inputDrvs.map.at(input).value;
    /* There are no names if `input` makes derivations and only the outputs of those are needed. */
    return outputs.empty() ? requestFor(input) : requestFor(input, outputs);
}

} // namespace negative_cache::compat
