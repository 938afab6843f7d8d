#pragma once
/* The only place that knows more than one Nix: includes, and a name for everything that the versions spell differently.
   Newest first in each conditional. What goals do is here, as it differs most; when they do it is not. The ends of
   `buildPaths` and `buildPathsWithResults` follow Nix's own `build/entry-points.cc` of each version. */

#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
#  include "config-util.hh"
#  include "config-store.hh"
#  include "config-main.hh"
#  include "config-expr.hh"
#  include "config-global.hh"
#  include "eval-settings.hh"
#  include "outputs-spec.hh"
#  include "remote-store-connection.hh"
#  include "signals.hh"
#endif

/* In this order: the headers of 2.8 rely on it. */
#include <future>
#include <thread>
#include "build/worker.hh"
#include "build/derivation-goal.hh"
#include "build/local-derivation-goal.hh"
#include "build/substitution-goal.hh"

#include "callback.hh"
#include "config.hh"
#include "derivations.hh"
#include "eval.hh"
#include "eval-inline.hh"
#include "globals.hh"
#include "local-store.hh"
#include "logging.hh"
#include "primops.hh"
#include "store-api.hh"
#include "uds-remote-store.hh"
#include "url.hh"
#include "worker-protocol.hh"
#include "finally.hh"
#include "util.hh"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace negative_cache::compat {

/* Whether Nix calls `nix_plugin_entry` after it has opened the plugin (since 2.22, `initPlugins`); if not, the plugin
   starts itself when it is loaded. */
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2022000
inline constexpr bool nixCallsEntry = true;
#else
inline constexpr bool nixCallsEntry = false;
#endif

/* ---- Settings ---- */

/* A setting whose value is looked at before it is accepted: `check` throws `nix::UsageError` or returns the value to
   use. */
class CheckedSetting : public nix::Setting<std::string>
{
    std::function<std::string(const nix::AbstractSetting &, const std::string &)> check;

public:
    CheckedSetting(
        nix::Config * config,
        const std::string & value,
        const std::string & name,
        const std::string & description,
        decltype(check) check)
        : nix::Setting<std::string>(config, value, name, description)
        , check(std::move(check))
    {
    }

#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    std::string parse(const std::string & text) const override
    {
        return check(*this, text);
    }
#else
    void set(const std::string & text, bool) override
    {
        value = check(*this, text);
    }
#endif
};

/* All settings of Nix and its plugins for whose names `wanted` holds. */
std::vector<nix::AbstractSetting *> settingsNamed(const std::function<bool(const std::string &)> & wanted);

/* Its value, as `nix config show` prints it. */
std::string valueOf(const nix::AbstractSetting & setting);

/* Whether a setting is there for users: not that of an experimental feature that is off (`Config::getSettings`). */
inline bool isInForce([[maybe_unused]] const nix::AbstractSetting & setting)
{
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    return nix::experimentalFeatureSettings.isEnabled(setting.experimentalFeature);
#else
    return true;
#endif
}

/* Sets in `config` what the configuration files and NIX_CONFIG say, the last word last, as at the start of Nix. */
void applyConfiguration(nix::AbstractConfig & config);

/* ---- Store ---- */

/* Makes `StoreType`, a local store made of its parameters, the store of every `local` URL. */
template<typename StoreType>
void replaceLocalStore()
{
    using nix::Implementations;
    if (!Implementations::registered)
        Implementations::registered = new std::vector<nix::StoreFactory>();
    nix::StoreFactory factory{
        .uriSchemes = {"local"},
        .create = [](auto &&, auto && path, auto params) -> std::shared_ptr<nix::Store> {
            /* `local?root=PATH`, with 2.8's URLs and since, and `local://PATH`, since 2.20 or so. */
            if (!path.empty())
                params.emplace("root", std::string(path));
            return std::make_shared<StoreType>(params);
        },
        .getConfig = []() -> std::shared_ptr<nix::StoreConfig> {
            return std::make_shared<nix::LocalStoreConfig>(nix::StringMap{});
        },
    };
    /* The first factory for a scheme wins. */
    Implementations::registered->insert(Implementations::registered->begin(), std::move(factory));
}

/* A client of the daemon, derived from `StoreType`, which is derived from Nix's own and leaves `getUri` open. Its virtual
   bases are made here, as the versions make them differently. `socket` is empty for the default. */
