#pragma once
/* Stores: how to make Nix open a plugin's, where their files are, and what they can be asked. */

#include "builder.hh"
#include "nix.hh"

namespace negative_cache::compat {

/* ---- A plugin's stores, which Nix opens instead of its own ---- */

/* The differences from Nix's store are in a plain class `Behaviour`. It is not derived from Nix's class, because each
   class between Nix's and the last one would have its own tables of all virtual functions, which take time to load. Its
   functions have the names of Nix's. For each call that builds, a `Behaviour::Builder` is made, which goes on with a
   `NixsBuilder`. */

#if NIX_AT_LEAST(2, 31)
using LocalStoreParameters = nix::ref<const nix::LocalStoreConfig>;
using DaemonStoreParameters = nix::ref<const nix::UDSRemoteStoreConfig>;
#else
using LocalStoreParameters = nix::Store::Params;

struct DaemonStoreParameters
{
    /* Empty for the default. */
    std::string socket;
    nix::Store::Params parameters;
};
#endif

#if NIX_AT_LEAST(2, 34)
using RealisationCallback = nix::Callback<std::shared_ptr<const nix::UnkeyedRealisation>>;
#else
using RealisationCallback = nix::Callback<std::shared_ptr<const nix::Realisation>>;
#endif

/* `queryMissing` of a store. `behaviour` may leave the question out, and is told the answer. */
#if NIX_AT_LEAST(2, 30)
#  define NEGATIVE_CACHE_QUERY_MISSING(Nixs, behaviour)                                    \
    nix::MissingPaths queryMissing(const std::vector<nix::DerivedPath> & targets) override \
    {                                                                                      \
      if (behaviour::leavesOutMissing())                                                   \
        return {};                                                                         \
      auto missing = Nixs::queryMissing(targets);                                          \
      behaviour::answeredMissing(*this, targets, missing.willBuild, missing.unknown);      \
      return missing;                                                                      \
    }
#else
#  define NEGATIVE_CACHE_QUERY_MISSING(Nixs, behaviour)                                       \
    void queryMissing(                                                                        \
        const std::vector<nix::DerivedPath> & targets,                                        \
        nix::StorePathSet & willBuild,                                                        \
        nix::StorePathSet & willSubstitute,                                                   \
        nix::StorePathSet & unknown,                                                          \
        uint64_t & downloadSize,                                                              \
        uint64_t & narSize) override                                                          \
    {                                                                                         \
      downloadSize = narSize = 0;                                                             \
      if (behaviour::leavesOutMissing())                                                      \
        return;                                                                               \
      Nixs::queryMissing(targets, willBuild, willSubstitute, unknown, downloadSize, narSize); \
      behaviour::answeredMissing(*this, targets, willBuild, unknown);                         \
    }
#endif

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

template<typename Behaviour>
class LocalStoreWith final : public nix::LocalStore, public Behaviour
{
public:
#if NIX_AT_LEAST(2, 31)
    explicit LocalStoreWith(LocalStoreParameters config)
        : nix::Store{*config}
        , nix::LocalFSStore{*config}
        , nix::LocalStore(config)
    {
    }
#else
    explicit LocalStoreWith(const LocalStoreParameters & parameters)
        : nix::StoreConfig(parameters)
        , nix::LocalFSStoreConfig(parameters)
        , nix::LocalStoreConfig(parameters)
        , nix::Store(parameters)
        , nix::LocalFSStore(parameters)
        , nix::LocalStore(parameters)
    {
    }
#endif

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
#if !NIX_AT_LEAST(2, 31)
    const bool isDefault;
#endif

public:
#if NIX_AT_LEAST(2, 31)
    explicit DaemonStoreWith(DaemonStoreParameters config)
        : nix::Store{*config}
        , nix::LocalFSStore{*config}
        , nix::RemoteStore{*config}
        , nix::UDSRemoteStore(config)
    {
    }
#else
    explicit DaemonStoreWith(const DaemonStoreParameters & from)
        : nix::StoreConfig(from.parameters)
        , nix::LocalFSStoreConfig(from.parameters)
        , nix::RemoteStoreConfig(from.parameters)
#  if NIX_AT_LEAST(2, 26)
        , nix::UDSRemoteStoreConfig("unix", from.socket, from.parameters)
#  else
        , nix::UDSRemoteStoreConfig(from.parameters)
#  endif
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
#endif

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

#if NIX_AT_LEAST(2, 34)
/* The path in a URL, as in `Implementations::add`. */
std::filesystem::path pathIn(std::string_view url);
#endif

#if NIX_AT_LEAST(2, 31)

/* Nix makes a configuration of a URL, and the configuration then opens the store. */
template<typename StoreType>
struct LocalStoreConfig : nix::LocalStoreConfig
{
    using Params = nix::StoreReference::Params;

#  if NIX_AT_LEAST(2, 35)
    LocalStoreConfig(std::string_view, std::string_view path, const Params & params)
        : nix::StoreConfig(params, FilePathType::Native)
        , nix::LocalFSStoreConfig(pathIn(path), params)
        , nix::LocalStoreConfig(pathIn(path), params)
    {
    }
#  elif NIX_AT_LEAST(2, 34)
    LocalStoreConfig(std::string_view, std::string_view path, const Params & params)
        : nix::StoreConfig(params)
        , nix::LocalFSStoreConfig(pathIn(path), params)
        , nix::LocalStoreConfig(pathIn(path), params)
    {
    }
#  else
    LocalStoreConfig(std::string_view scheme, std::string_view path, const Params & params)
        : nix::StoreConfig(params)
        , nix::LocalFSStoreConfig(path, params)
        , nix::LocalStoreConfig(scheme, path, params)
    {
    }
#  endif

