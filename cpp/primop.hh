#pragma once

/* `builtins.knownFailure`. */

namespace negative_cache {

/* Adds it to every evaluator that is made afterwards. */
void registerPrimOp();

/* Whether this or another copy of the plugin has done so. */
bool isPrimOpRegistered();

} // namespace negative_cache
