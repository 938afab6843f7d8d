#pragma once
/* The binary caches of a request, which the core asks for failures. */

#include "compat.hh"
#include "rust/cxx.h"

namespace negative_cache {

namespace core {
struct CacheAnswers;
struct CacheQuestion;
struct FoundPath;
struct Policy;
} // namespace core

/* Binary caches. Nothing is opened before the first question. All questions together take at most as long as the setting
   `negative-cache-timeout` says, and what happens between them does not count. A cache that fails is not asked again by this
   process. */
class Caches
{
    using Duration = compat::Deadline::duration;

    nix::Store & store;
    std::vector<std::string> cacheUrls;
    std::vector<nix::PublicKeys> keys;
    std::vector<std::string> keyTexts;
    /* How long all questions may take, and how much of that is left. */
    Duration timeout{};
    Duration left{};
    /* What was found last, by the indexes of the questions of `query`. */
    std::vector<compat::NarQuestion> found;
    bool failed = false;
    /* Whether there shall be none, of which there is nothing to say. */
    const bool areNone;

    void fails(size_t cache, const std::string & problem);
    rust::Vec<rust::String> signers(const nix::ValidPathInfo & info);
    compat::CacheAnswers ask(
        const rust::Vec<core::CacheQuestion> & questions,
        const std::vector<compat::NarQuestion> & nars);
    rust::Vec<core::FoundPath> foundPaths(const std::vector<compat::CacheAnswer> & answers);

public:
    /* No caches: nothing is asked. */
    explicit Caches(nix::Store & store);
    Caches(nix::Store & store, const core::Policy & policy);

    /* ---- What the core asks; see `Caches` in core/src/elsewhere.rs ---- */

    rust::String store_dir() const;
    /* Whether there are caches, and nobody forbids to substitute (`substitute = false`). */
    bool may_be_asked() const;
    /* If they may not be asked, why. */
    rust::String why_not_asked() const;
    /* Whether each cache that was asked has answered. */
    bool all_answered() const;
    rust::Vec<rust::String> urls() const;
    rust::Vec<core::FoundPath> query(const rust::Vec<core::CacheQuestion> & questions);
    core::CacheAnswers read(const rust::Vec<size_t> & nars, const rust::Vec<core::CacheQuestion> & questions);
    void note(size_t cache, rust::Str path, rust::Str text) const;
    /* Says once, to users who want to know much, why a cache is asked for nothing more. */
    void leave_out(size_t cache, rust::Str why) const;
    /* The same of all caches. */
    void ask_nobody(rust::Str why) const;
};

} // namespace negative_cache
