#include "build.hh"

#include <cstdint>
#include <dlfcn.h>
#include <filesystem>
#ifdef __GLIBC__
#  include <link.h>
#  include <string_view>
#endif

namespace negative_cache::compat {

using namespace nix;

/* The types of the evaluator depend on whether Nix was built with Boehm's garbage collector. */
#if (defined(HAVE_BOEHMGC) && HAVE_BOEHMGC) || (defined(NIX_USE_BOEHMGC) && NIX_USE_BOEHMGC)
static constexpr bool collectsGarbage = true;
#else
static constexpr bool collectsGarbage = false;
#endif

#ifdef __GLIBC__
/* The symbol that the library at `base` exports under this name, found by its hash (DT_GNU_HASH); null if there is none. */
static const ElfW(Sym) * exported(ElfW(Addr) base, const ElfW(Dyn) * entry, std::string_view name)
{
    const uint32_t * table = nullptr;
    const ElfW(Sym) * symbols = nullptr;
    const char * names = nullptr;
    for (; entry->d_tag != DT_NULL; ++entry) {
        /* On most architectures, glibc has replaced the offsets in this table by addresses. */
        auto value = entry->d_un.d_ptr;
        auto start = value < base ? base + value : value;
        if (entry->d_tag == DT_GNU_HASH)
            table = reinterpret_cast<const uint32_t *>(start);
        else if (entry->d_tag == DT_SYMTAB)
            symbols = reinterpret_cast<const ElfW(Sym) *>(start);
        else if (entry->d_tag == DT_STRTAB)
            names = reinterpret_cast<const char *>(start);
    }
    if (!table || !symbols || !names || table[0] == 0)
        return nullptr;
    uint32_t hash = 5381;
    for (unsigned char c : name)
        hash = hash * 33 + c;
    auto count = table[0], first = table[1], words = table[2];
    auto buckets = table + 4 + words * (sizeof(ElfW(Addr)) / sizeof(*table));
    auto hashes = buckets + count;
    auto place = buckets[hash % count];
    if (place < first)
        return nullptr;
    /* The lowest bit of a hash marks the last symbol of its bucket. */
    for (;; ++place) {
        auto found = hashes[place - first];
        if ((found | 1) == (hash | 1) && name == names + symbols[place].st_name)
            return symbols + place;
        if (found & 1)
            return nullptr;
    }
}

/* The size of the variable at this address, which a library exports under this name; 0 if it can't be told. `dladdr1`
   would tell as well, but looks at every symbol that the library exports. For Nix's libraries that takes half a million
   instructions. */
static size_t exportedSize(const void * variable, std::string_view name)
{
    struct Wanted
    {
        ElfW(Addr) address;
        std::string_view name;
        size_t size = 0;
    } wanted{reinterpret_cast<ElfW(Addr)>(variable), name};

    auto look = [](dl_phdr_info * library, size_t, void * data) {
        auto & wanted = *static_cast<Wanted *>(data);
        auto base = library->dlpi_addr;
        for (auto header = library->dlpi_phdr; header != library->dlpi_phdr + library->dlpi_phnum; ++header) {
            if (header->p_type != PT_DYNAMIC)
                continue;
            auto symbol = exported(base, reinterpret_cast<const ElfW(Dyn) *>(base + header->p_vaddr), wanted.name);
            if (symbol && base + symbol->st_value == wanted.address) {
                wanted.size = symbol->st_size;
                return 1;
            }
        }
        return 0;
    };
    dl_iterate_phdr(look, &wanted);
    return wanted.size;
}
#endif

std::string determinateVersion()
{
    /* `nix::determinateNixVersion` */
    auto version = static_cast<const std::string *>(dlsym(RTLD_DEFAULT, "_ZN3nix21determinateNixVersionB5cxx11E"));
    if (!version)
        return "";
    return version->empty() ? "?" : *version;
}

#if defined NIX_NEGATIVE_CACHE_NIX_LIBDIR && defined __GLIBC__
/* Whether Nix's libraries were loaded from the folder in which their headers say they are. All development versions between
   two releases have libraries of the same version; in Nix's store, their folder tells one from another. */
static bool isFromItsFolder()
{
    auto look = [](dl_phdr_info * library, size_t, void *) {
        std::filesystem::path file(library->dlpi_name ? library->dlpi_name : "");
        std::error_code error;
        return int(
            file.filename().native().starts_with("libnixstore.")
            && std::filesystem::equivalent(file.parent_path(), NIX_NEGATIVE_CACHE_NIX_LIBDIR, error));
    };
    return dl_iterate_phdr(look, nullptr) != 0;
}
#endif

bool isSameBuild()
{
#if defined NIX_NEGATIVE_CACHE_NIX_LIBDIR && defined __GLIBC__
    if (!isFromItsFolder())
        return false;
#endif
    if ((dlsym(RTLD_DEFAULT, "GC_malloc") != nullptr) != collectsGarbage)
        return false;
#ifdef __GLIBC__
    /* Most people who change Nix add settings, which changes the size. */
    auto size = exportedSize(&settings, "_ZN3nix8settingsE");
    if (size != 0 && size != sizeof(settings))
        return false;
#endif
    return true;
}

} // namespace negative_cache::compat
