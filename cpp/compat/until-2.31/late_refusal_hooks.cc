#include "../late_refusal_hooks.hh"
#include "../private_member.hh"

namespace negative_cache::compat {

using namespace nix;

struct DescriptorsOfLocks
{
    friend auto memberOf(DescriptorsOfLocks);
};

template struct PrivateMember<DescriptorsOfLocks, &PathLocks::fds>;

std::vector<int> lockDescriptors(const BuildingGoal & goal)
{
    std::vector<int> descriptors;
    for (auto & [descriptor, _] : goal.outputLocks.*memberOf(DescriptorsOfLocks{}))
        descriptors.push_back(descriptor);
    return descriptors;
}

bool isAboutToBuild(const BuildingGoal & goal)
{
    return goal.exitCode == Goal::ecBusy && !goal.mcRunningBuilds && !lockDescriptors(goal).empty();
}

} // namespace negative_cache::compat
