#pragma once

/* How the plugin starts. */

namespace negative_cache {

/* Registers all parts of the plugin the first time that it is called. Depending on the version, Nix or the loader calls
   it, or it runs while the plugin is loaded. Never throws. */
void enter() noexcept;

} // namespace negative_cache
