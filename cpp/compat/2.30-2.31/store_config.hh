#pragma once
/* The configurations of a plugin's stores. Nix makes a configuration of a URL, and the configuration then opens the
   store. */

#include "../nix.hh"

namespace negative_cache::compat {

using LocalStoreParameters = nix::ref<const nix::LocalStoreConfig>;
using DaemonStoreParameters = nix::ref<const nix::UDSRemoteStoreConfig>;

template<typename StoreType>
struct LocalStoreConfig : nix::LocalStoreConfig
{
    using Params = nix::StoreReference::Params;

    LocalStoreConfig(std::string_view scheme, std::string_view path, const Params & params)
        : nix::StoreConfig(params)
        , nix::LocalFSStoreConfig(path, params)
        , nix::LocalStoreConfig(scheme, path, params)
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

    DaemonStoreConfig(std::string_view scheme, std::string_view path, const Params & params)
        : nix::StoreConfig(params)
        , nix::LocalFSStoreConfig(params)
        , nix::RemoteStoreConfig(params)
        , nix::UDSRemoteStoreConfig(scheme, path, params)
    {
    }

    nix::ref<nix::Store> openStore() const override
    {
        return nix::make_ref<StoreType>(DaemonStoreParameters(
            std::static_pointer_cast<const nix::UDSRemoteStoreConfig>(nix::UDSRemoteStoreConfig::shared_from_this())));
    }
};

} // namespace negative_cache::compat
