#include "known_failure.hh"
#include "guard.hh"
#include "output_keys.hh"
#include "policy.hh"
#include "settings.hh"

#include <algorithm>

namespace negative_cache {

using namespace nix;

/* The policy for a store, and whether the store is a daemon that answers questions. */
struct PolicyOfStore
{
    rust::Box<core::Policy> policy;
    bool asksDaemon;
};

/* The policies are kept, because expressions ask about whole package sets, and an evaluation does not change settings. */
static const PolicyOfStore & policyOf(Store & store)
{
    static thread_local std::map<Store *, PolicyOfStore> policies;
    auto found = policies.find(&store);
    if (found == policies.end()) {
        auto policy = policyFor(store);
        bool asksDaemon =
            policy->daemon_decides() && store.isValidPath(StorePath(std::string(core::question_whether_daemon_answers())));
        found = policies.emplace(&store, PolicyOfStore{std::move(policy), asksDaemon}).first;
    }
    return found->second;
}

/* Asks a daemon with the plugin whether any of `paths` is known to fail. The daemon sees what the environment of its builds
   is, and which settings are in force for them. It looks up the outputs of a derivation by itself. */
static bool daemonKnows(Store & store, const rust::Vec<rust::String> & paths)
{
    return std::any_of(paths.begin(), paths.end(), [&](auto & path) {
        auto question = core::question_to_daemon(path);
        return !question.empty() && store.isValidPath(StorePath(std::string(question)));
    });
}

rust::String knownFailure(Store & store, rust::Vec<rust::String> paths)
{
    rust::String failure;
    if (!settings().isOn())
        return failure;

    /* The outputs are looked up as well: another derivation with the same outputs, which only uses other fetchers, may
       have failed. */
    bool isNoFetch = false;
    for (auto & path : std::vector(paths.begin(), paths.end()))
        guarded([&] {
            auto derivation = store.maybeParseStorePath(std::string(path));
            if (!derivation || !derivation->isDerivation() || !store.isValidPath(*derivation))
                return;
            auto read = store.readDerivation(*derivation);
            isNoFetch = !compat::typeOf(read).isFixed();
            for (auto & key : outputKeys(store, read))
                paths.push_back(key.key);
        });

    guarded([&] {
        auto & [policy, asksDaemon] = policyOf(store);
        bool told = asksDaemon && daemonKnows(store, paths);
        if (!asksDaemon || told)
            failure = core::known_failure(*policy, paths, isNoFetch, told);
    });
    return failure;
}

} // namespace negative_cache
