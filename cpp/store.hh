#pragma once
/* The store that every build of this process goes through: Nix's local store, which looks at what is known to fail
   before it builds. */

#include "compat.hh"
#include "missing.hh"
#include "nix-negative-cache-plugin/src/lib.rs.h"

namespace negative_cache {

class LocalStore : public nix::LocalStore, public Remembering
{
public:
    explicit LocalStore(const Params & params)
        : StoreConfig(params)
        , LocalFSStoreConfig(params)
        , LocalStoreConfig(params)
        , Store(params)
        , LocalFSStore(params)
        , nix::LocalStore(params)
    {
    }

    void buildPaths(
        const std::vector<nix::DerivedPath> & requests,
        nix::BuildMode mode,
        std::shared_ptr<nix::Store> evalStore) override;

    compat::BuildResults buildPathsWithResults(
        const std::vector<nix::DerivedPath> & requests,
        nix::BuildMode mode,
        std::shared_ptr<nix::Store> evalStore) override;

    nix::BuildResult buildDerivation(
        const nix::StorePath & path, const nix::BasicDerivation & derivation, nix::BuildMode mode) override;

    void queryMissing(
        const std::vector<nix::DerivedPath> & targets,
        nix::StorePathSet & willBuild,
        nix::StorePathSet & willSubstitute,
        nix::StorePathSet & unknown,
        uint64_t & downloadSize,
        uint64_t & narSize) override;

    bool isValidPathUncached(const nix::StorePath & path) override;

    void queryRealisationUncached(
        const nix::DrvOutput & id,
        nix::Callback<std::shared_ptr<const nix::Realisation>> callback) noexcept override;
};

/* If `on`, makes Nix open `LocalStore` wherever it would open its own local store. */
void registerStore(bool on);

} // namespace negative_cache
