#pragma once
/* Which Nix this is compiled against. */

/* Whether Nix is at least that release. The number has two releases of three digits each below the major version, see
   build.rs. */
#define NIX_AT_LEAST(major, minor) (NIX_NEGATIVE_CACHE_NIX_VERSION >= (major) *1000000 + (minor) *1000)
