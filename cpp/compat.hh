#pragma once
/* All that differs between versions of Nix: one name for each thing that the versions spell differently. Only the files
   of compat/ have conditionals on a version. In each conditional, the newest Nix comes first. */

#include "compat/build.hh"
#include "compat/build_events.hh"
#include "builder.hh"
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
