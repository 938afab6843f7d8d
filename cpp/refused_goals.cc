#include "refused_goals.hh"

namespace negative_cache {

using namespace nix;

RefusedGoals::RefusedGoals(Worker & worker, const DecidedRequest & decided)
    : worker(worker)
{
    if (!decided.plan)
        return;
    auto & plan = *decided.plan;
    auto & decision = decided.decision;
    auto add = [&](size_t index, const std::optional<compat::Refusal> & refusal) {
        auto & path = plan.path(index);
        auto goal = compat::makeUnbuiltGoal(path, worker, refusal);
        goals.emplace(path, goal);
        return goal;
    };
    for (auto & failure : decision.refused)
        known.push_back(add(failure.index, refusal(worker.store, plan.path(failure.index), failure)));
    for (auto index : decision.dependents)
        add(index, std::nullopt);

    for (auto index : decision.dependents) {
        auto & goal = goals.at(plan.path(index));
        /* The core has asked whether each dependent needs something, so this reads nothing and can't fail. */
        for (auto & [input, _] : plan.inputs(index))
            if (auto other = goals.find(plan.path(input)); other != goals.end())
                compat::addWaitee(goal, other->second);
    }
    for (auto & wanted : decided.alsoWanted)
        alsoWanted.push_back({goals.at(plan.path(wanted.dependent)), wanted.request});
}

void RefusedGoals::wake()
{
    for (auto & goal : known)
        worker.wakeUp(goal);
}

GoalPtr RefusedGoals::find(const DerivedPath & request) const
{
    auto path = compat::requestedDerivation(request);
    auto goal = path ? goals.find(*path) : goals.end();
    return goal == goals.end() ? nullptr : goal->second;
}

} // namespace negative_cache