template<typename StoreType>
class DaemonClient : public StoreType
{
    const bool isDefault;

public:
    DaemonClient(const std::string & socket, const nix::Store::Params & params)
        : nix::StoreConfig(params)
        , nix::LocalFSStoreConfig(params)
        , nix::RemoteStoreConfig(params)
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
        , nix::UDSRemoteStoreConfig("unix", socket, params)
#else
        , nix::UDSRemoteStoreConfig(params)
#endif
        , nix::Store(params)
        , nix::LocalFSStore(params)
        , nix::RemoteStore(params)
        , StoreType(socket.empty() ? nix::settings.nixDaemonSocketFile : socket, params)
        , isDefault(socket.empty())
    {
    }

    std::string getUri() override
    {
        return isDefault ? "daemon" : nix::UDSRemoteStore::getUri();
    }
};

/* Makes `StoreType`, see above, the store of every `unix` URL. */
template<typename StoreType>
void replaceDaemonStore()
{
    using nix::Implementations;
    nix::StoreFactory factory{
        .uriSchemes = {"unix"},
        .create = [](auto &&, auto && path, auto params) -> std::shared_ptr<nix::Store> {
            return std::make_shared<DaemonClient<StoreType>>(std::string(path), params);
        },
        .getConfig = []() -> std::shared_ptr<nix::StoreConfig> {
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
            return std::make_shared<nix::UDSRemoteStoreConfig>("unix", "", nix::StringMap{});
#else
            return std::make_shared<nix::UDSRemoteStoreConfig>(nix::StringMap{});
#endif
        },
    };
    Implementations::registered->insert(Implementations::registered->begin(), std::move(factory));
}

/* Whether `replaceLocalStore` must be called even if nobody asks for the plugin's store: other processes that load the
   plugin (the build hook) are told to open the store by the spelling that only it makes known. */
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
inline constexpr bool localUrlsAreNixs = true;
#else
inline constexpr bool localUrlsAreNixs = false;
#endif

/* The same store as `uri` names, spelled so that Nix looks it up among the registered implementations; nothing where
   Nix does so anyway or where it is not a local store. */
std::optional<std::string> registeredSpelling(const std::string & uri);

/* What Nix would have to do for requests (`Store::queryMissing`). */
struct MissingPaths
{
    nix::StorePathSet willBuild, willSubstitute, unknown;
};

MissingPaths queryMissing(nix::Store & store, const std::vector<nix::DerivedPath> & requests);

/* ---- Derivations ---- */

/* The derivation that is requested, if its path is known before anything is built. */
std::optional<nix::StorePath> requestedDerivation(const nix::DerivedPath & request);

/* Whether an output of the derivation is wanted by a request for it. */
bool requests(const nix::DerivedPath & request, const std::string & output);

inline bool isImpure(const nix::DerivationType & type)
{
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    return type.isImpure();
#else
    return !type.isPure();
#endif
}

/* Whether the outputs of a derivation may be substituted (`allowSubstitutes`). */
bool substitutesAllowed(const nix::StorePath & path, const nix::BasicDerivation & derivation);

/* Whether a derivation does not keep itself out (`negativeCache = false`, in structured attributes as well). */
bool wantsNegativeCache(const nix::StorePath & path, const nix::BasicDerivation & derivation);

/* Whether the builder of a derivation may use Nix itself. */
bool usesRecursiveNix(const nix::StorePath & path, const nix::BasicDerivation & derivation);

/* `derivation` as it will be built: with the outputs of its dependencies in the place of the dependencies
   (`Derivation::tryResolve`). Nothing unless all of them are known. */
std::optional<nix::Derivation> resolve(nix::Store & store, const nix::Derivation & derivation);

/* The derivations that `derivation` needs outputs of, as far as they are known before anything is built. */
nix::StorePathSet inputDerivations(const nix::Derivation & derivation);

/* ---- Goals ---- */

/* The goal of one request. */
nix::GoalPtr makeGoal(nix::Worker & worker, const nix::DerivedPath & request, nix::BuildMode mode);

/* The goal that makes the outputs of `input` that `derivation` needs. */
nix::GoalPtr makeInputGoal(nix::Worker & worker, const nix::Derivation & derivation, const nix::StorePath & input);

