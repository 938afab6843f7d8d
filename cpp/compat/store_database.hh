#pragma once
/* Nix's own database of a local store. Most of what is in it can be asked of the store, but only one path at a time. It is
   read over the connection of the store: with a second copy of SQLite, closing the file would drop Nix's locks. */

#include "nix.hh"

namespace negative_cache::compat {

/* The derivations that may have to be built for `requested`, in the order of paths: all of `requested`, and of what these need,
   each derivation that has an output which is not valid, until derivations are reached that are built. It is more than Nix
   would build: outputs that nobody wants count, and nobody is asked for substitutes. Nothing if the store has no database, or
   if a path of an output is not in it because it follows from the content. */
std::optional<nix::StorePaths> unbuiltDerivations(nix::Store & store, const nix::StorePathSet & requested);

/* Whether the store has any of these paths. True if it has no database that tells. */
bool hasAny(nix::Store & store, const nix::StorePaths & paths);

} // namespace negative_cache::compat
