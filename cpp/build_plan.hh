#pragma once
/* What a request would build: the facts that the core asks for when it decides. */

#include "compat.hh"
#include "rust/cxx.h"

namespace negative_cache {

struct Remembering;

namespace core {
enum class List : uint8_t;
struct OutputKey;
struct PlannedDerivation;
struct PlanList;
} // namespace core

/* The derivations that a request would build. An index is a position in the list that was made last. A request can have
   thousands of derivations, of which few have anything to do with a failure, so only those few are read. */
class BuildPlan
{
public:
    /* The derivations of the list that a derivation needs outputs of, by index, with a request for these outputs. */
    using Inputs = std::map<size_t, nix::DerivedPath>;

private:
    nix::Store & store;
    const std::vector<nix::DerivedPath> & requests;
    Remembering * const remembering;
    const std::optional<nix::StorePathSet> lastAnswer;
    /* The list, in the order of paths. */
    std::vector<nix::StorePath> paths;
    /* Those that Nix has read. */
    mutable std::map<size_t, nix::Derivation> derivations;
    mutable std::map<size_t, Inputs> inputsByIndex;

    const nix::Derivation & read(size_t index) const;

public:
    /* `requests` must live for as long as the core decides. */
    BuildPlan(nix::Store & store, const std::vector<nix::DerivedPath> & requests);

    /* Whether Nix answered the same requests a moment ago. */
    bool wasAnswered() const
    {
        return bool(lastAnswer);
    }

    const nix::StorePath & path(size_t index) const
    {
        return paths.at(index);
    }

    std::optional<size_t> index(const nix::StorePath & path) const;

    /* What the derivation at an index needs. It is read from the store once. */
    const Inputs & inputs(size_t index) const;

    /* ---- What the core asks; see `Plan` in core/src/request.rs ---- */

    core::PlanList list(core::List which);
    bool nothing_to_build(bool may_look) const;
    core::PlannedDerivation derivation(size_t index);
    rust::Vec<size_t> mentioned_by(size_t index) const;
    bool needs(size_t user, size_t index) const;
    bool can_be_had(size_t index) const;
    bool must_be_built(size_t index, const rust::Vec<core::OutputKey> & outputs) const;
};

} // namespace negative_cache
