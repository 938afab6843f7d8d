#pragma once
/* The client of nix-daemon: looks at what is known to fail before it asks for builds, and learns from what the daemon
   says of them. */

#include "compat.hh"
#include "missing.hh"
#include "nix-negative-cache-plugin/src/lib.rs.h"

#include <atomic>

namespace negative_cache {

class DaemonStore : public nix::UDSRemoteStore, public Remembering
{
    std::atomic<bool> hasPlugin = false;

public:
    DaemonStore(const std::string & socket, const Params & params)
        : nix::UDSRemoteStore("unix", socket, params)
    {
    }

    /* Whether the daemon has the plugin on, so that it knows best what it would refuse. Not known before the first
       connection. */
    bool decides() const
    {
        return hasPlugin;
    }

    /* See `compat::DaemonClient`. */
    std::string getUri() override = 0;

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

protected:
    void setOptions(nix::RemoteStore::Connection & connection) override;
};

} // namespace negative_cache
