#include "store_process.hh"
#include "downloads.hh"

#include <cstring>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace negative_cache::compat {

using namespace nix;

/* A problem's text is cut to that size. */
static constexpr size_t problemLimit = 1024;

/* Before each answer: its kind, and the size of its text. */
static constexpr size_t headerSize = 1 + sizeof(uint64_t);

static void send(int fd, const StoreProcess::Answer & answer)
{
    uint64_t size = answer.text.size();
    std::string message(1, static_cast<char>(answer.kind));
    message.append(reinterpret_cast<const char *>(&size), sizeof size);
    writeFull(fd, message + answer.text, /*allowInterrupts=*/false);
}

static StoreProcess::Answer problemAnswer(const std::exception & error)
{
    return {StoreProcess::Answer::Kind::Problem, problemOf(error).substr(0, problemLimit)};
}

/* What the other process does. Nothing of the parent's may be flushed or run at its end. */
[[noreturn]] static void answer(
    const std::string & url,
    const std::string & storeDir,
    const std::vector<StoreProcess::Work> & works,
    int fd)
{
    try {
        /* With its children, a group of its own, which can't ask for a password at the terminal. */
        setsid();
        /* Stock Nix says what is wrong with a store. */
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null == -1)
            throw SysError("opening '/dev/null'");
        for (int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
            dup2(null, standard);
        signal(SIGPIPE, SIG_DFL);
        setenv("NIX_SSHOPTS", (getEnv("NIX_SSHOPTS").value_or("") + " -oBatchMode=yes").c_str(), 1);

        std::shared_ptr<Store> store;
        std::optional<StoreProcess::Answer> problem;
        try {
            store = openStore(url);
            if (store->storeDir != storeDir)
                throw Error("it is for the store directory '%s', not '%s'", store->storeDir, storeDir);
        } catch (std::exception & error) {
            problem = problemAnswer(error);
        }
        for (auto & work : works) {
            if (problem) {
                send(fd, *problem);
                continue;
            }
            try {
                send(fd, work(*store));
            } catch (std::exception & error) {
                send(fd, problemAnswer(error));
            }
        }
    } catch (...) {
        _exit(1);
    }
    _exit(0);
}

StoreProcess::StoreProcess(
    const std::string & url,
    const std::string & storeDir,
    std::vector<Work> works,
    std::vector<OnAnswer> expected,
    size_t limit)
    : limit(std::max(limit, problemLimit))
    , expected(std::move(expected))
{
    Pipe pipe;
    pipe.create();
    if (fcntl(pipe.readSide.get(), F_SETFL, O_NONBLOCK) == -1)
        throw SysError("making a pipe");
    pid = startProcess([&]() { answer(url, storeDir, works, pipe.writeSide.get()); });
    output = std::move(pipe.readSide);
}

StoreProcess::~StoreProcess()
{
    /* The group may not be there yet. */
    kill(-pid, SIGKILL);
    kill(pid, SIGKILL);
    while (waitpid(pid, nullptr, 0) == -1 && errno == EINTR)
        ;
}

void StoreProcess::read()
{
    char bytes[64 * 1024];
    while (anyPending()) {
        auto size = ::read(output.get(), bytes, sizeof bytes);
        if (size > 0) {
            buffer.append(bytes, size);
            take();
        } else if (size == -1 && errno == EINTR)
            continue;
        else if (size == -1 && errno == EAGAIN)
            return;
        else
            while (anyPending())
                expected[received++]({Answer::Kind::Problem, "the process that asked the store has ended"});
    }
}

void StoreProcess::take()
{
    while (anyPending() && buffer.size() >= headerSize) {
        uint64_t size;
        std::memcpy(&size, buffer.data() + 1, sizeof size);
        if (size > limit) {
            /* No more of it is read. */
            while (anyPending())
                expected[received++]({Answer::Kind::Problem, fmt("the answer has more than %d bytes", limit)});
            return;
        }
        if (buffer.size() - headerSize < size)
            return;
        Answer answer{static_cast<Answer::Kind>(buffer[0]), buffer.substr(headerSize, size)};
        buffer.erase(0, headerSize + size);
        expected[received++](std::move(answer));
    }
}

/* A narinfo is what all versions can write and read. */
StoreProcess::Answer infoOf(Store & store, const StorePath & path)
{
    std::shared_ptr<const ValidPathInfo> info;
    try {
        info = store.queryPathInfo(path);
    } catch (InvalidPath &) {
        return {StoreProcess::Answer::Kind::Absent, ""};
    }
#if NIX_AT_LEAST(2, 24)
    auto hash = info->narHash.to_string(HashFormat::Nix32, true);
#else
    auto hash = info->narHash.to_string(Base32, true);
#endif
    auto text = "StorePath: " + store.printStorePath(info->path) + "\nURL: -\nCompression: none\nNarHash: " + hash
        + "\nNarSize: " + std::to_string(info->narSize) + "\nReferences: " + concatStringsSep(" ", info->shortRefs())
        + "\n";
    if (info->deriver)
        text += "Deriver: " + std::string(info->deriver->to_string()) + "\n";
    for (auto & signature : info->sigs)
#if NIX_AT_LEAST(2, 34)
        text += "Sig: " + signature.to_string() + "\n";
#else
        text += "Sig: " + signature + "\n";
#endif
    if (info->ca)
        text += "CA: " + renderContentAddress(*info->ca) + "\n";
    return {StoreProcess::Answer::Kind::Info, text};
}

StoreProcess::Answer narOf(Store & store, const StorePath & path, size_t size)
{
    std::string nar;
    LambdaSink sink([&](std::string_view data) {
        if (data.size() > size - nar.size())
            throw Error("its NAR has more than %d bytes", size);
        nar.append(data);
    });
    store.narFromPath(path, sink);
    return {StoreProcess::Answer::Kind::Nar, std::move(nar)};
}

bool canBeAskedByProcess(const std::string & url)
{
    /* Up to 2.31, these use Nix's disk cache, and SQLite's connections must not be used in a child process. */
    return !hasPrefix(url, "s3://");
}

} // namespace negative_cache::compat
