#pragma once
/* Locks on outputs that are kept until the end of a build is recorded. */

#include "compat.hh"

namespace negative_cache {

/* Nix locks the outputs that it builds, and gives the locks back before the end of the build can be recorded. Whoever
   waits for them must find the record: this keeps the locks that a goal has, until it is destroyed. */
class KeptLocks
{
    std::vector<nix::AutoCloseFD> descriptors;

public:
    explicit KeptLocks(const compat::BuildingGoal & goal);
};

} // namespace negative_cache
