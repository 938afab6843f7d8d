#pragma once
/* An error in the plugin never ends a build: it becomes a warning, and the build goes on as if the plugin were not
   there. */

#include "compat.hh"
#include "rust/cxx.h"

#include <exception>

namespace negative_cache {

/* An exception that Nix threw while the core asked it something. It is kept here until it is thrown again. Each thread
   has its own. */
std::exception_ptr & keptException();

/* Calls the core. The first error of the core itself is thrown as `rust::Error`; the core does not return any after
   that. An exception that Nix threw while the core asked it something is thrown again, unchanged. */
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

/* Turns an error into a warning. Of the errors of C++, only the first one in a process is printed. An error of the core
   is always printed, because the core returns only its first one. */
void warnOf(const std::exception & error);

/* Runs `work`. An error becomes a warning. `Interrupted`, with which Nix tells that it shall stop, is no error and is
   thrown on. */
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

/* The same where nothing may be thrown: in destructors, and in functions of Nix that are `noexcept`. `Interrupted` is dropped
   as well. */
template<typename Work>
void guardedNoexcept(Work && work) noexcept
{
    try {
        guarded(work);
    } catch (...) {
    }
}

/* What `decide` decides about a request. If `decide` fails, nothing is refused: Nix meets the same error by itself. */
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

/* How an exception of C++ becomes an error of Rust (cxx, "Result<T>"). Rust gets its text, and `keptException` keeps the
   exception itself. */
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
