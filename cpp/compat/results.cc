#include "results.hh"
#include "derivations.hh"
#include "messages.hh"

namespace negative_cache::compat {

using namespace nix;

/* ---- Results ---- */

#if NIX_AT_LEAST(2, 34)
/* Which limit ended a build that timed out. These versions have one message for both limits (`TimedOut`, goal.cc). */
enum class Limit { Time, Silence, Unknown };

static Limit limitOf(const BuildError & error)
{
    auto & workerSettings = settings.getWorkerSettings();
    auto silence = uint64_t(workerSettings.maxSilentTime.get()), time = uint64_t(workerSettings.buildTimeout.get());
    if (!silence || !time)
        return silence ? Limit::Silence : Limit::Time;
    if (silence == time)
        return Limit::Unknown;
    auto isAfter = [message = filterANSIEscapes(error.message(), true)](uint64_t seconds) {
        return message.find("after " + std::to_string(seconds) + " ") != message.npos;
    };
    return isAfter(silence) ? Limit::Silence : isAfter(time) ? Limit::Time : Limit::Unknown;
}
#endif

core::Ending ending(const BuildResult & result)
{
#if NIX_AT_LEAST(2, 34)
    if (auto success = result.tryGetSuccess())
        return success->status == BuildResult::Success::Built ? core::Ending::Built : core::Ending::Other;
    using Status = BuildResult::Failure;
    auto status = result.tryGetFailure()->status;
#else
    using Status = BuildResult;
    auto status = result.status;
    if (status == BuildResult::Built)
        return core::Ending::Built;
#endif
    switch (status) {
    case Status::PermanentFailure:
        return core::Ending::PermanentFailure;
    case Status::TimedOut:
#if NIX_AT_LEAST(2, 34)
        if (limitOf(*result.tryGetFailure()) == Limit::Unknown)
            return core::Ending::Other;
#endif
        return core::Ending::TimedOut;
    case Status::LogLimitExceeded:
        return core::Ending::LogLimitExceeded;
    case Status::TransientFailure:
        return core::Ending::TransientFailure;
    case Status::OutputRejected:
        return core::Ending::OutputRejected;
    default:
        return core::Ending::Other;
    }
}

std::string errorMessage(const BuildResult & result)
{
#if NIX_AT_LEAST(2, 34)
    auto failure = result.tryGetFailure();
    auto message = failure ? failure->message() : "";
    if (failure && failure->status == BuildError::TimedOut && limitOf(*failure) == Limit::Silence)
        message += " of silence";
    return !failure ? "" : message.empty() ? "build failed" : message;
#else
    auto success = result.status == BuildResult::Built || result.status == BuildResult::Substituted
        || result.status == BuildResult::AlreadyValid || result.status == BuildResult::ResolvesToAlreadyValid;
    return success ? "" : result.errorMsg.empty() ? "build failed" : result.errorMsg;
#endif
}

std::string errorExcerpt(const BuildResult & result)
{
#if NIX_AT_LEAST(2, 34)
    return excerpt(errorMessage(result));
#else
    /* The message is cut before it is copied. */
    return excerpt(result.errorMsg.empty() ? errorMessage(result) : std::string_view(result.errorMsg));
#endif
}

static BuildResult miscFailure([[maybe_unused]] const StorePath & path, const std::string & message)
{
#if NIX_AT_LEAST(2, 34)
    return {.inner = BuildResult::Failure{{.status = BuildResult::Failure::MiscFailure, .msg = HintFmt(message)}}};
#elif NIX_AT_LEAST(2, 26)
    return {.status = BuildResult::MiscFailure, .errorMsg = message};
#else
    return {.status = BuildResult::MiscFailure, .errorMsg = message, .path = DerivedPath::Built{.drvPath = path}};
#endif
}

/* ---- The last steps of Nix's entry points ---- */

/* The name of an unsuccessful request in the message that lists them; nothing if Nix does not list it. */
static std::optional<std::string> failedPath(const Store & store, const Requested & requested)
{
#if NIX_AT_LEAST(2, 31)
    if (auto goal = dynamic_cast<DerivationTrampolineGoal *>(requested.goal.get()))
        return goal->drvReq->to_string(store);
#else
    if (auto goal = dynamic_cast<DerivationGoal *>(requested.goal.get()))
        return store.printStorePath(goal->drvPath);
#endif
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
#if NIX_AT_LEAST(2, 34)
    return worker.exitStatusFlags.failingExitStatus();
#elif NIX_AT_LEAST(2, 26)
    return worker.failingExitStatus();
#else
    return worker.exitStatus();
#endif
}

/* The error that a goal ended with, or null. */
static auto errorOf(Goal & goal)
{
#if NIX_AT_LEAST(2, 34)
    /* A goal that was never started has an error too, without a message. Nix prints that as well. */
    return goal.buildResult.tryGetFailure();
#else
    return goal.ex ? &*goal.ex : (Error *) nullptr;
#endif
}

std::optional<std::pair<StorePath, std::string>> errorOfRequest(Goal & goal)
{
    auto error = goal.exitCode == Goal::ecBusy ? nullptr : errorOf(goal);
    if (!error || dynamic_cast<UnbuiltGoal *>(&goal))
        return std::nullopt;
    auto derivation = [&]() -> std::optional<StorePath> {
#if NIX_AT_LEAST(2, 31)
        if (auto request = dynamic_cast<DerivationTrampolineGoal *>(&goal))
            if (auto path = std::get_if<SingleDerivedPath::Opaque>(&request->drvReq->raw()))
                return path->path;
#else
        if (auto request = dynamic_cast<DerivationGoal *>(&goal))
            return request->drvPath;
#endif
        return std::nullopt;
    }();
    if (!derivation)
        return std::nullopt;
    return std::pair(*derivation, excerpt(error->info().msg.str()));
}

std::exception_ptr failureOf(Store & store, const std::vector<Requested> & requested, unsigned int status)
{
    /* The goals are in their order, and each is there once, as in the set of goals that Nix goes through. */
    std::map<std::string, const Requested *> ordered;
    StringSet failed;
    for (auto & i : requested)
        if (i.goal)
            ordered.emplace(i.goal->key(), &i);
        else if (auto path = failedPath(store, i))
            failed.insert(*path);

    decltype(errorOf(std::declval<Goal &>())) first = nullptr;
    for (auto & [_, i] : ordered) {
        if (auto error = errorOf(*i->goal)) {
            if (first)
                logError(error->info());
            else
                first = error;
        }
        if (i->goal->exitCode != Goal::ecSuccess)
            if (auto path = failedPath(store, *i))
                failed.insert(*path);
    }

    if (failed.size() == 1 && first) {
#if NIX_AT_LEAST(2, 26)
        first->withExitStatus(status);
#else
        first->status = status;
#endif
        return std::make_exception_ptr(*first);
    } else if (!failed.empty()) {
        if (first)
            logError(first->info());
        return std::make_exception_ptr(Error(status, "build of %s failed", concatStringsSep(", ", quoteStrings(failed))));
    }
    return nullptr;
}

BuildResults collectResults(const std::vector<Requested> & requested)
{
    BuildResults results;
#if NIX_AT_LEAST(2, 34)
    for (auto & i : requested)
        if (i.goal && i.goal->exitCode != Goal::ecBusy)
            results.push_back(KeyedBuildResult{i.goal->buildResult, i.request});
#elif NIX_AT_LEAST(2, 31)
    for (auto & i : requested)
        results.push_back(
            KeyedBuildResult{i.goal ? i.goal->buildResult : BuildResult{.status = BuildResult::MiscFailure}, i.request});
#elif NIX_AT_LEAST(2, 26)
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
#if NIX_AT_LEAST(2, 31)
    auto goal = worker.makeDerivationTrampolineGoal(path, OutputsSpec::All{}, derivation, mode);
#elif NIX_AT_LEAST(2, 26)
    auto goal = worker.makeBasicDerivationGoal(path, derivation, OutputsSpec::All{}, mode);
#else
    auto goal = worker.makeBasicDerivationGoal(path, derivation, {}, mode);
#endif
    try {
        run(Goals{goal});
        return buildResult(*goal, path);
    } catch (Error & e) {
        return miscFailure(path, e.msg());
    }
}

} // namespace negative_cache::compat
