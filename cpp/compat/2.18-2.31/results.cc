#include "../results.hh"

#include <algorithm>
#include <iterator>

namespace negative_cache::compat {

using namespace nix;

BuildResult miscFailure(const DerivedPath &, const std::string & message)
{
    return {.status = BuildResult::MiscFailure, .errorMsg = message};
}

BuildResults collectResults(const std::vector<Requested> & requested)
{
    /* Up to 2.23, commands print the first failure, even that of a goal which did not come to its end and has no message
       (`Installable::build2`). A refused request ends before most of its goals, and the
       command would print the empty error of one of those. */
    bool unfinishedLast = !NIX_AT_LEAST(2, 24) && std::any_of(requested.begin(), requested.end(), [](auto & i) {
        return !i.goal || dynamic_cast<Unbuilt *>(i.goal.get());
    });
    BuildResults results, unfinished;
    for (auto & i : requested) {
#if NIX_AT_LEAST(2, 31)
        auto result = i.goal ? i.goal->buildResult : miscFailure(i.request, "");
#else
        auto result = i.goal ? i.goal->getBuildResult(i.request) : miscFailure(i.request, "");
#endif
        bool hasEnded = i.goal && i.goal->exitCode != Goal::ecBusy;
        auto & list = unfinishedLast && !hasEnded ? unfinished : results;
        list.push_back(KeyedBuildResult{std::move(result), i.request});
    }
    std::move(unfinished.begin(), unfinished.end(), std::back_inserter(results));
    return results;
}

} // namespace negative_cache::compat
