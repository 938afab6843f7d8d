#pragma once
/* The question what a store would build (`queryMissing`): who asks it, and what the answer is remembered for. */

#include "compat.hh"

#include <chrono>
#include <mutex>

namespace negative_cache {

struct DecidedRequest;

enum class Asker {
    /* A command of Nix, or a client. */
    Nix,
    /* The plugin, which wants to know everything. */
    Plugin,
    /* A worker. When it starts to run, it asks and throws the answer away (`Worker::run`). */
    Worker,
    /* A worker of which the question can be left out, because somebody else has just asked the same. */
    NeedlessWorker,
};

/* While an object of this class lives, the question of this thread is asked by `asker`. */
class AskedBy
{
    const Asker before;

public:
    /* `NeedlessWorker` stands for `Worker` in versions of Nix whose workers do not ask. */
    explicit AskedBy(Asker asker);
    ~AskedBy();
    AskedBy(const AskedBy &) = delete;
};

/* The plugin's own question. */
compat::MissingPaths whatIsMissing(nix::Store & store, const std::vector<nix::DerivedPath> & requests);

/* What a store has found out for a question of Nix, for the request that follows the question. To find it out again can take
   seconds for a closure of thousands. */
class LastAnswer
{
public:
    /* What was found out. */
    struct Found
    {
        /* The derivations that Nix would build, if Nix has given the whole answer. */
        std::optional<nix::StorePathSet> willBuild;
        /* What the plugin has decided, if it refuses the request. Null if not. */
        std::shared_ptr<const DecidedRequest> refused;
    };

    /* What a store has found out for the same requests a moment ago. It is returned once. */
    static Found of(nix::Store & store, const std::vector<nix::DerivedPath> & requests);

private:
    std::mutex mutex;
    nix::StringSet requests;
    Found found;
    std::chrono::steady_clock::time_point time;

public:
    void remember(nix::Store & store, const std::vector<nix::DerivedPath> & requests, Found found);

    void forget();

    Found take(nix::Store & store, const std::vector<nix::DerivedPath> & requests);
};

/* A store that remembers its last answer. */
struct Remembering
{
    LastAnswer lastAnswer;

    /* The requests that Nix answers for in place of `requests`; nothing if it answers for `requests`. If some of them are
       refused, it answers only for what is still built. Without keep-going that is nothing, because the first refusal ends the
       request. Such an answer is true only if the request follows, so it is given only to commands of which that is known. */
    std::optional<std::vector<nix::DerivedPath>> askedInstead(
        nix::Store & store,
        const std::vector<nix::DerivedPath> & requests);

    void answeredMissing(
        nix::Store & store,
        const std::vector<nix::DerivedPath> & requests,
        const nix::StorePathSet & willBuild,
        const nix::StorePathSet & unknown);
};

} // namespace negative_cache
