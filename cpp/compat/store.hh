#pragma once
/* Stores: where their files are, and what they can be asked. */

#include "plugin_stores.hh"

namespace negative_cache::compat {

/* ---- Which store Nix opens ---- */

/* Whether `local` URLs are known to Nix without the plugin. If not, `replaceLocalStore` must be called even if the
   plugin is off: other processes that load the plugin (the build hook) are told to open the store by a URL that only
   `replaceLocalStore` makes known. */
#if NIX_AT_LEAST(2, 24)
inline constexpr bool localUrlsAreNixs = true;
#else
inline constexpr bool localUrlsAreNixs = false;
#endif

/* The store that Nix opens if none is named, spelled so that Nix looks it up among the registered implementations.
   Nothing if Nix does so anyway, or if it is neither a local store nor the daemon. */
std::optional<std::string> registeredSpellingOfDefaultStore();

/* The same for a store that is named by `base` and the `parameters` behind a question mark. `isAuto` tells that `base` is
   what `auto` stands for. */
std::optional<std::string> registeredSpelling(const std::string & base, const std::string & parameters, bool isAuto);

void setDefaultStore(const std::string & uri);

/* ---- Where stores are ---- */

/* The state directory of a store. If the store has none, it is the one of Nix's settings. */
std::string stateDir(nix::Store & store);

/* The directory that has the files of a store. If the store has no files here, it is the store directory. */
std::string realStoreDir(nix::Store & store);

/* The directory that has the directories in which builds of a store run. It may not exist before the first build. For a
   daemon's store it is a guess. */
std::string buildDir(nix::Store & store);

/* ---- Questions to stores ---- */

/* What Nix would have to do for requests (`Store::queryMissing`). */
struct MissingPaths
{
    nix::StorePathSet willBuild, willSubstitute, unknown;
};

MissingPaths queryMissing(nix::Store & store, const std::vector<nix::DerivedPath> & requests);

} // namespace negative_cache::compat
