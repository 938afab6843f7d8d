#pragma once
/* What a store has answered last when it was asked what it would build. */

#include "compat.hh"

#include <chrono>
#include <mutex>

namespace negative_cache {

/* The last answer of a store to `queryMissing`. Nix asks for a request that it is about to make, to print what that means. The
   request itself comes in right after; to ask again takes seconds for a closure of thousands. */
class LastAnswer
{
    std::mutex mutex;
    nix::StringSet requests;
    nix::StorePathSet willBuild;
    std::chrono::steady_clock::time_point time;

public:
    void remember(nix::Store & store, const std::vector<nix::DerivedPath> & requests, const nix::StorePathSet & willBuild);

    void forget();

    /* What is to be built, if the same was asked a moment ago. An answer is given once. */
    std::optional<nix::StorePathSet> take(nix::Store & store, const std::vector<nix::DerivedPath> & requests);
};

/* For as long as it lives, a worker of this thread that starts to run need not be answered: it asks what is missing and
   throws the answer away (`Worker::run`). */
class UnansweredWorker
{
public:
    explicit UnansweredWorker(bool unanswered = true);
    ~UnansweredWorker();
    UnansweredWorker(const UnansweredWorker &) = delete;

    /* Whether a question is that one, which is asked once. */
    static bool isAsking();
};

/* A store that remembers its last answer. */
struct Remembering
{
    LastAnswer lastAnswer;

    bool leavesOutMissing() const
    {
        return UnansweredWorker::isAsking();
    }

    void answeredMissing(
        nix::Store & store,
        const std::vector<nix::DerivedPath> & requests,
        const nix::StorePathSet & willBuild,
        const nix::StorePathSet & unknown);
};

} // namespace negative_cache
