#include "policy.hh"
#include "stores.hh"
#include "settings.hh"

#include <algorithm>
#include <filesystem>
#include <mutex>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace negative_cache {

using namespace nix;

/* The user at the other end of a socket that a client has connected to; nothing if the descriptor is anything else. */
static std::optional<uid_t> peer(int descriptor)
{
    int listens = 1;
    socklen_t size = sizeof listens;
    if (getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == -1 || listens)
        return std::nullopt;
    /* Only the end that a client has connected to has a name. A socket without a name is one that this process connected
       itself, for example for logs. */
    sockaddr_un name{};
    size = sizeof name;
    if (getsockname(descriptor, reinterpret_cast<sockaddr *>(&name), &size) == -1 || name.sun_family != AF_UNIX
        || size <= sizeof(sa_family_t) || !name.sun_path[0])
        return std::nullopt;
#if defined(SO_PEERCRED)
    ucred credentials;
    size = sizeof credentials;
    if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0)
        return credentials.uid;
#else
    uid_t user;
    gid_t group;
    if (getpeereid(descriptor, &user, &group) == 0)
        return user;
#endif
    return std::nullopt;
}

static std::vector<int> openDescriptors()
{
    std::vector<int> descriptors;
    std::error_code error;
    for (std::filesystem::directory_iterator entry("/dev/fd", error), end; !error && entry != end; entry.increment(error))
        if (auto number = string2Int<int>(entry->path().filename().string()))
            descriptors.push_back(*number);
    return descriptors;
}

/* The user who makes requests: the user of this process or, if it serves a client, the client's user. */
static uid_t requestingUser()
{
    if (!servesClients())
        return geteuid();
    /* nix-daemon forks for each client, and serves nobody else in that process. */
    static std::mutex mutex;
    static std::optional<std::pair<pid_t, uid_t>> known;
    std::lock_guard lock(mutex);
    if (!known || known->first != getpid()) {
        known = {getpid(), geteuid()};
        for (int descriptor : openDescriptors())
            if (auto user = peer(descriptor)) {
                known->second = *user;
                break;
            }
    }
    return known->second;
}

static rust::Vec<uint8_t> bytes(const std::string & path)
{
    rust::Vec<uint8_t> bytes;
    std::copy(path.begin(), path.end(), std::back_inserter(bytes));
    return bytes;
}

/* The values of the settings that matter to the core: some of Nix's, and all of the plugin's. */
static rust::Vec<core::SettingValue> relevantSettings()
{
    static const auto relevant = [] {
        StringSet names;
        for (auto & name : core::settings_of_nix())
            names.insert(std::string(name));
        return compat::settingsNamed(
            [=](const std::string & name) { return names.count(name) || hasPrefix(name, settings().prefix()); });
    }();
    rust::Vec<core::SettingValue> values;
    for (auto setting : relevant)
        if (compat::isInForce(*setting))
            values.push_back({setting->name, rust::String::lossy(compat::valueOf(*setting))});
    return values;
}

static rust::Box<core::Policy> policy(Store & store, const DaemonStore * daemon, const std::string & version)
{
    auto [beforeFullLogs, afterFullLogs] = compat::fullLogs();
    return core::new_policy({
        .settings = relevantSettings(),
        .database = bytes(settings().database()),
        .hook = bytes(settings().hook()),
        .asks_daemon = bool(daemon),
        .daemon_decides = daemon && daemon->decides(),
        .served = servesClients(),
        .user = requestingUser(),
        .state_dir = bytes(compat::stateDir(store)),
        .real_store_dir = bytes(compat::realStoreDir(store)),
        .build_dir = bytes(compat::buildDir(store)),
        .nix_version = rust::String::lossy(version),
        .last_log_lines = compat::lastLogLines,
        .log_lines = compat::logLines(),
        .before_full_logs = beforeFullLogs,
        .after_full_logs = afterFullLogs,
    });
}

rust::Box<core::Policy> policyFor(Store & store)
{
    auto daemon = dynamic_cast<DaemonStore *>(&store);
    if (!daemon)
        return policy(store, nullptr, nix::nixVersion);
    /* The daemon's Nix makes the environment of a builder, so its version counts. If the daemon can't be reached, Nix
       will report that itself. */
    std::string version = "unknown";
    try {
        version = store.getVersion().value_or(version);
    } catch (Error &) {
    }
    return policy(store, daemon, version);
}

rust::Box<core::Policy> policyForDaemon(Store & store)
{
    return policy(store, dynamic_cast<DaemonStore *>(&store), "unknown");
}

} // namespace negative_cache
