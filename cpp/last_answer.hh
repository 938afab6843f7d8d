#pragma once
/* The last answer of a store to the question what it would build. */

#include "compat.hh"

#include <chrono>
#include <mutex>

namespace negative_cache {

/* The last answer of a store to `queryMissing`. Nix calls `queryMissing` to print what a request will build, and makes
   the request right after that. The plugin then needs the same answer, and to ask again takes seconds for a closure of
   thousands. */
class LastAnswer
{
    std::mutex mutex;
    nix::StringSet requests;
    nix::StorePathSet willBuild;
    std::chrono::steady_clock::time_point time;

public:
    void remember(nix::Store & store, const std::vector<nix::DerivedPath> & requests, const nix::StorePathSet & willBuild);

    void forget();

    /* The derivations to build, if the same requests were asked about a moment ago. Each answer is returned once. */
    std::optional<nix::StorePathSet> take(nix::Store & store, const std::vector<nix::DerivedPath> & requests);
};

/* When a worker starts to run, it calls `queryMissing` and throws the answer away (`Worker::run`). While an object of
   this class lives, the store need not answer that call of a worker of this thread. */
class UnansweredWorker
{
public:
    explicit UnansweredWorker(bool unanswered = true);
    ~UnansweredWorker();
    UnansweredWorker(const UnansweredWorker &) = delete;

    /* Whether the current call of `queryMissing` is the worker's. A worker asks once, so later calls return false. */
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
