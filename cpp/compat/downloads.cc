#include "downloads.hh"

#include <thread>
#include <unistd.h>

namespace negative_cache::compat {

using namespace nix;

namespace {

/* The object that all downloads of the process go through, so that connections are used again. */
class SharedFileTransfer
{
    struct State
    {
        std::shared_ptr<OwnFileTransfer> current;
        std::vector<std::thread> ending;
    };

    const pid_t owner = getpid();
    std::mutex mutex;
    std::unique_ptr<State> state = std::make_unique<State>();

public:
    ~SharedFileTransfer()
    {
        /* A child process has none of the threads, so there is nothing to wait for. */
        if (getpid() != owner) {
            (void) state.release();
            return;
        }
        for (auto & thread : state->ending)
            thread.join();
    }

    std::shared_ptr<OwnFileTransfer> get()
    {
        if (getpid() != owner)
            throw Error("binary caches can't be asked by a child process");
        std::lock_guard lock(mutex);
        if (!state->current)
            state->current = std::make_shared<OwnFileTransfer>();
        return state->current;
    }

    /* Ends all that is downloaded by `given`. This may have to wait for the system's resolver, so another thread does it. */
    void giveUp(std::shared_ptr<OwnFileTransfer> given) noexcept
    {
        try {
            std::lock_guard lock(mutex);
            if (state->current == given)
                state->current.reset();
            state->ending.emplace_back([given = std::move(given)]() mutable { given.reset(); });
        } catch (std::exception &) {
        }
    }

    /* Another one. What `given` has under way goes on for as long as anybody keeps it. */
    std::shared_ptr<OwnFileTransfer> inPlaceOf(const std::shared_ptr<OwnFileTransfer> & given)
    {
        {
            std::lock_guard lock(mutex);
            if (state->current == given)
                state->current.reset();
        }
        return get();
    }
};

SharedFileTransfer & sharedFileTransfer()
{
    static SharedFileTransfer shared;
    return shared;
}

} // namespace

struct Downloads::Running
{
    DownloadedFile file;
    size_t limit;
    OnEnd onEnd;
    /* Whether the rest of the answer does not matter. Set by the thread that downloads, before others see that it has ended. */
    bool isCutOff = false;
};

/* What threads of Nix share with the thread that waits. They may come back after that. */
struct Downloads::Inbox
{
    std::mutex mutex;
    std::condition_variable wakeup;
    std::vector<std::shared_ptr<Running>> ended;
    std::atomic<bool> isAbandoned = false;
};

Downloads::Downloads()
    : inbox(std::make_shared<Inbox>())
{
}

Downloads::~Downloads()
{
    inbox->isAbandoned = true;
    /* Downloads that were cut off still go on. */
    bool anyGoesOn = pending || anyCutOff;
    if (transfer && anyGoesOn)
        sharedFileTransfer().giveUp(std::move(transfer));
    for (auto & earlier : earlierTransfers)
        if (anyGoesOn)
            sharedFileTransfer().giveUp(std::move(earlier));
}

static void takeResult(DownloadedFile & file, std::future<FileTransferResult> & result) noexcept
{
    try {
        try {
            result.get();
        } catch (FileTransferError & error) {
            /* As Nix: a bucket that can't be listed answers questions for what is not there like that. */
            if (error.error == FileTransfer::NotFound || error.error == FileTransfer::Forbidden)
                file.isAbsent = true;
            else
                file.problem = problemOf(error);
        } catch (std::exception & error) {
            file.problem = problemOf(error);
        }
    } catch (...) {
        /* There is no memory for the problem. */
        file.isAbsent = true;
    }
}

/* How many downloads go on at a time. curl has at most 100 streams over a connection with HTTP/2. What it is given beyond
   that waits for seconds in some versions, such as 7.88, after the others have ended. */
static constexpr size_t atOnce = 100;

/* How many requests one `FileTransfer` gets. With HTTP/2 they share a connection, which nginx closes after 1,000
   (`keepalive_requests`). For each request that is under way at that moment, curl opens a connection of its own, which takes
   much longer than a question. */
static constexpr size_t requestsOfTransfer = 900;

void Downloads::start(const HttpAddress & address, const std::string & path, size_t limit, OnEnd onEnd)
{
    auto running = std::make_shared<Running>();
    running->limit = limit;
    running->onEnd = std::move(onEnd);
    auto request = address.request(path);
    if (pending < atOnce)
        enqueue(running, request);
    else
        waiting.emplace_back(std::move(running), std::move(request));
}

void Downloads::enqueue(const std::shared_ptr<Running> & running, const FileTransferRequest & request)
{
    auto end = [running, inbox = inbox] {
        std::lock_guard lock(inbox->mutex);
        inbox->ended.push_back(running);
        inbox->wakeup.notify_one();
    };
    /* Throws nothing: Nix 2.8 aborts if that happens while it unpacks an answer (`sourceToSink` in libutil/serialise.cc). */
    auto takeData = [running, inbox = inbox, end](std::string_view data) {
        if (inbox->isAbandoned || running->isCutOff)
            return;
        if (data.size() > running->limit - running->file.data.size()) {
            running->file = {"", false, fmt("the answer has more than %d bytes", running->limit)};
            running->isCutOff = true;
            end();
        } else
            running->file.data.append(data);
    };
    auto takeEnd = [running, end](std::future<FileTransferResult> result) {
        if (running->isCutOff)
            return;
        takeResult(running->file, result);
        end();
    };
    if (!transfer)
        transfer = sharedFileTransfer().get();
    if (transfer->requests >= requestsOfTransfer) {
        earlierTransfers.push_back(transfer);
        transfer = sharedFileTransfer().inPlaceOf(transfer);
    }
    try {
        transfer->enqueue(request, takeData, takeEnd);
    } catch (Error &) {
        /* Its thread has ended, for example because this process was told to stop. */
        if (pending)
            throw;
        sharedFileTransfer().giveUp(std::move(transfer));
        transfer = sharedFileTransfer().get();
        transfer->enqueue(request, takeData, takeEnd);
    }
    pending++;
}

void Downloads::await(Deadline deadline)
{
    std::vector<std::shared_ptr<Running>> ended;
    {
        std::unique_lock lock(inbox->mutex);
        inbox->wakeup.wait_until(lock, deadline, [&] { return !inbox->ended.empty(); });
        std::swap(ended, inbox->ended);
    }
    pending -= ended.size();
    while (pending < atOnce && !waiting.empty()) {
        auto [running, request] = std::move(waiting.front());
        waiting.pop_front();
        try {
            enqueue(running, request);
        } catch (Interrupted &) {
            throw;
        } catch (std::exception & error) {
            running->file.problem = problemOf(error);
            ended.push_back(running);
        }
    }
    for (auto & running : ended) {
        anyCutOff |= running->isCutOff;
        running->onEnd(std::move(running->file));
    }
}

} // namespace negative_cache::compat
