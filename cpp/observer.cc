#include "observer.hh"
#include "evidence.hh"
#include "second_look.hh"
#include "trouble.hh"

#include <algorithm>

namespace negative_cache {

using namespace nix;

Observer::Observer(Store & store, Worker & worker, BuildMode mode, const core::Policy & policy)
    : store(store)
    , worker(worker)
    , mode(mode)
    , policy(policy)
{
}

Observer::~Observer()
{
    /* Builds that Nix gave up. One whose outputs are there did succeed; only what came after did not, such as the
       post-build hook. Their activities may end with them. */
    for (auto & build : std::exchange(running, {}))
        try {
            harmless([&] {
                if (areBuilt(store, outputKeys(store, build.derivation)))
                    ended(build, nullptr, core::Status::Built);
            });
        } catch (Interrupted &) {
        }
    if (recorded)
        report(core::tidy(policy));
}

void Observer::activityStarted(
    ActivityId activity, ActivityType type, const Logger::Fields & fields, ActivityId parent)
{
    auto derivation = textField(fields, 0);
    if (type != actBuild || !derivation)
        return;
    harmless([&] {
        auto path = store.parseStorePath(std::string(*derivation));
        /* What another machine says of its own builds comes as children of the worker's activity. */
        if (parent == worker.act.id) {
            for (auto & build : running)
                if (build.path == path && !build.machine.empty())
                    build.activities.insert(activity);
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
             *derivation,
             std::string(textField(fields, 1).value_or("")),
             {activity},
             core::start_build(policy),
             {},
             again,
             nullptr});
        if (!compat::willBuildAgain(*goal))
            running.back().locks = std::make_unique<KeptLocks>(*goal);
    });
}

static core::Status coreStatus(compat::Ending ending)
{
    switch (ending) {
    case compat::Ending::Built:
        return core::Status::Built;
    case compat::Ending::PermanentFailure:
        return core::Status::PermanentFailure;
    case compat::Ending::TimedOut:
        return core::Status::TimedOut;
    case compat::Ending::LogLimitExceeded:
        return core::Status::LogLimitExceeded;
    case compat::Ending::TransientFailure:
        return core::Status::TransientFailure;
    case compat::Ending::OutputRejected:
        return core::Status::OutputRejected;
    case compat::Ending::Other:
        return core::Status::Other;
    }
    return core::Status::Other;
}

void Observer::settleEnded()
{
    for (auto build = running.begin(); build != running.end();)
        if (auto goal = build->goal.lock(); goal && compat::buildEnded(*goal)) {
            harmless([&] {
                ended(*build, goal.get(), coreStatus(compat::ending(compat::resultOf(*goal))));
            });
            build = running.erase(build);
        } else
            ++build;
}

void Observer::activityResult(ActivityId activity, ResultType type, const Logger::Fields & fields)
{
    if (type == resBuildLogLine) {
        auto line = textField(fields, 0);
        if (!line)
            return;
        for (auto & build : running)
            if (build.activities.count(activity))
                core::log_line(*build.running, {reinterpret_cast<const uint8_t *>(line->data()), line->size()});
    } else if (type == resProgress && activity == worker.actDerivations.id)
        settleEnded();
}

void Observer::activityStopped(ActivityId activity)
{
    auto isOf = [&](auto & build) { return build.activities.count(activity) > 0; };
    if (std::any_of(running.begin(), running.end(), isOf))
        settleEnded();
}

void Observer::errorLogged(std::string_view text)
{
    /* The build hook says here what became of the builder on the other machine; the goal's own error only has what
       became of the hook. */
    constexpr size_t enough = 1000;
    std::optional<std::string> excerpt;
    for (auto & build : running) {
        if (build.machine.empty() || build.saidByHook.size() >= enough)
            continue;
        if (!excerpt)
            excerpt = compat::excerpt(text);
        if (excerpt->find(build.path.to_string()) != excerpt->npos)
            build.saidByHook.push_back(rust::String::lossy(*excerpt));
    }
}

void Observer::errorReported(const ErrorInfo & error)
{
    constexpr size_t enough = 1000;
    if (verbosity >= lvlTalkative && reported.size() < enough)
        reported.push_back(compat::excerpt(error.msg.str()));
}

bool Observer::explain(const std::string & error, std::optional<StorePath> path)
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

void Observer::runEnded(const Goals & goals)
{
    if (verbosity < lvlTalkative)
        return;
    harmless([&] {
        for (auto & error : std::exchange(reported, {}))
            explain(error);
        for (auto & goal : goals)
            if (auto error = compat::errorOfRequest(*goal))
                explain(error->second, error->first);
    });
}

void Observer::runFailed(const BaseError & error)
{
    if (verbosity < lvlTalkative)
        return;
    harmless([&] {
        for (auto & error : std::exchange(reported, {}))
            explain(error);
        auto message = compat::excerpt(error.info().msg.str());
        if (explain(message))
            return;
        /* It names no derivation, but whose turn it was had started its build: the one whose output it is about, or else the
           only one. What comes after a success, such as the post-build hook, is no failure of a build. */
        std::vector<StorePath> builds;
        for (auto & build : running) {
            auto outputs = outputKeys(store, build.derivation);
            if (areBuilt(store, outputs))
                continue;
            builds.push_back(build.path);
            for (auto & output : outputs)
                if (message.find(std::string(output.path)) != message.npos) {
                    explain(message, build.path);
                    return;
                }
        }
        if (builds.size() == 1)
            explain(message, builds[0]);
    });
}

void Observer::ended(Build & build, const compat::BuildingGoal * goal, core::Status status)
{
    auto ended = evidence(store, build.path, build.derivation);
    ended.status = status;
    ended.messages = std::move(build.saidByHook);
    if (goal)
        ended.messages.push_back(rust::String::lossy(compat::errorExcerpt(compat::resultOf(*goal))));
    ended.machine = build.machine;
    ended.normal_mode = mode == bmNormal && !build.again;
    ended.without_sandbox = goal && compat::fellBackToNoSandbox(*goal);
    bool failed = status == core::Status::PermanentFailure || status == core::Status::OutputRejected;
    if (auto secondLook = SecondLook::current(); secondLook && failed)
        secondLook->alreadySaid(plainKeys(ended.outputs));
    settled.insert(build.path);
    auto outcome = core::build_ended(policy, ended, *build.running);
    build.locks.reset();
    recorded |= sayRecorded(ended, outcome);
}

} // namespace negative_cache