    nix::ref<nix::Store> openStore() const override
    {
        return nix::make_ref<StoreType>(LocalStoreParameters(
            std::static_pointer_cast<const nix::LocalStoreConfig>(nix::LocalStoreConfig::shared_from_this())));
    }
};

template<typename StoreType>
struct DaemonStoreConfig : nix::UDSRemoteStoreConfig
{
    using Params = nix::StoreReference::Params;

#  if NIX_AT_LEAST(2, 35)
    DaemonStoreConfig(std::string_view, std::string_view path, const Params & params)
        : nix::StoreConfig(params, nix::StoreConfigBase::FilePathType::Native)
        , nix::LocalFSStoreConfig(params)
        , nix::RemoteStoreConfig(params, nix::StoreConfigBase::FilePathType::Native)
        , nix::UDSRemoteStoreConfig(pathIn(path), params)
    {
    }
#  elif NIX_AT_LEAST(2, 34)
    DaemonStoreConfig(std::string_view, std::string_view path, const Params & params)
        : nix::StoreConfig(params)
        , nix::LocalFSStoreConfig(params)
        , nix::RemoteStoreConfig(params)
        , nix::UDSRemoteStoreConfig(pathIn(path), params)
    {
    }
#  else
    DaemonStoreConfig(std::string_view scheme, std::string_view path, const Params & params)
        : nix::StoreConfig(params)
        , nix::LocalFSStoreConfig(params)
        , nix::RemoteStoreConfig(params)
        , nix::UDSRemoteStoreConfig(scheme, path, params)
    {
    }
#  endif

    nix::ref<nix::Store> openStore() const override
    {
        return nix::make_ref<StoreType>(DaemonStoreParameters(
            std::static_pointer_cast<const nix::UDSRemoteStoreConfig>(nix::UDSRemoteStoreConfig::shared_from_this())));
    }
};

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

#else

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
#  if NIX_AT_LEAST(2, 26)
            return std::make_shared<nix::UDSRemoteStoreConfig>("unix", "", nix::StringMap{});
#  else
            return std::make_shared<nix::UDSRemoteStoreConfig>(nix::StringMap{});
#  endif
        },
    });
}

#endif

/* Whether `local` URLs are known to Nix without the plugin. If not, `replaceLocalStore` must be called even if the
   plugin is off: other processes that load the plugin (the build hook) are told to open the store by a URL that only
   `replaceLocalStore` makes known. */
#if NIX_AT_LEAST(2, 26)
inline constexpr bool localUrlsAreNixs = true;
#else
inline constexpr bool localUrlsAreNixs = false;
#endif

/* The store that Nix opens if none is named, spelled so that Nix looks it up among the registered implementations.
   Nothing if Nix does so anyway, or if it is neither a local store nor the daemon. */
std::optional<std::string> registeredSpellingOfDefaultStore();

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
