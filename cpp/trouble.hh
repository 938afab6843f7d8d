#pragma once
/* What goes wrong in the plugin never ends a build: it is said and the build goes on as if the plugin were not there. */

#include "compat.hh"
#include "nix-negative-cache-plugin/src/lib.rs.h"

#include <atomic>

namespace negative_cache {

/* Warns of what the core could not do; it says so once per process. */
inline void report(const rust::String & trouble)
{
    if (!trouble.empty())
        nix::warn("%s", compat::plain(std::string(trouble)));
}

inline void warnOfFirst(const std::exception & error)
{
    static std::atomic<bool> warned = false;
    if (!warned.exchange(true))
        nix::warn("negative cache: %s", compat::plain(error.what()));
}

/* Runs `work`; the first error in this process is a warning. Being told to stop is none, and passes. */
template<typename Work>
void harmless(Work && work)
{
    try {
        work();
    } catch (nix::Interrupted &) {
        throw;
    } catch (std::exception & error) {
        warnOfFirst(error);
    }
}

} // namespace negative_cache
