#include "../derivations.hh"

namespace negative_cache::compat {

using namespace nix;

std::optional<std::map<std::pair<StorePath, std::string>, StorePath>> neededOutputs(
    Store & store,
    const Derivation & derivation)
{
    std::map<std::pair<StorePath, std::string>, StorePath> needed;
    for (auto & [input, names] : derivation.inputDrvs) {
        if (!store.isValidPath(input))
            return std::nullopt;
        auto outputs = store.queryPartialDerivationOutputMap(input);
        for (auto & name : names) {
            auto output = outputs.find(name);
            if (output == outputs.end() || !output->second)
                return std::nullopt;
            needed.insert_or_assign({input, name}, *output->second);
        }
    }
    return needed;
}

StorePathSet inputDerivations(const Derivation & derivation)
{
    StorePathSet inputs;
    for (auto & [path, _] : derivation.inputDrvs)
        inputs.insert(path);
    return inputs;
}

DerivedPath inputRequest(const Derivation & derivation, const StorePath & input)
{
    return requestFor(input, derivation.inputDrvs.at(input));
}

} // namespace negative_cache::compat
