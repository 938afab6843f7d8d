#pragma once
/* Learns from what a daemon says how its builds end. There is no goal on this side: that a build failed is in messages
   only, and that it succeeded shows in its outputs. */

#include "compat.hh"
#include "eavesdropping.hh"
#include "nix-negative-cache-plugin/src/lib.rs.h"

namespace negative_cache {

/* Watches what a daemon does for requests of this thread. */
class DaemonObserver : public Listener
{
    nix::Store & store;
    const nix::BuildMode mode;
    const core::Policy & policy;

    struct Build
    {
        std::string machine;
        /* Whether it was built before for the same request (`repeat` in Nix up to 2.11), and succeeded. */
        bool again = false;
        rust::Box<core::RunningBuild> running;
    };

    std::map<nix::StorePath, Build> builds;
    /* Which build the log lines of an activity are of. */
    std::map<nix::ActivityId, nix::StorePath> activities;
    std::vector<std::string> errors;
    /* Whether one of them may name an output in the place of a derivation. */
    bool namesOutputs = false;
    size_t sizeOfErrors = 0;
    Eavesdropping eavesdropping;

    /* The errors that name any of these. */
    rust::Vec<rust::String> errorsAbout(const nix::StringSet & names) const;
    /* Returns whether there is a new record. */
    bool settle(const nix::StorePath & path, const Build & build, bool successesMatter);

public:
    DaemonObserver(nix::Store & store, nix::BuildMode mode, const core::Policy & policy);

    void activityStarted(
        nix::ActivityId activity,
        nix::ActivityType type,
        const nix::Logger::Fields & fields,
        nix::ActivityId parent) override;
    void activityResult(nix::ActivityId activity, nix::ResultType type, const nix::Logger::Fields & fields) override;
    void errorLogged(std::string_view text) override;

    /* Whether an error was about the end of a builder. */
    bool heardOfFailures() const
    {
        return !errors.empty();
    }

    /* Records how the builds ended, once the daemon has answered. */
    void settle();
};

} // namespace negative_cache