/* The same as a request. */
nix::DerivedPath inputRequest(const nix::Derivation & derivation, const nix::StorePath & input);

/* The goal whose build of `derivation` has just started. */
std::shared_ptr<nix::DerivationGoal> startedGoal(nix::Worker & worker, const nix::StorePath & derivation);

/* Whether the build that a goal has started is over and its result stands. */
inline bool buildEnded(const nix::DerivationGoal & goal)
{
    /* `DerivationGoal::started` sets it, `DerivationGoal::done` resets it, after the status is known. */
    return !goal.mcRunningBuilds;
}

nix::BuildResult buildResult(const nix::DerivationGoal & goal);

/* Whether a goal has all it needs to build, and the locks, and has not started to. */
bool isAboutToBuild(const nix::DerivationGoal & goal);

/* Whether a goal that has started its builder starts it once more if it succeeds (`repeat`, until 2.11), which includes
   locking the outputs again. */
inline bool willBuildAgain([[maybe_unused]] const nix::DerivationGoal & goal)
{
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2012000
    return false;
#else
    return goal.curRound < goal.nrRounds;
#endif
}

/* The descriptors by which a goal holds the locks on its outputs. */
std::vector<int> lockDescriptors(const nix::DerivationGoal & goal);

/* Whether somebody waits for this output of a goal. */
bool wants(const nix::DerivationGoal & goal, const std::string & output);

/* Lets a goal that is at work and about to build do so here, if at all (`DerivationGoal::tryBuildHook`). */
inline void keepFromOtherMachines(nix::DerivationGoal & goal)
{
    goal.useDerivation = false;
}

/* What a goal that is refused says, and as what it counts for the exit status. */
struct Refusal
{
    nix::Error error;
    nix::BuildResult::Status standsFor;
};

/* Refuses to build what a goal is about to build that is not at work: it fails, at the latest when its turn comes. */
void refuse(nix::DerivationGoal & goal, const Refusal & refusal);

/* Whether a goal that has built here should have done so in a sandbox, and could not (`sandbox-fallback`). */
bool fellBackToNoSandbox(const nix::DerivationGoal & goal);

/* A goal that builds nothing: it waits for what it was given as waitees, then fails. */
class UnbuiltGoal : public nix::DerivationGoal
{
    const std::optional<Refusal> refusal;

public:
    /* Without a refusal, it fails because of its waitees, and says so in Nix's words. */
    UnbuiltGoal(
        const nix::StorePath & derivation, nix::Worker & worker, const std::optional<Refusal> & refusal);

#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    Co init() override;
#else
    void work() override;
#endif
};

/* A goal that nobody asked for and that is never done: it does its work each time that it is woken, right before the
   turn of another goal. It must not be awake when the last of the others is done, which Nix checks. */
class Errand : public nix::Goal
{
    const std::string sortKey;
    const std::function<void()> errand;

public:
    Errand(nix::Worker & worker, nix::DerivationGoal & before, std::function<void()> errand);

    std::string key() override
    {
        return sortKey;
    }

    void timedOut(nix::Error &&) override {}

#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    Co init() override;

    nix::JobCategory jobCategory() const override
    {
        return nix::JobCategory::Build;
    }
#else
    void work() override;
#endif
};

/* ---- The ends of Nix's entry points ---- */

#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
using BuildResults = std::vector<nix::KeyedBuildResult>;
#else
using BuildResults = std::vector<nix::BuildResult>;
#endif

/* A request and its goal; no goal stands for one that was never started. */
struct Requested
{
    nix::DerivedPath request;
    nix::GoalPtr goal;
};

/* The exit status that a worker asks for. */
unsigned int exitStatus(nix::Worker & worker);

/* What `Store::buildPaths` throws once the goals have run; nothing if all succeeded. */
std::optional<nix::Error> failureOf(nix::Store & store, const std::vector<Requested> & requested, unsigned int status);

/* What `Store::buildPathsWithResults` does once the goals have run. */
BuildResults collectResults(const std::vector<Requested> & requested);

/* What `Store::buildDerivation` does, with `run` in the place of `Worker::run`. */
nix::BuildResult buildDerivation(
    nix::Worker & worker,
    const nix::StorePath & path,
    const nix::BasicDerivation & derivation,
    nix::BuildMode mode,
    const std::function<void(const nix::Goals &)> & run);

