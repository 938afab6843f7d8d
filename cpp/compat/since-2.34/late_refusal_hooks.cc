#include "../late_refusal_hooks.hh"
#include "building_goal.hh"
#include "../coroutine.hh"
#include "../derivations.hh"

#include <sys/stat.h>

#include <filesystem>

namespace negative_cache::compat {

using namespace nix;

/* The descriptors of this process that refer to one of `files`. */
static std::vector<int> descriptorsOf(const std::vector<std::filesystem::path> & files)
{
    std::vector<struct stat> wanted;
    for (auto & file : files)
        if (struct stat status; ::stat(file.c_str(), &status) == 0)
            wanted.push_back(status);
    std::vector<int> descriptors;
    std::error_code error;
    for (std::filesystem::directory_iterator entry("/dev/fd", error), end; !error && entry != end && !wanted.empty();
         entry.increment(error)) {
        auto descriptor = string2Int<int>(entry->path().filename().string());
        struct stat status;
        if (descriptor && ::fstat(*descriptor, &status) == 0)
            for (auto & file : wanted)
                if (status.st_dev == file.st_dev && status.st_ino == file.st_ino)
                    descriptors.push_back(*descriptor);
    }
    return descriptors;
}

std::vector<int> lockDescriptors(const BuildingGoal & goal)
{
    /* The locks belong to a coroutine, where they can't be reached. But each lock is a file beside the output that it
       locks (`PathLocks::lockPaths`). */
    auto local = dynamic_cast<LocalStore *>(&goal.worker.store);
    if (!local)
        return {};
    std::vector<std::filesystem::path> files;
    for (auto & [name, output] : outputsAndOptPaths(*(goal.*memberOf(DerivationOfBuildingGoal{})), goal.worker.store)) {
        std::filesystem::path file = local->toRealPath(output.second ? *output.second : pathOf(goal));
        file += output.second ? ".lock" : "." + name + ".lock";
        files.push_back(std::move(file));
    }
    return descriptorsOf(files);
}

bool isAboutToBuild(const BuildingGoal & goal)
{
    return goal.exitCode == Goal::ecBusy && !(goal.*memberOf(RunningBuildsOfBuildingGoal{}))
        && !lockDescriptors(goal).empty();
}

static Goal::Co refusing(BuildingGoal & goal, Refusal refusal)
{
    count(goal.worker, refusal);
    co_return (goal.*memberOf(FailureOfBuildingGoal{}))(cachedFailure(refusal));
}

void refuse(BuildingGoal & goal, const Refusal & refusal)
{
    continueWith(goal, refusing(goal, refusal));
}

} // namespace negative_cache::compat
