#pragma once
/* `builtins.knownFailure`. */

namespace negative_cache {

/* Makes it known to every evaluator made from now on. */
void registerPrimOp();

} // namespace negative_cache
