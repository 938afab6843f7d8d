#pragma once
/* The protocol of nix-daemon. */

#include "nix.hh"

namespace negative_cache::compat {

/* Keeps the plugins of a client from the daemon, for as long as it lives. Until 2.13 clients name them, and newer daemons
   complain. */
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

/* Asks a daemon whether a path is valid, past all that is remembered on this side. What it says is an error is not valid. */
bool askValidity(nix::RemoteStore::Connection & connection, const std::string & path);

/* Whether a daemon has an answer for each of several requests (`BuildPathsWithResults`). */
bool tellsResults(nix::Store & store);

} // namespace negative_cache::compat
