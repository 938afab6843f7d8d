#include "stores.hh"
#include "build_plan.hh"
#include "caches.hh"
#include "guard.hh"
#include "late_refusal.hh"
#include "local_builder.hh"
#include "policy.hh"
#include "remote_builder.hh"
#include "settings.hh"

namespace negative_cache {

using namespace nix;

/* Asks binary caches about the derivation with this hash part and all that would be built for it, if the store has it. */
static void fetch(nix::LocalStore & store, const core::Policy & policy, const std::string & hashPart)
{
    auto path = store.queryPathFromHashPart(hashPart);
    if (!path || !path->isDerivation())
        return;
    std::vector<DerivedPath> requests{compat::requestFor(*path)};
    BuildPlan plan(store, requests);
    Caches caches(store, policy);
    fromCore([&] { return core::learn_all(policy, plan, caches); });
}

bool negative_cache::LocalStore::isValidPath(nix::LocalStore & store, const StorePath & path, bool valid)
{
    if (valid || !settings().isOn())
        return valid;
    auto text = path.to_string();
    if (rust::Str name(text.data(), text.size()); core::is_message(name)) {
        bool isYes = false;
        guarded([&] {
            auto policy = policyFor(store);
            if (auto hashPart = core::derivation_to_fetch(name); !hashPart.empty())
                fetch(store, *policy, std::string(hashPart));
            isYes = core::hear(*policy, store.storeDir, std::string(text));
        });
        return isYes;
    }
    if (auto lateRefusal = LateRefusal::current())
        lateRefusal->outputIsMissing(store, [&] { return store.printStorePath(path); });
    return valid;
}

void negative_cache::LocalStore::askedForRealisation(nix::LocalStore & store, const DrvOutput & id) noexcept
{
    if (auto lateRefusal = LateRefusal::current())
        guardedNoexcept([&] { lateRefusal->outputIsMissing(store, [&] { return id.to_string(); }); });
}

void DaemonStore::setOptions(
    RemoteStore & store,
    RemoteStore::Connection & connection,
    const std::function<void()> & setNixs,
    const std::function<void()> & startAgain)
{
    if ((!negative_cache::settings().isOn() && !isSwitchedOff()) || rejectsMessages)
        return setNixs();
    {
        [[maybe_unused]] compat::PluginsStayHere here;
        setNixs();
    }
    /* The plugin's options are not sent as Nix's settings: the daemon accepts them from nobody in that way, and
       complains if the user is not trusted. They are sent as messages, of which the first one is a greeting. */
    bool isGreeting = true;
    for (auto & message : core::messages_to_daemon(*policyForDaemon(store))) {
        auto isValid = compat::askValidity(connection, store.storeDir + "/" + std::string(message));
        if (!isValid) {
            rejectsMessages = true;
            compat::reconnect(store, connection);
            return startAgain();
        }
        /* A daemon may have been restarted, with the plugin or without it, since the last connection. */
        if (std::exchange(isGreeting, false))
            hasPlugin = *isValid;
    }
}

void registerStores(bool on)
{
    if (on || !compat::localUrlsAreNixs)
        compat::replaceLocalStore<compat::LocalStoreWith<LocalStore>>();
    if (on || isSwitchedOff())
        compat::replaceDaemonStore<compat::DaemonStoreWith<DaemonStore>>();
    auto registered = on || isSwitchedOff() ? compat::registeredSpellingOfDefaultStore() : std::nullopt;
    /* A plugin that is switched off only tells that to a daemon, and does nothing else. */
    if (registered && (on || hasPrefix(*registered, "unix://")))
        compat::setDefaultStore(*registered);
}

} // namespace negative_cache
