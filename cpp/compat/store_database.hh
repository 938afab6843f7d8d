#pragma once
/* Nix's own database of a local store. Most of what is in it can be asked of the store, but only one path at a time. It is
   read over the connection of the store: with a second copy of SQLite, closing the file would drop Nix's locks. */

#include "nix.hh"

namespace negative_cache::compat {

/* The derivations that may have to be built for `requested`, in the order of paths: all of `requested`, and what these need,
   down to the first derivations of which all outputs are valid. It is more than Nix would build: outputs that nobody wants
   count, and nobody is asked for substitutes. Nothing if the store has no database, or if a path of an output is not in it
   because it follows from the content. */
std::optional<nix::StorePaths> unbuiltDerivations(nix::Store & store, const nix::StorePathSet & requested);

/* Whether any of `requested` may need any of `derivations`, directly or not. False if that is certain. */
bool mayNeed(nix::Store & store, const nix::StorePathSet & requested, const nix::StorePaths & derivations);

} // namespace negative_cache::compat
