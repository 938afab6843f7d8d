#include "../results.hh"
#include "../messages.hh"
#include "../settings.hh"

namespace negative_cache::compat {

using namespace nix;

/* Which limit ended a build that timed out. These versions have one message for both limits (`TimedOut`, goal.cc). */
enum class Limit { Time, Silence, Unknown };

static Limit limitOf(const BuildError & error)
{
    auto silence = uint64_t(workerSettings().maxSilentTime.get()), time = uint64_t(workerSettings().buildTimeout.get());
    if (!silence || !time)
        return silence ? Limit::Silence : Limit::Time;
    if (silence == time)
        return Limit::Unknown;
    auto isAfter = [message = filterANSIEscapes(error.message(), true)](uint64_t seconds) {
        return message.find("after " + std::to_string(seconds) + " ") != message.npos;
    };
    return isAfter(silence) ? Limit::Silence : isAfter(time) ? Limit::Time : Limit::Unknown;
}

core::Ending ending(const BuildResult & result)
{
    if (auto success = result.tryGetSuccess())
        return success->status == BuildResult::Success::Built ? core::Ending::Built : core::Ending::Other;
    auto & failure = *result.tryGetFailure();
    switch (failure.status) {
    case BuildError::PermanentFailure:
        return core::Ending::PermanentFailure;
    case BuildError::TimedOut:
        return limitOf(failure) == Limit::Unknown ? core::Ending::Other : core::Ending::TimedOut;
    case BuildError::LogLimitExceeded:
        return core::Ending::LogLimitExceeded;
    case BuildError::TransientFailure:
        return core::Ending::TransientFailure;
    case BuildError::OutputRejected:
        return core::Ending::OutputRejected;
    default:
        return core::Ending::Other;
    }
}

std::string errorMessage(const BuildResult & result)
{
    auto failure = result.tryGetFailure();
    auto message = failure ? failure->message() : "";
    if (failure && failure->status == BuildError::TimedOut && limitOf(*failure) == Limit::Silence)
        message += " of silence";
    return !failure ? "" : message.empty() ? "build failed" : message;
}

std::string errorExcerpt(const BuildResult & result)
{
    return excerpt(errorMessage(result));
}

BuildResult miscFailure(const DerivedPath &, const std::string & message)
{
    return {.inner = BuildError{{.status = BuildError::MiscFailure, .msg = HintFmt(message)}}};
}

Error * errorOf(Goal & goal)
{
    return goal.buildResult.tryGetFailure();
}

std::exception_ptr exceptionOf(Goal & goal, unsigned int status)
{
    auto & failure = *goal.buildResult.tryGetFailure();
    failure.withExitStatus(status);
    return std::make_exception_ptr(failure);
}

unsigned int exitStatus(Worker & worker)
{
    return worker.exitStatusFlags.failingExitStatus();
}

BuildResults collectResults(const std::vector<Requested> & requested)
{
    BuildResults results;
    for (auto & i : requested)
#if IS_DETERMINATE_NIX
        /* Its commands end the process if there is not one result for each request. */
        results.push_back(KeyedBuildResult{
            i.goal ? i.goal->buildResult : BuildResult{.inner = BuildError(BuildError::Cancelled, "")},
            i.request});
#else
        if (i.goal && i.goal->exitCode != Goal::ecBusy)
            results.push_back(KeyedBuildResult{i.goal->buildResult, i.request});
#endif
    return results;
}

} // namespace negative_cache::compat
