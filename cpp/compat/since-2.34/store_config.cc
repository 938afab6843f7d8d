#include "store_config.hh"

namespace negative_cache::compat {

using namespace nix;

std::filesystem::path pathIn(std::string_view url)
{
    std::filesystem::path path = percentDecode(url);
    return path.empty() ? path : canonPath(path);
}

} // namespace negative_cache::compat
