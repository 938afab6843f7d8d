#include "goals.hh"
#include "derivations.hh"
#include "private_member.hh"
#include "settings.hh"

#include <sys/stat.h>

#include <filesystem>

namespace negative_cache::compat {

using namespace nix;

/* ---- All goals ---- */

GoalPtr makeGoal(Worker & worker, const DerivedPath & request, BuildMode mode)
{
#if NIX_AT_LEAST(2, 26)
    return worker.makeGoal(request, mode);
#else
    if (auto built = std::get_if<DerivedPath::Built>(&request.raw()))
        return worker.makeDerivationGoal(built->drvPath, built->outputs, mode);
    return upcast_goal(worker.makePathSubstitutionGoal(
        std::get<DerivedPath::Opaque>(request.raw()).path,
        mode == bmRepair ? Repair : NoRepair));
#endif
}

#if NIX_AT_LEAST(2, 31)
struct WaiteesOfGoal
{
    friend auto memberOf(WaiteesOfGoal);
};

template struct PrivateMember<WaiteesOfGoal, &Goal::waitees>;
#endif

const Goals & waiteesOf(const Goal & goal)
{
#if NIX_AT_LEAST(2, 31)
    return goal.*memberOf(WaiteesOfGoal{});
#else
    return goal.waitees;
#endif
}

void addWaitee(const GoalPtr & goal, const GoalPtr & waitee)
{
#if NIX_AT_LEAST(2, 31)
    /* The same as `Goal::await` does for a goal that is running. */
    ((*goal).*memberOf(WaiteesOfGoal{})).insert(waitee);
    addToWeakGoals(waitee->waiters, goal);
#else
    goal->addWaitee(waitee);
#endif
}

BuildResult buildResult(const Goal & goal, [[maybe_unused]] const StorePath & derivation)
{
#if NIX_AT_LEAST(2, 31)
    return goal.buildResult;
#elif NIX_AT_LEAST(2, 26)
    return goal.getBuildResult(
        DerivedPath::Built{.drvPath = makeConstantStorePathRef(derivation), .outputs = OutputsSpec::All{}});
#else
    return goal.buildResult;
#endif
}

#if NIX_AT_LEAST(2, 26)
namespace {

struct CoroutineOfGoal : Goal
{
    static auto member()
    {
        return &CoroutineOfGoal::top_co;
    }
};

} // namespace

/* Makes a goal go on with another coroutine when it is woken next. The coroutine is set up as in the constructor of
   `Goal`. */
static void continueWith(Goal & goal, Goal::Co && next)
{
    auto & coroutine = goal.*CoroutineOfGoal::member();
    next.handle.promise().goal = &goal;
    coroutine.reset();
    coroutine.emplace(std::move(next));
}
#endif

/* ---- Goals that build ---- */

#if NIX_AT_LEAST(2, 34)
struct PathOfBuildingGoal
{
    friend auto memberOf(PathOfBuildingGoal);
};

struct DerivationOfBuildingGoal
{
    friend auto memberOf(DerivationOfBuildingGoal);
};

struct RunningBuildsOfBuildingGoal
{
    friend auto memberOf(RunningBuildsOfBuildingGoal);
};

struct FailureOfBuildingGoal
{
    friend auto memberOf(FailureOfBuildingGoal);
};

template struct PrivateMember<PathOfBuildingGoal, &DerivationBuildingGoal::drvPath>;
template struct PrivateMember<DerivationOfBuildingGoal, &DerivationBuildingGoal::drv>;
template struct PrivateMember<RunningBuildsOfBuildingGoal, &DerivationBuildingGoal::mcRunningBuilds>;
template struct PrivateMember<FailureOfBuildingGoal, &DerivationBuildingGoal::doneFailure>;
#endif

const StorePath & pathOf(const BuildingGoal & goal)
{
#if NIX_AT_LEAST(2, 34)
    return goal.*memberOf(PathOfBuildingGoal{});
#else
    return goal.drvPath;
#endif
}

const Derivation * derivationOf(const BuildingGoal & goal)
{
#if NIX_AT_LEAST(2, 34)
    return &*(goal.*memberOf(DerivationOfBuildingGoal{}));
#else
    return goal.drv.get();
#endif
}

static bool isBuilding(const BuildingGoal & goal)
{
#if NIX_AT_LEAST(2, 34)
    return bool(goal.*memberOf(RunningBuildsOfBuildingGoal{}));
#else
    return bool(goal.mcRunningBuilds);
#endif
}

#if NIX_AT_LEAST(2, 26) && !NIX_AT_LEAST(2, 31)
struct ResultOfGoal
{
    friend auto memberOf(ResultOfGoal);
};

template struct PrivateMember<ResultOfGoal, &Goal::buildResult>;
#endif

const BuildResult & resultOf(const BuildingGoal & goal)
{
#if NIX_AT_LEAST(2, 26) && !NIX_AT_LEAST(2, 31)
    return goal.*memberOf(ResultOfGoal{});
#else
    return goal.buildResult;
#endif
}

std::shared_ptr<BuildingGoal> startedGoal(Worker & worker, const StorePath & derivation)
{
#if NIX_AT_LEAST(2, 35)
    /* The derivation is only used if there is no such goal yet. */
    static const auto none = make_ref<const Derivation>();
    return worker.makeDerivationBuildingGoal(derivation, none, bmNormal, false);
#elif NIX_AT_LEAST(2, 34)
    return worker.makeDerivationBuildingGoal(derivation, Derivation{}, bmNormal, false);
#elif NIX_AT_LEAST(2, 31)
    return worker.makeDerivationBuildingGoal(derivation, Derivation{});
#else
    /* Nix has no function that finds a goal without adding an output to those that it wants. No derivation has an output
       of this name, and the name is removed right away, so that the goal is as it was. (The goal may also be marked to
       restart for more outputs, but that does not matter any more once the builder runs.) */
    static const std::string probe = "negative-cache-probe?";
#  if NIX_AT_LEAST(2, 26)
    auto goal = worker.makeDerivationGoal(derivation, OutputsSpec::Names{probe});
    if (auto names = std::get_if<OutputsSpec::Names>(&goal->wantedOutputs.raw))
        names->erase(probe);
#  else
    auto goal = worker.makeDerivationGoal(derivation, {probe});
    goal->wantedOutputs.erase(probe);
#  endif
    return goal;
#endif
}

bool buildEnded(const BuildingGoal & goal)
{
#if NIX_AT_LEAST(2, 34)
    /* The exit code is set after the result (`Goal::doneFailure`). */
    return goal.exitCode != Goal::ecBusy;
#else
    /* `started` sets `mcRunningBuilds`, and `done` resets it when the status is known. */
    return !isBuilding(goal);
#endif
}

#if NIX_AT_LEAST(2, 34)
/* The descriptors of this process that refer to one of `files`. */
static std::vector<int> descriptorsOf(const std::vector<std::filesystem::path> & files)
{
    std::vector<struct stat> wanted;
    for (auto & file : files)
        if (struct stat status; ::stat(file.c_str(), &status) == 0)
            wanted.push_back(status);
    std::vector<int> descriptors;
    std::error_code error;
    for (std::filesystem::directory_iterator entry("/dev/fd", error), end; !error && entry != end && !wanted.empty();
         entry.increment(error)) {
        auto descriptor = string2Int<int>(entry->path().filename().string());
        struct stat status;
        if (descriptor && ::fstat(*descriptor, &status) == 0)
            for (auto & file : wanted)
                if (status.st_dev == file.st_dev && status.st_ino == file.st_ino)
                    descriptors.push_back(*descriptor);
    }
    return descriptors;
}
#else
struct DescriptorsOfLocks
{
    friend auto memberOf(DescriptorsOfLocks);
};

template struct PrivateMember<DescriptorsOfLocks, &PathLocks::fds>;
#endif

std::vector<int> lockDescriptors(const BuildingGoal & goal)
{
#if NIX_AT_LEAST(2, 34)
    /* The locks belong to a coroutine, where they can't be reached. But each lock is a file beside the output that it
       locks (`PathLocks::lockPaths`). */
    auto local = dynamic_cast<LocalStore *>(&goal.worker.store);
    if (!local)
        return {};
    std::vector<std::filesystem::path> files;
    for (auto & [name, output] : derivationOf(goal)->outputsAndOptPaths(goal.worker.store)) {
        std::filesystem::path file = local->toRealPath(output.second ? *output.second : pathOf(goal));
        file += output.second ? ".lock" : "." + name + ".lock";
        files.push_back(std::move(file));
    }
    return descriptorsOf(files);
#else
    std::vector<int> descriptors;
    for (auto & [descriptor, _] : goal.outputLocks.*memberOf(DescriptorsOfLocks{}))
        descriptors.push_back(descriptor);
    return descriptors;
#endif
}

bool isAboutToBuild(const BuildingGoal & goal)
{
    return goal.exitCode == Goal::ecBusy && !isBuilding(goal) && !lockDescriptors(goal).empty();
}

bool wants(const BuildingGoal & goal, const std::string & output)
{
#if NIX_AT_LEAST(2, 31)
    for (auto & weak : goal.waiters)
        if (auto waiter = std::dynamic_pointer_cast<DerivationGoal>(weak.lock()); waiter && waiter->wantedOutput == output)
            return true;
    return false;
#elif NIX_AT_LEAST(2, 26)
    return goal.wantedOutputs.contains(output);
#else
    return wantOutput(output, goal.wantedOutputs);
#endif
}

#if NIX_AT_LEAST(2, 31)
KeptFromOtherMachines::KeptFromOtherMachines(BuildingGoal & goal)
    : worker(goal.worker)
    , before(std::exchange(worker.tryBuildHook, false))
{
}

KeptFromOtherMachines::~KeptFromOtherMachines()
{
    worker.tryBuildHook |= before;
}

bool KeptFromOtherMachines::possible(const BuildingGoal & goal)
{
    return canBuildHere(goal.worker.store, *derivationOf(goal));
}
#else
KeptFromOtherMachines::KeptFromOtherMachines(BuildingGoal & goal)
{
    goal.useDerivation = false;
}

KeptFromOtherMachines::~KeptFromOtherMachines() {}

bool KeptFromOtherMachines::possible(const BuildingGoal &)
{
    return true;
}
#endif

bool fellBackToNoSandbox(const BuildingGoal & goal)
{
    auto derivation = derivationOf(goal);
#if NIX_AT_LEAST(2, 31)
#  if __linux__
    bool isSandboxed = !derivation || mountAndPidNamespacesSupported();
#  else
    bool isSandboxed = true;
#  endif
#else
    auto local = dynamic_cast<const LocalDerivationGoal *>(&goal);
    bool isSandboxed = !derivation || !local || local->useChroot;
#endif
    if (isSandboxed || sandboxMode() == smDisabled)
        return false;
    /* The rule by which Nix decides whether a build must have a sandbox (`tryLocalBuild`, later
       `makeDerivationBuilder`). */
    return sandboxMode() == smEnabled || (derivation->type().isSandboxed() && !refusesSandbox(*derivation));
}

/* ---- Goals that fail ---- */

/* Which exit status a refused goal contributes. An output that was rejected contributes none, like all other ends
   (`DerivationGoal::done`; since 2.34 `ExitStatusFlags::updateFromStatus`). */
static void count(Worker & worker, const Refusal & refusal)
{
#if NIX_AT_LEAST(2, 34)
    auto & flags = worker.exitStatusFlags;
#else
    auto & flags = worker;
#endif
    if (refusal.standsFor == core::Ending::PermanentFailure)
        flags.permanentFailure = true;
    if (refusal.standsFor == core::Ending::TimedOut)
        flags.timedOut = true;
}

/* The message of a goal whose dependencies failed (2.31: `DerivationBuildingGoal::gaveUpOnSubstitution`; before:
   `DerivationGoal::inputsRealised`). */
static std::string dependenciesFailed(const Goal & goal, const StorePath & path)
{
    auto & worker = goal.worker;
#if NIX_AT_LEAST(2, 31)
    auto text =
        fmt("Cannot build '%s'.\nReason: " ANSI_RED "%d %s failed" ANSI_NORMAL ".",
            Magenta(worker.store.printStorePath(path)),
            goal.nrFailed,
            goal.nrFailed == 1 ? "dependency" : "dependencies");
    StorePathSet outputs;
    try {
        for (auto & [_, output] : worker.evalStore.readDerivation(path).outputsAndOptPaths(worker.store))
            if (output.second)
                outputs.insert(*output.second);
    } catch (Error &) {
        /* The derivation was there a moment ago. Without it, the message does not list the outputs. */
    }
    if (!outputs.empty())
        text += "\nOutput paths:";
    for (auto & output : outputs)
        text += fmt("\n  %s", Magenta(worker.store.printStorePath(output)));
    return text;
#else
    return fmt("%s dependencies of derivation '%s' failed to build", goal.nrFailed, worker.store.printStorePath(path));
#endif
}

#if NIX_AT_LEAST(2, 34)
static BuildError cachedFailure(const Refusal & refusal)
{
    return BuildError({.status = BuildError::CachedFailure, .msg = refusal.error.info().msg});
}
#endif

#if NIX_AT_LEAST(2, 26)
static Goal::Co refusing(BuildingGoal & goal, Refusal refusal)
{
#  if !NIX_AT_LEAST(2, 34)
    goal.actLock.reset();
#  endif
    count(goal.worker, refusal);
#  if NIX_AT_LEAST(2, 34)
    co_return (goal.*memberOf(FailureOfBuildingGoal{}))(cachedFailure(refusal));
#  else
    goal.outputLocks.unlock();
    co_return goal.done(BuildResult::CachedFailure, {}, refusal.error);
#  endif
}
#endif

void refuse(BuildingGoal & goal, const Refusal & refusal)
{
#if NIX_AT_LEAST(2, 26)
    continueWith(goal, refusing(goal, refusal));
#else
    /* The goal still gets its turn, in which it must do nothing. Of the functions that can be the state of a goal, this
       one does nothing if the goal has not built. */
    goal.state = &DerivationGoal::closeLogFile;
    goal.actLock.reset();
    /* In this version `done` leaves the locks to its callers, and the goal may live for as long as the run. */
    goal.outputLocks.unlock();
    count(goal.worker, refusal);
    goal.done(BuildResult::CachedFailure, {}, refusal.error);
#endif
}

UnbuiltGoal::UnbuiltGoal(const StorePath & derivation, Worker & worker, const std::optional<Refusal> & refusal)
#if NIX_AT_LEAST(2, 31)
    : DerivationTrampolineGoal(makeConstantStorePathRef(derivation), OutputsSpec::All{}, worker)
#elif NIX_AT_LEAST(2, 26)
    : DerivationGoal(derivation, OutputsSpec::All{}, worker)
#else
    : DerivationGoal(derivation, StringSet{}, worker)
#endif
    , derivation(derivation)
    , refusal(refusal)
{
#if NIX_AT_LEAST(2, 31)
    continueWith(*this, fail());
#endif
}

#if NIX_AT_LEAST(2, 31)

Goal::Co UnbuiltGoal::fail()
{
    /* The same as in `DerivationBuildingGoal`, in whose place this goal stands as well. */
    if (refusal) {
        count(worker, *refusal);
        worker.failedBuilds++;
    }
    worker.updateProgress();
#  if NIX_AT_LEAST(2, 34)
    if (refusal)
        co_return doneFailure(ecFailed, cachedFailure(*refusal));
    co_return doneFailure(
        ecFailed,
        BuildError({.status = BuildError::DependencyFailed, .msg = HintFmt(dependenciesFailed(*this, derivation))}));
#  else
    auto error = refusal ? refusal->error : Error("%s", Uncolored(dependenciesFailed(*this, derivation)));
    buildResult.status = refusal ? BuildResult::CachedFailure : BuildResult::DependencyFailed;
    buildResult.errorMsg = error.info().msg.str();
    co_return amDone(ecFailed, error);
#  endif
}

#elif NIX_AT_LEAST(2, 26)

Goal::Co UnbuiltGoal::init()
{
    if (refusal) {
        count(worker, *refusal);
        co_return done(BuildResult::CachedFailure, {}, refusal->error);
    }
    co_return done(BuildResult::DependencyFailed, {}, Error("%s", Uncolored(dependenciesFailed(*this, derivation))));
}

#else

void UnbuiltGoal::work()
{
    if (refusal) {
        count(worker, *refusal);
        done(BuildResult::CachedFailure, {}, refusal->error);
    } else
        done(BuildResult::DependencyFailed, {}, Error("%s", normaltxt(dependenciesFailed(*this, derivation))));
}

#endif

Errand::Errand(Worker & worker, BuildingGoal & before, std::function<void()> errand)
#if NIX_AT_LEAST(2, 31)
    : Goal(worker, run())
#else
    : Goal(worker, DerivedPath::Opaque{before.drvPath})
#endif
    /* Nix runs goals in the order of their keys, and a key comes right after its own beginning. So this goal runs right
       before the other one. */
    , sortKey([&] {
        auto key = static_cast<Goal &>(before).key();
        return key.substr(0, key.size() - 1);
    }())
    , errand(std::move(errand))
{
    name = "negative cache";
}

#if NIX_AT_LEAST(2, 26)
#  if NIX_AT_LEAST(2, 31)
Goal::Co Errand::run()
#  else
Goal::Co Errand::init()
#  endif
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

} // namespace negative_cache::compat
