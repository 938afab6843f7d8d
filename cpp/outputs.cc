#include "outputs.hh"

#include <charconv>
#include <filesystem>
#include <set>

#include <fcntl.h>
#include <sys/stat.h>

namespace negative_cache {

using namespace nix;

rust::Vec<core::Output> outputKeys(Store & store, const Derivation & derivation)
{
    rust::Vec<core::Output> keys;
    auto type = derivation.type();
    if (compat::isImpure(type))
        return keys;

    std::optional<Derivation> resolved;
    if (!type.hasKnownOutputPaths())
        resolved = compat::resolve(store, derivation);
    auto & built = resolved ? *resolved : derivation;

    if (built.type().hasKnownOutputPaths()) {
        for (auto & [name, output] : built.outputsAndOptPaths(store))
            keys.push_back({name, store.printStorePath(*output.second)});
    } else if (resolved)
        for (auto & [name, hash] : staticOutputHashes(store, built))
            keys.push_back({name, DrvOutput{hash, name}.to_string()});
    return keys;
}

rust::Vec<rust::String> plainKeys(const rust::Vec<core::Output> & keys)
{
    rust::Vec<rust::String> plain;
    for (auto & key : keys)
        plain.push_back(key.path);
    return plain;
}

/* Whether a store from which outputs may be substituted has a realisation. */
static bool canBeSubstituted(const DrvOutput & id)
{
    for (auto & substituter : getDefaultSubstituters())
        if (substituter->queryRealisation(id))
            return true;
    return false;
}

bool canBeHad(
    Store & store, const StorePath & path, const BasicDerivation & derivation, const rust::Vec<core::Output> & keys)
{
    bool substitutes = settings.useSubstitutes && compat::substitutesAllowed(path, derivation);
    std::vector<DerivedPath> paths;
    for (auto & key : keys) {
        std::string name(key.path);
        if (auto output = store.maybeParseStorePath(name))
            paths.push_back(DerivedPath::Opaque{*output});
        else if (auto id = DrvOutput::parse(name); !store.queryRealisation(id) && !(substitutes && canBeSubstituted(id)))
            return false;
    }
    auto missing = compat::queryMissing(store, paths);
    return missing.unknown.empty() && (missing.willSubstitute.empty() || substitutes);
}

bool wantedOutputsAreValid(Store & store, const DerivationGoal & goal)
{
    for (auto & [name, output] : goal.drv->outputsAndOptPaths(store)) {
        if (!compat::wants(goal, name))
            continue;
        auto known = goal.initialOutputs.find(name);
        if (output.second ? !store.isValidPath(*output.second)
                          : known == goal.initialOutputs.end()
                                || !store.queryRealisation(DrvOutput{known->second.outputHash, name}))
            return false;
    }
    return true;
}

/* ---- Locks ---- */

using FileId = std::pair<dev_t, ino_t>;

static std::optional<FileId> fileId(int result, const struct stat & status)
{
    return result == 0 ? std::optional(FileId{status.st_dev, status.st_ino}) : std::nullopt;
}

KeptLocks::KeptLocks(Store & store, const DerivationGoal & goal)
{
    /* The names are those of `DerivationGoal::tryToBuild` and `PathLocks::lockPaths`. */
    std::set<FileId> wanted;
    for (auto & [name, output] : goal.drv->outputsAndOptPaths(store)) {
        auto locked = output.second ? store.printStorePath(*output.second)
                                    : store.printStorePath(goal.drvPath) + "." + name;
        struct stat status;
        if (auto id = fileId(::stat((store.toRealPath(locked) + ".lock").c_str(), &status), status))
            wanted.insert(*id);
    }
    /* Nix keeps its descriptors to itself. A lock (flock(2)) belongs to the open file, so that a duplicate of the
       descriptor holds it as well. */
    for (auto & entry : std::filesystem::directory_iterator("/dev/fd")) {
        auto name = entry.path().filename().string();
        int descriptor;
        if (std::from_chars(name.data(), name.data() + name.size(), descriptor).ec != std::errc())
            continue;
        struct stat status;
        auto id = fileId(::fstat(descriptor, &status), status);
        if (!id || !wanted.count(*id))
            continue;
        AutoCloseFD duplicate{::fcntl(descriptor, F_DUPFD_CLOEXEC, 0)};
        if (duplicate)
            descriptors.push_back(std::move(duplicate));
    }
}

} // namespace negative_cache
