#pragma once
/* What the command line of this process tells. */

#include <string>
#include <vector>

namespace negative_cache {

/* The arguments of this process; none if the system does not tell. nix-daemon writes over them for each client, so they are
   read when the plugin is loaded. */
std::vector<std::string> commandLine();

/* The program that was started, such as `nix-build`. */
std::string programOf(const std::vector<std::string> & arguments);

/* The arguments without those of another program, which `nix shell --command` and the like start. */
std::vector<std::string> withoutOtherPrograms(std::vector<std::string> arguments);

/* Whether this process is the build hook, which Nix starts to build on other machines. The hook does not know the
   command line of the Nix that started it. That Nix decides. */
bool isBuildHook(const std::vector<std::string> & arguments);

/* Whether this process serves clients, as nix-daemon does. */
bool isServer(const std::vector<std::string> & arguments);

/* What a command does after it has asked a store what a request would build (`queryMissing`). */
enum class NextStep {
    /* It is not known. */
    Unknown,
    /* It makes the request. */
    Build,
    /* Nothing: it has only printed the answer. */
    DryRun,
};

NextStep nextStep(const std::vector<std::string> & arguments);

} // namespace negative_cache
