#include "caches.hh"
#include "guard.hh"

#include "nix-negative-cache-plugin/src/bridge.rs.h"

#include <algorithm>
#include <mutex>

namespace negative_cache {

using namespace nix;

/* Failure objects are small. A cache may compress them badly. */
static constexpr compat::SizeLimits limits{.compressed = 64 * 1024, .unpacked = 64 * 1024};

namespace {

/* The caches that this process has opened, by URL, and those that can't be used. A process keeps them, because their connections
   can be used again. */
struct OpenCaches
{
    std::mutex mutex;
    std::map<std::string, std::shared_ptr<compat::BinaryCache>> open;
    std::set<std::string> unusable;
    /* What was said once, so that it is not said for each request. */
    std::set<std::string> said;

    /* Null if the cache can't be used. If that is new, `problem` says why. */
    std::shared_ptr<compat::BinaryCache> at(const std::string & url, std::string & problem)
    {
        std::lock_guard lock(mutex);
        if (unusable.count(url))
            return nullptr;
        auto & cache = open[url];
        if (!cache) {
            cache = compat::openBinaryCache(url, problem);
            if (!cache)
                unusable.insert(url);
        }
        return cache;
    }

    /* A cache that was open, even if it can't be used any more. */
    std::shared_ptr<compat::BinaryCache> opened(const std::string & url)
    {
        std::lock_guard lock(mutex);
        return open.at(url);
    }

    /* Returns whether this is the first problem with the cache. */
    bool fails(const std::string & url)
    {
        std::lock_guard lock(mutex);
        return unusable.insert(url).second;
    }

    bool canBeUsed(const std::string & url)
    {
        std::lock_guard lock(mutex);
        return !unusable.count(url);
    }

