#pragma once
/* What is said to users, and how. */

#include "nix.hh"

namespace negative_cache::compat {

/* Text that Nix prints as it is, in the place of an argument that it would emphasise. */
inline auto plain(const std::string & text)
{
#if NIX_AT_LEAST(2, 26)
    return nix::Uncolored(text);
#else
    return nix::normaltxt(text);
#endif
}

/* The error for a derivation that is not built, and why: `why` continues a sentence that begins with its path. It begins as
   that of a real failure does, which is what programs look for that read what Nix prints. */
inline nix::Error notBuilt(const std::string & path, const std::string & why)
{
#if NIX_AT_LEAST(2, 31)
    return nix::Error("Cannot build '%s'.\nIt %s", nix::Magenta(path), plain(why));
#else
    return nix::Error("'%s' %s", path, plain(why));
#endif
}

/* How the list of the last log lines of a failed build begins (`DerivationGoal::buildDone` and, since 2.29 or so,
   `DerivationBuildingGoal::fixupBuilderFailureErrorMessage`). */
#if NIX_AT_LEAST(2, 31)
inline constexpr auto lastLogLines = "Last";
#else
inline constexpr auto lastLogLines = "last";
#endif

/* What surrounds a derivation's path where Nix says how to see its whole log. */
std::pair<std::string, std::string> fullLogs();

/* The part of a message of Nix's that is looked at and kept: its beginning, and its end, where notes are. In between it quotes
   the log, of which one line can be as long as the memory allows. */
std::string excerpt(std::string_view message);

/* Whether this process was told to stop. */
inline bool interrupted()
{
#if NIX_AT_LEAST(2, 26)
    return nix::getInterrupted();
#else
    return nix::_isInterrupted;
#endif
}

} // namespace negative_cache::compat
