#pragma once
/* How builds end, and the last steps of Nix's entry points (`build/entry-points.cc` of each version). */

#include "goals.hh"
#include "store.hh"

namespace negative_cache::compat {

/* How a build that was started ended, as far as the plugin tells endings apart. */
core::Ending ending(const nix::BuildResult & result);

/* The error message of a result; empty if the result is a success. */
std::string errorMessage(const nix::BuildResult & result);

/* The same, as an excerpt (`excerpt` in messages.hh). */
std::string errorExcerpt(const nix::BuildResult & result);

/* The result of a request that failed for a reason that is not the builder's. */
nix::BuildResult miscFailure(const nix::DerivedPath & request, const std::string & message);

/* The error that a goal ended with, or null. Since 2.34 a goal that was never started has an error too, without a message.
   Nix prints that as well. */
nix::Error * errorOf(nix::Goal & goal);

/* The error that a goal ended with, with an exit status, for someone to throw. The goal has an error. */
std::exception_ptr exceptionOf(nix::Goal & goal, unsigned int status);

/* The derivation that the goal of a request stands for, and an excerpt of the error that the goal ended with. Nothing if
   the goal stands for something else, has no error, or was refused. */
std::optional<std::pair<nix::StorePath, std::string>> errorOfRequest(nix::Goal & goal);

/* A request and its goal. The goal is null if it was never started. */
struct Requested
{
    nix::DerivedPath request;
    nix::GoalPtr goal;
};

/* The exit status that a worker asks for. */
unsigned int exitStatus(nix::Worker & worker);

/* What `Store::buildPaths` throws once the goals have run; null if all succeeded. */
std::exception_ptr failureOf(nix::Store & store, const std::vector<Requested> & requested, unsigned int status);

/* What `Store::buildPathsWithResults` does once the goals have run. */
BuildResults collectResults(const std::vector<Requested> & requested);

/* What `Store::buildDerivation` does, with `run` in the place of `Worker::run`. */
nix::BuildResult buildDerivation(
    nix::Worker & worker,
    const nix::StorePath & path,
    const nix::BasicDerivation & derivation,
    nix::BuildMode mode,
    const std::function<void(const nix::Goals &)> & run);

} // namespace negative_cache::compat
