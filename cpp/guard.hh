#pragma once
/* What goes wrong in the plugin never ends a build: it is a warning, and the build goes on as if the plugin were not there. */

#include "compat.hh"
#include "rust/cxx.h"

#include <exception>

namespace negative_cache {

/* The exception that Nix has thrown while the core asked it something, until it is thrown again. One for each thread. */
std::exception_ptr & keptException();

/* Calls the core. Its own errors come as `rust::Error`, once each. What Nix has thrown on the way comes back unchanged. */
template<typename Call>
auto fromCore(Call && call)
{
    try {
        return call();
    } catch (rust::Error &) {
        if (auto kept = std::exchange(keptException(), nullptr))
            std::rethrow_exception(kept);
        throw;
    }
}

/* Warns of an error: of one of C++ if it is the first in this process. The core does not repeat its own. */
void warnOf(const std::exception & error);

/* Runs `work`; an error is a warning. Being told to stop is none, and passes. */
template<typename Work>
void guarded(Work && work)
{
    try {
        work();
    } catch (nix::Interrupted &) {
        throw;
    } catch (std::exception & error) {
        warnOf(error);
    }
}

/* The same where nothing may be thrown. Nix sees by itself that it was told to stop. */
template<typename Work>
void guardedNoexcept(Work && work) noexcept
{
    try {
        guarded(work);
    } catch (...) {
    }
}

/* What stands in the way of a request, as `decide` finds it out. If it can't, nothing does: Nix meets the same error itself. */
template<typename Decide>
std::invoke_result_t<Decide> decideUnlessItFails(nix::BuildMode mode, Decide && decide)
{
    using namespace nix;
    std::invoke_result_t<Decide> decision{};
    /* A check or a repair asks for a build of what was built before. */
    if (mode == bmNormal)
        guarded([&] {
            try {
                decision = decide();
            } catch (Error & error) {
                debug("negative cache: cannot tell what would be built: %s", error.what());
            }
        });
    return decision;
}

} // namespace negative_cache

/* How exceptions of C++ become errors of Rust (cxx, "Result<T>"): their text goes there, they themselves are kept. */
namespace rust::behavior {

template<typename Try, typename Fail>
static void trycatch(Try && attempt, Fail && fail) noexcept
{
    try {
        attempt();
    } catch (const std::exception & error) {
        negative_cache::keptException() = std::current_exception();
        fail(error.what());
    } catch (...) {
        negative_cache::keptException() = std::current_exception();
        fail("");
    }
}

} // namespace rust::behavior
