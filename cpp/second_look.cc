#include "second_look.hh"
#include "outputs.hh"
#include "request.hh"
#include "trouble.hh"

namespace negative_cache {

using namespace nix;

static thread_local SecondLook * currentSecondLook = nullptr;

SecondLook * SecondLook::current()
{
    return currentSecondLook;
}

SecondLook::SecondLook(Store & store, Worker & worker, BuildMode mode, const core::Policy & policy)
    : store(store)
    , worker(worker)
    , policy(policy)
    /* A check or a repair asks for a real build. */
    , outer(std::exchange(currentSecondLook, mode == bmNormal ? this : nullptr))
    , errand(std::make_shared<compat::Errand>(worker, [this] { refuse(); }))
{
}

SecondLook::~SecondLook()
{
    currentSecondLook = outer;
}

void SecondLook::expect(const Goals & goals)
{
    requested = goals;
}

void SecondLook::alreadySaid(const rust::Vec<rust::String> & keys)
{
    for (auto & key : keys)
        said.insert(std::string(key));
}

void SecondLook::refuse()
{
    giveBackHook();
    for (auto & [goal, refusal] : std::exchange(refused, {}))
        if (compat::waitsForItsBuilder(*goal))
            compat::refuse(*goal, refusal);
}

void SecondLook::giveBackHook()
{
    if (auto hook = std::exchange(tryBuildHook, std::nullopt))
        worker.tryBuildHook = *hook;
    lastRefused.clear();
}

std::shared_ptr<DerivationGoal> SecondLook::goalOf(const std::string & key)
{
    std::set<Goal *> seen;
    std::vector<GoalPtr> left(requested.begin(), requested.end());
    while (!left.empty()) {
        auto goal = std::move(left.back());
        left.pop_back();
        if (!seen.insert(goal.get()).second)
            continue;
        left.insert(left.end(), goal->waitees.begin(), goal->waitees.end());
        auto derivationGoal = std::dynamic_pointer_cast<DerivationGoal>(goal);
        if (derivationGoal && compat::waitsForItsBuilder(*derivationGoal))
            for (auto & known : outputKeys(store, *derivationGoal->drv))
                if (known.path == key)
                    return derivationGoal;
    }
    return nullptr;
}

std::optional<Error> SecondLook::refusalOfKnown(const StorePath & path, const rust::Vec<rust::String> & keys)
{
    for (auto & key : keys)
        if (said.count(std::string(key)))
            return policy.warn ? std::nullopt
                               : std::optional(Error("'%s' is not built again: it failed (see above)", store.printStorePath(path)));
    return refusalOf(store, policy, path, keys);
}

void SecondLook::look(const std::string & key)
{
    auto answer = core::is_known_failure(policy, key);
    report(answer.trouble);
    if (!answer.yes)
        return;
    auto goal = goalOf(key);
    /* With an output of another name missing, it is done all the same. */
    if (!goal || wantedOutputsAreValid(store, *goal))
        return;
    auto keys = plainKeys(outputKeys(store, *goal->drv));
    auto refusal = refusalOfKnown(goal->drvPath, keys);
    alreadySaid(keys);
    if (!refusal)
        return;
    refused.push_back({goal, *refusal});
    worker.wakeUp(errand);
    /* What comes next in the goal's turn is the question whether another machine builds it. */
    for (auto & refusedKey : keys)
        lastRefused.insert(std::string(refusedKey));
    tryBuildHook = std::exchange(worker.tryBuildHook, false);
}

void SecondLook::missing(const std::string & key)
{
    if (looking || lastRefused.count(key))
        return;
    /* This is another goal's turn. */
    giveBackHook();
    looking = true;
    Finally done([&] { looking = false; });
    harmless([&] { look(key); });
}

} // namespace negative_cache
