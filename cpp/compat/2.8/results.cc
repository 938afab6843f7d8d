#include "../results.hh"

namespace negative_cache::compat {

using namespace nix;

BuildResult miscFailure(const DerivedPath & request, const std::string & message)
{
    return {.status = BuildResult::MiscFailure, .errorMsg = message, .path = request};
}

BuildResults collectResults(const std::vector<Requested> & requested)
{
    BuildResults results;
    /* One result for each goal, in the order of the goals. */
    std::map<std::string, const Requested *> ordered;
    for (auto & i : requested)
        if (i.goal)
            ordered.emplace(i.goal->key(), &i);
    for (auto & [_, i] : ordered)
        results.push_back(i->goal->buildResult);
    for (auto & i : requested)
        if (!i.goal)
            results.push_back(miscFailure(i.request, ""));
    return results;
}

} // namespace negative_cache::compat
