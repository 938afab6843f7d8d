#pragma once
/* A builder builds for a store. Nix has this class since 2.36. In these versions a store has three virtual functions of its
   own instead, which do the same. */

#include "../nix.hh"

namespace negative_cache::compat {

#if NIX_AT_LEAST(2, 18)
using BuildResults = std::vector<nix::KeyedBuildResult>;
#else
using BuildResults = std::vector<nix::BuildResult>;
#endif

class Builder
{
public:
    virtual void buildPaths(const std::vector<nix::DerivedPath> & requests, nix::BuildMode mode) = 0;

    virtual BuildResults buildPathsWithResults(const std::vector<nix::DerivedPath> & requests, nix::BuildMode mode) = 0;

    virtual nix::BuildResult buildDerivation(
        const nix::StorePath & path,
        const nix::BasicDerivation & derivation,
        nix::BuildMode mode) = 0;

    virtual ~Builder() = default;
};

/* Builds in the same way as `Nixs`, one of Nix's classes of stores. */
template<typename Nixs>
class NixsBuilder : public Builder
{
    Nixs & store;
    const std::shared_ptr<nix::Store> evalStore;

public:
    NixsBuilder(Nixs & store, const std::shared_ptr<nix::Store> & evalStore)
        : store(store)
        , evalStore(evalStore)
    {
    }

    void buildPaths(const std::vector<nix::DerivedPath> & requests, nix::BuildMode mode) override
    {
        store.Nixs::buildPaths(requests, mode, evalStore);
    }

    BuildResults buildPathsWithResults(const std::vector<nix::DerivedPath> & requests, nix::BuildMode mode) override
    {
        return store.Nixs::buildPathsWithResults(requests, mode, evalStore);
    }

    nix::BuildResult buildDerivation(
        const nix::StorePath & path,
        const nix::BasicDerivation & derivation,
        nix::BuildMode mode) override
    {
        return store.Nixs::buildDerivation(path, derivation, mode);
    }
};

/* The functions by which a store builds. The store is derived from `Nixs`, and reads derivations from the store
   `derivations` if that is not null. */
#define NEGATIVE_CACHE_BUILD(Nixs, Builder, derivations)                            \
  void buildPaths(                                                                  \
      const std::vector<nix::DerivedPath> & requests,                               \
      nix::BuildMode mode,                                                          \
      std::shared_ptr<nix::Store> evalStore) override                               \
  {                                                                                 \
    NixsBuilder<Nixs> next(*this, derivations);                                     \
    Builder(*this, derivations, next).buildPaths(requests, mode);                   \
  }                                                                                 \
                                                                                    \
  BuildResults buildPathsWithResults(                                               \
      const std::vector<nix::DerivedPath> & requests,                               \
      nix::BuildMode mode,                                                          \
      std::shared_ptr<nix::Store> evalStore) override                               \
  {                                                                                 \
    NixsBuilder<Nixs> next(*this, derivations);                                     \
    return Builder(*this, derivations, next).buildPathsWithResults(requests, mode); \
  }                                                                                 \
                                                                                    \
  nix::BuildResult buildDerivation(                                                 \
      const nix::StorePath & path,                                                  \
      const nix::BasicDerivation & derivation,                                      \
      nix::BuildMode mode) override                                                 \
  {                                                                                 \
    NixsBuilder<Nixs> next(*this, nullptr);                                         \
    return Builder(*this, nullptr, next).buildDerivation(path, derivation, mode);   \
  }

} // namespace negative_cache::compat
