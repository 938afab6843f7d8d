#include "c_api/primop.hh"
#include "c_api/register.hh"
#include "compat.hh"
#include "known_failure.hh"

/* Says what the evaluator of the C API is made of. */
#include <nix_api_expr_internal.h>

#include "nix-negative-cache-plugin/src/primop.rs.h"

namespace negative_cache::c_api {

bool is_pure(::EvalState * state)
{
    return compat::isPureEvaluation(state->state);
}

rust::String known_failure(::EvalState * state, const rust::Vec<rust::String> & paths)
{
    return knownFailure(*state->state.store, paths);
}

/* Without a context, the functions of the C API throw. */

void force(size_t function, ::EvalState * state, nix_value * value)
{
    reinterpret_cast<decltype(&nix_value_force)>(function)(nullptr, state, value);
}

nix_value * attribute(size_t function, const nix_value * set, ::EvalState * state, const char * name)
{
    return reinterpret_cast<decltype(&nix_get_attr_byname)>(function)(nullptr, set, state, name);
}

bool registerPrimOp(const char * name, const char * argument, const char * documentation)
{
    using namespace nix;
    bool registered = register_primop(name, argument, documentation);
    debug("negative cache: 'builtins.knownFailure' is the one for the %s API", registered ? "C" : "C++");
    return registered;
}

} // namespace negative_cache::c_api

/* What Nix calls for `builtins.knownFailure`. */
extern "C" void negative_cache_known_failure(
    void *,
    nix_c_context * context,
    EvalState * state,
    nix_value ** arguments,
    nix_value * result)
{
    using namespace negative_cache;
    try {
        fromCore([&] { c_api::known_failure_of(context, state, arguments[0], result); });
    } catch (rust::Error & error) {
        warnOf(error);
    }
}
