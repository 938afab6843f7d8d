#pragma once
/* Messages to users. */

#include "nix.hh"

namespace negative_cache::compat {

/* An argument of a message that Nix prints as it is. Nix would emphasise plain strings. */
inline auto plain(const std::string & text)
{
#if NIX_AT_LEAST(2, 24)
    return nix::Uncolored(text);
#else
    return nix::normaltxt(text);
#endif
}

/* The error for a derivation that is not built. `why` is the reason, as the rest of a sentence that begins with the path
   of the derivation. The error begins like that of a real failure, because programs that read Nix's output look for
   that. */
inline nix::Error notBuilt(const std::string & path, const std::string & why)
{
#if NIX_AT_LEAST(2, 30)
    return nix::Error("Cannot build '%s'.\nIt %s", nix::Magenta(path), plain(why));
#else
    return nix::Error("'%s' %s", path, plain(why));
#endif
}

/* How the list of the last log lines of a failed build begins (`DerivationGoal::buildDone` and, since 2.29 or so,
   `DerivationBuildingGoal::fixupBuilderFailureErrorMessage`). */
#if NIX_AT_LEAST(2, 30)
inline constexpr auto lastLogLines = "Last";
#else
inline constexpr auto lastLogLines = "last";
#endif

/* The text before and after a derivation's path in Nix's advice on how to see the whole log. */
std::pair<std::string, std::string> fullLogs();

/* The part of Nix's message that is read and kept: its beginning, and its end, which has the notes. The middle quotes
   the log, of which one line can be as long as the memory allows. */
std::string excerpt(std::string_view message);

/* Whether this process was told to stop. */
inline bool interrupted()
{
#if NIX_AT_LEAST(2, 24)
    return nix::getInterrupted();
#else
    return nix::_isInterrupted;
#endif
}

} // namespace negative_cache::compat
