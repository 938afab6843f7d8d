#include "messages.hh"

namespace negative_cache::compat {

using namespace nix;

std::pair<std::string, std::string> fullLogs()
{
#if NIX_AT_LEAST(2, 26)
    auto command = experimentalFeatureSettings.isEnabled(Xp::NixCommand) ? "nix log " : "nix-store -l ";
    return {std::string("For full logs, run:\n  " ANSI_BOLD) + command, ANSI_NORMAL};
#else
    return {"For full logs, run '" ANSI_BOLD "nix log ", ANSI_NORMAL "'."};
#endif
}

} // namespace negative_cache::compat
