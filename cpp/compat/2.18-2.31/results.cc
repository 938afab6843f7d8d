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
    /* Up to 2.23, commands print the first failure, even one without a message (`Installable::build2`). */
    constexpr bool firstIsPrinted = !NIX_AT_LEAST(2, 24);
    BuildResults results, neverStarted;
    for (auto & i : requested) {
#if NIX_AT_LEAST(2, 31)
        auto result = i.goal ? i.goal->buildResult : miscFailure(i.request, "");
#else
        auto result = i.goal ? i.goal->getBuildResult(i.request) : miscFailure(i.request, "");
#endif
        auto & list = firstIsPrinted && !i.goal ? neverStarted : results;
        list.push_back(KeyedBuildResult{std::move(result), i.request});
    }
    std::move(neverStarted.begin(), neverStarted.end(), std::back_inserter(results));
    return results;
}

} // namespace negative_cache::compat
