#include "compat.hh"

namespace negative_cache::compat {

using namespace nix;

void applyConfiguration(AbstractConfig & config)
{
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    loadConfFile(config);
#else
    /* `loadConfFile` of this version knows only the global configuration. */
    config.applyConfigFile(settings.nixConfDir + "/nix.conf");
    auto files = settings.nixUserConfFiles;
    for (auto file = files.rbegin(); file != files.rend(); ++file)
        config.applyConfigFile(*file);
    if (auto text = getEnv("NIX_CONFIG"))
        config.applyConfig(*text, "NIX_CONFIG");
#endif
}

/* ---- Store ---- */

/* The daemon of this machine, as a URL. */
static constexpr auto daemonUrl = "unix://";

/* What `auto` stands for: `openStore` handles it apart from all other stores, in every version. Whoever may write to the
   state directory is the store's owner; everybody else asks the daemon if there is one. Empty where Nix still has to make
   the store. */
static std::string storeOfAuto()
{
    if (access(settings.nixStateDir.c_str(), R_OK | W_OK) == 0)
        return "local";
    if (pathExists(settings.nixDaemonSocketFile))
        return daemonUrl;
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    /* Who may not make /nix has a store at home. Nix makes that one, and says so, when it is first needed. */
    if (!pathExists(settings.nixStateDir) && !isRootUser() && !getEnv("NIX_STORE_DIR") && !getEnv("NIX_STATE_DIR")) {
        auto root = getDataDir() + "/root";
        return pathExists(root) ? root : "";
    }
#endif
    return "local";
}

/* Nix only gives all settings out at once, copied together with their descriptions. An explicit instantiation may name a
   private member ([temp.spec]). */
using SettingsOf = Config::Settings Config::*;
SettingsOf settingsOf();

template<SettingsOf member>
struct PrivateMember
{
    friend SettingsOf settingsOf()
    {
        return member;
    }
};

template struct PrivateMember<&Config::_settings>;

std::vector<AbstractSetting *> settingsNamed(const std::function<bool(const std::string &)> & wanted)
{
    std::vector<AbstractSetting *> settings;
    if (GlobalConfig::configRegistrations)
        for (auto & config : *GlobalConfig::configRegistrations)
            for (auto & [name, data] : config->*settingsOf())
                if (!data.isAlias && wanted(name))
                    settings.push_back(data.setting);
    return settings;
}

namespace {

struct ReadableSetting : AbstractSetting
{
    static auto reader()
    {
        return &ReadableSetting::to_string;
    }
};

} // namespace

std::string valueOf(const AbstractSetting & setting)
{
    return (setting.*ReadableSetting::reader())();
}

std::optional<std::string> registeredSpelling(const std::string & uri)
{
    auto question = uri.find('?');
    auto base = uri.substr(0, question);
    auto parameters = question == std::string::npos ? "" : uri.substr(question + 1);
    bool isAuto = base.empty() || base == "auto";
    if (isAuto) {
        /* `?state=` has a say in what `auto` stands for. */
        if (!parameters.empty())
            return std::nullopt;
        base = storeOfAuto();
        if (base.empty())
            return std::nullopt;
    }
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    /* This version looks up `local` and paths as well. */
    return isAuto ? std::optional(base) : std::nullopt;
#else
    /* This version looks up URLs only, and neither `local` nor a path is one. */
    if (base == "daemon")
        return daemonUrl + (parameters.empty() ? std::string() : "?" + parameters);
    if (base == "local")
        return "local://" + (parameters.empty() ? "" : "?" + parameters);
    if (base.find("://") != std::string::npos || base.find('/') == std::string::npos)
        return std::nullopt;
    std::string root;
    for (unsigned char c : absPath(base))
        if (std::isalnum(c) || std::string_view("/-._~").find(c) != std::string_view::npos)
            root += c;
        else
            root += fmt("%%%02X", (unsigned int) c);
    return "local://?root=" + root + (parameters.empty() ? "" : "&" + parameters);
#endif
}

MissingPaths queryMissing(Store & store, const std::vector<DerivedPath> & requests)
{
    MissingPaths missing;
    uint64_t downloadSize, narSize;
    store.queryMissing(
        requests, missing.willBuild, missing.willSubstitute, missing.unknown, downloadSize, narSize);
    return missing;
}

/* ---- Derivations ---- */

std::optional<StorePath> requestedDerivation(const DerivedPath & request)
{
    auto built = std::get_if<DerivedPath::Built>(&request.raw());
    if (!built)
        return std::nullopt;
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    auto path = std::get_if<SingleDerivedPath::Opaque>(&built->drvPath->raw());
    return path ? std::optional(path->path) : std::nullopt;
#else
    return built->drvPath;
#endif
}

bool requests(const DerivedPath & request, const std::string & output)
{
    auto built = std::get_if<DerivedPath::Built>(&request.raw());
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    return built && built->outputs.contains(output);
#else
    return built && wantOutput(output, built->outputs);
#endif
}

bool substitutesAllowed(const StorePath & path, const BasicDerivation & derivation)
{
    auto copy = derivation;
    return ParsedDerivation(path, copy).substitutesAllowed();
}

bool wantsNegativeCache(const StorePath & path, const BasicDerivation & derivation)
{
    auto copy = derivation;
    return ParsedDerivation(path, copy).getBoolAttr("negativeCache", true);
}

bool usesRecursiveNix(const StorePath & path, const BasicDerivation & derivation)
{
    auto copy = derivation;
    return ParsedDerivation(path, copy).getRequiredSystemFeatures().count("recursive-nix");
}

#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
/* Adds to `found` the paths that `tryResolve` will ask for. */
static bool findOutputs(
    Store & store,
    const StorePath & input,
    const DerivedPathMap<StringSet>::ChildNode & node,
    std::map<std::pair<StorePath, std::string>, StorePath> & found)
{
    auto outputs = store.queryPartialDerivationOutputMap(input);
    auto find = [&](const std::string & name) {
        auto output = outputs.find(name);
        if (output == outputs.end() || !output->second)
            return false;
        found.insert_or_assign({input, name}, *output->second);
        return true;
    };
    for (auto & name : node.value)
        if (!find(name))
            return false;
    for (auto & [name, child] : node.childMap)
        if (!find(name) || !store.isValidPath(found.at({input, name}))
            || !findOutputs(store, found.at({input, name}), child, found))
            return false;
    return true;
}
#endif

std::optional<Derivation> resolve(Store & store, const Derivation & derivation)
{
    /* `tryResolve` warns of an output that it can't find, so it is only given what has them all. */
    std::map<std::pair<StorePath, std::string>, StorePath> found;
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    for (auto & [input, node] : derivation.inputDrvs.map)
        if (!store.isValidPath(input) || !findOutputs(store, input, node, found))
            return std::nullopt;
#else
    for (auto & [input, names] : derivation.inputDrvs) {
        if (!store.isValidPath(input))
            return std::nullopt;
        auto outputs = store.queryPartialDerivationOutputMap(input);
        for (auto & name : names) {
            auto output = outputs.find(name);
            if (output == outputs.end() || !output->second)
                return std::nullopt;
            found.insert_or_assign({input, name}, *output->second);
        }
    }
#endif
    auto resolved = derivation.tryResolve(store, found);
    return resolved ? std::optional(Derivation(*resolved)) : std::nullopt;
}

StorePathSet inputDerivations(const Derivation & derivation)
{
    StorePathSet inputs;
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    for (auto & [path, node] : derivation.inputDrvs.map)
#else
    for (auto & [path, node] : derivation.inputDrvs)
#endif
        inputs.insert(path);
    return inputs;
}

/* ---- Goals ---- */

/* `PathLocks` keeps its descriptors private, but the standard lets an explicit instantiation name a private member. */
template<auto member>
struct LockDescriptors
{
    friend auto & lockDescriptorsOf(const PathLocks & locks)
    {
        return locks.*member;
    }
};

auto & lockDescriptorsOf(const PathLocks & locks);
template struct LockDescriptors<&PathLocks::fds>;

std::vector<int> lockDescriptors(const DerivationGoal & goal)
{
    std::vector<int> descriptors;
    for (auto & [descriptor, _] : lockDescriptorsOf(goal.outputLocks))
        descriptors.push_back(descriptor);
    return descriptors;
}

GoalPtr makeGoal(Worker & worker, const DerivedPath & request, BuildMode mode)
{
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    return worker.makeGoal(request, mode);
#else
    if (auto built = std::get_if<DerivedPath::Built>(&request.raw()))
        return worker.makeDerivationGoal(built->drvPath, built->outputs, mode);
    return upcast_goal(worker.makePathSubstitutionGoal(
        std::get<DerivedPath::Opaque>(request.raw()).path, mode == bmRepair ? Repair : NoRepair));
#endif
}

DerivedPath inputRequest(const Derivation & derivation, const StorePath & input)
{
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    auto & outputs = derivation.inputDrvs.map.at(input).value;
    /* Only outputs of outputs are needed of a derivation that makes derivations. */
    return DerivedPath::Built{
        .drvPath = makeConstantStorePathRef(input),
        .outputs = outputs.empty() ? OutputsSpec(OutputsSpec::All{}) : OutputsSpec(OutputsSpec::Names(outputs)),
    };
#else
    return DerivedPath::Built{.drvPath = input, .outputs = derivation.inputDrvs.at(input)};
#endif
}

GoalPtr makeInputGoal(Worker & worker, const Derivation & derivation, const StorePath & input)
{
    return makeGoal(worker, inputRequest(derivation, input), bmNormal);
}

std::shared_ptr<DerivationGoal> startedGoal(Worker & worker, const StorePath & derivation)
{
    /* There is no way to ask for a goal without asking it for an output. No derivation has one of this name; taken back
       right away, so that the goal is as it was. (That it may restart for more outputs does not matter any more once
       the builder runs.) */
    static const std::string probe = "negative-cache-probe?";
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    auto goal = worker.makeDerivationGoal(derivation, OutputsSpec::Names{probe});
    if (auto names = std::get_if<OutputsSpec::Names>(&goal->wantedOutputs.raw))
        names->erase(probe);
#else
    auto goal = worker.makeDerivationGoal(derivation, {probe});
    goal->wantedOutputs.erase(probe);
#endif
    return goal;
}

bool isAboutToBuild(const DerivationGoal & goal)
{
    return goal.exitCode == Goal::ecBusy && !goal.mcRunningBuilds && !lockDescriptors(goal).empty();
}

bool wants(const DerivationGoal & goal, const std::string & output)
{
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    return goal.wantedOutputs.contains(output);
#else
    return wantOutput(output, goal.wantedOutputs);
#endif
}

bool fellBackToNoSandbox(const DerivationGoal & goal)
{
    auto local = dynamic_cast<const LocalDerivationGoal *>(&goal);
    if (!local || local->useChroot || settings.sandboxMode == smDisabled || !goal.parsedDrv)
        return false;
    /* As `tryLocalBuild` decides whether there has to be one. */
    auto isSandboxed = goal.drv->type().isSandboxed() && !goal.parsedDrv->getBoolAttr("__noChroot");
    return settings.sandboxMode == smEnabled || isSandboxed;
}

#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
static Goal::Done doneRefused(DerivationGoal & goal, const Refusal & refusal)
#else
static void doneRefused(DerivationGoal & goal, const Refusal & refusal)
#endif
{
    /* As `done` does for what this stands for. */
    if (refusal.standsFor == BuildResult::PermanentFailure)
        goal.worker.permanentFailure = true;
    if (refusal.standsFor == BuildResult::TimedOut)
        goal.worker.timedOut = true;
    return goal.done(BuildResult::CachedFailure, {}, refusal.error);
}

#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
static Goal::Co refusing(DerivationGoal & goal, Refusal refusal)
{
    goal.actLock.reset();
    co_return doneRefused(goal, refusal);
}
#endif

void refuse(DerivationGoal & goal, const Refusal & refusal)
{
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    /* What the goal does when it is woken next, set up as by the constructor of `Goal`. */
    auto next = refusing(goal, refusal);
    next.handle.promise().goal = &goal;
    goal.top_co.reset();
    goal.top_co.emplace(std::move(next));
#else
    /* Its turn still comes, and must come to nothing: of the functions that can be a state, this is one that does
       nothing for a goal which has not built. */
    goal.state = &DerivationGoal::closeLogFile;
    goal.actLock.reset();
    /* Unlike later versions, `done` leaves it to its callers, and the goal may live for as long as the run. */
    goal.outputLocks.unlock();
    doneRefused(goal, refusal);
#endif
}

BuildResult buildResult(const DerivationGoal & goal)
{
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    return goal.getBuildResult(
        DerivedPath::Built{.drvPath = makeConstantStorePathRef(goal.drvPath), .outputs = OutputsSpec::All{}});
#else
    return goal.buildResult;
#endif
}

UnbuiltGoal::UnbuiltGoal(const StorePath & derivation, Worker & worker, const std::optional<Refusal> & refusal)
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    : DerivationGoal(derivation, OutputsSpec::All{}, worker)
#else
    : DerivationGoal(derivation, StringSet{}, worker)
#endif
    , refusal(refusal)
{
}

/* As `DerivationGoal::inputsRealised` says it. */
static Error dependenciesFailed(const DerivationGoal & goal)
{
    return Error(
        "%s dependencies of derivation '%s' failed to build",
        goal.nrFailed,
        goal.worker.store.printStorePath(goal.drvPath));
}

#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
Goal::Co UnbuiltGoal::init()
{
    if (refusal)
        co_return doneRefused(*this, *refusal);
    co_return done(BuildResult::DependencyFailed, {}, dependenciesFailed(*this));
}
#else
void UnbuiltGoal::work()
{
    if (refusal)
        doneRefused(*this, *refusal);
    else
        done(BuildResult::DependencyFailed, {}, dependenciesFailed(*this));
}
#endif

Errand::Errand(Worker & worker, DerivationGoal & before, std::function<void()> errand)
    : Goal(worker, DerivedPath::Opaque{before.drvPath})
    /* Nix sorts goals by key, and a key comes right after its own beginning. */
    , sortKey(before.key().substr(0, before.key().size() - 1))
    , errand(std::move(errand))
{
    name = "negative cache";
}

#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
Goal::Co Errand::init()
{
    while (true) {
        errand();
        co_await Suspend{};
    }
}
#else
void Errand::work()
{
    errand();
}
#endif

/* ---- The ends of Nix's entry points ---- */

/* What an unsuccessful request is called in the message that lists them, if Nix lists it at all. */
static std::optional<std::string> failedPath(const Store & store, const Requested & requested)
{
    if (auto goal = dynamic_cast<DerivationGoal *>(requested.goal.get()))
        return store.printStorePath(goal->drvPath);
    if (auto goal = dynamic_cast<PathSubstitutionGoal *>(requested.goal.get()))
        return store.printStorePath(goal->storePath);
    if (requested.goal)
        return std::nullopt;
    if (auto path = requestedDerivation(requested.request))
        return store.printStorePath(*path);
    return requested.request.to_string(store);
}

unsigned int exitStatus(Worker & worker)
{
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    return worker.failingExitStatus();
#else
    return worker.exitStatus();
#endif
}

std::optional<Error> failureOf(Store & store, const std::vector<Requested> & requested, unsigned int status)
{
    /* In the order of the goals and each goal once, as in the set of goals that Nix goes through. */
    std::map<std::string, const Requested *> ordered;
    PathSet failed;
    for (auto & i : requested)
        if (i.goal)
            ordered.emplace(i.goal->key(), &i);
        else if (auto path = failedPath(store, i))
            failed.insert(*path);

    std::optional<Error> ex;
    for (auto & [_, i] : ordered) {
        if (i->goal->ex) {
            if (ex)
                logError(i->goal->ex->info());
            else
                ex = i->goal->ex;
        }
        if (i->goal->exitCode != Goal::ecSuccess)
            if (auto path = failedPath(store, *i))
                failed.insert(*path);
    }

    if (failed.size() == 1 && ex) {
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
        ex->withExitStatus(status);
#else
        ex->status = status;
#endif
        return ex;
    } else if (!failed.empty()) {
        if (ex)
            logError(ex->info());
        return Error(status, "build of %s failed", concatStringsSep(", ", quoteStrings(failed)));
    }
    return std::nullopt;
}

BuildResults collectResults(const std::vector<Requested> & requested)
{
    BuildResults results;
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    for (auto & i : requested)
        results.push_back(
            {i.goal ? i.goal->getBuildResult(i.request) : BuildResult{.status = BuildResult::MiscFailure}, i.request});
#else
    /* One result for each goal, in the order of the goals. */
    std::map<std::string, const Requested *> ordered;
    for (auto & i : requested)
        if (i.goal)
            ordered.emplace(i.goal->key(), &i);
    for (auto & [_, i] : ordered)
        results.push_back(i->goal->buildResult);
    for (auto & i : requested)
        if (!i.goal)
            results.push_back(BuildResult{.status = BuildResult::MiscFailure, .path = i.request});
#endif
    return results;
}

BuildResult buildDerivation(
    Worker & worker,
    const StorePath & path,
    const BasicDerivation & derivation,
    BuildMode mode,
    const std::function<void(const Goals &)> & run)
{
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    auto goal = worker.makeBasicDerivationGoal(path, derivation, OutputsSpec::All{}, mode);
#else
    auto goal = worker.makeBasicDerivationGoal(path, derivation, {}, mode);
#endif
    try {
        run(Goals{goal});
        return buildResult(*goal);
    } catch (Error & e) {
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
        return BuildResult{.status = BuildResult::MiscFailure, .errorMsg = e.msg()};
#else
        return BuildResult{
            .status = BuildResult::MiscFailure,
            .errorMsg = e.msg(),
            .path = DerivedPath::Built{.drvPath = path},
        };
#endif
    }
}

/* ---- The daemon ---- */

bool askValidity(RemoteStore::Connection & connection, const std::string & path)
{
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    connection.to << WorkerProto::Op::IsValidPath << path;
    auto error = connection.processStderrReturn();
#else
    connection.to << wopIsValidPath << path;
    auto error = connection.processStderr();
#endif
    if (error)
        std::rethrow_exception(error);
    return readInt(connection.from);
}

std::string errorMessage(const BuildResult & result)
{
    auto success = result.status == BuildResult::Built || result.status == BuildResult::Substituted
        || result.status == BuildResult::AlreadyValid || result.status == BuildResult::ResolvesToAlreadyValid;
    return success ? "" : result.errorMsg.empty() ? "build failed" : result.errorMsg;
}

/* ---- Messages ---- */

std::pair<std::string, std::string> fullLogs()
{
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    auto command = experimentalFeatureSettings.isEnabled(Xp::NixCommand) ? "nix log " : "nix-store -l ";
    return {std::string("For full logs, run:\n  " ANSI_BOLD) + command, ANSI_NORMAL};
#else
    return {"For full logs, run '" ANSI_BOLD "nix log ", ANSI_NORMAL "'."};
#endif
}

/* ---- Evaluation ---- */

void registerPrimOp(
    const char * name,
    const char * argument,
    const char * documentation,
    void (*function)(EvalState & state, Position position, Value ** arguments, Value & value))
{
    /* Only its constructor matters: it adds to the list that each new EvalState goes through. */
    RegisterPrimOp({
        .name = name,
        .args = {argument},
        .doc = documentation,
        .fun = function,
    });
}

bool isPureEvaluation([[maybe_unused]] EvalState & state)
{
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    return state.settings.pureEval;
#else
    return evalSettings.pureEval;
#endif
}

void evaluationError([[maybe_unused]] EvalState & state, Position position, const std::string & text)
{
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    state.error<EvalError>("%s", Uncolored(text)).atPos(position).debugThrow();
#else
    throw EvalError({.msg = hintfmt("%s", normaltxt(text)), .errPos = position});
#endif
}

std::string forceString(EvalState & state, Position position, Value & value, [[maybe_unused]] const char * context)
{
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    return std::string(state.forceString(value, position, context));
#else
    return std::string(state.forceString(value, position));
#endif
}

Value * attribute(EvalState & state, Value & set, const char * name)
{
#if NIX_NEGATIVE_CACHE_NIX_VERSION >= 2026000
    auto found = set.attrs()->get(state.symbols.create(name));
#else
    auto found = set.attrs->get(state.symbols.create(name));
#endif
    return found ? found->value : nullptr;
}

} // namespace negative_cache::compat
