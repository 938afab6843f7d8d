#pragma once
/* What Nix's goals do: in this the versions differ most. When they do it is not decided here.

   Up to 2.28, one `DerivationGoal` asks for substitutes, waits for dependencies and builds. Since then each is a goal of its
   own: `DerivationTrampolineGoal` stands for a request, `DerivationGoal` for one output, `DerivationBuildingGoal` for
   the build. */

#include "nix.hh"

#include "nix-negative-cache-plugin/src/ending.rs.h"

namespace negative_cache::compat {

/* ---- All goals ---- */

/* The goal of one request. */
nix::GoalPtr makeGoal(nix::Worker & worker, const nix::DerivedPath & request, nix::BuildMode mode);

/* What a goal waits for. */
const nix::Goals & waiteesOf(const nix::Goal & goal);

/* Has a goal wait for another one. */
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

/* Null as long as it was not read. */
const nix::Derivation * derivationOf(const BuildingGoal & goal);

/* The goal whose build of `derivation` has just started. */
std::shared_ptr<BuildingGoal> startedGoal(nix::Worker & worker, const nix::StorePath & derivation);

/* Whether the build that a goal has started is over and its result stands. */
bool buildEnded(const BuildingGoal & goal);

/* Whether a goal has all it needs to build, and the locks, and has not started to. */
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

/* The result of a goal that builds, of which an error can be as long as a log. */
const nix::BuildResult & resultOf(const BuildingGoal & goal);

/* The descriptors by which a goal holds the locks on its outputs. */
std::vector<int> lockDescriptors(const BuildingGoal & goal);

/* Whether somebody waits for this output of a goal. */
bool wants(const BuildingGoal & goal, const std::string & output);

/* Has a goal that is at work and about to build do so here, if at all (`tryBuildHook`), until it is destroyed. */
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

    /* Whether it can build here. If not, there is no moment at which it could be refused. */
    static bool possible(const BuildingGoal & goal);
};

/* Whether a goal that has built here should have done so in a sandbox, and could not (`sandbox-fallback`). */
bool fellBackToNoSandbox(const BuildingGoal & goal);

/* ---- Goals that fail ---- */

/* What a goal that is refused says, and as what it counts for the exit status. */
struct Refusal
{
    nix::Error error;
    core::Ending standsFor;
};

/* Refuses to build what a goal is about to build that is not at work: it fails, at the latest when its turn comes. */
void refuse(BuildingGoal & goal, const Refusal & refusal);

#if NIX_AT_LEAST(2, 31)
using RequestGoal = nix::DerivationTrampolineGoal;
#else
using RequestGoal = nix::DerivationGoal;
#endif

/* A goal that builds nothing: it waits for what it was given as waitees, then fails. */
class UnbuiltGoal : public RequestGoal
{
    const nix::StorePath derivation;
    const std::optional<Refusal> refusal;

#if NIX_AT_LEAST(2, 31)
    Co fail();
#endif

public:
    /* Without a refusal, it fails because of its waitees, and says so in Nix's words. */
    UnbuiltGoal(const nix::StorePath & derivation, nix::Worker & worker, const std::optional<Refusal> & refusal);

#if NIX_AT_LEAST(2, 31)
#elif NIX_AT_LEAST(2, 26)
    Co init() override;
#else
    void work() override;
#endif
};

/* A goal that nobody asked for and that is never done: it does its work each time that it is woken, right before the
   turn of another goal. It must not be awake when the last of the others is done, which Nix checks. */
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
