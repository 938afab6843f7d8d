#include "observer.hh"
#include "second_look.hh"
#include "trouble.hh"

#include <algorithm>
#include <csignal>
#include <mutex>

namespace negative_cache {

using namespace nix;

/* ---- The logger in front of Nix's ---- */

namespace {

class EavesdroppingLogger : public compat::ForwardingLogger
{
public:
    using ForwardingLogger::ForwardingLogger;

    void startActivity(
        ActivityId activity,
        Verbosity level,
        ActivityType type,
        const std::string & text,
        const Fields & fields,
        ActivityId parent) override
    {
        ForwardingLogger::startActivity(activity, level, type, text, fields, parent);
        if (auto observer = Observer::current())
            observer->activityStarted(activity, type, fields, parent);
    }

    void result(ActivityId activity, ResultType type, const Fields & fields) override
    {
        ForwardingLogger::result(activity, type, fields);
        if (auto observer = Observer::current())
            observer->activityResult(activity, type, fields);
    }
};

/* Builds can run in several threads of one process (recursive Nix), with one logger for all. */
struct Installed
{
    std::mutex mutex;
    unsigned int users = 0;
    Logger * original = nullptr;
    /* Never destroyed: activities keep a reference to the logger they were made with, and some outlive the build. */
    std::map<Logger *, EavesdroppingLogger *> loggers;
};

Installed & installed()
{
    static auto * instance = new Installed;
    return *instance;
}

} // namespace

Eavesdropping::Eavesdropping()
{
    auto & state = installed();
    std::lock_guard lock(state.mutex);
    if (state.users++)
        return;
    state.original = logger;
    auto & eavesdropping = state.loggers[state.original];
    if (!eavesdropping)
        eavesdropping = new EavesdroppingLogger(*state.original);
    logger = eavesdropping;
}

Eavesdropping::~Eavesdropping()
{
    auto & state = installed();
    std::lock_guard lock(state.mutex);
    if (--state.users)
        return;
    /* Somebody else's logger stays. */
    if (logger == state.loggers[state.original])
        logger = state.original;
}

/* ---- Builds ---- */

static thread_local Observer * currentObserver = nullptr;

Observer * Observer::current()
{
    return currentObserver;
}

Observer::Observer(Store & store, Worker & worker, BuildMode mode, const core::Policy & policy)
    : store(store)
    , worker(worker)
    , mode(mode)
    , policy(policy)
    , outer(std::exchange(currentObserver, this))
{
}

Observer::~Observer()
{
    currentObserver = outer;
    /* Builds that Nix gave up. One whose outputs are there did succeed; only what came after did not, such as the
       post-build hook. */
    for (auto & build : running)
        try {
            harmless([&] {
                if (outputsAreValid(build))
                    ended(build, core::Status::Built);
            });
        } catch (Interrupted &) {
        }
}

bool Observer::outputsAreValid(const Build & build)
{
    if (!build.goal->drv)
        return false;
    auto keys = outputKeys(store, *build.goal->drv);
    return !keys.empty() && std::all_of(keys.begin(), keys.end(), [&](auto & key) { return isValid(store, key); });
}

void Observer::activityStarted(
    ActivityId activity, ActivityType type, const Logger::Fields & fields, ActivityId parent)
{
    /* What a remote builder says of its own builds comes as children of the worker's activity. */
    if (type != actBuild || parent == worker.act.id || fields.empty() || fields[0].type != Logger::Field::tString)
        return;
    harmless([&] {
        auto goal = compat::startedGoal(worker, store.parseStorePath(fields[0].s));
        auto same = std::find_if(running.begin(), running.end(), [&](auto & build) { return build.goal == goal; });
        bool again = same != running.end();
        if (again)
            running.erase(same);
        running.push_back({goal, activity, core::start_build(), again, nullptr});
        /* Failures elsewhere are not recorded. */
        if (goal->machineName.empty() && !compat::willBuildAgain(*goal))
            running.back().locks = std::make_unique<KeptLocks>(*goal);
    });
}

static core::Status coreStatus(BuildResult::Status status)
{
    switch (status) {
    case BuildResult::Built:
        return core::Status::Built;
    case BuildResult::PermanentFailure:
        return core::Status::PermanentFailure;
    case BuildResult::TimedOut:
        return core::Status::TimedOut;
    case BuildResult::LogLimitExceeded:
        return core::Status::LogLimitExceeded;
    case BuildResult::TransientFailure:
        return core::Status::TransientFailure;
    default:
        return core::Status::Other;
    }
}

void Observer::activityResult(ActivityId activity, ResultType type, const Logger::Fields & fields)
{
    if (type == resBuildLogLine) {
        if (fields.empty() || fields[0].type != Logger::Field::tString)
            return;
        auto & line = fields[0].s;
        for (auto & build : running)
            if (build.activity == activity)
                build.running->log_line({reinterpret_cast<const uint8_t *>(line.data()), line.size()});
    } else if (type == resProgress && activity == worker.actDerivations.id) {
        for (auto build = running.begin(); build != running.end();)
            if (compat::buildEnded(*build->goal)) {
                harmless([&] { ended(*build, coreStatus(compat::buildResult(*build->goal).status)); });
                build = running.erase(build);
            } else
                ++build;
    }
}

/* Whether this process was told to stop. The processes that nix-daemon forks never hear of it: the thread that waits for
   signals stays behind in the daemon, and the signals stay pending. */
static bool beingStopped()
{
    sigset_t pending;
    sigemptyset(&pending);
    sigpending(&pending);
    for (auto signal : {SIGINT, SIGTERM, SIGHUP})
        if (sigismember(&pending, signal) == 1)
            return true;
    return compat::interrupted();
}

void Observer::ended(const Build & build, core::Status status)
{
    auto & goal = *build.goal;
    if (!goal.drv)
        return;
    auto & derivation = *goal.drv;
    auto type = derivation.type();
    core::EndedBuild ended{
        .derivation = store.printStorePath(goal.drvPath),
        .outputs = {},
        .store_dir = store.storeDir,
        .name = rust::String::lossy(derivation.name),
        .system = rust::String::lossy(derivation.platform),
        .status = status,
        .message = rust::String::lossy(compat::buildResult(goal).errorMsg),
        .fixed_output = type.isFixed(),
        .impure = compat::isImpure(type),
        .builtin = derivation.isBuiltin(),
        .remote = !goal.machineName.empty(),
        .normal_mode = mode == bmNormal && !build.again,
        .interrupted = beingStopped(),
        .recursive = compat::usesRecursiveNix(goal),
        .opted_out = !compat::wantsNegativeCache(goal.drvPath, derivation),
        .without_sandbox = compat::fellBackToNoSandbox(goal),
    };
    ended.outputs = outputKeys(store, derivation);
    auto recorded = core::build_ended(policy, ended, *build.running);
    report(recorded.trouble);
    if (auto secondLook = SecondLook::current(); secondLook && status == core::Status::PermanentFailure)
        secondLook->alreadySaid(plainKeys(ended.outputs));
    if (!recorded.reason.empty())
        printTalkative(
            "negative cache: the failure of '%s' is not recorded: %s",
            store.printStorePath(goal.drvPath),
            compat::plain(std::string(recorded.reason)));
}

} // namespace negative_cache
