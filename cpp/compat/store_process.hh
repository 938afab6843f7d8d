#pragma once
/* Asks stores that block, in a process of its own: it can be ended at any time. */

#include "binary_caches.hh"

#include <sys/types.h>

namespace negative_cache::compat {

/* A process that asks one store several things, one after the other. Ends with this object. */
class StoreProcess
{
public:
    struct Answer
    {
        /* What a byte in front of each answer says. */
        enum struct Kind : char { Absent = 'A', Info = 'I', Nar = 'N', Problem = 'P' } kind;
        /* A narinfo, a NAR, or a problem. */
        std::string text;
    };

    /* One answer in the other process. Errors become problems. */
    using Work = std::function<Answer(nix::Store & store)>;
    using OnAnswer = std::function<void(Answer)>;

private:
    pid_t pid;
    nix::AutoCloseFD output;
    size_t limit;
    std::vector<OnAnswer> expected;
    /* How many of the expected have come. */
    size_t received = 0;
    /* What is read and belongs to an answer that is not complete. */
    std::string buffer;

    void take();

public:
    /* Starts the process. A store for another store directory than `storeDir` is a problem. An answer of more than `limit` bytes
       is the last one. */
    StoreProcess(
        const std::string & url,
        const std::string & storeDir,
        std::vector<Work> works,
        std::vector<OnAnswer> expected,
        size_t limit);
    StoreProcess(const StoreProcess &) = delete;
    ~StoreProcess();

    bool anyPending() const
    {
        return received < expected.size();
    }

    int fd() const
    {
        return output.get();
    }

    /* Reads what is there, and calls `OnAnswer` for what is complete. Does not wait. */
    void read();
};

/* What a store process answers if asked for a path. */
StoreProcess::Answer infoOf(nix::Store & store, const nix::StorePath & path);

/* What a store process answers if asked for a NAR of that size. */
StoreProcess::Answer narOf(nix::Store & store, const nix::StorePath & path, size_t size);

/* Whether stores with that URL can be asked by a store process. */
bool canBeAskedByProcess(const std::string & url);

} // namespace negative_cache::compat
