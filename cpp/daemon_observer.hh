#pragma once
/* Learns from the messages of a daemon how its builds end. A client has no goals: only messages tell that a build
   failed, and only its outputs tell that it succeeded. */

#include "compat.hh"

#include "nix-negative-cache-plugin/src/bridge.rs.h"

namespace negative_cache {

/* Watches the builds that a daemon runs for the requests of this thread. */
class DaemonObserver : public compat::Listener
{
    nix::Store & store;
    const nix::BuildMode mode;
    const core::Policy & policy;

    struct Build
    {
        /* The other machine that the daemon asked to build it; empty if the daemon builds it. */
        std::string machine;
        /* The machine that the other machine asked in its turn; empty if that one builds it itself. */
        std::string delegate;
        /* Whether this build repeats one that succeeded for the same request (`repeat` in Nix up to 2.11). */
        bool again = false;
        rust::Box<core::RunningBuild> running;
    };

    std::map<nix::StorePath, Build> builds;
    /* The derivations that the daemon gets with the request. The store may not have them. */
    std::map<nix::StorePath, nix::Derivation> derivations;
    /* The derivation whose build an activity belongs to. */
    std::map<nix::ActivityId, nix::StorePath> activities;
    std::vector<std::string> errors;
    /* For the base name of a store path, the indexes in `errors` of the errors that name this path. */
    using ErrorsByName = std::map<std::string, std::vector<size_t>, std::less<>>;
    /* The first error that says that a disk is full; empty if there is none. It may name no derivation. */
    std::string diskIsFull;
    /* Whether any of `errors` may name an output instead of a derivation. */
    bool namesOutputs = false;
    size_t sizeOfErrors = 0;
    compat::ListeningLogger logger;

    void start(const compat::BuildStarted & started);
    /* Keeps `text`, which is an excerpt of an error, if it is about the end of a build. */
    void keep(std::string && text);
    ErrorsByName errorsByName() const;
    /* Records how one build ended. Returns whether a new record was written. */
    bool settle(const nix::StorePath & path, const Build & build, const ErrorsByName & errors, bool successesMatter);

public:
    DaemonObserver(nix::Store & store, nix::BuildMode mode, const core::Policy & policy);

    void buildStarted(const compat::BuildStarted & build) override;
    void logLine(nix::ActivityId activity, std::string_view line) override;
    void errorLogged(std::string_view text) override;

    /* The daemon is about to be asked to build this derivation. The store may not have it. */
    void expect(const nix::StorePath & path, nix::Derivation && derivation)
    {
        derivations.insert_or_assign(path, std::move(derivation));
    }

    /* Whether any error was about the end of a build. */
    bool heardOfFailures() const
    {
        return !errors.empty();
    }

    /* Records how the builds ended. This is called when the daemon has answered. */
    void settle();
};

} // namespace negative_cache
