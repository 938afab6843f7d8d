#include "observer.hh"
#include "trouble.hh"

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

/* `nix::logger` is a plain pointer in some versions and an owning one in others. */
template<typename Pointer>
Logger * exchange(Pointer & logger, Logger * next)
{
    if constexpr (std::is_pointer_v<Pointer>)
        return std::exchange(logger, next);
    else {
        auto previous = logger.release();
        logger.reset(next);
        return previous;
    }
}

} // namespace

Eavesdropping::Eavesdropping()
{
    auto & state = installed();
    std::lock_guard lock(state.mutex);
    if (state.users++)
        return;
    state.original = &*logger;
    auto & eavesdropping = state.loggers[state.original];
    if (!eavesdropping)
        eavesdropping = new EavesdroppingLogger(*state.original);
    exchange(logger, eavesdropping);
}

Eavesdropping::~Eavesdropping()
{
    auto & state = installed();
    std::lock_guard lock(state.mutex);
    if (--state.users)
        return;
    /* Somebody else's logger stays. */
    if (&*logger == state.loggers[state.original])
        exchange(logger, state.original);
}

/* ---- Builds ---- */

static thread_local Observer * currentObserver = nullptr;

Observer * Observer::current()
{
    return currentObserver;
}

Observer::Observer(Store & store, Worker & worker, BuildMode mode, core::Policy policy)
    : store(store)
    , worker(worker)
    , mode(mode)
    , policy(std::move(policy))
    , outer(std::exchange(currentObserver, this))
{
}

Observer::~Observer()
{
    currentObserver = outer;
}

void Observer::activityStarted(
    ActivityId activity, ActivityType type, const Logger::Fields & fields, ActivityId parent)
{
    /* What a remote builder says of its own builds comes as children of the worker's activity. */
    if (type != actBuild || parent == worker.act.id || fields.empty() || fields[0].type != Logger::Field::tString)
        return;
    harmless([&] {
        auto goal = compat::startedGoal(worker, store.parseStorePath(fields[0].s));
        running.push_back({goal, activity, std::chrono::steady_clock::now(), core::new_log_tail()});
    });
}

void Observer::activityResult(ActivityId activity, ResultType type, const Logger::Fields & fields)
{
    if (type == resBuildLogLine) {
        if (fields.empty() || fields[0].type != Logger::Field::tString)
            return;
        auto & line = fields[0].s;
        for (auto & build : running)
            if (build.activity == activity)
                build.log->push({reinterpret_cast<const uint8_t *>(line.data()), line.size()});
    } else if (type == resProgress && activity == worker.actDerivations.id) {
        for (auto build = running.begin(); build != running.end();)
            if (compat::buildEnded(*build->goal)) {
                harmless([&] { ended(*build); });
                build = running.erase(build);
            } else
                ++build;
    }
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

void Observer::ended(const Build & build)
{
    using namespace std::chrono;
    auto & goal = *build.goal;
    if (!goal.drv)
        return;
    auto & derivation = *goal.drv;
    auto type = derivation.type();
    auto result = compat::buildResult(goal);
    core::EndedBuild ended{
        .derivation = store.printStorePath(goal.drvPath),
        .outputs = {},
        .store_dir = store.storeDir,
        .name = rust::String::lossy(derivation.name),
        .system = rust::String::lossy(derivation.platform),
        .status = coreStatus(result.status),
        .message = rust::String::lossy(result.errorMsg),
        .fixed_output = type.isFixed(),
        .impure = compat::isImpure(type),
        .builtin = derivation.isBuiltin(),
        .remote = !goal.machineName.empty(),
        .outputs_known = type.hasKnownOutputPaths(),
        .normal_mode = mode == bmNormal,
        .interrupted = compat::interrupted(),
        .duration_ms = duration_cast<milliseconds>(steady_clock::now() - build.started).count(),
    };
    for (auto & [name, output] : derivation.outputsAndOptPaths(store))
        if (output.second)
            ended.outputs.push_back({name, store.printStorePath(*output.second)});
    report(core::build_ended(policy, ended, *build.log));
}

} // namespace negative_cache
