#include "../store.hh"

namespace negative_cache::compat {

using namespace nix;

/* These versions look up URLs only, and neither `local` nor a path is one. */
std::optional<std::string> registeredSpelling(const std::string & base, const std::string & parameters, bool isAuto)
{
    if (base == "daemon")
        return "unix://" + (parameters.empty() ? std::string() : "?" + parameters);
    if (base == "local")
        return "local://" + (parameters.empty() ? "" : "?" + parameters);
    if (base.find("://") != std::string::npos)
        return isAuto ? std::optional(base) : std::nullopt;
    if (base.find('/') == std::string::npos)
        return std::nullopt;
    std::string root;
    for (char c : absPath(base))
        if (std::isalnum(static_cast<unsigned char>(c)) || std::string_view("/-._~").find(c) != std::string_view::npos)
            root += c;
        else
            root += fmt("%%%02X", static_cast<unsigned int>(static_cast<unsigned char>(c)));
    return "local://?root=" + root + (parameters.empty() ? "" : "&" + parameters);
}

} // namespace negative_cache::compat
