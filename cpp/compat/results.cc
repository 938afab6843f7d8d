#include "results.hh"
#include "derivations.hh"
#include "messages.hh"

namespace negative_cache::compat {

using namespace nix;

/* The name of an unsuccessful request in the message that lists them; nothing if Nix does not list it. */
static std::optional<std::string> failedPath(const Store & store, const Requested & requested)
{
    if (requested.goal)
        return nameOfRequest(store, *requested.goal);
    if (auto path = requestedDerivation(requested.request))
        return store.printStorePath(*path);
    return requested.request.to_string(store);
}

std::optional<std::pair<StorePath, std::string>> errorOfRequest(Goal & goal)
{
    auto error = goal.exitCode == Goal::ecBusy ? nullptr : errorOf(goal);
    if (!error || dynamic_cast<Unbuilt *>(&goal))
        return std::nullopt;
    auto derivation = derivationOfRequest(goal);
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

    Goal * first = nullptr;
    for (auto & [_, i] : ordered) {
        if (auto error = errorOf(*i->goal)) {
            if (first)
                logError(error->info());
            else
                first = i->goal.get();
        }
        if (i->goal->exitCode != Goal::ecSuccess)
            if (auto path = failedPath(store, *i))
                failed.insert(*path);
    }

    if (failed.size() == 1 && first)
        return exceptionOf(*first, status);
    if (failed.empty())
        return nullptr;
    if (first)
        logError(errorOf(*first)->info());
    return std::make_exception_ptr(Error(status, "build of %s failed", concatStringsSep(", ", quoteStrings(failed))));
}

BuildResult buildDerivation(
    Worker & worker,
    const StorePath & path,
    const BasicDerivation & derivation,
    BuildMode mode,
    const std::function<void(const Goals &)> & run)
{
    auto goal = makeGoal(worker, path, derivation, mode);
    try {
        run(Goals{goal});
        return buildResult(*goal, path);
    } catch (Error & e) {
        return miscFailure(requestFor(path), e.msg());
    }
}

} // namespace negative_cache::compat
