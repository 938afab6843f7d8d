#pragma once
/* The parts of the evaluator that a primop uses. */

#include "nix.hh"

namespace negative_cache::compat {

#if NIX_AT_LEAST(2, 26)
using Position = const nix::PosIdx;
#else
using Position = const nix::Pos &;
#endif

/* Adds `builtins.<name>`, a function of one argument. */
void registerPrimOp(
    const char * name,
    const char * argument,
    const char * documentation,
    void (*function)(nix::EvalState & state, Position position, nix::Value ** arguments, nix::Value & value));

/* Whether a primop of this name is already registered for the evaluators that will be made. */
bool hasPrimOp(const char * name);

bool isPureEvaluation(nix::EvalState & state);

/* Throws an evaluation error at a position. */
[[noreturn]] void evaluationError(nix::EvalState & state, Position position, const std::string & text);

std::string forceString(nix::EvalState & state, Position position, nix::Value & value, const char * context);

/* The value of an attribute, or null. */
nix::Value * attribute(nix::EvalState & state, nix::Value & set, const char * name);

} // namespace negative_cache::compat
