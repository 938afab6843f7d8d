#pragma once
/* All that differs between versions of Nix: one name for each thing that the versions spell differently. Only the files
   of compat/ have conditionals on a version, of a few lines each; the newest Nix comes first. Where versions differ in more,
   there is a file for each: the name of its folder tells the versions that it is for (build.rs). */

#include "compat/binary_caches.hh"
#include "compat/build.hh"
#include "compat/build_events.hh"
#include "compat/builder_with_next.hh"
#include "compat/daemon.hh"
#include "compat/derivations.hh"
#include "compat/evaluation.hh"
#include "compat/goals.hh"
#include "compat/late_refusal_hooks.hh"
#include "compat/messages.hh"
#include "compat/nix.hh"
#include "compat/results.hh"
#include "compat/settings.hh"
#include "compat/store.hh"
#include "compat/store_database.hh"
