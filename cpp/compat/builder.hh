#pragma once
/* A builder builds for a store. Since 2.36 Nix has this class itself, and a store gives one out (`Store::getBuilder`).
   Older stores have three virtual functions of their own instead, which do the same. */

#include "nix.hh"

namespace negative_cache::compat {

#if NIX_AT_LEAST(2, 26)
using BuildResults = std::vector<nix::KeyedBuildResult>;
#else
using BuildResults = std::vector<nix::BuildResult>;
#endif

#if NIX_AT_LEAST(2, 36)
using Builder = nix::Builder;
#else
class Builder
{
public:
    virtual void buildPaths(const std::vector<nix::DerivedPath> & requests, nix::BuildMode mode) = 0;

    virtual BuildResults buildPathsWithResults(const std::vector<nix::DerivedPath> & requests, nix::BuildMode mode) = 0;

    virtual nix::BuildResult buildDerivation(
        const nix::StorePath & path,
        const nix::BasicDerivation & derivation,
        nix::BuildMode mode) = 0;

    virtual ~Builder() = default;
};

/* Builds in the same way as `Nixs`, one of Nix's classes of stores. */
template<typename Nixs>
class NixsBuilder : public Builder
{
    Nixs & store;
    const std::shared_ptr<nix::Store> evalStore;

public:
    NixsBuilder(Nixs & store, const std::shared_ptr<nix::Store> & evalStore)
        : store(store)
        , evalStore(evalStore)
    {
    }

    void buildPaths(const std::vector<nix::DerivedPath> & requests, nix::BuildMode mode) override
    {
        store.Nixs::buildPaths(requests, mode, evalStore);
    }

    BuildResults buildPathsWithResults(const std::vector<nix::DerivedPath> & requests, nix::BuildMode mode) override
    {
        return store.Nixs::buildPathsWithResults(requests, mode, evalStore);
    }

    nix::BuildResult buildDerivation(
        const nix::StorePath & path,
        const nix::BasicDerivation & derivation,
        nix::BuildMode mode) override
    {
        return store.Nixs::buildDerivation(path, derivation, mode);
    }
};
#endif

} // namespace negative_cache::compat
