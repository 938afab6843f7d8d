#pragma once
/* What the outputs of a derivation are called, in the store and in records. */

#include "compat.hh"
#include "nix-negative-cache-plugin/src/lib.rs.h"

namespace negative_cache {

/* By what a failure of `derivation` is recorded and found, for each output: its store path; or, where that follows from
   the output's content, the identity of its realisation (`DrvOutput`), which derivations that resolve to the same one
   share. Nothing if that is not known before the dependencies of the derivation are built. */
rust::Vec<core::Output> outputKeys(nix::Store & store, const nix::Derivation & derivation);

/* The same without the names of the outputs. */
rust::Vec<rust::String> plainKeys(const rust::Vec<core::Output> & keys);

/* Whether an output is there. */
bool isValid(nix::Store & store, const core::Output & key);

/* Whether all outputs are there, and there are any; past what is remembered of a daemon's answers. */
bool areBuilt(nix::Store & store, const rust::Vec<core::Output> & keys);

/* Whether an output of a derivation is valid or can be substituted, as far as anybody can tell. */
bool canBeHad(nix::Store & store, const nix::BasicDerivation & derivation, const core::Output & key);

/* Nix locks the outputs that it builds, and gives the locks back before the end of the build can be recorded. Whoever
   waits for them must find the record: this keeps the locks that a goal has, until it is destroyed. */
class KeptLocks
{
    std::vector<nix::AutoCloseFD> descriptors;

public:
    explicit KeptLocks(const compat::BuildingGoal & goal);
};

} // namespace negative_cache
