#include "binary_caches.hh"
#include "downloads.hh"
#include "store_process.hh"

#include <algorithm>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

namespace negative_cache::compat {

using namespace nix;

/* More than any narinfo or nix-cache-info that is of use here. */
static constexpr size_t infoLimit = 256 * 1024;

/* How long a wait lasts before it is looked whether this process was told to stop. */
static constexpr auto waitStep = std::chrono::milliseconds(50);

static constexpr auto tooLate = "it did not answer in time";

std::string problemOf(const std::exception & error)
{
    std::string text = error.what();
    if (auto ofNix = dynamic_cast<const BaseError *>(&error))
        text = ofNix->info().msg.str();
    /* What follows the first line is the server's. */
    return filterANSIEscapes(text.substr(0, text.find('\n')), /*filterAll=*/true);
}

/* ---- Kinds of caches ---- */

namespace {

class FileCache : public BinaryCache
{
public:
    const std::string folder;

    FileCache(const std::string & url, const std::string & folder)
        : BinaryCache(url)
        , folder(folder)
    {
    }
};

class HttpCache : public BinaryCache
{
public:
    const HttpAddress address;
    /* Whether its nix-cache-info was seen to be right. */
    mutable std::atomic<bool> isChecked = false;

    explicit HttpCache(const std::string & url)
        : BinaryCache(url)
        , address(url)
    {
    }
};

class BlockingStore : public BinaryCache
{
public:
    explicit BlockingStore(const std::string & url)
        : BinaryCache(url)
    {
    }
};

} // namespace

/* Parses what caches say. Its store directory is the one of the settings. */
static Store & parser()
{
    static auto & store = *new ref<Store>(openStore("dummy://"));
    return *store;
}

static ref<NarInfoDiskCache> diskCache()
{
#if NIX_AT_LEAST(2, 34)
    return NarInfoDiskCache::get(settings.getNarInfoDiskCacheSettings(), {.useWAL = settings.useSQLiteWAL});
#else
    return getNarInfoDiskCache();
#endif
}

/* ---- What is in the files of a cache ---- */

namespace {

struct CacheInfo
{
    bool wantMassQuery = false;
    int priority = 50;
};

} // namespace

/* Throws an error if a cache with this nix-cache-info is for another store directory. */
static CacheInfo parseCacheInfo(const std::string & text)
{
    CacheInfo info;
    for (auto & line : tokenizeString<Strings>(text, "\n")) {
        auto colon = line.find(':');
        if (colon == std::string::npos)
            continue;
        auto name = line.substr(0, colon), value = trim(line.substr(colon + 1));
        if (name == "StoreDir" && value != parser().storeDir)
            throw Error("it is for the store directory '%s', not '%s'", value, parser().storeDir);
        if (name == "WantMassQuery")
            info.wantMassQuery = value == "1";
        if (name == "Priority")
            info.priority = string2Int<int>(value).value_or(info.priority);
    }
    return info;
}

static std::string narInfoFile(const StorePath & path)
{
    return std::string(path.hashPart()) + ".narinfo";
}

static CacheAnswer present(std::shared_ptr<const NarInfo> info)
{
    CacheAnswer answer;
    answer.kind = CacheAnswer::Kind::Present;
    answer.path = std::make_shared<CachedPath>(CachedPath{std::move(info)});
    return answer;
}

static CacheAnswer absent()
{
    CacheAnswer answer;
    answer.kind = CacheAnswer::Kind::Absent;
    return answer;
}

static CacheAnswer failed(const std::string & problem)
{
    CacheAnswer answer;
    answer.problem = problem;
    return answer;
}

/* A file is found by the hash in its name only. */
static CacheAnswer presentIf(const StorePath & asked, std::shared_ptr<const NarInfo> info)
{
    return info->path == asked ? present(std::move(info)) : absent();
}

/* A path of which the cache says something that can't be read. The cache may have others. */
static CacheAnswer unreadable(const std::exception & error)
{
    auto answer = absent();
    answer.problem = problemOf(error);
    return answer;
}

/* Why what a narinfo has as URL is not asked for. Nix would also follow absolute URLs, even such of local files. */
static std::optional<std::string> problemOfUrl(const std::string & url)
{
    std::string decoded;
    try {
        decoded = percentDecode(url);
    } catch (Error &) {
        return "its URL can't be read";
    }
    /* Nix prints what it downloads. */
    if (std::any_of(decoded.begin(), decoded.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; }))
        return "its URL has control characters";
    /* In a folder, `?` and `#` are part of a name. */
    auto components = tokenizeString<Strings>(decoded, "/");
    if (components.empty() || decoded.front() == '/'
        || decoded.find("://") != std::string::npos
        /* What looks like a scheme. */
        || components.front().find(':') != std::string::npos
        || std::find(components.begin(), components.end(), "..") != components.end())
        return "its URL leads out of the cache";
    return std::nullopt;
}

