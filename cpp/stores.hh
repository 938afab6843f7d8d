#pragma once
/* The stores that Nix opens instead of its own. */

#include "compat.hh"
#include "what_is_missing.hh"

#include <atomic>
#include <functional>

namespace negative_cache {

class LocalBuilder;
class RemoteBuilder;

/* The differences from Nix's own local store; see `compat::LocalStoreWith`. */
class LocalStore : public Remembering
{
protected:
    using Builder = LocalBuilder;

    /* The answer to the question whether a path is valid. `valid` is Nix's own answer. */
    bool isValidPath(nix::LocalStore & store, const nix::StorePath & path, bool valid);

    void askedForRealisation(nix::LocalStore & store, const nix::DrvOutput & id) noexcept;
};

/* The differences from Nix's own client of a daemon; see `compat::DaemonStoreWith`. */
class DaemonStore : public Remembering
{
    std::atomic<bool> hasPlugin = false;
    /* Whether the daemon has answered a message of the plugin with an error. */
    std::atomic<bool> rejectsMessages = false;

public:
    /* Whether the daemon has the plugin turned on. If so, the daemon itself decides what to refuse. This is false before
       the first connection, because it is not known. */
    bool decides() const
    {
        return hasPlugin;
    }

protected:
    using Builder = RemoteBuilder;

    /* Calls `setNixs`, which sends Nix's own options to the daemon, and then sends the plugin's options. If the daemon does
       not like those, `startAgain` begins the protocol anew. */
    void setOptions(
        nix::RemoteStore & store,
        nix::RemoteStore::Connection & connection,
        const std::function<void()> & setNixs,
        const std::function<void()> & startAgain);
};

/* Makes Nix open these stores wherever it would open its own. If the plugin is not `on`, only those stores are replaced
   that are needed even so. */
void registerStores(bool on);

} // namespace negative_cache
