#pragma once
/* The keys by which the outputs of a derivation are found in the store and in records. */

#include "compat.hh"

#include "nix-negative-cache-plugin/src/bridge.rs.h"

namespace negative_cache {

/* The key of each output, by which a failure of `derivation` is recorded and found. The key is the store path of the
   output. If that path follows from the output's content, the key is the identity of the output's realisation
   (`DrvOutput`), which is the same for all derivations that resolve to the same one. There are no keys if they are not
   known before the dependencies of the derivation are built, or if the derivation is impure. */
rust::Vec<core::OutputKey> outputKeys(nix::Store & store, const nix::Derivation & derivation);

/* The keys alone, without the names of the outputs. */
rust::Vec<rust::String> plainKeys(const rust::Vec<core::OutputKey> & outputs);

/* Whether an output is valid. */
bool isValid(nix::Store & store, const core::OutputKey & output);

/* Whether there are outputs, and all of them are valid. For store paths this asks a daemon itself, not the client's
   cache of its answers. */
bool areBuilt(nix::Store & store, const rust::Vec<core::OutputKey> & outputs);

/* Whether a substituter has an output. `address` is that of its content, if it is fixed. */
bool isSubstitutable(nix::Store & store, const nix::StorePath & output, const std::optional<nix::ContentAddress> & address);

/* Whether an output of a derivation is valid or can be substituted, as far as the store can tell. */
bool canBeHad(nix::Store & store, const nix::Derivation & derivation, const core::OutputKey & output);

} // namespace negative_cache
