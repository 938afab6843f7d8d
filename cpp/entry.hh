#pragma once

/* How the plugin starts. */

namespace negative_cache {

/* Registers everything, the first time that it is called: by Nix, the loader, or when the plugin is loaded; never throws. */
void enter() noexcept;

} // namespace negative_cache
