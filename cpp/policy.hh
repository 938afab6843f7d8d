#pragma once
/* The policy for requests to a store: the settings in force, the databases, and the user who makes the requests. */

#include "compat.hh"

#include "nix-negative-cache-plugin/src/bridge.rs.h"

namespace negative_cache {

/* The policy for requests to a store. */
rust::Box<core::Policy> policyFor(nix::Store & store);

/* The policy for requests to a daemon, as far as the client knows it without asking the daemon. */
rust::Box<core::Policy> policyForDaemon(nix::Store & daemon);

} // namespace negative_cache