static auto compressionOf(const NarInfo & info)
{
#if NIX_AT_LEAST(2, 35)
    return info.compression.value_or(CompressionAlgo::none);
#else
    return info.compression;
#endif
}

static std::string unpack(const NarInfo & info, const std::string & compressed)
{
    std::string nar;
    LambdaSink bounded([&](std::string_view data) {
        if (data.size() > info.narSize - nar.size())
            throw Error("its NAR has more than the %d bytes that it should have", info.narSize);
        nar.append(data);
    });
    auto sink = makeDecompressionSink(compressionOf(info), bounded);
    (*sink)(compressed);
    sink->finish();
    return nar;
}

static NarAnswer noNar(const std::string & problem)
{
    return {std::nullopt, problem};
}

/* A NAR if it is the one that the path info tells of. */
static NarAnswer checked(const NarInfo & info, std::string nar)
{
    if (nar.size() != info.narSize)
        return noNar(fmt("its NAR has %d bytes, not %d", nar.size(), info.narSize));
#if NIX_AT_LEAST(2, 24)
    auto hash = hashString(info.narHash.algo, nar);
#else
    auto hash = hashString(info.narHash.type, nar);
#endif
    if (hash != info.narHash)
        return noNar("its NAR has another hash than it should have");
    return {std::move(nar), ""};
}

/* ---- Files ---- */

/* A regular file of at most `limit` bytes; nothing if it does not exist. */
static std::optional<std::string> readBounded(const std::string & path, size_t limit)
{
    AutoCloseFD fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd) {
        if (errno == ENOENT || errno == ENOTDIR)
            return std::nullopt;
        throw SysError("opening file '%s'", path);
    }
    struct stat status;
    if (fstat(fd.get(), &status) == -1)
        throw SysError("reading file '%s'", path);
    if (!S_ISREG(status.st_mode))
        throw Error("'%s' is no regular file", path);
    std::string data;
    char bytes[64 * 1024];
    while (true) {
        auto size = read(fd.get(), bytes, sizeof bytes);
        if (size == 0)
            return data;
        if (size == -1) {
            if (errno == EINTR)
                continue;
            throw SysError("reading file '%s'", path);
        }
        if (static_cast<size_t>(size) > limit - data.size())
            throw Error("'%s' has more than %d bytes", path, limit);
        data.append(bytes, size);
    }
}

static CacheAnswer askFolder(const FileCache & cache, const StorePath & path)
{
    auto info = readBounded(cache.folder + "/nix-cache-info", infoLimit);
    if (!info)
        return failed("it does not appear to be a binary cache");
    parseCacheInfo(*info);
    auto file = narInfoFile(path);
    auto text = readBounded(cache.folder + "/" + file, infoLimit);
    if (!text)
        return absent();
    try {
        return presentIf(path, std::make_shared<NarInfo>(parser(), *text, file));
    } catch (std::exception & error) {
        return unreadable(error);
    }
}

static NarAnswer readFromFolder(const FileCache & cache, const NarInfo & info, const SizeLimits & limits)
{
    auto data = readBounded(cache.folder + "/" + info.url, limits.compressed);
    return data ? checked(info, unpack(info, *data)) : noNar("the cache does not have its NAR");
}

/* ---- Waiting ---- */

namespace {

/* All that a call waits for. */
struct Waiting
{
    Downloads downloads;
    std::vector<std::unique_ptr<StoreProcess>> processes;

    bool anyProcess() const
    {
        return std::any_of(processes.begin(), processes.end(), [](auto & process) { return process->anyPending(); });
    }

    void readProcesses(std::chrono::milliseconds time)
    {
        std::vector<pollfd> fds;
        for (auto & process : processes)
            if (process->anyPending())
                fds.push_back({process->fd(), POLLIN, 0});
        poll(fds.data(), fds.size(), static_cast<int>(time.count()));
        for (auto & process : processes)
            process->read();
    }

