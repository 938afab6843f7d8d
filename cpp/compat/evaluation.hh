#pragma once
/* The parts of the evaluator that a primop uses. */

#include "nix.hh"

namespace negative_cache::compat {

#if NIX_AT_LEAST(2, 18)
using Position = const nix::PosIdx;
#else
using Position = const nix::Pos &;
#endif

/* The parameters of a primop: where it is called, and its arguments. */
#if NIX_AT_LEAST(2, 36)
using CallSite = nix::CallSite;
using Arguments = nix::Value * const *;
#else
using CallSite = Position;
using Arguments = nix::Value **;
#endif

/* The position of a call. Since 2.36 Nix adds it to errors by itself. */
inline Position positionOf([[maybe_unused]] CallSite callSite)
{
#if NIX_AT_LEAST(2, 36)
    return nix::noPos;
#else
    return callSite;
#endif
}

/* Adds `builtins.<name>`, a function of one argument. */
void registerPrimOp(
    const char * name,
    const char * argument,
    const char * documentation,
    void (*function)(nix::EvalState & state, CallSite callSite, Arguments arguments, nix::Value & value));

/* Whether a primop of this name is already registered for the evaluators that will be made. */
bool hasPrimOp(const char * name);

bool isPureEvaluation(nix::EvalState & state);

/* Throws an evaluation error at a position. */
[[noreturn]] void evaluationError(nix::EvalState & state, Position position, const std::string & text);

std::string forceString(nix::EvalState & state, Position position, nix::Value & value, const char * context);

/* The value of an attribute, or null. */
nix::Value * attribute(nix::EvalState & state, nix::Value & set, const char * name);

} // namespace negative_cache::compat
