#pragma once
/* Binary caches as the plugin asks them: apart from Nix's own store objects and downloads, so that an error here does not make
   Nix leave a cache alone, with one try for each question, and never for longer than a deadline. What is asked for is bounded in
   size as well.

   http(s) caches are asked in this process, all at once. So are s3 caches if Nix itself speaks to them like that. `file://` caches
   are read here. All other stores block, so another process asks them, which ends at the deadline.

   Nix's disk cache of what http(s) caches have answers first, and remembers the answers. */

#include "nix.hh"

#include <chrono>

namespace negative_cache::compat {

using Deadline = std::chrono::steady_clock::time_point;

/* Asks for the bytes of a path at most so far. */
struct SizeLimits
{
    /* Of the file as the cache has it. Does not apply to stores that are no http(s) or file caches. */
    size_t compressed;
    /* Of the NAR. */
    size_t unpacked;
};

/* A path that a cache says it has. Nothing in it was checked but its path. */
struct CachedPath
{
    std::shared_ptr<const nix::NarInfo> info;
};

/* What a cache said of a path. */
struct CacheAnswer
{
    enum struct Kind { Absent, Present, Failed } kind = Kind::Failed;
    /* If it is Present. */
    std::shared_ptr<const CachedPath> path;
    /* If the cache Failed to answer, why. If it is Absent because what the cache says can't be read, why. */
    std::string problem;
};

/* A binary cache, or any other store that outputs are taken from. */
class BinaryCache
{
public:
    /* As it was named. */
    const std::string url;

    BinaryCache(const BinaryCache &) = delete;
    virtual ~BinaryCache() = default;

protected:
    explicit BinaryCache(const std::string & url)
        : url(url)
    {
    }
};

/* The cache at `url`; null with a reason in `problem` if there can't be one. This does not ask the cache. What is wrong with the
   cache as a whole (it is down, or it is for another store directory) is what each question about it is answered with. */
std::shared_ptr<BinaryCache> openBinaryCache(const std::string & url, std::string & problem);

struct CacheQuestion
{
    std::shared_ptr<BinaryCache> cache;
    nix::StorePath path;
};

struct NarQuestion
{
    std::shared_ptr<BinaryCache> cache;
    std::shared_ptr<const CachedPath> path;
};

struct NarAnswer
{
    std::optional<std::string> nar;
    /* If there is no NAR, why. */
    std::string problem;
};

/* The answers in the order of the questions. */
struct CacheAnswers
{
    std::vector<CacheAnswer> paths;
    std::vector<NarAnswer> nars;
};

/* Asks caches about paths, and downloads NARs and unpacks them, all at once. A NAR that has another hash or size than its path
   info says is none. */
CacheAnswers askCaches(
    const std::vector<CacheQuestion> & questions,
    const std::vector<NarQuestion> & nars,
    const SizeLimits & limits,
    Deadline deadline);

/* The public keys in a list, as `trusted-public-keys` has them. Throws an error that names a key which can't be read. */
nix::PublicKeys publicKeys(const nix::Strings & keys);

/* The names of those of `keys` that have signed what a path info says. */
nix::StringSet signersOf(nix::Store & store, const nix::ValidPathInfo & info, const nix::PublicKeys & keys);

} // namespace negative_cache::compat
