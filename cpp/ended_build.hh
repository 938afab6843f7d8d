#pragma once
/* Describes an ended build to the core, and tells the user and the hook how the core recorded it. */

#include "compat.hh"
#include "nix-negative-cache-plugin/src/bridge.rs.h"

namespace negative_cache {

/* The part of an `EndedBuild` that follows from the derivation and the state of this process. The caller adds how the
   build ended. */
core::EndedBuild endedBuild(nix::Store & store, const nix::StorePath & path, const nix::Derivation & derivation);

/* Whether an error of Nix says that a disk is full. Up to Nix 2.3, this is an error of its own, which names no
   derivation. */
bool saysDiskIsFull(std::string_view message);

/* Says why the failure of a derivation is not recorded. */
void sayNotRecorded(const std::string & derivation, const std::string & reason);

/* Starts the program that is to hear of a failure (`negative-cache-hook`), if the failure was recorded. Call this after the locks
   of the outputs are released. */
void startHook(const core::Policy & policy, const core::EndedBuild & ended, const core::Recorded & recorded);

/* Tells the user how the end of a build was recorded, if there is anything to tell. */
void sayRecorded(const core::EndedBuild & ended, const core::Recorded & recorded);

} // namespace negative_cache
