#include "build.hh"

#include <cstdint>
#include <dlfcn.h>
#ifdef __GLIBC__
#  include <link.h>
#  include <string_view>
#endif

namespace negative_cache::compat {

using namespace nix;

/* With and without Boehm's garbage collector, the evaluator has other types. */
#if (defined(HAVE_BOEHMGC) && HAVE_BOEHMGC) || (defined(NIX_USE_BOEHMGC) && NIX_USE_BOEHMGC)
static constexpr bool collectsGarbage = true;
#else
static constexpr bool collectsGarbage = false;
#endif

#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 35)
/* How large the variable is that a library exports by this name, at this address; 0 if it can't be told. Found by its hash
   (DT_GNU_HASH), while `dladdr1` looks at all that the library exports: half a million instructions for Nix's. */
static size_t exportedSize(const void * address, std::string_view name)
{
    dl_find_object object;
    if (_dl_find_object(const_cast<void *>(address), &object) != 0)
        return 0;
    auto library = object.dlfo_link_map;
    const uint32_t * table = nullptr;
    const ElfW(Sym) * symbols = nullptr;
    const char * names = nullptr;
    for (auto entry = library->l_ld; entry->d_tag != DT_NULL; ++entry) {
        /* glibc puts addresses there, but not on all architectures. */
        auto value = entry->d_un.d_ptr;
        auto start = value < library->l_addr ? library->l_addr + value : value;
        if (entry->d_tag == DT_GNU_HASH)
            table = reinterpret_cast<const uint32_t *>(start);
        else if (entry->d_tag == DT_SYMTAB)
            symbols = reinterpret_cast<const ElfW(Sym) *>(start);
        else if (entry->d_tag == DT_STRTAB)
            names = reinterpret_cast<const char *>(start);
    }
    if (!table || !symbols || !names || table[0] == 0)
        return 0;
    uint32_t hash = 5381;
    for (unsigned char c : name)
        hash = hash * 33 + c;
    auto count = table[0], first = table[1], words = table[2];
    auto buckets = table + 4 + words * (sizeof(ElfW(Addr)) / sizeof(*table));
    auto hashes = buckets + count;
    auto place = buckets[hash % count];
    if (place < first)
        return 0;
    /* The lowest bit says that it is the last one of its bucket. */
    for (;; ++place) {
        auto found = hashes[place - first];
        if ((found | 1) == (hash | 1) && name == names + symbols[place].st_name)
            return symbols[place].st_size;
        if (found & 1)
            return 0;
    }
}
#endif

bool isSameBuild()
{
    if ((dlsym(RTLD_DEFAULT, "GC_malloc") != nullptr) != collectsGarbage)
        return false;
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 35)
    /* Who changes Nix adds settings, mostly. */
    auto size = exportedSize(&settings, "_ZN3nix8settingsE");
    if (size != 0 && size != sizeof(settings))
        return false;
#endif
    return true;
}

} // namespace negative_cache::compat
