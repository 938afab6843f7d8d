#pragma once
/* Derivations, requests for them, and their outputs. */

#include "nix.hh"

namespace negative_cache::compat {

/* The derivation that is requested, if its path is known before anything is built. */
std::optional<nix::StorePath> requestedDerivation(const nix::DerivedPath & request);

/* Whether a request for a derivation wants this output of it. */
bool requests(const nix::DerivedPath & request, const std::string & output);

/* A request for all outputs of a derivation. */
nix::DerivedPath requestFor(const nix::StorePath & derivation);

/* A request for the outputs of a derivation that have these names, of which there is at least one. */
nix::DerivedPath requestFor(const nix::StorePath & derivation, const nix::StringSet & names);

/* The type of a derivation, and its outputs with their paths, as far as those are known. Since 2.36 these are functions
   of templates, because `nix::Derivation` is one. */
#if NIX_AT_LEAST(2, 36)
using nix::derivation::outputsAndOptPaths;

inline auto typeOf(const nix::Derivation & derivation)
{
    return nix::derivation::type(derivation);
}
#else
inline auto outputsAndOptPaths(const nix::BasicDerivation & derivation, const nix::Store & store)
{
    return derivation.outputsAndOptPaths(store);
}

inline auto typeOf(const nix::Derivation & derivation)
{
    return derivation.type();
}
#endif

/* The text of a derivation in the store, if this process can read the file. */
std::optional<std::string> textOf(nix::Store & store, const nix::StorePath & derivation);

/* A derivation without dependencies on other derivations, in the type of those that may have some. */
nix::Derivation fullDerivation(const nix::BasicDerivation & derivation);

inline const nix::Derivation & fullDerivation(const nix::Derivation & derivation)
{
    return derivation;
}

bool isImpure(const nix::Derivation & derivation);

/* The address of the content of a fixed output. By this address, a store with another store directory knows the output. */
std::optional<nix::ContentAddress> fixedAddress(const nix::Derivation & derivation);

/* Whether the outputs of a derivation may be substituted (`allowSubstitutes`). */
bool substitutesAllowed(const nix::Derivation & derivation);

/* Whether a derivation has not opted out of the plugin (`negativeCache = false`, in structured attributes as well). */
bool wantsNegativeCache(const nix::Derivation & derivation);

/* Whether failures of a derivation are not published (`negativeCache = "local"`). */
bool staysOnThisMachine(const nix::Derivation & derivation);

/* Whether the builder of a derivation may use Nix itself. */
bool usesRecursiveNix(const nix::Derivation & derivation);

/* Whether a derivation asks not to be sandboxed (`__noChroot`). */
bool refusesSandbox(const nix::Derivation & derivation);

/* Whether this machine could build a derivation (`max-jobs`, `system`, `requiredSystemFeatures`). */
bool canBuildHere(nix::Store & store, const nix::Derivation & derivation);

/* `derivation` as it will be built: with the outputs of its dependencies in place of the dependencies
   (`Derivation::tryResolve`). Nothing if one of these outputs is not known. */
std::optional<nix::Derivation> resolve(nix::Store & store, const nix::Derivation & derivation);

/* The paths of the outputs that `derivation` needs of other derivations, by the paths of those and the names of the outputs.
   Nothing if one of these paths is not known. */
std::optional<std::map<std::pair<nix::StorePath, std::string>, nix::StorePath>> neededOutputs(
    nix::Store & store,
    const nix::Derivation & derivation);

/* The derivations that `derivation` needs outputs of, as far as they are known before anything is built. */
nix::StorePathSet inputDerivations(const nix::Derivation & derivation);

/* A request for the outputs of `input` that `derivation` needs. */
nix::DerivedPath inputRequest(const nix::Derivation & derivation, const nix::StorePath & input);

/* The identities of the realisations of a derivation's outputs, by the names of the outputs. If two derivations resolve
   to the same one, their identities are only equal after `resolve`. */
std::map<std::string, nix::DrvOutput> realisationsOf(nix::Store & store, const nix::Derivation & derivation);

/* The identity of a realisation, read from the text that its `to_string` returns. */
nix::DrvOutput parseRealisation(const nix::Store & store, const std::string & text);

} // namespace negative_cache::compat