/* ---- The daemon ---- */

/* Keeps the plugins of a client from the daemon, for as long as it lives. Until 2.13 clients name them, and newer daemons
   complain. */
class PluginsStayHere
{
#if NIX_NEGATIVE_CACHE_NIX_VERSION < 2014000
    bool & overridden = nix::settings.pluginFiles.overridden;
    const bool before = std::exchange(overridden, false);

public:
    ~PluginsStayHere()
    {
        overridden = before;
    }
#endif
};

/* Asks a daemon whether a path is valid, past all that is remembered on this side. */
bool askValidity(nix::RemoteStore::Connection & connection, const std::string & path);

/* Whether a daemon has an answer for each of several requests (`BuildPathsWithResults`). */
inline bool tellsResults(nix::Store & store)
{
    return GET_PROTOCOL_MINOR(store.getProtocol()) >= 34;
}

/* What a result says of a failure; empty if it is a success. */
std::string errorMessage(const nix::BuildResult & result);

/* ---- Messages ---- */

/* Text that Nix prints as it is, in the place of an argument that it would emphasise. */
inline auto plain(const std::string & text)
{
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    return nix::Uncolored(text);
#else
    return nix::normaltxt(text);
#endif
}

/* How the list of the last log lines of a failed build begins (`DerivationGoal::buildDone`). */
inline constexpr auto lastLogLines = "last";

/* What surrounds a derivation's path where Nix says how to see its whole log. */
std::pair<std::string, std::string> fullLogs();

/* Whether this process was told to stop. */
inline bool interrupted()
{
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    return nix::getInterrupted();
#else
    return nix::_isInterrupted;
#endif
}

/* A logger that passes everything on to another one. */
class ForwardingLogger : public nix::Logger
{
protected:
    nix::Logger & inner;

public:
    explicit ForwardingLogger(nix::Logger & inner)
        : inner(inner)
    {
    }

    /* What was passed on. */
    virtual void logged(nix::Verbosity level, std::string_view text) = 0;

    void stop() override { inner.stop(); }
    bool isVerbose() override { return inner.isVerbose(); }
    void logEI(const nix::ErrorInfo & info) override { inner.logEI(info); }
    void warn(const std::string & text) override { inner.warn(text); }
    void writeToStdout(std::string_view text) override { inner.writeToStdout(text); }
    std::optional<char> ask(std::string_view text) override { return inner.ask(text); }

    void startActivity(
        nix::ActivityId activity,
        nix::Verbosity level,
        nix::ActivityType type,
        const std::string & text,
        const Fields & fields,
        nix::ActivityId parent) override
    {
        inner.startActivity(activity, level, type, text, fields, parent);
    }

    void stopActivity(nix::ActivityId activity) override { inner.stopActivity(activity); }

    void result(nix::ActivityId activity, nix::ResultType type, const Fields & fields) override
    {
        inner.result(activity, type, fields);
    }

#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    void log(nix::Verbosity level, std::string_view text) override
    {
        inner.log(level, text);
        logged(level, text);
    }

    void pause() override { inner.pause(); }
    void resume() override { inner.resume(); }
    void setPrintBuildLogs(bool print) override { inner.setPrintBuildLogs(print); }
#else
    void log(nix::Verbosity level, const nix::FormatOrString & text) override
    {
        inner.log(level, text);
        logged(level, text.s);
    }
#endif
};

/* ---- Evaluation ---- */

#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
using Position = const nix::PosIdx;
#else
using Position = const nix::Pos &;
#endif

/* Adds `builtins.<name>` of one argument. */
void registerPrimOp(
    const char * name,
    const char * argument,
    const char * documentation,
    void (*function)(nix::EvalState & state, Position position, nix::Value ** arguments, nix::Value & value));

bool isPureEvaluation(nix::EvalState & state);

/* Throws an evaluation error at a position. */
[[noreturn]] void evaluationError(nix::EvalState & state, Position position, const std::string & text);

std::string forceString(nix::EvalState & state, Position position, nix::Value & value, const char * context);

/* The value of an attribute, or null. */
nix::Value * attribute(nix::EvalState & state, nix::Value & set, const char * name);

} // namespace negative_cache::compat
