#pragma once
/* The plugin's settings, and their precedence. What they mean is decided in Rust. */

#include "compat.hh"
#include "nix-negative-cache-plugin/src/lib.rs.h"

namespace negative_cache {

struct Settings : nix::Config
{
    Settings();

    nix::Setting<bool> enable;
    nix::Setting<bool> retry;
    compat::CheckedSetting action;
    compat::CheckedSetting database;
    nix::Setting<uint64_t> ttl;
    nix::Setting<uint64_t> maxTtl;
    compat::CheckedSetting minFailures;
    compat::CheckedSetting transientExitCodes;
    nix::Setting<bool> timeouts;
    nix::Setting<bool> fixedOutput;
    nix::Setting<uint64_t> maxRecords;
};

/* The settings, once `registerSettings` ran. */
Settings & settings();

/* Makes the settings known to Nix, with the values that the configuration gives them. Returns whether `negative-cache`
   is on, which the setting itself says only once Nix has gone on. */
bool registerSettings();

/* Whether it is off although a configuration that comes before says that it is on: somebody wants to do without. */
bool isSwitchedOff();

/* Whether this process does what clients ask for. */
bool servesClients();

} // namespace negative_cache
