#include "kept_locks.hh"

#include <fcntl.h>

namespace negative_cache {

KeptLocks::KeptLocks(const compat::BuildingGoal & goal)
{
    /* A lock (flock(2)) belongs to the open file, so that a duplicate of the descriptor holds it as well. */
    for (auto descriptor : compat::lockDescriptors(goal))
        if (nix::AutoCloseFD duplicate{::fcntl(descriptor, F_DUPFD_CLOEXEC, 0)}; duplicate)
            descriptors.push_back(std::move(duplicate));
}

} // namespace negative_cache
