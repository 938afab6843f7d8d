#pragma once

/* How `builtins.knownFailure` is registered by Nix's C API. Nothing of that API is in this header: its types have the names of
   Nix's own, in the global namespace. */

namespace negative_cache::c_api {

/* Adds the function that is written against the C API (src/primop.rs) to every evaluator that is made afterwards. Returns
   whether it did: it can't where the process does not export all of the C API. */
#ifdef NIX_NEGATIVE_CACHE_C_API
bool registerPrimOp(const char * name, const char * argument, const char * documentation);
#else
inline bool registerPrimOp(const char *, const char *, const char *)
{
    return false;
}
#endif

} // namespace negative_cache::c_api
