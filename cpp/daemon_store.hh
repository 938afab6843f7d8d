#pragma once
/* The client of nix-daemon: looks at what is known to fail before it asks for builds, and learns from what the daemon
   says of them. */

#include "compat.hh"
#include "missing.hh"
#include "nix-negative-cache-plugin/src/lib.rs.h"

#include <atomic>
#include <functional>

namespace negative_cache {

/* What is different from Nix's own client, see `compat::DaemonStoreWith`. */
class DaemonStore : public Remembering
{
    std::atomic<bool> hasPlugin = false;

public:
    /* Whether the daemon has the plugin on, so that it knows best what it would refuse. Not known before the first
       connection. */
    bool decides() const
    {
        return hasPlugin;
    }

protected:
    void buildPaths(
        nix::UDSRemoteStore & store,
        const std::vector<nix::DerivedPath> & requests,
        nix::BuildMode mode,
        const std::shared_ptr<nix::Store> & evalStore);

    compat::BuildResults buildPathsWithResults(
        nix::UDSRemoteStore & store,
        const std::vector<nix::DerivedPath> & requests,
        nix::BuildMode mode,
        const std::shared_ptr<nix::Store> & evalStore);

    nix::BuildResult buildDerivation(
        nix::UDSRemoteStore & store,
        const nix::StorePath & path,
        const nix::BasicDerivation & derivation,
        nix::BuildMode mode);

    /* Calls `setNixs`, which tells the daemon Nix's own options. */
    void setOptions(
        nix::UDSRemoteStore & store,
        nix::RemoteStore::Connection & connection,
        const std::function<void()> & setNixs);
};

} // namespace negative_cache
