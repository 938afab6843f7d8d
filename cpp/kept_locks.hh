#pragma once
/* Locks on outputs that are kept until the end of a build is recorded. */

#include "compat.hh"

namespace negative_cache {

/* Nix locks the outputs that it builds, and releases the locks before the plugin can record the end of the build. A
   process that waits for the locks must find the record. So this class keeps the locks of a goal until it is destroyed. */
class KeptLocks
{
    std::vector<nix::AutoCloseFD> descriptors;

public:
    explicit KeptLocks(const compat::BuildingGoal & goal);
};

} // namespace negative_cache
