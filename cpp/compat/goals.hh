#pragma once
/* Operations on Nix's goals, in which the versions differ most. Other files decide when they are used.

   Up to 2.28, one `DerivationGoal` asks for substitutes, waits for dependencies and builds. Later versions have three
   goals: `DerivationTrampolineGoal` stands for a request, `DerivationGoal` for one output, `DerivationBuildingGoal` for
   the build. */

#include "nix.hh"

#include "nix-negative-cache-plugin/src/ending.rs.h"

namespace negative_cache::compat {

/* ---- All goals ---- */

/* The goal of one request. */
nix::GoalPtr makeGoal(nix::Worker & worker, const nix::DerivedPath & request, nix::BuildMode mode);

/* The goals that a goal waits for. */
const nix::Goals & waiteesOf(const nix::Goal & goal);

/* Makes a goal wait for another one. */
void addWaitee(const nix::GoalPtr & goal, const nix::GoalPtr & waitee);

/* The result of a goal for a derivation with all its outputs. */
nix::BuildResult buildResult(const nix::Goal & goal, const nix::StorePath & derivation);

/* ---- Goals that build ---- */

#if NIX_AT_LEAST(2, 31)
using BuildingGoal = nix::DerivationBuildingGoal;
#else
using BuildingGoal = nix::DerivationGoal;
#endif

const nix::StorePath & pathOf(const BuildingGoal & goal);

/* The derivation of a goal; null until the goal has read it. */
const nix::Derivation * derivationOf(const BuildingGoal & goal);

/* The goal whose build of `derivation` has just started. */
std::shared_ptr<BuildingGoal> startedGoal(nix::Worker & worker, const nix::StorePath & derivation);

/* Whether the build that a goal has started is over, and its result is final. */
bool buildEnded(const BuildingGoal & goal);

/* Whether a goal has its locks and all else that it needs to build, and has not started to build. */
bool isAboutToBuild(const BuildingGoal & goal);

/* Whether a goal that has started its builder starts it once more if it succeeds (`repeat`, until 2.11), which includes
   locking the outputs again. */
inline bool willBuildAgain([[maybe_unused]] const BuildingGoal & goal)
{
#if NIX_AT_LEAST(2, 12)
    return false;
#else
    return goal.curRound < goal.nrRounds;
#endif
}

/* The result of a goal that builds. An error in it can be as long as a log. */
const nix::BuildResult & resultOf(const BuildingGoal & goal);

/* The descriptors by which a goal holds the locks on its outputs. */
std::vector<int> lockDescriptors(const BuildingGoal & goal);

/* Whether this output of a goal is wanted. */
bool wants(const BuildingGoal & goal, const std::string & output);

/* Keeps a goal that is running and about to build from being given to another machine (`tryBuildHook`). Since 2.31 this
   ends when the object is destroyed; in older versions it lasts. */
class KeptFromOtherMachines
{
#if NIX_AT_LEAST(2, 31)
    nix::Worker & worker;
    const bool before;
#endif

public:
    explicit KeptFromOtherMachines(BuildingGoal & goal);
    ~KeptFromOtherMachines();
    KeptFromOtherMachines(const KeptFromOtherMachines &) = delete;

    /* Whether the goal can be kept here. Since 2.31 it can't if this machine can't build it, and then there is no moment
       at which it could be refused. */
    static bool possible(const BuildingGoal & goal);
};

/* Whether a goal that has built on this machine should have had a sandbox, which could not be made (`sandbox-fallback`). */
bool fellBackToNoSandbox(const BuildingGoal & goal);

/* ---- Goals that fail ---- */

/* The error of a refused goal, and the ending by which it counts for the exit status. */
struct Refusal
{
    nix::Error error;
    core::Ending standsFor;
};

/* Makes a goal fail that is about to build. The goal must not be running. It fails when its next turn comes, or before. */
void refuse(BuildingGoal & goal, const Refusal & refusal);

#if NIX_AT_LEAST(2, 31)
using RequestGoal = nix::DerivationTrampolineGoal;
#else
using RequestGoal = nix::DerivationGoal;
#endif

/* A goal that builds nothing: it waits for the goals that it was given (`addWaitee`), then fails. */
class UnbuiltGoal : public RequestGoal
{
    const nix::StorePath derivation;
    const std::optional<Refusal> refusal;

#if NIX_AT_LEAST(2, 31)
    Co fail();
#endif

public:
    /* Without a refusal, the goal fails because of the goals that it waited for, with Nix's own message. */
    UnbuiltGoal(const nix::StorePath & derivation, nix::Worker & worker, const std::optional<Refusal> & refusal);

#if NIX_AT_LEAST(2, 31)
#elif NIX_AT_LEAST(2, 26)
    Co init() override;
#else
    void work() override;
#endif
};

/* A goal of the plugin's, which is never done. Each time that it is woken, it does its work, right before the turn of
   another goal. It must not be awake when the last of the other goals is done, because Nix checks that. */
class Errand : public nix::Goal
{
    const std::string sortKey;
    const std::function<void()> errand;

#if NIX_AT_LEAST(2, 31)
    Co run();
#endif

public:
    Errand(nix::Worker & worker, BuildingGoal & before, std::function<void()> errand);

    std::string key() override
    {
        return sortKey;
    }

#if !NIX_AT_LEAST(2, 34)
    void timedOut(nix::Error &&) override {}
#endif

#if NIX_AT_LEAST(2, 26)
#  if !NIX_AT_LEAST(2, 31)
    Co init() override;
#  endif

    nix::JobCategory jobCategory() const override
    {
        return nix::JobCategory::Build;
    }
#else
    void work() override;
#endif
};

} // namespace negative_cache::compat
