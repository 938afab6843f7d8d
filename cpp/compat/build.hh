#pragma once
/* The build of Nix that loads the plugin. */

#include "nix.hh"

namespace negative_cache::compat {

/* Whether Nix calls `nix_plugin_entry` after it has opened the plugin (since 2.22, `initPlugins`); if not, the plugin
   starts itself when it is loaded. */
#if NIX_AT_LEAST(2, 22)
inline constexpr bool nixCallsEntry = true;
#else
inline constexpr bool nixCallsEntry = false;
#endif

/* The version of Determinate Nix in this process, which has the version of the Nix that it is based on as well; empty in
   any other Nix. */
std::string determinateVersion();

/* Whether the Nix of this process is the same build as the one whose headers the plugin was compiled with. Their
   versions are equal; this looks for differences in what the Nix of this process exports. */
bool isSameBuild();

} // namespace negative_cache::compat
