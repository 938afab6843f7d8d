#pragma once

/* `builtins.knownFailure`. */

namespace negative_cache {

/* Makes it known to every evaluator made from now on. */
void registerPrimOp();

/* Whether this or another copy of the plugin has done so. */
bool isPrimOpRegistered();

} // namespace negative_cache
