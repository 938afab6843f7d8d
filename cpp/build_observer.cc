#include "build_observer.hh"
#include "ended_build.hh"
#include "guard.hh"
#include "late_refusal.hh"
#include "output_keys.hh"

#include <algorithm>

namespace negative_cache {

using namespace nix;

BuildObserver::BuildObserver(Store & store, Worker & worker, BuildMode mode, const core::Policy & policy)
    : store(store)
    , worker(worker)
    , mode(mode)
    , policy(policy)
{
}

BuildObserver::~BuildObserver()
{
    /* These are builds that Nix gave up. A build whose outputs are valid did succeed; only a later step failed, such as
       the post-build hook. The list is emptied first, because activities of these builds may end meanwhile. */
    for (auto & build : std::exchange(running, {}))
        guardedNoexcept([&] {
            if (areBuilt(store, outputKeys(store, build.derivation)))
                settle(build, nullptr, core::Ending::Built);
        });
    if (recorded)
        guardedNoexcept([&] { core::tidy(policy); });
}

void BuildObserver::start(const compat::BuildStarted & started)
{
    auto path = store.parseStorePath(std::string(started.derivation));
    /* Reports of another machine about its own builds come as activities whose parent is the worker's activity. */
    if (started.parent == worker.act.id) {
        for (auto & build : running)
            if (build.path == path && !build.machine.empty()) {
                build.activities.insert(started.activity);
                /* The last machine that is asked reports a build of its own. */
                if (!started.machine.empty())
                    build.delegate = started.machine;
            }
        return;
    }
    auto goal = compat::startedGoal(worker, path);
    auto derivation = compat::derivationOf(*goal);
    if (!derivation)
        return;
    auto same = std::find_if(running.begin(), running.end(), [&](auto & build) { return build.goal.lock() == goal; });
    bool again = same != running.end();
    if (again)
        running.erase(same);
    running.push_back(
        {goal,
         path,
         std::move(*derivation),
         std::string(started.machine),
         {},
         {started.activity},
         core::start_build(policy),
         {},
         again,
         nullptr});
    if (!compat::willBuildAgain(*goal))
        running.back().locks = std::make_unique<KeptLocks>(*goal);
}

void BuildObserver::buildStarted(const compat::BuildStarted & build)
{
    guarded([&] { start(build); });
}

void BuildObserver::settleEnded()
{
    for (auto build = running.begin(); build != running.end();)
        if (auto goal = build->goal.lock(); goal && compat::buildEnded(*goal)) {
            auto ended = std::move(*build);
            build = running.erase(build);
            guarded([&] { settle(ended, goal.get(), compat::ending(compat::resultOf(*goal))); });
        } else
            ++build;
}

void BuildObserver::logLine(ActivityId activity, std::string_view line)
{
    for (auto & build : running)
        if (build.activities.count(activity))
            core::log_line(*build.running, {reinterpret_cast<const uint8_t *>(line.data()), line.size()});
}

void BuildObserver::progressed(ActivityId activity)
{
    if (activity == worker.actDerivations.id)
        guarded([&] { settleEnded(); });
}

void BuildObserver::activityEnded(ActivityId activity)
{
    auto isOf = [&](auto & build) { return build.activities.count(activity) > 0; };
    if (std::none_of(running.begin(), running.end(), isOf))
        return;
    guarded([&] { settleEnded(); });
    if (!compat::activitiesStartEarly)
        return;
    guarded([&] {
        auto hasNotStarted = [&](Build & build) {
            auto goal = isOf(build) ? build.goal.lock() : nullptr;
            if (!goal)
                return false;
            /* The duplicates look like locks of the goal's own, and would keep it from getting them again. */
            build.locks.reset();
            if (compat::lockDescriptors(*goal).empty())
                return true;
            build.locks = std::make_unique<KeptLocks>(*goal);
            return false;
        };
        for (auto build = running.begin(); build != running.end();)
            build = hasNotStarted(*build) ? running.erase(build) : std::next(build);
    });
}

void BuildObserver::errorLogged(std::string_view text)
{
    /* Here the build hook reports how the builder on the other machine ended. The error of the goal itself only tells
       how the hook ended. */
    constexpr size_t enough = 1000;
    guarded([&] {
        std::optional<std::string> excerpt;
        for (auto & build : running) {
            if (build.machine.empty() || build.saidByHook.size() >= enough)
                continue;
            if (!excerpt)
                excerpt = compat::excerpt(text);
            if (saysDiskIsFull(*excerpt) || excerpt->find(build.path.to_string()) != excerpt->npos)
                build.saidByHook.push_back(rust::String::lossy(*excerpt));
        }
    });
}

void BuildObserver::errorReported(const ErrorInfo & error)
{
    constexpr size_t enough = 1000;
    if (verbosity >= lvlTalkative && reported.size() < enough)
        guarded([&] { reported.push_back(compat::excerpt(error.msg.str())); });
}

bool BuildObserver::explain(const std::string & error, std::optional<StorePath> path)
{
    auto unbuilt = core::unbuilt(error, store.storeDir);
    if (unbuilt.reason.empty())
        return true;
    for (auto & derivation : unbuilt.derivations)
        if (auto named = store.maybeParseStorePath(std::string(derivation))) {
            if (settled.count(*named))
                return true;
            if (!path)
                path = named;
        }
    if (!path)
        return false;
    if (settled.insert(*path).second)
        sayNotRecorded(store.printStorePath(*path), std::string(unbuilt.reason));
    return true;
}

void BuildObserver::runEnded(const Goals & goals)
{
    if (verbosity < lvlTalkative)
        return;
    guarded([&] {
        for (auto & error : std::exchange(reported, {}))
            explain(error);
        for (auto & goal : goals)
            if (auto error = compat::errorOfRequest(*goal))
                explain(error->second, error->first);
    });
}

void BuildObserver::runFailed(const BaseError & error)
{
    if (verbosity < lvlTalkative)
        return;
    guarded([&] {
        for (auto & error : std::exchange(reported, {}))
            explain(error);
        auto message = compat::excerpt(error.info().msg.str());
        if (explain(message))
            return;
        /* The error names no derivation, but it comes from a goal that had started its build. That is the build whose
           output the error names or, without such an output, the only running build. A build whose outputs are valid is
           left out: an error that comes after a success, such as one of the post-build hook, is no failure of a build. */
        std::vector<StorePath> builds;
        for (auto & build : running) {
            auto outputs = outputKeys(store, build.derivation);
            if (areBuilt(store, outputs))
                continue;
            builds.push_back(build.path);
            for (auto & output : outputs)
                if (message.find(std::string(output.key)) != message.npos) {
                    explain(message, build.path);
                    return;
                }
        }
        if (builds.size() == 1)
            explain(message, builds[0]);
    });
}

void BuildObserver::settle(Build & build, const compat::BuildingGoal * goal, core::Ending ending)
{
    core::EndedBuild ended{};
    core::Recorded outcome{};
    {
        /* The locks are released before anything is printed, an error included: printing can take as long as the
           terminal likes. */
        Finally unlock([&] { build.locks.reset(); });
        ended = endedBuild(store, build.path, build.derivation);
        ended.ending = ending;
        ended.messages = std::move(build.saidByHook);
        if (goal)
            ended.messages.push_back(rust::String::lossy(compat::errorExcerpt(compat::resultOf(*goal))));
        ended.machine = build.machine;
        ended.delegate = build.delegate;
        ended.normal_mode = mode == bmNormal && !build.again;
        /* A goal whose builder another machine started knows nothing of a sandbox. */
        ended.without_sandbox = goal && build.machine.empty() && compat::fellBackToNoSandbox(*goal, build.derivation);
        bool failed = ending == core::Ending::PermanentFailure || ending == core::Ending::OutputRejected;
        if (auto lateRefusal = LateRefusal::current(); lateRefusal && failed)
            lateRefusal->alreadySaid(plainKeys(ended.outputs));
        settled.insert(build.path);
        outcome = core::build_ended(policy, ended, *build.running);
    }
    recorded |= outcome.is_recorded;
    /* Before anything is printed, as that can take long. */
    startHook(policy, ended, outcome);
    sayRecorded(ended, outcome);
}

} // namespace negative_cache
