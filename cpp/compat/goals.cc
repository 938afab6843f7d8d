#include "goals.hh"
#include "derivations.hh"
#include "settings.hh"

namespace negative_cache::compat {

using namespace nix;

bool fellBackToNoSandbox(const BuildingGoal & goal, const Derivation & derivation)
{
    if (isSandboxed(goal) || sandboxMode() == smDisabled)
        return false;
    /* The rule by which Nix decides whether a build must have a sandbox (`tryLocalBuild`, later
       `makeDerivationBuilder`). */
    return sandboxMode() == smEnabled || (typeOf(derivation).isSandboxed() && !refusesSandbox(derivation));
}

/* An output that was rejected contributes no exit status, like all other ends (`DerivationGoal::done`; since 2.34
   `ExitStatusFlags::updateFromStatus`). */
void count(Worker & worker, const Refusal & refusal)
{
#if NIX_AT_LEAST(2, 34)
    auto & flags = worker.exitStatusFlags;
#else
    auto & flags = worker;
#endif
    if (refusal.standsFor == core::Ending::PermanentFailure)
        flags.permanentFailure = true;
    if (refusal.standsFor == core::Ending::TimedOut)
        flags.timedOut = true;
}

} // namespace negative_cache::compat
