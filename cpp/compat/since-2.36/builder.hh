#pragma once
/* A builder builds for a store, which gives it out (`Store::getBuilder`). */

#include "../nix.hh"

namespace negative_cache::compat {

using BuildResults = std::vector<nix::KeyedBuildResult>;

using Builder = nix::Builder;

/* The builder `Ours` together with what it refers to. Whoever asked a store for a builder may keep it for longer than the
   store. */
template<typename Nixs, typename Ours>
class OwningBuilder final : public Ours
{
    const nix::ref<Nixs> store;
    const nix::ref<Builder> nixs;

public:
    OwningBuilder(
        const nix::ref<Nixs> & store,
        const std::shared_ptr<nix::Store> & evalStore,
        const nix::ref<Builder> & nixs)
        : Ours(*store, evalStore, *nixs)
        , store(store)
        , nixs(nixs)
    {
    }
};

/* The function by which a store gives out its builder. The store is derived from `Nixs`, and reads derivations from the
   store `derivations` if that is not null. */
#define NEGATIVE_CACHE_BUILD(Nixs, Ours, derivations)                                \
  nix::ref<nix::Builder> getBuilder(std::shared_ptr<nix::Store> evalStore) override  \
  {                                                                                  \
    auto from = derivations;                                                         \
    return nix::make_ref<OwningBuilder<Nixs, Ours>>(                                 \
        nix::ref<Nixs>(std::shared_ptr<Nixs>(nix::Store::shared_from_this(), this)), \
        from,                                                                        \
        Nixs::getBuilder(from));                                                     \
  }

} // namespace negative_cache::compat
