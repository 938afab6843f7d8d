#pragma once
/* What a request would build. */

#include "compat.hh"
#include "rust/cxx.h"

#include <chrono>
#include <exception>
#include <mutex>

namespace negative_cache {

/* The derivations that a request would build (`Store::queryMissing`), by their places. Of thousands, few have anything to do
   with a failure, so only those are read. */
class MissingDerivations
{
    nix::Store & store;
    /* In order. */
    const std::vector<nix::StorePath> paths;
    std::map<size_t, nix::Derivation> derivations;
    mutable std::exception_ptr problem;

public:
    MissingDerivations(nix::Store & store, const nix::StorePathSet & paths)
        : store(store)
        , paths(paths.begin(), paths.end())
    {
    }

    const nix::StorePath & path(size_t place) const
    {
        return paths.at(place);
    }

    std::optional<size_t> place(const nix::StorePath & path) const;

    /* Their names, without hash and extension. */
    std::vector<rust::Str> names() const;

    /* Reads it, once. */
    const nix::Derivation & derivation(size_t place);

    /* The places of those that need the one at `place`. Where they can't be had, none, and `rethrow` says why. */
    rust::Vec<size_t> users(size_t place) const noexcept;

    void rethrow() const
    {
        if (problem)
            std::rethrow_exception(problem);
    }
};

/* The last answer of a store to the question what is missing. Nix asks it for a request that it is about to make, to print
   what that means, and again when the request comes in; a closure of thousands takes seconds each time. */
class LastAnswer
{
    std::mutex mutex;
    nix::StringSet targets;
    nix::StorePathSet willBuild;
    std::chrono::steady_clock::time_point time;

public:
    void remember(nix::Store & store, const std::vector<nix::DerivedPath> & targets, const nix::StorePathSet & willBuild);

    void forget();

    /* What was to be built, if these are the targets that were asked about last, a moment ago. An answer is given once. */
    std::optional<nix::StorePathSet> take(nix::Store & store, const std::vector<nix::DerivedPath> & targets);
};


/* For as long as it lives, a worker of this thread that starts to run need not be answered: it asks what is missing and
   throws the answer away (`Worker::run`). */
class Unanswered
{
public:
    explicit Unanswered(bool unanswered = true);
    ~Unanswered();
    Unanswered(const Unanswered &) = delete;

    /* Whether a question is that one, which is asked once. */
    static bool isAsked();
};

/* A store that remembers its last answer. */
struct Remembering
{
    LastAnswer lastAnswer;

    bool leavesOutMissing() const
    {
        return Unanswered::isAsked();
    }

    void answeredMissing(
        nix::Store & store,
        const std::vector<nix::DerivedPath> & targets,
        const nix::StorePathSet & willBuild,
        const nix::StorePathSet & unknown);
};

} // namespace negative_cache
