#include "entry.hh"
#include "compat.hh"
#include "primop.hh"
#include "settings.hh"
#include "stores.hh"

#include <iostream>
#include <utility>

namespace negative_cache {

/* A note in the file of this library. It tells the loader which Nix the plugin was built for, before any code of the
   plugin runs. */
#ifdef __ELF__
[[gnu::section(".note.nix-negative-cache")]]
#endif
alignas(4) static constexpr struct
{
    uint32_t nameSize = sizeof name, descriptionSize = sizeof note, type = 1;
    char name[20] = "nix-negative-cache";
    char note[sizeof NIX_NEGATIVE_CACHE_NOTE] = NIX_NEGATIVE_CACHE_NOTE;
} builtFor{};

void enter() noexcept
{
    /* Before 2.22, the plugin enters when it is loaded, and the loader calls this function again. */
    static bool entered = false;
    if (std::exchange(entered, true))
        return;
    try {
        /* Nothing else of Nix may be used before these checks: another build of Nix has other types behind the same
           names. */
        auto running = core::unfit(builtFor.note, nix::nixVersion, compat::determinateVersion());
        if (!running.empty()) {
            std::cerr << "warning: the nix-negative-cache plugin was built for " << NIX_NEGATIVE_CACHE_NIX << ", not for "
                      << running << ", and does nothing\n";
            return;
        }
        if (!compat::isSameBuild()) {
            std::cerr << "warning: the nix-negative-cache plugin was built for another build of " << NIX_NEGATIVE_CACHE_NIX
                      << " than this one, with other parts or changes, and does nothing\n";
            return;
        }
        /* Another copy of the plugin, loaded from another file, is already at work. */
        if (isPrimOpRegistered())
            return;
        bool on = registerSettings();
        registerPrimOp();
        registerStores(on);
    } catch (std::exception & error) {
        std::cerr << "warning: the nix-negative-cache plugin does nothing: " << error.what() << "\n";
    }
}

namespace {

struct LoadTime
{
    LoadTime() noexcept
    {
        if constexpr (!compat::nixCallsEntry)
            enter();
    }
};

[[gnu::used]] LoadTime loadTime;

} // namespace

} // namespace negative_cache
