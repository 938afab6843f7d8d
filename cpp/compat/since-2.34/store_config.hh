#pragma once
/* The configurations of a plugin's stores. Nix makes a configuration of a URL, and the configuration then opens the
   store. */

#include "../nix.hh"

namespace negative_cache::compat {

using LocalStoreParameters = nix::ref<const nix::LocalStoreConfig>;
using DaemonStoreParameters = nix::ref<const nix::UDSRemoteStoreConfig>;

/* The path in a URL, as in `Implementations::add`. */
std::filesystem::path pathIn(std::string_view url);

/* The arguments of `nix::StoreConfig`. Since 2.35 it is told which kind of paths a store has. */
#if NIX_AT_LEAST(2, 35)
#  define NEGATIVE_CACHE_STORE_CONFIG(params) (params, nix::StoreConfigBase::FilePathType::Native)
#else
#  define NEGATIVE_CACHE_STORE_CONFIG(params) (params)
#endif

template<typename StoreType>
struct LocalStoreConfig : nix::LocalStoreConfig
{
    using Params = nix::StoreReference::Params;

    LocalStoreConfig(std::string_view, std::string_view path, const Params & params)
        : nix::StoreConfig NEGATIVE_CACHE_STORE_CONFIG(params)
        , nix::LocalFSStoreConfig(pathIn(path), params)
        , nix::LocalStoreConfig(pathIn(path), params)
    {
    }

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

    DaemonStoreConfig(std::string_view, std::string_view path, const Params & params)
        : nix::StoreConfig NEGATIVE_CACHE_STORE_CONFIG(params)
        , nix::LocalFSStoreConfig(params)
        , nix::RemoteStoreConfig NEGATIVE_CACHE_STORE_CONFIG(params)
        , nix::UDSRemoteStoreConfig(pathIn(path), params)
    {
    }

    nix::ref<nix::Store> openStore() const override
    {
        return nix::make_ref<StoreType>(DaemonStoreParameters(
            std::static_pointer_cast<const nix::UDSRemoteStoreConfig>(nix::UDSRemoteStoreConfig::shared_from_this())));
    }
};

#undef NEGATIVE_CACHE_STORE_CONFIG

} // namespace negative_cache::compat
