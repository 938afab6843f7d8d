#pragma once
/* The goals that `makeUnbuiltGoal` makes. */

#include "../derivations.hh"
#include "../goals.hh"

namespace negative_cache::compat {

#if NIX_AT_LEAST(2, 31)
using RequestGoal = nix::DerivationTrampolineGoal;
#else
using RequestGoal = nix::DerivationGoal;
#endif

class UnbuiltGoal : public RequestGoal, public Unbuilt
{
    const nix::StorePath derivation;
    const std::optional<Refusal> refusal;

    Co fail();

    /* Ends the goal with its error. */
    Done done();

public:
    UnbuiltGoal(const nix::StorePath & derivation, nix::Worker & worker, const std::optional<Refusal> & refusal);
};

} // namespace negative_cache::compat
