#pragma once
/* What the core counts: refusals, and builds that failed. */

#include "compat.hh"

#include "nix-negative-cache-plugin/src/bridge.rs.h"

namespace negative_cache {

/* The refusal of a single derivation, and how it is counted if it comes to that. */
struct SingleRefusal
{
    compat::Refusal refusal;
    rust::Vec<core::RefusedDerivation> counted;
};

/* Counts refusals. Nothing that goes wrong with that is an error of the request. */
void countRefusals(const core::Policy & policy, const rust::Vec<core::RefusedDerivation> & refused);

/* Writes what was counted at the end of its scope, which is the end of a request: the worker is gone, and has printed what it had
   to say. A request that follows at once leaves it to a later one, or to the end of the process. The end of
   its store would not do: in 2.34, a daemon's process for a connection exits without closing the store. */
class CountsOfRequest
{
    const core::Policy & policy;

public:
    explicit CountsOfRequest(const core::Policy & policy);
    ~CountsOfRequest();
    CountsOfRequest(const CountsOfRequest &) = delete;
};

} // namespace negative_cache
