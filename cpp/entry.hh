#pragma once
/* How the plugin starts. */

namespace negative_cache {

/* Registers everything. Called once, by Nix or when the plugin is loaded; never throws. */
void enter() noexcept;

} // namespace negative_cache
