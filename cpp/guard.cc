#include "guard.hh"

#include <atomic>

namespace negative_cache {

std::exception_ptr & keptException()
{
    static thread_local std::exception_ptr kept;
    return kept;
}

void warnOf(const std::exception & error)
{
    if (dynamic_cast<const rust::Error *>(&error)) {
        nix::warn("%s", compat::plain(error.what()));
        return;
    }
    static std::atomic<bool> warned = false;
    if (!warned.exchange(true))
        nix::warn("negative cache: %s", compat::plain(error.what()));
}

} // namespace negative_cache
