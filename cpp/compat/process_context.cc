#include "nix.hh"
#if NIX_AT_LEAST(2, 28)
#  include "nix/util/current-process.hh"
#elif NIX_AT_LEAST(2, 24)
#  include "current-process.hh"
#endif

/* For src/detached.rs. It runs in a process that shares the memory of this one, on behalf of a thread that sleeps meanwhile. */
extern "C" void negative_cache_restore_process_context() noexcept
{
    try {
        nix::restoreProcessContext();
    } catch (...) {
    }
}
