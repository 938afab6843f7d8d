#include "build.hh"

#include <dlfcn.h>
#ifdef __GLIBC__
#  include <link.h>
#endif

namespace negative_cache::compat {

using namespace nix;

/* With and without Boehm's garbage collector, the evaluator has other types. */
#if (defined(HAVE_BOEHMGC) && HAVE_BOEHMGC) || (defined(NIX_USE_BOEHMGC) && NIX_USE_BOEHMGC)
static constexpr bool collectsGarbage = true;
#else
static constexpr bool collectsGarbage = false;
#endif

bool isSameBuild()
{
    if ((dlsym(RTLD_DEFAULT, "GC_malloc") != nullptr) != collectsGarbage)
        return false;
#ifdef __GLIBC__
    /* Who changes Nix adds settings, mostly. */
    Dl_info found;
    void * symbol = nullptr;
    if (dladdr1(&settings, &found, &symbol, RTLD_DL_SYMENT) && symbol && found.dli_saddr == &settings
        && static_cast<ElfW(Sym) *>(symbol)->st_size != sizeof(settings))
        return false;
#endif
    return true;
}

} // namespace negative_cache::compat