    /* Returns whether this text was not said before. */
    bool isNew(const std::string & text)
    {
        std::lock_guard lock(mutex);
        return said.insert(text).second;
    }
};

} // namespace

/* Never destroyed: a download may still come to its end while the process does. */
static OpenCaches & openCaches()
{
    static auto caches = new OpenCaches;
    return *caches;
}

/* The binary caches that Nix takes outputs from. */
static std::vector<std::string> substituters()
{
    for (auto setting : compat::settingsNamed([](const std::string & name) { return name == "substituters"; }))
        return tokenizeString<std::vector<std::string>>(compat::valueOf(*setting));
    return {};
}

/* A URL as others may see it. */
static std::string shown(const std::string & url)
{
    return std::string(core::shown_url(rust::String::lossy(url)));
}

/* What explains why caches are of no use here is said once in a process. */
static void sayOnce(const std::string & text)
{
    if (openCaches().isNew(text))
        printTalkative("%s", compat::plain(text));
}

static void sayNotAsked(const std::string & url, const std::string & why)
{
    sayOnce(fmt("negative cache: '%s' is not asked for failures: %s", shown(url), why));
}

static void sayNotRead(const std::string & path, const std::string & url, const std::string & problem)
{
    printTalkative("negative cache: '%s' of '%s' is not read: %s", path, shown(url), compat::plain(problem));
}

Caches::Caches(Store & store)
    : store(store)
    , areNone(true)
{
}

Caches::Caches(Store & store, const core::Policy & policy)
    : store(store)
    , areNone(false)
{
    if (!compat::useSubstitutes())
        return;
    auto settings = policy.cache_settings();
    for (auto & key : settings.trusted_public_keys) {
        keyTexts.emplace_back(key);
        keys.push_back(compat::publicKeys({keyTexts.back()}));
    }
    if (keys.empty())
        return;
    for (auto & url : settings.urls)
        cacheUrls.emplace_back(url);
    if (cacheUrls.empty())
        cacheUrls = substituters();
    timeout = left = std::chrono::milliseconds(settings.timeout_ms);
}

rust::String Caches::store_dir() const
{
    return store.storeDir;
}

bool Caches::may_be_asked() const
{
    return !cacheUrls.empty();
}

bool Caches::all_answered() const
{
    return !failed;
}

rust::Vec<rust::String> Caches::urls() const
{
    rust::Vec<rust::String> urls;
    for (auto & url : cacheUrls)
        urls.push_back(rust::String::lossy(url));
    return urls;
}

void Caches::fails(size_t cache, const std::string & problem)
{
    failed = true;
    auto & url = cacheUrls.at(cache);
    if (openCaches().fails(url))
        printTalkative("negative cache: '%s' is not asked for failures any more: %s", shown(url), compat::plain(problem));
}

rust::Vec<rust::String> Caches::signers(const ValidPathInfo & info)
{
    rust::Vec<rust::String> signers;
    for (size_t i = 0; i < keys.size(); ++i)
        if (!compat::signersOf(store, info, keys[i]).empty())
            signers.push_back(rust::String::lossy(keyTexts[i]));
    return signers;
}

compat::CacheAnswers Caches::ask(
    const rust::Vec<core::CacheQuestion> & questions,
    const std::vector<compat::NarQuestion> & nars)
{
    compat::CacheAnswers all{
        .paths = std::vector<compat::CacheAnswer>(questions.size()),
        .nars = std::vector<compat::NarAnswer>(nars.size()),
    };
    /* A cache that is given hardly any time to answer would count as one that fails. */
    if (left < timeout / 16) {
        failed = true;
        for (auto & answer : all.nars)
            answer.problem = "no time is left to ask";
        return all;
    }
    std::vector<compat::CacheQuestion> asked;
    /* Questions to caches that can't be used are left out. */
    std::vector<size_t> indexes;
    for (size_t i = 0; i < questions.size(); ++i) {
        auto & url = cacheUrls.at(questions[i].cache);
        std::string problem;
        if (auto cache = openCaches().at(url, problem)) {
            asked.push_back({cache, store.parseStorePath(std::string(questions[i].path))});
            indexes.push_back(i);
        } else {
            failed = true;
            if (!problem.empty())
                sayNotAsked(url, problem);
        }
    }
    auto start = std::chrono::steady_clock::now();
    /* A step takes at most half of the time that is left. A cache that says nothing to the first question then leaves time to
       ask the others. */
    auto some = compat::askCaches(asked, nars, limits, start + left / 2);
    left -= std::min(left, std::chrono::steady_clock::now() - start);
    all.nars = std::move(some.nars);
    for (size_t i = 0; i < indexes.size(); ++i) {
        auto & answer = all.paths[indexes[i]] = some.paths[i];
        auto & question = questions[indexes[i]];
        if (answer.kind == compat::CacheAnswer::Kind::Failed)
            fails(question.cache, answer.problem);
        else if (!answer.problem.empty())
            sayNotRead(std::string(question.path), cacheUrls.at(question.cache), answer.problem);
    }
    return all;
}

rust::Vec<core::FoundPath> Caches::foundPaths(const std::vector<compat::CacheAnswer> & answers)
{
    rust::Vec<core::FoundPath> paths;
    for (size_t i = 0; i < answers.size(); ++i) {
        if (answers[i].kind != compat::CacheAnswer::Kind::Present)
            continue;
        auto & info = *answers[i].path->info;
        core::FoundPath path{.question = i, .keys = signers(info), .nar_size = info.narSize, .references = {}};
        for (auto & reference : info.references)
            path.references.push_back(store.printStorePath(reference));
        paths.push_back(std::move(path));
    }
    return paths;
}

rust::Vec<core::FoundPath> Caches::query(const rust::Vec<core::CacheQuestion> & questions)
{
    auto answers = ask(questions, {});
    found.assign(questions.size(), {});
    for (size_t i = 0; i < questions.size(); ++i)
        if (answers.paths[i].kind == compat::CacheAnswer::Kind::Present)
            /* The cache may have failed to answer another question. */
            found[i] = {openCaches().opened(cacheUrls.at(questions[i].cache)), answers.paths[i].path};
    return foundPaths(answers.paths);
}

core::CacheAnswers Caches::read(const rust::Vec<size_t> & nars, const rust::Vec<core::CacheQuestion> & questions)
{
    std::vector<compat::NarQuestion> asked;
    for (auto index : nars)
        asked.push_back(found.at(index));
    auto answers = ask(questions, asked);
    core::CacheAnswers all{.nars = {}, .paths = foundPaths(answers.paths)};
    for (size_t i = 0; i < asked.size(); ++i) {
        auto & answer = answers.nars[i];
        core::Nar nar{.is_there = bool(answer.nar), .bytes = {}};
        if (answer.nar) {
            nar.bytes.reserve(answer.nar->size());
            std::copy(answer.nar->begin(), answer.nar->end(), std::back_inserter(nar.bytes));
        } else
            sayNotRead(store.printStorePath(asked[i].path->info->path), asked[i].cache->url, answer.problem);
        all.nars.push_back(std::move(nar));
    }
    return all;
}

void Caches::note(size_t cache, rust::Str path, rust::Str text) const
{
    /* To say something can fail: the client of a daemon may be gone. */
    guardedNoexcept([&] {
        printTalkative(
            "negative cache: '%s' of '%s' %s",
            std::string(path),
            shown(cacheUrls.at(cache)),
            compat::plain(std::string(text)));
    });
}

void Caches::leave_out(size_t cache, rust::Str why) const
{
    guardedNoexcept([&] {
        auto & url = cacheUrls.at(cache);
        /* If it failed, that was said. */
        if (openCaches().canBeUsed(url))
            sayNotAsked(url, std::string(why));
    });
}

void Caches::ask_nobody(rust::Str why) const
{
    if (!areNone)
        guardedNoexcept(
            [&] { sayOnce(fmt("negative cache: no binary cache is asked for failures: %s", std::string(why))); });
}

rust::String Caches::why_not_asked() const
{
    if (!compat::useSubstitutes())
        return "'substitute' is off";
    if (cacheUrls.empty())
        return "neither 'negative-cache-substituters' nor 'substituters' names one";
    return "";
}

} // namespace negative_cache
