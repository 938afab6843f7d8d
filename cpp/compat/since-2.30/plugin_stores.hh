#pragma once
/* A plugin's stores, which Nix opens instead of its own. */

#include "builder.hh"
#include "../nix.hh"
#include "store_config.hh"

namespace negative_cache::compat {

/* The differences from Nix's store are in a plain class `Behaviour`. It is not derived from Nix's class, because each
   class between Nix's and the last one would have its own tables of all virtual functions, which take time to load. Its
   functions have the names of Nix's. Builds go through a `Behaviour::Builder`, which goes on with Nix's own builder. */

#if NIX_AT_LEAST(2, 34)
using RealisationCallback = nix::Callback<std::shared_ptr<const nix::UnkeyedRealisation>>;
#else
using RealisationCallback = nix::Callback<std::shared_ptr<const nix::Realisation>>;
#endif

/* Whether `Store::queryMissing` makes the store remember that the paths to substitute are missing. After that, the store
   would not be asked for such a path when a goal has locked it (`LateRefusal`), so it is made to forget that. */
constexpr bool remembersWhatWillBeSubstituted = IS_DETERMINATE_NIX;

/* `queryMissing` of a store. `behaviour` may have Nix answer for other requests. If it does not, it is told the answer. */
#define NEGATIVE_CACHE_QUERY_MISSING(Nixs, behaviour)                                    \
  nix::MissingPaths queryMissing(const std::vector<nix::DerivedPath> & targets) override \
  {                                                                                      \
    auto askNix = [&](auto & targets) {                                                  \
  auto missing = Nixs::queryMissing(targets);                                            \
  if constexpr (remembersWhatWillBeSubstituted)                                          \
    for (auto & path : missing.willSubstitute)                                           \
      this->invalidatePathInfoCacheFor(path);                                            \
  return missing;                                                                        \
    };                                                                                   \
    if (auto asked = behaviour::askedInstead(*this, targets))                            \
      return asked->empty() ? nix::MissingPaths{} : askNix(*asked);                      \
    auto missing = askNix(targets);                                                      \
    behaviour::answeredMissing(*this, targets, missing.willBuild, missing.unknown);      \
    return missing;                                                                      \
  }

template<typename Behaviour>
class LocalStoreWith final : public nix::LocalStore, public Behaviour
{
public:
    explicit LocalStoreWith(LocalStoreParameters config)
        : nix::Store{*config}
        , nix::LocalFSStore{*config}
        , nix::LocalStore(config)
    {
    }

    NEGATIVE_CACHE_BUILD(nix::LocalStore, typename Behaviour::Builder, evalStore)

    NEGATIVE_CACHE_QUERY_MISSING(nix::LocalStore, Behaviour)

    bool isValidPathUncached(const nix::StorePath & path) override
    {
        return Behaviour::isValidPath(*this, path, nix::LocalStore::isValidPathUncached(path));
    }

    void queryRealisationUncached(const nix::DrvOutput & id, RealisationCallback callback) noexcept override
    {
        nix::LocalStore::queryRealisationUncached(id, std::move(callback));
        Behaviour::askedForRealisation(*this, id);
    }
};

template<typename Behaviour>
class DaemonStoreWith final : public nix::UDSRemoteStore, public Behaviour
{
public:
    explicit DaemonStoreWith(DaemonStoreParameters config)
        : nix::Store{*config}
        , nix::LocalFSStore{*config}
        , nix::RemoteStore{*config}
        , nix::UDSRemoteStore(config)
    {
    }

    /* Daemons of Nix 2.7 and older are asked for one request at a time, for which Nix needs a store to read derivations
       from. */
    NEGATIVE_CACHE_BUILD(
        nix::UDSRemoteStore,
        typename Behaviour::Builder,
        evalStore ? evalStore : nix::Store::shared_from_this())

    NEGATIVE_CACHE_QUERY_MISSING(nix::UDSRemoteStore, Behaviour)

protected:
    void setOptions(nix::RemoteStore::Connection & connection) override
    {
        Behaviour::setOptions(
            *this,
            connection,
            [&] { nix::UDSRemoteStore::setOptions(connection); },
            [&] { this->initConnection(connection); });
    }
};

#undef NEGATIVE_CACHE_BUILD
#undef NEGATIVE_CACHE_QUERY_MISSING

/* ---- Making Nix open them ---- */

/* Makes `ConfigType` the configuration that Nix makes of URLs with its scheme. */
template<typename ConfigType>
void replaceConfig()
{
    auto & registered = nix::Implementations::registered();
    auto found = registered.find(ConfigType::name());
    if (found != registered.end())
        found->second.parseConfig = [](auto scheme, auto path, auto & params) -> nix::ref<nix::StoreConfig> {
            return nix::make_ref<ConfigType>(scheme, path, params);
        };
}

/* Makes `StoreType` the store of every `local` URL. */
template<typename StoreType>
void replaceLocalStore()
{
    replaceConfig<LocalStoreConfig<StoreType>>();
}

/* Makes `StoreType` the store of every `unix` URL. */
template<typename StoreType>
void replaceDaemonStore()
{
    replaceConfig<DaemonStoreConfig<StoreType>>();
}

} // namespace negative_cache::compat
