#pragma once
/* The only place that knows more than one Nix: a name for everything that its versions spell differently. No other file
   has a conditional on a version; in these, the newest Nix comes first. */

#include "compat/build.hh"
#include "compat/build_events.hh"
#include "compat/builder.hh"
#include "compat/daemon.hh"
#include "compat/derivations.hh"
#include "compat/evaluation.hh"
#include "compat/goals.hh"
#include "compat/messages.hh"
#include "compat/nix.hh"
#include "compat/results.hh"
#include "compat/settings.hh"
#include "compat/store.hh"
