#pragma once
/* What goes wrong in the plugin never ends a build: it is said and the build goes on as if the plugin were not there. */

#include "compat.hh"
#include "nix-negative-cache-plugin/src/lib.rs.h"

namespace negative_cache {

/* Warns of what the core could not do; it says so once per process. */
inline void report(const rust::String & trouble)
{
    if (!trouble.empty())
        nix::warn("%s", compat::plain(std::string(trouble)));
}

/* Runs `work`; an error in it is a warning. Being told to stop is none, and passes. */
template<typename Work>
void harmless(Work && work)
{
    try {
        work();
    } catch (nix::Interrupted &) {
        throw;
    } catch (std::exception & error) {
        nix::warn("negative cache: %s", compat::plain(error.what()));
    }
}

} // namespace negative_cache
