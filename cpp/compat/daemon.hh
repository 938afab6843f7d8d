#pragma once
/* The protocol of nix-daemon. */

#include "nix.hh"

namespace negative_cache::compat {

/* While an object of this class lives, the client does not tell a daemon which plugins it loads. Up to 2.13 clients tell
   that, and newer daemons complain about it. */
class PluginsStayHere
{
#if !NIX_AT_LEAST(2, 14)
    bool & overridden = nix::settings.pluginFiles.overridden;
    const bool before = std::exchange(overridden, false);

public:
    ~PluginsStayHere()
    {
        overridden = before;
    }
#endif
};

/* Asks a daemon whether a path is valid, without a look at the client's cache of its answers. Nothing if the daemon answers
   with an error: it may have another store directory or other rules for paths. Then it closes the connection. */
std::optional<bool> askValidity(nix::RemoteStore::Connection & connection, const std::string & path);

/* Puts a new socket in the place of one that the daemon has closed. The protocol has to begin anew. */
void reconnect(nix::RemoteStore & store, nix::RemoteStore::Connection & connection);

/* Whether a daemon reports a result for each of several requests (`BuildPathsWithResults`). */
bool tellsResults(nix::Store & store);

} // namespace negative_cache::compat
