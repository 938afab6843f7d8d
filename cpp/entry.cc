#include "entry.hh"
#include "compat.hh"
#include "primop.hh"
#include "settings.hh"
#include "store.hh"

#include <iostream>

namespace negative_cache {

void enter() noexcept
{
    try {
        /* Nothing else of Nix may be touched before this: another build of Nix has other types behind the same names. */
        if (nix::nixVersion != NIX_NEGATIVE_CACHE_NIX_VERSION_STRING) {
            std::cerr << "warning: the nix-negative-cache plugin was built for Nix " NIX_NEGATIVE_CACHE_NIX_VERSION_STRING
                         ", not for "
                      << nix::nixVersion << ", and does nothing\n";
            return;
        }
        bool on = registerSettings();
        registerPrimOp();
        registerStore(on);
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
