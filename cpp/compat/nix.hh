#pragma once
/* Nix's headers. */

#include "version.hh"

#if NIX_AT_LEAST(2, 31)
#  include "nix/store/build/derivation-trampoline-goal.hh"
#endif
#if NIX_AT_LEAST(2, 30)
#  include "nix/store/build/derivation-building-goal.hh"
#  include "nix/store/build/derivation-goal.hh"
#  include "nix/store/store-open.hh"
#  include "nix/store/store-registration.hh"
#  if __linux__
#    include "nix/util/linux-namespaces.hh"
#  endif
#elif NIX_AT_LEAST(2, 28)
#  include "nix/store/build/derivation-goal.hh"
#  include "nix/store/build/local-derivation-goal.hh"
#endif

#if NIX_AT_LEAST(2, 28)
#  include "nix/expr/eval-inline.hh"
#  include "nix/expr/eval-settings.hh"
#  include "nix/expr/eval.hh"
#  include "nix/expr/json-to-value.hh"
#  include "nix/expr/primops.hh"
#  include "nix/store/build/substitution-goal.hh"
#  include "nix/store/build/worker.hh"
#  include "nix/store/derivations.hh"
#  include "nix/store/filetransfer.hh"
#  include "nix/store/globals.hh"
#  include "nix/store/http-binary-cache-store.hh"
#  include "nix/store/local-store.hh"
#  include "nix/store/nar-info-disk-cache.hh"
#  include "nix/store/nar-info.hh"
#  include "nix/store/outputs-spec.hh"
#  include "nix/store/pathlocks.hh"
#  include "nix/store/realisation.hh"
#  include "nix/store/remote-store-connection.hh"
#  include "nix/store/sqlite.hh"
#  include "nix/store/store-api.hh"
#  include "nix/store/uds-remote-store.hh"
#  include "nix/store/worker-protocol.hh"
#  include "nix/util/callback.hh"
#  include "nix/util/compression.hh"
#  include "nix/util/config-global.hh"
#  include "nix/util/configuration.hh"
#  include "nix/util/environment-variables.hh"
#  include "nix/util/file-system.hh"
#  include "nix/util/finally.hh"
#  include "nix/util/logging.hh"
#  include "nix/util/processes.hh"
#  include "nix/util/signals.hh"
#  include "nix/util/terminal.hh"
#  include "nix/util/url.hh"
#  include "nix/util/users.hh"
#  include "nix/util/util.hh"
#else
#  if NIX_AT_LEAST(2, 26)
#    include "config-util.hh"
#    include "config-store.hh"
#    include "config-main.hh"
#    include "config-expr.hh"
#  elif NIX_AT_LEAST(2, 18)
/* Nothing else includes it, and it decides on the layout of types. */
#    include "config.h"
#  endif
#  if NIX_AT_LEAST(2, 24)
#    include "config-global.hh"
#    include "processes.hh"
#    include "remote-store-connection.hh"
#    include "signals.hh"
#    include "terminal.hh"
#  endif
#  if NIX_AT_LEAST(2, 18)
#    include "eval-settings.hh"
#    include "outputs-spec.hh"
#  endif
/* In this order: the headers of 2.8 rely on it. */
#  include <future>
#  include <thread>
#  include "build/worker.hh"
#  include "build/derivation-goal.hh"
#  if !NIX_AT_LEAST(2, 24) || NIX_AT_LEAST(2, 26)
#    include "build/local-derivation-goal.hh"
#  endif
#  include "build/substitution-goal.hh"

#  include "callback.hh"
#  include "compression.hh"
#  include "config.hh"
#  include "derivations.hh"
#  include "eval.hh"
#  include "eval-inline.hh"
#  include "filetransfer.hh"
#  include "globals.hh"
#  include "json-to-value.hh"
#  include "local-store.hh"
#  include "logging.hh"
#  include "nar-info-disk-cache.hh"
#  include "nar-info.hh"
#  include "primops.hh"
#  include "sqlite.hh"
#  include "store-api.hh"
#  include "uds-remote-store.hh"
#  include "url.hh"
#  include "worker-protocol.hh"
#  include "finally.hh"
#  include "util.hh"
#endif

#if NIX_AT_LEAST(2, 24) && !NIX_AT_LEAST(2, 26)
namespace nix {
/* Nix 2.24 installs neither the header of this function (src/libutil/linux/namespaces.hh) nor that of
   `LocalDerivationGoal`. */
bool mountAndPidNamespacesSupported();
} // namespace nix
#endif

#if NIX_AT_LEAST(2, 36)
#  include "nix/store/build.hh"
#  include "nix/store/derivation/resolution.hh"
#endif

#if NIX_AT_LEAST(2, 34)
#  include "nix/store/global-paths.hh"
#  include "nix/store/local-settings.hh"
#  include "nix/store/worker-settings.hh"
#endif

#include <nlohmann/json.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>
