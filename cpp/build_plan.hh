#pragma once
/* What a request would build: the facts that the core asks for when it decides. */

#include "compat.hh"
#include "rust/cxx.h"

namespace negative_cache {

namespace core {
enum class List : uint8_t;
struct OutputKey;
struct PlannedDerivation;
struct PlanList;
} // namespace core

/* What the core wants to know of a derivation. */
core::PlannedDerivation planned(nix::Store & store, const nix::StorePath & path, const nix::Derivation & derivation);

/* The derivations that a request would build. An index is a position in the list that was made last. A request can have
   thousands of derivations, of which few have anything to do with a failure, so only those few are read. */
class BuildPlan
{
public:
    /* The derivations of the list that a derivation needs outputs of, by index, with a request for these outputs. */
    using Inputs = std::map<size_t, nix::DerivedPath>;

private:
    nix::Store & store;
    const std::vector<nix::DerivedPath> requests;
    const std::optional<nix::StorePathSet> lastAnswer;
    /* The list, in the order of paths. */
    std::vector<nix::StorePath> paths;
    bool isUnbuilt = false;
    /* Those that Nix has read. */
    mutable std::map<size_t, nix::Derivation> derivations;
    mutable std::map<size_t, Inputs> inputsByIndex;

    /* The outputs of derivations whose paths are known before they are built. */
    struct Outputs
    {
        std::map<std::string, nix::StorePath> paths;
        std::optional<nix::ContentAddress> address;
        bool maySubstitute = true;
    };

    mutable std::map<size_t, std::optional<Outputs>> outputsByIndex;
    /* Whether outputs that are missing can be substituted. */
    mutable std::map<nix::StorePath, bool> substitutable;
    mutable bool isCertain = true;

    const nix::Derivation & read(size_t index) const;

    nix::StorePathSet requestedDerivations() const;

    const std::optional<Outputs> & outputs(size_t index) const;
    std::optional<Outputs> readOutputs(size_t index) const;

    bool canBeSubstituted(const nix::StorePath & output, const std::optional<nix::ContentAddress> & address) const;

    std::optional<bool> mustBeBuilt(size_t index, const nix::DerivedPath & request) const;
    std::optional<bool> isRequestToBeBuilt(size_t index) const;

public:
    /* `lastAnswer` is what Nix said a moment ago that it would build for the same requests. */
    BuildPlan(
        nix::Store & store,
        const std::vector<nix::DerivedPath> & requests,
        std::optional<nix::StorePathSet> && lastAnswer = {});

    /* Whether Nix answered the same requests a moment ago. */
    bool wasAnswered() const
    {
        return lastAnswer.has_value();
    }

    const nix::StorePath & path(size_t index) const
    {
        return paths.at(index);
    }

    std::optional<size_t> index(const nix::StorePath & path) const;

    /* What the derivation at an index needs. It is read from the store once. */
    const Inputs & inputs(size_t index) const;

    /* Whether the derivation at an index must be built for a request or a dependent. Nothing if only Nix can tell. In lists
       of what Nix would build, all of it must be. */
    std::optional<bool> isToBeBuilt(size_t index, const nix::DerivedPath & request) const;

    /* ---- What the core asks; see `Plan` in core/src/request.rs ---- */

    core::PlanList list(core::List which);
    bool nothing_to_build(bool may_look) const;
    core::PlannedDerivation derivation(size_t index);
    rust::Vec<size_t> mentioned_by(size_t index) const;
    bool needs(size_t user, size_t index) const;
    bool is_wanted(size_t index) const;
    bool is_sure() const;
    bool may_need(const rust::Vec<rust::String> & derivations) const;
    bool can_be_had(size_t index) const;
    bool must_be_built(size_t index) const;
};

} // namespace negative_cache
