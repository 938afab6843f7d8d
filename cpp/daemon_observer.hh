#pragma once
/* Learns from what a daemon says how its builds end. There is no goal on this side: that a build failed is in messages
   only, and that it succeeded shows in its outputs. */

#include "compat.hh"

#include "nix-negative-cache-plugin/src/bridge.rs.h"

namespace negative_cache {

/* Watches what a daemon does for requests of this thread. */
class DaemonObserver : public compat::Listener
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
    /* Those that the store may not have. */
    std::map<nix::StorePath, nix::Derivation> derivations;
    /* Which build the log lines of an activity are of. */
    std::map<nix::ActivityId, nix::StorePath> activities;
    std::vector<std::string> errors;
    /* The indexes of errors by the base names of the store paths that they name. */
    using ErrorsByName = std::map<std::string, std::vector<size_t>, std::less<>>;
    /* Whether one of them may name an output in the place of a derivation. */
    bool namesOutputs = false;
    size_t sizeOfErrors = 0;
    compat::ListeningLogger logger;

    void start(const compat::BuildStarted & started);
    /* Keeps an excerpt of an error if it is about the end of a builder. */
    void keep(std::string && text);
    ErrorsByName errorsByName() const;
    /* Returns whether there is a new record. */
    bool settle(const nix::StorePath & path, const Build & build, const ErrorsByName & errors, bool successesMatter);

public:
    DaemonObserver(nix::Store & store, nix::BuildMode mode, const core::Policy & policy);

    void buildStarted(const compat::BuildStarted & build) noexcept override;
    void logLine(nix::ActivityId activity, std::string_view line) noexcept override;
    void errorLogged(std::string_view text) noexcept override;

    /* The daemon is about to be asked to build this derivation, which may not be in the store. */
    void expect(const nix::StorePath & path, nix::Derivation && derivation)
    {
        derivations.insert_or_assign(path, std::move(derivation));
    }

    /* Whether an error was about the end of a builder. */
    bool heardOfFailures() const
    {
        return !errors.empty();
    }

    /* Records how the builds ended, once the daemon has answered. */
    void settle();
};

} // namespace negative_cache
