#pragma once
/* Downloads by Nix's `FileTransfer`, but by an object of our own: what hangs there takes no connection from Nix's downloads, and
   ends when the object does. */

#include "binary_caches.hh"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>

namespace negative_cache::compat {

/* An error as one line for people, without what a server sent along. */
std::string problemOf(const std::exception & error);

/* Where a cache is that `FileTransfer` speaks to, and how its files are asked for. */
class HttpAddress
{
#if NIX_AT_LEAST(2, 34)
    nix::ref<nix::HttpBinaryCacheStore> store;
#else
    std::string base;
#endif

public:
    /* What Nix's disk cache calls the cache. */
    std::string key;
    /* The store directory that the cache's paths shall have. */
    std::string storeDir;

    explicit HttpAddress(const std::string & url);

    /* Whether stores with such a URL are asked by `FileTransfer`. */
    static bool isFor(const std::string & url);

    /* A request for a file of the cache, with one try. */
    nix::FileTransferRequest request(const std::string & path) const;
};

/* A `FileTransfer` that tries once. */
class OwnFileTransfer
{
#if NIX_AT_LEAST(2, 34)
    nix::FileTransferSettings settings;
#endif
    std::shared_ptr<nix::FileTransfer> transfer;

public:
    /* How many requests it was given that HTTP/2 may carry. */
    std::atomic<size_t> requests = 0;

    OwnFileTransfer();

    void enqueue(
        nix::FileTransferRequest request,
        std::function<void(std::string_view)> onData,
        std::function<void(std::future<nix::FileTransferResult>)> onEnd);
};

/* A file that was downloaded. */
struct DownloadedFile
{
    std::string data;
    /* The cache has no such file. */
    bool isAbsent = false;
    /* Why there is neither data nor absence. Empty if there is. */
    std::string problem;
};

/* Downloads that are waited for together. They end with this object. */
class Downloads
{
    struct Running;
    struct Inbox;
    std::shared_ptr<Inbox> inbox;
    std::shared_ptr<OwnFileTransfer> transfer;
    /* Those that get no more requests, but may not be done with all that they have. */
    std::vector<std::shared_ptr<OwnFileTransfer>> earlierTransfers;
    /* Those that were enqueued and have not ended. */
    size_t pending = 0;
    bool anyCutOff = false;
    /* Those that are enqueued later, with their requests. */
    std::deque<std::pair<std::shared_ptr<Running>, nix::FileTransferRequest>> waiting;

    void enqueue(const std::shared_ptr<Running> & running, const nix::FileTransferRequest & request);

public:
    using OnEnd = std::function<void(DownloadedFile)>;

    Downloads();
    Downloads(const Downloads &) = delete;
    ~Downloads();

    /* Starts the download of a file of at most `limit` bytes. `onEnd` is called by `await`. */
    void start(const HttpAddress & address, const std::string & path, size_t limit, OnEnd onEnd);

    bool anyPending() const
    {
        return pending || !waiting.empty();
    }

    /* Waits for the end of a download, and calls `onEnd` for all that have ended. Returns early at a deadline. */
    void await(Deadline deadline);
};

} // namespace negative_cache::compat
