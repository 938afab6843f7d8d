#include "../results.hh"
#include "../messages.hh"

namespace negative_cache::compat {

using namespace nix;

core::Ending ending(const BuildResult & result)
{
    switch (result.status) {
    case BuildResult::Built:
        return core::Ending::Built;
    case BuildResult::PermanentFailure:
        return core::Ending::PermanentFailure;
    case BuildResult::TimedOut:
        return core::Ending::TimedOut;
    case BuildResult::LogLimitExceeded:
        return core::Ending::LogLimitExceeded;
    case BuildResult::TransientFailure:
        return core::Ending::TransientFailure;
    case BuildResult::OutputRejected:
        return core::Ending::OutputRejected;
    default:
        return core::Ending::Other;
    }
}

std::string errorMessage(const BuildResult & result)
{
    auto success = result.status == BuildResult::Built || result.status == BuildResult::Substituted
        || result.status == BuildResult::AlreadyValid || result.status == BuildResult::ResolvesToAlreadyValid;
    return success ? "" : result.errorMsg.empty() ? "build failed" : result.errorMsg;
}

std::string errorExcerpt(const BuildResult & result)
{
    /* The message is cut before it is copied. */
    return excerpt(result.errorMsg.empty() ? errorMessage(result) : std::string_view(result.errorMsg));
}

Error * errorOf(Goal & goal)
{
    return goal.ex ? &*goal.ex : nullptr;
}

std::exception_ptr exceptionOf(Goal & goal, unsigned int status)
{
#if NIX_AT_LEAST(2, 24)
    goal.ex->withExitStatus(status);
#else
    goal.ex->status = status;
#endif
    return std::make_exception_ptr(*goal.ex);
}

unsigned int exitStatus(Worker & worker)
{
#if NIX_AT_LEAST(2, 18)
    return worker.failingExitStatus();
#else
    return worker.exitStatus();
#endif
}

} // namespace negative_cache::compat
