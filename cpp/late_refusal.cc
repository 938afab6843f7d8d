#include "late_refusal.hh"
#include "build_plan.hh"
#include "guard.hh"
#include "output_keys.hh"
#include "request.hh"

#include <algorithm>

namespace negative_cache {

using namespace nix;

static thread_local LateRefusal * currentRefusal = nullptr;

LateRefusal * LateRefusal::current()
{
    return currentRefusal;
}

LateRefusal::LateRefusal(Store & store, Worker & worker, BuildMode mode, const core::Policy & policy)
    : store(store)
    , worker(worker)
    , policy(policy)
    /* A check or a repair asks for a real build. */
    , outer(std::exchange(currentRefusal, mode == bmNormal ? this : nullptr))
{
}

LateRefusal::~LateRefusal()
{
    currentRefusal = outer;
}

void LateRefusal::expect(const Goals & goals)
{
    requested = goals;
}

static void insert(StringSet & set, const rust::Vec<rust::String> & keys)
{
    for (auto & key : keys)
        set.insert(std::string(key));
}

/* Whether the key of any output is in a set. */
static bool hasAny(const StringSet & set, const rust::Vec<core::OutputKey> & outputs)
{
    return std::any_of(outputs.begin(), outputs.end(), [&](auto & output) { return set.count(std::string(output.key)); });
}

void LateRefusal::alreadySaid(const rust::Vec<rust::String> & keys)
{
    insert(said, keys);
}

void LateRefusal::alreadyWarned(const rust::Vec<rust::String> & keys)
{
    insert(warned, keys);
}

std::shared_ptr<compat::BuildingGoal> LateRefusal::goalOf(const std::string & key)
{
    std::set<Goal *> seen;
    std::vector<GoalPtr> left(requested.begin(), requested.end());
    while (!left.empty()) {
        auto goal = std::move(left.back());
        left.pop_back();
        if (!seen.insert(goal.get()).second)
            continue;
        auto & waitees = compat::waiteesOf(*goal);
        left.insert(left.end(), waitees.begin(), waitees.end());
        auto building = std::dynamic_pointer_cast<compat::BuildingGoal>(goal);
        if (building && compat::isAboutToBuild(*building))
            for (auto & known : outputKeys(store, *compat::derivationOf(*building)))
                if (known.key == key)
                    return building;
    }
    return nullptr;
}

std::optional<SingleRefusal> LateRefusal::refusalOfKnown(const StorePath & path, const core::PlannedDerivation & derivation)
{
    /* Caches are asked later: this can be in a function of Nix that may not throw, which an interrupt does. */
    Caches none(store);
    auto says = hasAny(warned, derivation.outputs) ? SayTheRest::No : SayTheRest::Yes;
    auto refused = refusalOf(store, policy, path, derivation, none, says);
    if (refused && hasAny(said, derivation.outputs))
        refused->refusal.error = compat::notBuilt(store.printStorePath(path), "is not built again: it failed in this run");
    return refused;
}

/* Whether the failure that refuses a derivation came from a binary cache and was withdrawn since. */
bool LateRefusal::wasWithdrawn(const StorePath & path, const core::PlannedDerivation & derivation)
{
    if (!caches)
        caches.emplace(store, policy);
    return caches->may_be_asked() && !refusalOf(store, policy, path, derivation, *caches, SayTheRest::No);
}

void LateRefusal::look(const std::function<std::string()> & keyOf)
{
    if (!core::has_database(policy))
        return;
    auto key = keyOf();
    /* The user was warned of this failure, and the derivation is built. */
    if (policy.warns() && (said.count(key) || warned.count(key)))
        return;
    if (!core::is_known_failure(policy, key))
        return;
    auto goal = goalOf(key);
    if (!goal || !compat::canBeKeptFromOtherMachines(*goal))
        return;
    /* Nix asks for each output, so the goal may already have a plan. */
    auto earlier = plans.find(goal);
    if (earlier != plans.end() && earlier->second.kept)
        return;
    auto path = compat::pathOf(*goal);
    auto derivation = planned(store, path, *compat::derivationOf(*goal));
    auto & outputs = derivation.outputs;
    /* If nobody wants the outputs that are missing, the goal ends without a build. */
    if (std::none_of(outputs.begin(), outputs.end(), [&](auto & output) {
            return compat::wants(*goal, std::string(output.name)) && !isValid(store, output);
        }))
        return;
    auto refused = refusalOfKnown(path, derivation);
    insert(refused ? said : warned, plainKeys(outputs));
    if (!refused)
        return;
    auto & plan =
        plans.insert_or_assign(goal, Plan{std::move(*refused), std::move(derivation), nullptr, nullptr}).first->second;
    plan.kept = compat::keepFromOtherMachines(*goal);
    /* The goal can't be made to fail here, because it is running. */
    plan.errand = compat::makeErrand(worker, *goal, [this, &plan, goal = WeakGoal(goal)] { carryOut(plan, goal); });
    worker.wakeUp(plan.errand);
}

void LateRefusal::carryOut(Plan & plan, const WeakGoal & weak)
{
    plan.kept.reset();
    bool isRefused = false;
    guarded([&] {
        auto goal = weak.lock();
        if (!goal || !compat::isAboutToBuild(*goal) || wasWithdrawn(compat::pathOf(*goal), plan.derivation))
            return;
        compat::refuse(*goal, plan.refused.refusal);
        isRefused = true;
        countRefusals(policy, plan.refused.counted);
    });
    if (!isRefused)
        for (auto & output : plan.derivation.outputs)
            said.erase(std::string(output.key));
}

void LateRefusal::outputIsMissing(Store & asked, const std::function<std::string()> & keyOf)
{
    if (isLooking || &asked != &store)
        return;
    isLooking = true;
    Finally done([&] { isLooking = false; });
    guarded([&] { look(keyOf); });
}

} // namespace negative_cache
