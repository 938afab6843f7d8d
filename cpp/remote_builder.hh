#pragma once
/* Lets a daemon build: refuses known failures before the daemon is asked, and learns from the daemon's messages how its
   builds end. */

#include "compat.hh"

#include "nix-negative-cache-plugin/src/bridge.rs.h"

namespace negative_cache {

class RemoteBuilder : public compat::BuilderWithNext
{
    nix::RemoteStore & store;

public:
    RemoteBuilder(nix::RemoteStore & store, const std::shared_ptr<nix::Store> & evalStore, compat::Builder & next)
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
