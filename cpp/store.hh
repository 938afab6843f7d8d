#pragma once
/* The store that every build of this process goes through: Nix's local store, which looks at what is known to fail
   before it builds. */

#include "compat.hh"
#include "missing.hh"
#include "nix-negative-cache-plugin/src/lib.rs.h"

namespace negative_cache {

/* What is different from Nix's own local store, see `compat::LocalStoreWith`. */
class LocalStore : public Remembering
{
protected:
    void buildPaths(
        nix::LocalStore & store,
        const std::vector<nix::DerivedPath> & requests,
        nix::BuildMode mode,
        const std::shared_ptr<nix::Store> & evalStore);

    compat::BuildResults buildPathsWithResults(
        nix::LocalStore & store,
        const std::vector<nix::DerivedPath> & requests,
        nix::BuildMode mode,
        const std::shared_ptr<nix::Store> & evalStore);

    nix::BuildResult buildDerivation(
        nix::LocalStore & store,
        const nix::StorePath & path,
        const nix::BasicDerivation & derivation,
        nix::BuildMode mode);

    /* Whether a path is valid that Nix says is `valid`. */
    bool isValidPath(nix::LocalStore & store, const nix::StorePath & path, bool valid);

    void askedForRealisation(nix::LocalStore & store, const nix::DrvOutput & id) noexcept;
};

/* If `on`, makes Nix open `LocalStore` wherever it would open its own local store. */
void registerStore(bool on);

} // namespace negative_cache
