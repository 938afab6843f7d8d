#pragma once
/* The plugin's settings, and their precedence. What they mean is decided in Rust. */

#include "compat.hh"

#include <deque>

#include "nix-negative-cache-plugin/src/bridge.rs.h"

namespace negative_cache {

class Settings : public nix::Config
{
    /* Settings stay where they are made. */
    std::deque<nix::Setting<bool>> switches;
    std::deque<nix::Setting<uint64_t>> numbers;
    std::deque<compat::CheckedSetting> texts;
    const compat::CheckedSetting * databaseSetting = nullptr;

public:
    /* Makes those of the table in core/src/settings.rs, of which the first one is `negative-cache`. */
    Settings();

    /* Whether the plugin is on. */
    bool isOn() const
    {
        return switches.front();
    }

    /* The name of the setting that says so, with which the names of all begin. */
    const std::string & prefix() const
    {
        return switches.front().name;
    }

    /* The path of the database file; empty for the store's own. */
    const std::string & database() const
    {
        return databaseSetting->get();
    }
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
