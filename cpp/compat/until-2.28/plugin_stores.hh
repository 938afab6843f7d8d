#pragma once
/* A plugin's stores, which Nix opens instead of its own. */

#include "builder.hh"
#include "../nix.hh"

namespace negative_cache::compat {

/* The differences from Nix's store are in a plain class `Behaviour`. It is not derived from Nix's class, because each
   class between Nix's and the last one would have its own tables of all virtual functions, which take time to load. Its
   functions have the names of Nix's. Builds go through a `Behaviour::Builder`, which goes on with Nix's own builder. */

using LocalStoreParameters = nix::Store::Params;

struct DaemonStoreParameters
{
    /* Empty for the default. */
    std::string socket;
    nix::Store::Params parameters;
};

using RealisationCallback = nix::Callback<std::shared_ptr<const nix::Realisation>>;

/* `queryMissing` of a store. `behaviour` may have Nix answer for other requests. If it does not, it is told the answer. */
#define NEGATIVE_CACHE_QUERY_MISSING(Nixs, behaviour)                                          \
  void queryMissing(                                                                           \
      const std::vector<nix::DerivedPath> & targets,                                           \
      nix::StorePathSet & willBuild,                                                           \
      nix::StorePathSet & willSubstitute,                                                      \
      nix::StorePathSet & unknown,                                                             \
      uint64_t & downloadSize,                                                                 \
      uint64_t & narSize) override                                                             \
  {                                                                                            \
    downloadSize = narSize = 0;                                                                \
    if (auto asked = behaviour::askedInstead(*this, targets)) {                                \
      if (!asked->empty())                                                                     \
        Nixs::queryMissing(*asked, willBuild, willSubstitute, unknown, downloadSize, narSize); \
      return;                                                                                  \
    }                                                                                          \
    Nixs::queryMissing(targets, willBuild, willSubstitute, unknown, downloadSize, narSize);    \
    behaviour::answeredMissing(*this, targets, willBuild, unknown);                            \
  }

template<typename Behaviour>
class LocalStoreWith final : public nix::LocalStore, public Behaviour
{
public:
    explicit LocalStoreWith(const LocalStoreParameters & parameters)
        : nix::StoreConfig(parameters)
        , nix::LocalFSStoreConfig(parameters)
        , nix::LocalStoreConfig(parameters)
        , nix::Store(parameters)
        , nix::LocalFSStore(parameters)
        , nix::LocalStore(parameters)
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
    const bool isDefault;

public:
    explicit DaemonStoreWith(const DaemonStoreParameters & from)
        : nix::StoreConfig(from.parameters)
        , nix::LocalFSStoreConfig(from.parameters)
        , nix::RemoteStoreConfig(from.parameters)
#if NIX_AT_LEAST(2, 24)
        , nix::UDSRemoteStoreConfig("unix", from.socket, from.parameters)
#else
        , nix::UDSRemoteStoreConfig(from.parameters)
#endif
        , nix::Store(from.parameters)
        , nix::LocalFSStore(from.parameters)
        , nix::RemoteStore(from.parameters)
        , nix::UDSRemoteStore(
              "unix",
              from.socket.empty() ? nix::settings.nixDaemonSocketFile : from.socket,
              from.parameters)
        , isDefault(from.socket.empty())
    {
    }

    std::string getUri() override
    {
        return isDefault ? "daemon" : nix::UDSRemoteStore::getUri();
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

/* The first factory for a scheme wins. */
inline void registerFirst(nix::StoreFactory && factory)
{
    using nix::Implementations;
    if (!Implementations::registered)
        Implementations::registered = new std::vector<nix::StoreFactory>();
    Implementations::registered->insert(Implementations::registered->begin(), std::move(factory));
}

/* Makes `StoreType` the store of every `local` URL. */
template<typename StoreType>
void replaceLocalStore()
{
    registerFirst({
        .uriSchemes = {"local"},
        .create = [](auto &&, auto && path, auto params) -> std::shared_ptr<nix::Store> {
            /* The root is a parameter (`local?root=PATH`, in all of these versions) or the path (`local://PATH`, since
               2.20 or so). */
            if (!path.empty())
                params.emplace("root", std::string(path));
            return std::make_shared<StoreType>(params);
        },
        .getConfig = []() -> std::shared_ptr<nix::StoreConfig> {
            return std::make_shared<nix::LocalStoreConfig>(nix::StringMap{});
        },
    });
}

/* Makes `StoreType` the store of every `unix` URL. */
template<typename StoreType>
void replaceDaemonStore()
{
    registerFirst({
        .uriSchemes = {"unix"},
        .create = [](auto &&, auto && path, auto params) -> std::shared_ptr<nix::Store> {
            return std::make_shared<StoreType>(DaemonStoreParameters{std::string(path), params});
        },
        .getConfig = []() -> std::shared_ptr<nix::StoreConfig> {
#if NIX_AT_LEAST(2, 24)
            return std::make_shared<nix::UDSRemoteStoreConfig>("unix", "", nix::StringMap{});
#else
            return std::make_shared<nix::UDSRemoteStoreConfig>(nix::StringMap{});
#endif
        },
    });
}

} // namespace negative_cache::compat
