/* Loaded by Nix as a plugin: while the output ASKED_ABOUT is being built, asks a store of the same thread once what is
   missing of it, and writes to the file ANSWER whether the store says so. */
#if __has_include("config-store.hh")
#  include "config-util.hh"
#  include "config-store.hh"
#elif __has_include("config.h")
#  include "config.h"
#endif
#if __has_include("nix/store/store-open.hh")
#  include "nix/store/store-open.hh"
#elif __has_include("nix/store/store-api.hh")
#  include "nix/store/store-api.hh"
#else
#  include "store-api.hh"
#endif
#if __has_include("nix/util/signals.hh")
#  include "nix/util/signals.hh"
#elif __has_include("signals.hh")
#  include "signals.hh"
#endif

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <unistd.h>

/* `interruptCheck` is in `nix::unix`, or in `nix` itself. */
namespace nix {
namespace unix {
}

using namespace unix;
} // namespace nix

/* What neither is valid nor can be had. */
template<typename Store>
static auto unknown(Store & store, const std::vector<nix::DerivedPath> & targets)
    -> decltype(store.queryMissing(targets).unknown)
{
    return store.queryMissing(targets).unknown;
}

template<typename Store, typename... None>
static nix::StorePathSet unknown(Store & store, const std::vector<nix::DerivedPath> & targets, None...)
{
    nix::StorePathSet built, substituted, unknown;
    uint64_t download, unpacked;
    store.queryMissing(targets, built, substituted, unknown, download, unpacked);
    return unknown;
}

static const char * output;

/* Nix looks whether it was interrupted at each turn of the worker's loop. */
static bool isInterrupted()
{
    static bool asked = false;
    /* The output is locked from before its builder starts until it is valid. */
    if (asked || access((std::string(output) + ".lock").c_str(), F_OK) != 0)
        return false;
    asked = true;
    auto store = nix::openStore();
    auto path = store->parseStorePath(output);
    auto missing = unknown(*store, {nix::DerivedPath::Opaque{path}});
    std::ofstream(getenv("ANSWER")) << (missing.count(path) ? "missing" : "not missing");
    return false;
}

[[gnu::constructor]] static void start()
{
    auto variable = getenv("ASKED_ABOUT");
    if (!variable)
        return;
    output = strdup(variable);
    nix::interruptCheck = isInterrupted;
    /* The build hook loads plugins as well, and must not ask. */
    unsetenv("ASKED_ABOUT");
}
