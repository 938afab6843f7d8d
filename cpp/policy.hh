#pragma once
/* What is in force for the requests that this process makes of a store: settings, databases, and who makes them. */

#include "compat.hh"

#include "nix-negative-cache-plugin/src/bridge.rs.h"

namespace negative_cache {

/* What is in force for a store. */
rust::Box<core::Policy> policyFor(nix::Store & store);

/* What is in force for a daemon, as far as this side knows without asking it. */
rust::Box<core::Policy> policyForDaemon(nix::Store & daemon);

} // namespace negative_cache
