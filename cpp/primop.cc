#include "primop.hh"
#include "c_api/register.hh"
#include "compat.hh"
#include "guard.hh"
#include "known_failure.hh"

namespace negative_cache {

using namespace nix;

/* The paths by which a failure of the argument can be found: the path of its derivation, and the path of its output as
   far as that is known without the store. */
static rust::Vec<rust::String> pathsOf(EvalState & state, compat::Position position, Value & value)
{
    rust::Vec<rust::String> paths;
    state.forceValue(value, position);
    if (value.type() != nAttrs) {
        paths.push_back(rust::String::lossy(compat::forceString(
            state,
            position,
            value,
            "while evaluating the path of a derivation given to 'builtins.knownFailure'")));
        return paths;
    }
    if (!state.isDerivation(value))
        compat::evaluationError(state, position, "the set given to 'builtins.knownFailure' is not a derivation");
    for (auto name : {"drvPath", "outPath"})
        if (auto path = compat::attribute(state, value, name))
            paths.push_back(rust::String::lossy(compat::forceString(
                state,
                position,
                *path,
                "while evaluating a path of the derivation given to 'builtins.knownFailure'")));
    return paths;
}

static void knownFailureOf(EvalState & state, compat::CallSite callSite, compat::Arguments arguments, Value & value)
{
    auto && position = compat::positionOf(callSite);
    if (compat::isPureEvaluation(state))
        compat::evaluationError(
            state,
            position,
            "'builtins.knownFailure' is not allowed in pure evaluation mode (use '--impure' to override)");
    auto paths = pathsOf(state, position, *arguments[0]);
    value.mkNull();
    auto failure = knownFailure(*state.store, std::move(paths));
    /* Another program may have written anything into the database. */
    if (!failure.empty())
        guarded([&] { parseJSON(state, std::string(failure), value); });
}

static constexpr auto primOpName = "__knownFailure";

bool isPrimOpRegistered()
{
    return compat::hasPrimOp(primOpName);
}

void registerPrimOp()
{
    static constexpr auto argument = "drv";
    static constexpr auto documentation = R"(
          Return what is known of the last failure to build *drv*, a derivation or the path of one: a set with
          `drvPath`, `outPath`, `class`, `exitCode` (or `null`), `reason`, `log`, `attempts`, `firstFailure`,
          `lastFailure` and `believedUntil` (in seconds since 1970; `null` is for ever) and others. It is `null` if *drv*
          is not known to fail, or if its failure is not believed now and here. Not available in pure evaluation mode.

          ```nix
          lib.filterAttrs (_: p: builtins.knownFailure p == null) packages
          ```
        )";
    if (!c_api::registerPrimOp(primOpName, argument, documentation))
        compat::registerPrimOp(primOpName, argument, documentation, knownFailureOf);
}

} // namespace negative_cache
