#include "store.hh"

namespace negative_cache::compat {

using namespace nix;

/* The daemon of this machine, as a URL. */
static constexpr auto daemonUrl = "unix://";

/* ---- Which store Nix opens ---- */

static bool daemonListens()
{
#if NIX_AT_LEAST(2, 35)
    if (auto named = getEnvNonEmpty("NIX_DAEMON_SOCKET_PATH"))
        return pathExists(std::filesystem::path(*named));
    return pathExists(std::filesystem::path(settings.nixStateDir) / "daemon-socket" / "socket");
#else
    return pathExists(settings.nixDaemonSocketFile);
#endif
}

/* The store that `auto` stands for. Every version of Nix handles `auto` apart from all other stores (`openStore`, since
   2.30 `resolveStoreConfig`). A user who may write to the state directory owns the store; all others ask the daemon if
   there is one. Empty if Nix still has to make the store. */
static std::string storeOfAuto()
{
    if (access(settings.nixStateDir.c_str(), R_OK | W_OK) == 0)
        return "local";
    if (daemonListens())
        return daemonUrl;
#if NIX_AT_LEAST(2, 18)
    /* A user who may not make /nix has a store at home. Nix makes that store, and says so, when it is first needed. */
    if (!pathExists(settings.nixStateDir) && getuid() != 0 && !getEnv("NIX_STORE_DIR") && !getEnv("NIX_STATE_DIR")) {
#  if NIX_AT_LEAST(2, 34)
        auto root = (getDataDir() / "root").string();
#  elif NIX_AT_LEAST(2, 25)
        auto root = getDataDir() + "/root";
#  else
        auto root = getDataDir() + "/nix/root";
#  endif
        return pathExists(root) ? root : "";
    }
#endif
    return "local";
}

static std::string defaultStore()
{
#if NIX_AT_LEAST(2, 34)
    return settings.storeUri.get().render();
#else
    return settings.storeUri.get();
#endif
}

void setDefaultStore(const std::string & uri)
{
#if NIX_AT_LEAST(2, 34)
    settings.storeUri = StoreReference::parse(uri);
#else
    settings.storeUri = uri;
#endif
}

#if NIX_AT_LEAST(2, 24)
/* These versions look up `local` and paths among the registered stores as well. */
std::optional<std::string> registeredSpelling(const std::string & base, const std::string &, bool isAuto)
{
    return isAuto ? std::optional(base) : std::nullopt;
}
#endif

std::optional<std::string> registeredSpellingOfDefaultStore()
{
    auto uri = defaultStore();
    auto question = uri.find('?');
    auto base = uri.substr(0, question);
    auto parameters = question == std::string::npos ? "" : uri.substr(question + 1);
    bool isAuto = base.empty() || base == "auto";
    if (isAuto) {
        /* What `auto` stands for also depends on `?state=`. */
        if (!parameters.empty())
            return std::nullopt;
        base = storeOfAuto();
        if (base.empty())
            return std::nullopt;
    }
    return registeredSpelling(base, parameters, isAuto);
}

/* ---- Where stores are ---- */

std::string stateDir(Store & store)
{
    auto local = dynamic_cast<LocalFSStore *>(&store);
#if NIX_AT_LEAST(2, 34)
    return local ? local->config.stateDir.get().string() : settings.nixStateDir.string();
#elif NIX_AT_LEAST(2, 30)
    return local ? local->config.stateDir.get() : settings.nixStateDir;
#else
    return local ? local->stateDir.get() : settings.nixStateDir;
#endif
}

std::string realStoreDir(Store & store)
{
    auto local = dynamic_cast<LocalFSStore *>(&store);
#if NIX_AT_LEAST(2, 34)
    return local ? local->config.realStoreDir.get().string() : store.storeDir;
#elif NIX_AT_LEAST(2, 30)
    return local ? local->config.realStoreDir.get() : settings.nixStore;
#else
    return local ? local->realStoreDir.get() : settings.nixStore;
#endif
}

std::string buildDir([[maybe_unused]] Store & store)
{
#if NIX_AT_LEAST(2, 30)
    if (auto local = dynamic_cast<LocalStore *>(&store))
        return std::filesystem::path(local->config->getBuildDir()).string();
    return stateDir(store) + "/builds";
#elif NIX_AT_LEAST(2, 24)
    return settings.buildDir.get().value_or(defaultTempDir());
#else
    return getEnv("TMPDIR").value_or("/tmp");
#endif
}

/* ---- What stores are asked ---- */

MissingPaths queryMissing(Store & store, const std::vector<DerivedPath> & requests)
{
#if NIX_AT_LEAST(2, 30)
    auto missing = store.queryMissing(requests);
    return {std::move(missing.willBuild), std::move(missing.willSubstitute), std::move(missing.unknown)};
#else
    MissingPaths missing;
    uint64_t downloadSize, narSize;
    store.queryMissing(requests, missing.willBuild, missing.willSubstitute, missing.unknown, downloadSize, narSize);
    return missing;
#endif
}

} // namespace negative_cache::compat
