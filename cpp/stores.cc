#include "stores.hh"
#include "build_plan.hh"
#include "caches.hh"
#include "guard.hh"
#include "late_refusal.hh"
#include "local_builder.hh"
#include "output_keys.hh"
#include "policy.hh"
#include "remote_builder.hh"
#include "settings.hh"

namespace negative_cache {

using namespace nix;

/* The derivation that a message asks about, if the store has it. */
static std::optional<StorePath> derivationAskedAbout(Store & store, rust::Str message)
{
    std::string hashPart(core::hash_part_asked_about(message));
    auto path = hashPart.empty() ? std::nullopt : store.queryPathFromHashPart(hashPart);
    return path && path->isDerivation() ? path : std::nullopt;
}

/* Asks binary caches about a derivation and all that would be built for it. */
static void fetch(nix::LocalStore & store, const core::Policy & policy, const StorePath & derivation)
{
    std::vector<DerivedPath> requests{compat::requestFor(derivation)};
    BuildPlan plan(store, requests, LastAnswer::of(store, requests).willBuild);
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
            rust::Vec<rust::String> outputs;
            bool isNoFetch = false;
            if (auto derivation = derivationAskedAbout(store, name)) {
                if (core::wants_fetch(name))
                    fetch(store, *policy, *derivation);
                auto asked = planned(store, *derivation, store.readDerivation(*derivation));
                outputs = plainKeys(asked.outputs);
                isNoFetch = !asked.is_fetch;
            }
            isYes = core::hear(*policy, store.storeDir, std::string(text), outputs, isNoFetch);
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
