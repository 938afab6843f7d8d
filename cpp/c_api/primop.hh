#pragma once
/* What `builtins.knownFailure` needs besides the C API of Nix (src/primop.rs):

   - The C API has no way from an evaluator to its store and settings. `nix_store_open` opens another store, which need not
     be the one that the evaluator was made for (`--eval-store`), and `nix_setting_get` reads the settings of the process, not
     those of the evaluator.
   - The C API keeps only the text of an error. Nix would raise every error of an argument as an `EvalError`, which
     `builtins.tryEval` does not catch, and an interrupt as well. So the functions that evaluate are called from here, and an
     exception is kept until Rust has returned. */

#include <nix_api_expr.h>
#include <nix_api_value.h>

#include "guard.hh"
#include "rust/cxx.h"

#include <cstddef>

namespace negative_cache::c_api {

/* Whether the evaluator is in pure evaluation mode. */
bool is_pure(::EvalState * state);

/* What is known of a failure, as JSON; see `knownFailure`. */
rust::String known_failure(::EvalState * state, const rust::Vec<rust::String> & paths);

/* Calls `nix_value_force`, whose address is `function`. Throws what Nix throws. */
void force(size_t function, ::EvalState * state, nix_value * value);

/* Calls `nix_get_attr_byname`, whose address is `function`. Throws what Nix throws. */
nix_value * attribute(size_t function, const nix_value * set, ::EvalState * state, const char * name);

} // namespace negative_cache::c_api
