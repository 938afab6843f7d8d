#pragma once
/* Goals as coroutines (since 2.23 or so). */

#include "nix.hh"

namespace negative_cache::compat {

struct CoroutineOfGoal : nix::Goal
{
    static auto member()
    {
        return &CoroutineOfGoal::top_co;
    }
};

/* Makes a goal go on with another coroutine when it is woken next. The coroutine is set up as in the constructor of
   `Goal`. */
inline void continueWith(nix::Goal & goal, nix::Goal::Co && next)
{
    auto & coroutine = goal.*CoroutineOfGoal::member();
    next.handle.promise().goal = &goal;
    coroutine.reset();
    coroutine.emplace(std::move(next));
}

} // namespace negative_cache::compat
