#pragma once
/* The answer of `builtins.knownFailure`, whichever of Nix's interfaces the function itself is written for. */

#include "compat.hh"

#include "nix-negative-cache-plugin/src/bridge.rs.h"

namespace negative_cache {

/* What is known of the last failure of a derivation, as JSON; empty if nothing is. `paths` are the path of the derivation,
   and that of its output as far as that is known without the store. */
rust::String knownFailure(nix::Store & store, rust::Vec<rust::String> paths);

} // namespace negative_cache