    void untilAllAnswered(Deadline deadline)
    {
        using namespace std::chrono;
        while (true) {
            checkInterrupt();
            auto now = steady_clock::now();
            bool anyDownload = downloads.anyPending(), asksProcesses = anyProcess();
            if ((!anyDownload && !asksProcesses) || now >= deadline)
                return;
            auto end = std::min(deadline, now + waitStep);
            if (asksProcesses)
                readProcesses(anyDownload ? milliseconds(1) : ceil<milliseconds>(end - now));
            if (anyDownload)
                downloads.await(asksProcesses ? std::min(end, now + milliseconds(5)) : end);
        }
    }
};

} // namespace

/* ---- http(s) ---- */

namespace {

/* The questions to one http cache. */
class HttpQuestions
{
    const HttpCache & cache;
    std::vector<CacheAnswer> & answers;
    /* Null if it can't be used. */
    std::shared_ptr<NarInfoDiskCache> disk;
    /* Whether the cache is one for our store directory. Then `disk` knows it, or is null. */
    bool isKnown = false;
    /* Whether its nix-cache-info has been asked for. */
    bool isAsked = false;
    /* Files that came before it was known whether the cache is for our store directory. */
    std::vector<std::function<void()>> held;
    std::optional<std::string> problem;

    std::optional<CacheAnswer> remembered(const StorePath & path)
    {
        if (!disk || !isKnown)
            return std::nullopt;
        try {
            auto [outcome, info] = disk->lookupNarInfo(cache.address.key, std::string(path.hashPart()));
            if (outcome == NarInfoDiskCache::oInvalid)
                return absent();
            if (outcome == NarInfoDiskCache::oValid && info)
                return presentIf(path, info);
        } catch (Interrupted &) {
            throw;
        } catch (std::exception &) {
        }
        return std::nullopt;
    }

    void remember(const StorePath & path, const std::shared_ptr<const NarInfo> & info)
    {
        if (!disk)
            return;
        try {
            disk->upsertNarInfo(cache.address.key, std::string(path.hashPart()), info);
        } catch (Interrupted &) {
            throw;
        } catch (std::exception &) {
        }
    }

    void takeNarInfo(size_t question, const StorePath & path, const DownloadedFile & file)
    {
        if (problem) {
            answers[question] = failed(*problem);
            return;
        }
        if (!file.problem.empty()) {
            answers[question] = failed(file.problem);
            return;
        }
        std::shared_ptr<const NarInfo> info;
        if (!file.isAbsent)
            try {
                info = std::make_shared<NarInfo>(parser(), file.data, narInfoFile(path));
            } catch (std::exception & error) {
                answers[question] = unreadable(error);
                return;
            }
        remember(path, info);
        answers[question] = info ? presentIf(path, info) : absent();
    }

    void takeCacheInfo(const DownloadedFile & file)
    {
        try {
            if (!file.problem.empty())
                throw Error("%s", file.problem);
            if (file.isAbsent)
                throw Error("it does not appear to be a binary cache");
            auto info = parseCacheInfo(file.data);
            isKnown = cache.isChecked = true;
            if (disk)
                rememberCache(info);
        } catch (Interrupted &) {
            throw;
        } catch (std::exception & error) {
            problem = problemOf(error);
        }
        for (auto & take : std::exchange(held, {}))
            take();
    }

    void rememberCache(const CacheInfo & info)
    {
        try {
#if IS_DETERMINATE_NIX
            disk->createCache(
                cache.address.key,
                parser().storeDir,
                {.fields = {
                     {"WantMassQuery", info.wantMassQuery ? "1" : "0"},
                     {"Priority", std::to_string(info.priority)}}});
#elif NIX_AT_LEAST(2, 35)
            disk->createCache(
                cache.address.key,
                parser().storeDir,
                {.wantMassQuery = info.wantMassQuery, .priority = info.priority});
#else
            disk->createCache(cache.address.key, parser().storeDir, info.wantMassQuery, info.priority);
#endif
        } catch (Interrupted &) {
            throw;
        } catch (std::exception &) {
            disk = nullptr;
        }
    }

public:
    HttpQuestions(const HttpCache & cache, std::vector<CacheAnswer> & answers)
        : cache(cache)
        , answers(answers)
    {
        try {
            disk = diskCache();
#if NIX_AT_LEAST(2, 18)
            bool diskKnows = disk->upToDateCacheExists(cache.address.key).has_value();
#else
            bool diskKnows = disk->cacheExists(cache.address.key).has_value();
#endif
            isKnown = diskKnows || cache.isChecked;
            /* Questions about what it does not know would end the process. */
            if (isKnown && !diskKnows)
                disk = nullptr;
        } catch (Interrupted &) {
            throw;
        } catch (std::exception &) {
            disk = nullptr;
            isKnown = cache.isChecked;
        }
    }

