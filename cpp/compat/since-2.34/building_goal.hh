#pragma once
/* Members of `DerivationBuildingGoal`, which are private in these versions. */

#include "../goals.hh"
#include "../private_member.hh"

namespace negative_cache::compat {

struct PathOfBuildingGoal
{
    friend auto memberOf(PathOfBuildingGoal);
};

struct DerivationOfBuildingGoal
{
    friend auto memberOf(DerivationOfBuildingGoal);
};

struct RunningBuildsOfBuildingGoal
{
    friend auto memberOf(RunningBuildsOfBuildingGoal);
};

struct FailureOfBuildingGoal
{
    friend auto memberOf(FailureOfBuildingGoal);
};

template struct PrivateMember<PathOfBuildingGoal, &nix::DerivationBuildingGoal::drvPath>;
template struct PrivateMember<DerivationOfBuildingGoal, &nix::DerivationBuildingGoal::drv>;
template struct PrivateMember<RunningBuildsOfBuildingGoal, &nix::DerivationBuildingGoal::mcRunningBuilds>;
template struct PrivateMember<FailureOfBuildingGoal, &nix::DerivationBuildingGoal::doneFailure>;

/* The error of a refused goal. */
inline nix::BuildError cachedFailure(const Refusal & refusal)
{
    return nix::BuildError({.status = nix::BuildError::CachedFailure, .msg = refusal.error.info().msg});
}

} // namespace negative_cache::compat
