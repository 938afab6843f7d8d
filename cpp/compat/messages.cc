#include "messages.hh"

namespace negative_cache::compat {

using namespace nix;

std::pair<std::string, std::string> fullLogs()
{
#if IS_DETERMINATE_NIX
    return {"For full logs, run:\n  " ANSI_BOLD "nix log ", ANSI_NORMAL};
#elif NIX_AT_LEAST(2, 18)
    auto command = experimentalFeatureSettings.isEnabled(Xp::NixCommand) ? "nix log " : "nix-store -l ";
#  if NIX_AT_LEAST(2, 26)
    return {std::string("For full logs, run:\n  " ANSI_BOLD) + command, ANSI_NORMAL};
#  else
    return {std::string("For full logs, run '" ANSI_BOLD) + command, ANSI_NORMAL "'."};
#  endif
#else
    return {"For full logs, run '" ANSI_BOLD "nix log ", ANSI_NORMAL "'."};
#endif
}

std::string excerpt(std::string_view message)
{
    constexpr size_t beginning = 12 * 1024, end = 4 * 1024;
    if (message.size() <= beginning + end)
        return std::string(message);
    std::string excerpt(message.substr(0, beginning));
    /* The two parts must not look like one line. */
    excerpt += '\n';
    return excerpt += message.substr(message.size() - end);
}

} // namespace negative_cache::compat
