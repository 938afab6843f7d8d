#pragma once
/* Watches the builds of one Worker start and end. Rust decides what becomes of an ended build.

   Nix has no virtual function by which a goal reports how it ended. But each build announces itself to the logger
   (`actBuild`), and at that moment the observer can get its goal from the worker. The logger also hears when the result
   of a goal is final: by the progress that the goal reports when it is done (`Worker::updateProgress`) or, since 2.34,
   by the end of its activity. The observer does not keep the goal alive in between. When Nix drops a goal, the goal must
   be destroyed, because that kills the builder and prints which build directory is kept. */

#include "compat.hh"
#include "kept_locks.hh"

#include "nix-negative-cache-plugin/src/bridge.rs.h"

namespace negative_cache {

/* Watches the builds of a worker. The worker must run in the thread that made the observer. A `ListeningLogger` must
   have existed when the worker was made, because activities stay with the logger that they were made with. */
class BuildObserver : public compat::Listener
{
    nix::Store & store;
    nix::Worker & worker;
    const nix::BuildMode mode;
    const core::Policy & policy;
    /* Whether a new record was written. */
    bool recorded = false;

    struct Build
    {
        std::weak_ptr<compat::BuildingGoal> goal;
        nix::StorePath path;
        nix::Derivation derivation;
        /* The other machine that was asked to build it; empty if this machine builds it. */
        std::string machine;
        /* The machine that the other machine asked in its turn; empty if that one builds it itself. */
        std::string delegate;
        /* The activities that carry lines of its log. */
        std::set<nix::ActivityId> activities;
        rust::Box<core::RunningBuild> running;
        rust::Vec<rust::String> saidByHook;
        /* Whether this build repeats one that succeeded in this run (`repeat` in Nix up to 2.11). */
        bool again;
        /* Kept until the end of the build is recorded. */
        std::unique_ptr<KeptLocks> locks;
    };

    std::vector<Build> running;
    /* The derivations whose end was judged, and the derivations that were reported as not recorded. */
    nix::StorePathSet settled;
    /* Excerpts of the errors that goals reported. They are only collected with `-v`, which is what uses them. */
    std::vector<std::string> reported;

    void start(const compat::BuildStarted & started);
    void settleEnded();
    /* `goal` is null if Nix gave up the build. */
    void settle(Build & build, const compat::BuildingGoal * goal, core::Ending ending);
    /* Says why the failure that `error` reports is not recorded. It is the failure of `path` or, without a path, of the
       derivation that the error names. This is said once for each derivation, and not if its end was judged. Returns
       false if the error still needs an explanation, because no derivation was found for it. */
    bool explain(const std::string & error, std::optional<nix::StorePath> path = std::nullopt);

public:
    BuildObserver(nix::Store & store, nix::Worker & worker, nix::BuildMode mode, const core::Policy & policy);
    ~BuildObserver() override;

    void buildStarted(const compat::BuildStarted & build) override;
    void logLine(nix::ActivityId activity, std::string_view line) override;
    void progressed(nix::ActivityId activity) override;
    void activityEnded(nix::ActivityId activity) override;
    void errorLogged(std::string_view text) override;
    void errorReported(const nix::ErrorInfo & error) override;

    /* The worker has run these goals. Says of each failed derivation that was not built why its failure is not recorded. */
    void runEnded(const nix::Goals & goals);

    /* The run of the worker ended with an error. The error comes from the goal whose turn it was. */
    void runFailed(const nix::BaseError & error);
};

} // namespace negative_cache
