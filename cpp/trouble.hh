#pragma once
/* What goes wrong in the plugin never ends a build: it is said and the build goes on as if the plugin were not there. */

#include "compat.hh"
#include "nix-negative-cache-plugin/src/lib.rs.h"

#include <atomic>

namespace negative_cache {

/* Warns of what the core could not do; it says so once per process. */
inline void report(const rust::String & trouble)
{
    if (!trouble.empty())
        nix::warn("%s", compat::plain(std::string(trouble)));
}

/* An answer of the core, which is no where it can't tell. */
inline bool isYes(const core::Answer & answer)
{
    report(answer.trouble);
    return answer.yes;
}

inline void warnOfFirst(const std::exception & error)
{
    static std::atomic<bool> warned = false;
    if (!warned.exchange(true))
        nix::warn("negative cache: %s", compat::plain(error.what()));
}

/* Runs `work`; the first error in this process is a warning. Being told to stop is none, and passes. */
template<typename Work>
void harmless(Work && work)
{
    try {
        work();
    } catch (nix::Interrupted &) {
        throw;
    } catch (std::exception & error) {
        warnOfFirst(error);
    }
}

/* What stands in the way of a request, as `consult` finds it out. Where it can't, nothing does: Nix meets the same error
   itself. */
template<typename Consult>
std::invoke_result_t<Consult> consultUnlessItFails(nix::BuildMode mode, Consult && consult)
{
    using namespace nix;
    std::invoke_result_t<Consult> answer{};
    /* A check or a repair asks for a build of what was built before. */
    if (mode == bmNormal)
        harmless([&] {
            try {
                answer = consult();
            } catch (Error & error) {
                debug("negative cache: cannot tell what would be built: %s", error.what());
            }
        });
    return answer;
}

} // namespace negative_cache
