#pragma once
/* The plugin's settings, and their precedence. Rust decides what they mean. */

#include "command_line.hh"
#include "compat.hh"

#include <deque>

#include "nix-negative-cache-plugin/src/bridge.rs.h"

namespace negative_cache {

class Settings : public nix::Config
{
    /* Nix keeps pointers to settings, so a setting must not move once it is made. A deque does not move its elements. */
    std::deque<nix::Setting<bool>> switches;
    std::deque<nix::Setting<uint64_t>> numbers;
    std::deque<compat::CheckedSetting> texts;
    const compat::CheckedSetting * databaseSetting = nullptr;
    std::string hookWhenLoaded;

    friend bool registerSettings();

public:
    /* Makes the settings of the table in core/src/settings.rs. The first one of the table is `negative-cache`. */
    Settings();

    /* Whether the plugin is on. */
    bool isOn() const
    {
        return switches.front();
    }

    /* `negative-cache`: the name of the setting that turns the plugin on, with which the names of all its settings
       begin. */
    const std::string & prefix() const
    {
        return switches.front().name;
    }

    /* The path of the database file; empty for the store's own. */
    const std::string & database() const
    {
        return databaseSetting->get();
    }

    /* The path of the program that is started after a failure was recorded; empty for none. This is the value that the
       configuration and the command line of this process give. What others say later has no say in what this user runs: a
       flake whose settings are accepted, or the client of a daemon. */
    const std::string & hook() const
    {
        return hookWhenLoaded;
    }
};

/* The settings. `registerSettings` must have run before. */
Settings & settings();

/* Makes the settings known to Nix, with the values that the configuration gives them. Returns whether `negative-cache`
   is on. The setting itself gets its value later, when Nix has loaded all plugins. */
bool registerSettings();

/* Whether the user switched the plugin off: a configuration that comes earlier turned it on, and a later one turned it
   off. */
bool isSwitchedOff();

/* Whether this process serves clients, as nix-daemon does. */
bool servesClients();

/* What this process does after it has asked a store what a request would build. It is only known of the thread that runs the
   command: others may serve a builder that uses Nix itself. */
NextStep nextStep();

} // namespace negative_cache
