#pragma once
/* What the core is told of a build that has ended, and what is said of that. */

#include "compat.hh"
#include "nix-negative-cache-plugin/src/bridge.rs.h"

namespace negative_cache {

/* What the derivation and this process tell of a build. How it ended is for the caller to add. */
core::EndedBuild endedBuild(nix::Store & store, const nix::StorePath & path, const nix::Derivation & derivation);

/* Says why the failure of a derivation is not recorded. */
void sayNotRecorded(const std::string & derivation, const std::string & reason);

/* Says what there is to say of how the end of a build was recorded. */
void sayRecorded(const core::EndedBuild & ended, const core::Recorded & recorded);

} // namespace negative_cache
