#include "../results.hh"

namespace negative_cache::compat {

using namespace nix;

BuildResult miscFailure(const DerivedPath &, const std::string & message)
{
    return {.status = BuildResult::MiscFailure, .errorMsg = message};
}

BuildResults collectResults(const std::vector<Requested> & requested)
{
    BuildResults results;
    for (auto & i : requested) {
#if NIX_AT_LEAST(2, 31)
        auto result = i.goal ? i.goal->buildResult : miscFailure(i.request, "");
#else
        auto result = i.goal ? i.goal->getBuildResult(i.request) : miscFailure(i.request, "");
#endif
        results.push_back(KeyedBuildResult{std::move(result), i.request});
    }
    return results;
}

} // namespace negative_cache::compat
