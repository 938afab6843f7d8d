#include "primop.hh"
#include "compat.hh"
#include "guard.hh"
#include "output_keys.hh"
#include "policy.hh"
#include "settings.hh"

#include <algorithm>

namespace negative_cache {

using namespace nix;

/* The paths by which a failure of the argument can be found: the path of its derivation, and the path of its output as
   far as that is known without the store. */
static rust::Vec<rust::String> pathsOf(EvalState & state, compat::Position position, Value & value)
{
    rust::Vec<rust::String> paths;
    state.forceValue(value, position);
    if (value.type() != nAttrs) {
        paths.push_back(rust::String::lossy(compat::forceString(
            state,
            position,
            value,
            "while evaluating the path of a derivation given to 'builtins.knownFailure'")));
        return paths;
    }
    if (!state.isDerivation(value))
        compat::evaluationError(state, position, "the set given to 'builtins.knownFailure' is not a derivation");
    for (auto name : {"drvPath", "outPath"})
        if (auto path = compat::attribute(state, value, name))
            paths.push_back(rust::String::lossy(compat::forceString(
                state,
                position,
                *path,
                "while evaluating a path of the derivation given to 'builtins.knownFailure'")));
    return paths;
}

/* The policy for a store, and whether the store is a daemon that answers questions. */
struct PolicyOfStore
{
    rust::Box<core::Policy> policy;
    bool asksDaemon;
};

/* The policies are kept, because expressions ask about whole package sets, and an evaluation does not change settings. */
static const PolicyOfStore & policyOf(EvalState & state)
{
    static thread_local std::map<Store *, PolicyOfStore> policies;
    auto & store = *state.store;
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
   is, and which settings are in force for them. */
static bool daemonKnows(Store & store, const rust::Vec<rust::String> & paths)
{
    return std::any_of(paths.begin(), paths.end(), [&](auto & path) {
        auto question = core::question_to_daemon(path);
        return !question.empty() && store.isValidPath(StorePath(std::string(question)));
    });
}

static void knownFailure(EvalState & state, compat::CallSite callSite, compat::Arguments arguments, Value & value)
{
    auto && position = compat::positionOf(callSite);
    if (compat::isPureEvaluation(state))
        compat::evaluationError(
            state,
            position,
            "'builtins.knownFailure' is not allowed in pure evaluation mode (use '--impure' to override)");
    auto paths = pathsOf(state, position, *arguments[0]);
    value.mkNull();
    if (!negative_cache::settings().isOn())
        return;

    /* The outputs are looked up as well: another derivation with the same outputs, which only uses other fetchers, may
       have failed. */
    for (auto & path : std::vector(paths.begin(), paths.end()))
        guarded([&] {
            auto derivation = state.store->maybeParseStorePath(std::string(path));
            if (!derivation || !derivation->isDerivation() || !state.store->isValidPath(*derivation))
                return;
            for (auto & key : outputKeys(*state.store, state.store->readDerivation(*derivation)))
                paths.push_back(key.key);
        });

    guarded([&] {
        auto & [policy, asksDaemon] = policyOf(state);
        bool told = asksDaemon && daemonKnows(*state.store, paths);
        if (asksDaemon && !told)
            return;
        auto failure = core::known_failure(*policy, paths, told);
        /* Another program may have written anything into the database. */
        if (!failure.empty())
            parseJSON(state, std::string(failure), value);
    });
}

static constexpr auto primOpName = "__knownFailure";

bool isPrimOpRegistered()
{
    return compat::hasPrimOp(primOpName);
}

void registerPrimOp()
{
    compat::registerPrimOp(
        primOpName,
        "drv",
        R"(
          Return what is known of the last failure to build *drv*, a derivation or the path of one: a set with
          `drvPath`, `outPath`, `class`, `exitCode` (or `null`), `reason`, `log`, `attempts`, `firstFailure`,
          `lastFailure` and `believedUntil` (in seconds since 1970; `null` is for ever) and others. It is `null` if *drv*
          is not known to fail, or if its failure is not believed now and here. Not available in pure evaluation mode.

          ```nix
          lib.filterAttrs (_: p: builtins.knownFailure p == null) packages
          ```
        )",
        knownFailure);
}

} // namespace negative_cache