    void ask(size_t question, const StorePath & path, Downloads & downloads)
    {
        if (auto answer = remembered(path)) {
            answers[question] = *answer;
            return;
        }
        if (!isKnown && !isAsked) {
            downloads.start(cache.address, "nix-cache-info", infoLimit, [this](const DownloadedFile & file) {
                takeCacheInfo(file);
            });
            isAsked = true;
        }
        downloads.start(cache.address, narInfoFile(path), infoLimit, [this, question, path](const DownloadedFile & file) {
            if (isKnown || problem)
                takeNarInfo(question, path, file);
            else
                held.push_back([this, question, path, file] { takeNarInfo(question, path, file); });
        });
    }
};

} // namespace

/* ---- The interface ---- */

std::shared_ptr<BinaryCache> openBinaryCache(const std::string & url, std::string & problem)
{
    try {
        if (HttpAddress::isFor(url)) {
            auto cache = std::make_shared<HttpCache>(url);
            if (cache->address.storeDir != parser().storeDir)
                throw Error("it is for the store directory '%s', not '%s'", cache->address.storeDir, parser().storeDir);
            return cache;
        }
        if (hasPrefix(url, "file://")) {
            auto path = url.substr(7);
            return std::make_shared<FileCache>(url, percentDecode(path.substr(0, path.find('?'))));
        }
        if (!canBeAskedByProcess(url))
            throw Error("stores of this kind can't be asked");
        return std::make_shared<BlockingStore>(url);
    } catch (Interrupted &) {
        throw;
    } catch (std::exception & error) {
        problem = problemOf(error);
        return nullptr;
    }
}

namespace {

/* The works of a store process, and what is done with its answers. */
struct StoreQuestions
{
    std::vector<StoreProcess::Work> works;
    std::vector<StoreProcess::OnAnswer> expected;

    /* A process that can't be started leaves its questions unanswered. */
    static void start(std::map<const BlockingStore *, StoreQuestions> & byStore, Waiting & waiting, size_t limit)
    {
        for (auto & [store, questions] : byStore)
            try {
                waiting.processes.push_back(std::make_unique<StoreProcess>(
                    store->url,
                    parser().storeDir,
                    std::move(questions.works),
                    questions.expected,
                    limit));
            } catch (Interrupted &) {
                throw;
            } catch (std::exception & error) {
                for (auto & take : questions.expected)
                    take({StoreProcess::Answer::Kind::Problem, problemOf(error)});
            }
    }
};

} // namespace

static CacheAnswer answerOf(const StorePath & path, const StoreProcess::Answer & answer)
{
    switch (answer.kind) {
    case StoreProcess::Answer::Kind::Absent:
        return absent();
    case StoreProcess::Answer::Kind::Info:
        try {
            return presentIf(path, std::make_shared<NarInfo>(parser(), answer.text, narInfoFile(path)));
        } catch (std::exception & error) {
            return unreadable(error);
        }
    case StoreProcess::Answer::Kind::Problem:
        return failed(answer.text);
    case StoreProcess::Answer::Kind::Nar:
        break;
    }
    return failed("the process that asked the store has ended");
}

/* Downloads a NAR over http(s). */
static void startNar(const HttpCache & cache, const NarInfo & info, size_t limit, NarAnswer & answer, Downloads & downloads)
{
    downloads.start(cache.address, info.url, limit, [&info, &answer](const DownloadedFile & file) {
        try {
            answer = file.isAbsent      ? noNar("the cache does not have its NAR")
                : !file.problem.empty() ? noNar(file.problem)
                                        : checked(info, unpack(info, file.data));
        } catch (Interrupted &) {
            throw;
        } catch (std::exception & error) {
            answer = noNar(problemOf(error));
        }
    });
}

/* Calls `ask` with the index of each question that is asked before the deadline, and `fail` with that of a question which can't be
   asked, and why. */
template<typename Ask, typename Fail>
static void forEachUntil(Deadline deadline, size_t count, Ask && ask, Fail && fail)
{
    for (size_t i = 0; i < count && std::chrono::steady_clock::now() < deadline; i++) {
        checkInterrupt();
        try {
            ask(i);
        } catch (Interrupted &) {
            throw;
        } catch (std::exception & error) {
            fail(i, problemOf(error));
        }
    }
}

