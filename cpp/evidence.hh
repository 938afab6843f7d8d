#pragma once
/* What the core is told of a build that ended. */

#include "compat.hh"
#include "nix-negative-cache-plugin/src/lib.rs.h"

namespace negative_cache {

/* What the derivation and this process say of it; how it ended is for the caller to add. */
core::EndedBuild evidence(nix::Store & store, const nix::StorePath & path, const nix::Derivation & derivation);

/* Has the core record how a build ended, and says if need be why it does not. Returns whether it recorded a failure. */
bool record(const core::Policy & policy, const core::EndedBuild & ended, const core::RunningBuild & running);

} // namespace negative_cache
