#pragma once
/* The stores that Nix opens in the place of its own. */

#include "compat.hh"
#include "last_answer.hh"

#include <atomic>
#include <functional>

namespace negative_cache {

/* What is different from Nix's own local store; see `compat::LocalStoreWith`. */
class LocalStore : public Remembering
{
protected:
    using Builder = class LocalBuilder;

    /* Whether a path is valid that Nix says is `valid`. */
    bool isValidPath(nix::LocalStore & store, const nix::StorePath & path, bool valid);

    void askedForRealisation(nix::LocalStore & store, const nix::DrvOutput & id) noexcept;
};

/* What is different from Nix's own client of a daemon; see `compat::DaemonStoreWith`. */
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
    using Builder = class RemoteBuilder;

    /* Calls `setNixs`, which tells the daemon Nix's own options, and tells it the plugin's. */
    void setOptions(
        nix::RemoteStore & store,
        nix::RemoteStore::Connection & connection,
        const std::function<void()> & setNixs);
};

/* Makes Nix open these stores wherever it would open its own; if not `on`, only as far as they are needed then. */
void registerStores(bool on);

} // namespace negative_cache