CacheAnswers askCaches(
    const std::vector<CacheQuestion> & questions,
    const std::vector<NarQuestion> & nars,
    const SizeLimits & limits,
    Deadline deadline)
{
    CacheAnswers answers{
        .paths = std::vector(questions.size(), failed(tooLate)),
        .nars = std::vector(nars.size(), noNar(tooLate)),
    };
    std::map<const HttpCache *, std::unique_ptr<HttpQuestions>> byHttpCache;
    std::map<const BlockingStore *, StoreQuestions> byStore;
    /* Declared last: it ends first, and with it what could call the others. */
    Waiting waiting;

    /* Processes first: they take longest. */
    for (size_t i = 0; i < questions.size(); i++)
        if (auto store = dynamic_cast<const BlockingStore *>(questions[i].cache.get())) {
            auto & path = questions[i].path;
            byStore[store].works.push_back([&path](Store & store) { return infoOf(store, path); });
            byStore[store].expected.push_back([&path, &answer = answers.paths[i]](const StoreProcess::Answer & given) {
                answer = answerOf(path, given);
            });
        }
    for (size_t i = 0; i < nars.size(); i++)
        if (auto store = dynamic_cast<const BlockingStore *>(nars[i].cache.get());
            store && nars[i].path->info->narSize <= limits.unpacked) {
            auto & info = *nars[i].path->info;
            byStore[store].works.push_back([&info](Store & store) { return narOf(store, info.path, info.narSize); });
            byStore[store].expected.push_back([&info, &answer = answers.nars[i]](StoreProcess::Answer given) {
                answer = given.kind == StoreProcess::Answer::Kind::Nar ? checked(info, std::move(given.text))
                                                                       : noNar(given.text);
            });
        }
    StoreQuestions::start(byStore, waiting, std::max(infoLimit, limits.unpacked));

    auto askForPath = [&](size_t i) {
        auto & [cache, path] = questions[i];
        if (auto http = dynamic_cast<const HttpCache *>(cache.get())) {
            auto & ofCache = byHttpCache[http];
            if (!ofCache)
                ofCache = std::make_unique<HttpQuestions>(*http, answers.paths);
            ofCache->ask(i, path, waiting.downloads);
        } else if (auto file = dynamic_cast<const FileCache *>(cache.get()))
            answers.paths[i] = askFolder(*file, path);
    };
    forEachUntil(deadline, questions.size(), askForPath, [&](size_t i, const std::string & problem) {
        answers.paths[i] = failed(problem);
    });

    auto askForNar = [&](size_t i) {
        auto & cache = *nars[i].cache;
        auto & info = *nars[i].path->info;
        if (info.narSize > limits.unpacked)
            answers.nars[i] = noNar(fmt("its NAR has %d bytes, more than %d", info.narSize, limits.unpacked));
        else if (dynamic_cast<const BlockingStore *>(&cache))
            return;
        else if (auto problem = problemOfUrl(info.url))
            answers.nars[i] = noNar(*problem);
        else if (auto file = dynamic_cast<const FileCache *>(&cache))
            answers.nars[i] = readFromFolder(*file, info, limits);
        else if (auto http = dynamic_cast<const HttpCache *>(&cache))
            startNar(*http, info, limits.compressed, answers.nars[i], waiting.downloads);
    };
    forEachUntil(deadline, nars.size(), askForNar, [&](size_t i, const std::string & problem) {
        answers.nars[i] = noNar(problem);
    });
    waiting.untilAllAnswered(deadline);
    return answers;
}

PublicKeys publicKeys(const Strings & keys)
{
    PublicKeys read;
    for (auto & text : keys)
        try {
#if IS_DETERMINATE_NIX
            auto key = PublicKey::parse(text);
            auto name = key->name;
            read.emplace(name, std::move(key));
#else
            PublicKey key(text);
            read.emplace(key.name, key);
#endif
        } catch (Error & error) {
            throw Error("the public key '%s' can't be read: %s", text, problemOf(error));
        }
    return read;
}

StringSet signersOf(Store & store, const ValidPathInfo & info, const PublicKeys & keys)
{
    StringSet signers;
    for (auto & signature : info.sigs)
        try {
            if (info.checkSignature(store, keys, signature))
#if NIX_AT_LEAST(2, 34)
                signers.insert(signature.keyName);
#else
                signers.insert(signature.substr(0, signature.find(':')));
#endif
        } catch (std::exception &) {
            /* It can't be read. */
        }
    return signers;
}

} // namespace negative_cache::compat
