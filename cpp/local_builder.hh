#pragma once
/* Builds for a local store: refuses known failures first, and records how builds end. */

#include "compat.hh"

#include "nix-negative-cache-plugin/src/bridge.rs.h"

namespace negative_cache {

class LocalBuilder : public compat::BuilderWithNext
{
    nix::LocalStore & store;

    template<typename Finish>
    auto build(
        const std::vector<nix::DerivedPath> & requests,
        nix::BuildMode mode,
        nix::Store & evalStore,
        Finish && finish);

public:
    LocalBuilder(nix::LocalStore & store, const std::shared_ptr<nix::Store> & evalStore, compat::Builder & next)
        : BuilderWithNext(evalStore, next)
        , store(store)
    {
    }

    void buildPaths(const std::vector<nix::DerivedPath> & requests, nix::BuildMode mode) override;

    compat::BuildResults buildPathsWithResults(const std::vector<nix::DerivedPath> & requests, nix::BuildMode mode)
        override;

    nix::BuildResult buildDerivation(
        const nix::StorePath & path,
        const nix::BasicDerivation & derivation,
        nix::BuildMode mode) override;
};

} // namespace negative_cache
