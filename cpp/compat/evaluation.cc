#include "evaluation.hh"
#include "exported.hh"

#include <algorithm>

namespace negative_cache::compat {

using namespace nix;

void registerPrimOp(
    const char * name,
    const char * argument,
    const char * documentation,
    void (*function)(EvalState & state, CallSite callSite, Arguments arguments, Value & value))
{
    /* Only the constructor matters: it adds the primop to the list from which each new EvalState takes its primops. */
    RegisterPrimOp({
        .name = name, .args = {argument}, .doc = documentation,
#if NIX_AT_LEAST(2, 34)
        .impl = function,
#else
        .fun = function,
#endif
    });
}

bool hasPrimOp(const char * name)
{
#if NIX_AT_LEAST(2, 34)
    auto * all = &RegisterPrimOp::primOps();
#elif NIX_AT_LEAST(2, 30)
    auto * all = &exportedVariable<RegisterPrimOp::PrimOps>("_ZZN3nix14RegisterPrimOp7primOpsEvE7primOps");
#else
    auto * all = RegisterPrimOp::primOps;
#endif
    return all && std::any_of(all->begin(), all->end(), [&](auto & primOp) { return primOp.name == name; });
}

bool isPureEvaluation([[maybe_unused]] EvalState & state)
{
#if NIX_AT_LEAST(2, 24)
    return state.settings.pureEval;
#else
    return evalSettings.pureEval;
#endif
}

void evaluationError([[maybe_unused]] EvalState & state, Position position, const std::string & text)
{
#if NIX_AT_LEAST(2, 24)
    state.error<EvalError>("%s", Uncolored(text)).atPos(position).debugThrow();
#elif NIX_AT_LEAST(2, 18)
    throw EvalError({.msg = hintfmt("%s", normaltxt(text)), .errPos = state.positions[position]});
#else
    throw EvalError({.msg = hintfmt("%s", normaltxt(text)), .errPos = position});
#endif
}

std::string forceString(EvalState & state, Position position, Value & value, [[maybe_unused]] const char * context)
{
#if NIX_AT_LEAST(2, 18)
    return std::string(state.forceString(value, position, context));
#else
    return std::string(state.forceString(value, position));
#endif
}

Value * attribute(EvalState & state, Value & set, const char * name)
{
#if NIX_AT_LEAST(2, 24)
    auto found = set.attrs()->get(state.symbols.create(name));
#else
    auto found = set.attrs->get(state.symbols.create(name));
#endif
    return found ? found->value : nullptr;
}

} // namespace negative_cache::compat
