#pragma once
/* The version of Nix that the plugin is compiled against. */

/* Whether Nix has at least that version. Below the major version, the number has three digits for the minor version and
   three for the patch; see build.rs. */
#define NIX_AT_LEAST(major, minor) (NIX_NEGATIVE_CACHE_NIX_VERSION >= (major) *1000000 + (minor) *1000)

/* Whether it is Determinate Nix, which has some changes of its own and some of a later Nix than it is based on. */
#ifdef NIX_NEGATIVE_CACHE_DETERMINATE_VERSION
#  define IS_DETERMINATE_NIX 1
#else
#  define IS_DETERMINATE_NIX 0
#endif
