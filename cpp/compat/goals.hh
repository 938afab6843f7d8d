#pragma once
/* Operations on Nix's goals, in which the versions differ most. Other files decide when they are used.

   Up to 2.28, one `DerivationGoal` asks for substitutes, waits for dependencies and builds. Later versions have three
   goals: `DerivationTrampolineGoal` stands for a request, `DerivationGoal` for one output, `DerivationBuildingGoal` for
   the build. In 2.30 `DerivationGoal` stands for a request with all its outputs. */

#include "nix.hh"

#include "nix-negative-cache-plugin/src/ending.rs.h"

namespace negative_cache::compat {

/* ---- All goals ---- */

/* The goal of one request. */
nix::GoalPtr makeGoal(nix::Worker & worker, const nix::DerivedPath & request, nix::BuildMode mode);

/* The goal for a derivation that need not be in the store (`Store::buildDerivation`). */
nix::GoalPtr makeGoal(
    nix::Worker & worker,
    const nix::StorePath & path,
    const nix::BasicDerivation & derivation,
    nix::BuildMode mode);

/* The derivation that the goal of a request stands for; nothing if the goal stands for something else. */
std::optional<nix::StorePath> derivationOfRequest(nix::Goal & goal);

/* The name of the request that a goal stands for in Nix's message that lists failed requests; nothing if Nix does not list
   it. */
std::optional<std::string> nameOfRequest(const nix::Store & store, nix::Goal & goal);

/* The goals that a goal waits for. */
const nix::Goals & waiteesOf(const nix::Goal & goal);

/* Makes a goal wait for another one. */
void addWaitee(const nix::GoalPtr & goal, const nix::GoalPtr & waitee);

/* The result of a goal for a derivation with all its outputs. */
nix::BuildResult buildResult(const nix::Goal & goal, const nix::StorePath & derivation);

/* ---- Goals that build ---- */

#if NIX_AT_LEAST(2, 30)
using BuildingGoal = nix::DerivationBuildingGoal;
#else
using BuildingGoal = nix::DerivationGoal;
#endif

const nix::StorePath & pathOf(const BuildingGoal & goal);

/* A copy of the derivation of a goal; nothing until the goal has read it. */
std::optional<nix::Derivation> derivationOf(const BuildingGoal & goal);

/* The goal whose build of `derivation` has just started. */
std::shared_ptr<BuildingGoal> startedGoal(nix::Worker & worker, const nix::StorePath & derivation);

/* Whether the build that a goal has started is over, and its result is final. */
bool buildEnded(const BuildingGoal & goal);

/* Whether a goal that has started its builder starts it once more if it succeeds (`repeat`, until 2.11), which includes
   locking the outputs again. */
bool willBuildAgain(const BuildingGoal & goal);

/* Whether the activity of a build can start and end before it is the build's turn, and start again. Then the goal has no locks
   in between. */
constexpr bool activitiesStartEarly = IS_DETERMINATE_NIX;

/* The result of a goal that builds. An error in it can be as long as a log. */
const nix::BuildResult & resultOf(const BuildingGoal & goal);

/* Whether a goal that builds on this machine has a sandbox. In 2.24 and since 2.30 goals don't tell, so this is whether
   one can be made. */
bool isSandboxed(const BuildingGoal & goal);

/* Whether a goal that has built `derivation` on this machine should have had a sandbox, which could not be made
   (`sandbox-fallback`). */
bool fellBackToNoSandbox(const BuildingGoal & goal, const nix::Derivation & derivation);

/* ---- Goals that fail ---- */

/* The error of a refused goal, and the ending by which it counts for the exit status. */
struct Refusal
{
    nix::Error error;
    core::Ending standsFor;
};

/* Counts a refused goal for the exit status of its worker. */
void count(nix::Worker & worker, const Refusal & refusal);

/* A goal that builds nothing: it waits for the goals that it was given (`addWaitee`), then fails. Without a refusal, it
   fails because of the goals that it waited for, with Nix's own message. */
nix::GoalPtr makeUnbuiltGoal(
    const nix::StorePath & derivation,
    nix::Worker & worker,
    const std::optional<Refusal> & refusal);

/* Nix's error for a goal whose dependencies failed. */
nix::Error dependenciesFailed(const nix::Goal & goal, const nix::StorePath & derivation);

/* The base of all goals that `makeUnbuiltGoal` makes. */
class Unbuilt
{
public:
    virtual ~Unbuilt() = default;
};

} // namespace negative_cache::compat
