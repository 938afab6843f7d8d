#pragma once
/* What a request would build: the facts that the core asks for while it decides. */

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

/* The derivations that a request would build, by their indexes in the list that was made last. Of thousands, few have anything
   to do with a failure, so only those are read. */
class BuildPlan
{
    nix::Store & store;
    const std::vector<nix::DerivedPath> & requests;
    Remembering * const remembering;
    const std::optional<nix::StorePathSet> lastAnswer;
    /* In order. */
    std::vector<nix::StorePath> paths;
    std::map<size_t, nix::Derivation> derivations;

public:
    /* `requests` must be there for as long as the core decides. */
    BuildPlan(nix::Store & store, const std::vector<nix::DerivedPath> & requests);

    /* Whether Nix was asked the same a moment ago. */
    bool wasAnswered() const
    {
        return bool(lastAnswer);
    }

    const nix::StorePath & path(size_t index) const
    {
        return paths.at(index);
    }

    std::optional<size_t> index(const nix::StorePath & path) const;

    /* Reads a derivation, once. */
    const nix::Derivation & read(size_t index);

    /* ---- What the core asks; see `Plan` in core/src/request.rs ---- */

    core::PlanList list(core::List which);
    bool nothing_to_build(bool may_look) const;
    core::PlannedDerivation derivation(size_t index);
    rust::Vec<size_t> users(size_t index) const;
    bool can_be_had(size_t index) const;
    bool must_be_built(size_t index, const rust::Vec<core::OutputKey> & outputs) const;
};

} // namespace negative_cache
