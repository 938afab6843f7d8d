#pragma once
/* Sees the builds of one Worker start and end. What becomes of an ended build is decided in Rust.

   Nix has no virtual function at which a goal reports how it ended. But each build announces itself to the logger
   (`actBuild`), and at that moment its goal can be had from the worker. The logger hears as well when the goal's result
   stands: by the progress that the goal reports when it is done (`Worker::updateProgress`), or, since 2.34, when the activity
   stops. The goal is not held meanwhile: when Nix drops it, it kills the builder and says what it keeps. */

#include "compat.hh"
#include "kept_locks.hh"

#include "nix-negative-cache-plugin/src/bridge.rs.h"

namespace negative_cache {

/* Watches the builds of a worker that is run in the thread which made the observer. The worker must have been made while there
   was a listening logger, as its activities stay with the logger they were made with. */
class BuildObserver : public compat::Listener
{
    nix::Store & store;
    nix::Worker & worker;
    const nix::BuildMode mode;
    const core::Policy & policy;
    /* Whether there is a new record. */
    bool recorded = false;

    struct Build
    {
        std::weak_ptr<compat::BuildingGoal> goal;
        nix::StorePath path;
        nix::Derivation derivation;
        /* The other machine that it is built on, if any. */
        std::string machine;
        /* Those that its log comes by. */
        std::set<nix::ActivityId> activities;
        rust::Box<core::RunningBuild> running;
        rust::Vec<rust::String> saidByHook;
        /* Whether it was built before in this run (`repeat` in Nix up to 2.11), and succeeded. */
        bool again;
        /* Until the end of the build is recorded. */
        std::unique_ptr<KeptLocks> locks;
    };

    std::vector<Build> running;
    /* The derivations whose end was judged, or said not to be recorded. */
    nix::StorePathSet settled;
    /* Excerpts of the errors that goals reported, if anybody wants to know. */
    std::vector<std::string> reported;

    void start(const compat::BuildStarted & started);
    void settleEnded();
    /* The goal is null if Nix gave it up. */
    void settle(Build & build, const compat::BuildingGoal * goal, core::Ending ending);
    /* Says why the failure that an error is about is not recorded: that of `path`, or else of what the error names. It is said
       once for each derivation, and not of those whose end was judged. Returns whether the error is explained. */
    bool explain(const std::string & error, std::optional<nix::StorePath> path = std::nullopt);

public:
    BuildObserver(nix::Store & store, nix::Worker & worker, nix::BuildMode mode, const core::Policy & policy);
    ~BuildObserver() override;

    void buildStarted(const compat::BuildStarted & build) noexcept override;
    void logLine(nix::ActivityId activity, std::string_view line) noexcept override;
    void progressed(nix::ActivityId activity) noexcept override;
    void activityEnded(nix::ActivityId activity) noexcept override;
    void errorLogged(std::string_view text) noexcept override;
    void errorReported(const nix::ErrorInfo & error) noexcept override;

    /* The worker has run these goals. Says why failures are not recorded of derivations that were not built. */
    void runEnded(const nix::Goals & goals);

    /* The worker gave up because of an error, which is that of the goal whose turn it was. */
    void runFailed(const nix::BaseError & error);
};

} // namespace negative_cache
