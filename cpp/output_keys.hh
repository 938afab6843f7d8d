#pragma once
/* What the outputs of a derivation are called, in the store and in records. */

#include "compat.hh"

#include "nix-negative-cache-plugin/src/bridge.rs.h"

namespace negative_cache {

/* The key by which a failure of `derivation` is recorded and found, for each output: its store path; or, where that follows
   from the output's content, the identity of its realisation (`DrvOutput`), which derivations that resolve to the same one
   share. Nothing if that is not known before the dependencies of the derivation are built. */
rust::Vec<core::OutputKey> outputKeys(nix::Store & store, const nix::Derivation & derivation);

/* The same without the names of the outputs. */
rust::Vec<rust::String> plainKeys(const rust::Vec<core::OutputKey> & outputs);

/* Whether an output is there. */
bool isValid(nix::Store & store, const core::OutputKey & output);

/* Whether all outputs are there, and there are any. This asks a daemon past all that is remembered of its answers. */
bool areBuilt(nix::Store & store, const rust::Vec<core::OutputKey> & outputs);

/* Whether an output of a derivation is valid or can be substituted, as far as anybody can tell. */
bool canBeHad(nix::Store & store, const nix::BasicDerivation & derivation, const core::OutputKey & output);

} // namespace negative_cache
