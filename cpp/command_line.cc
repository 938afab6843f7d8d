#include "command_line.hh"
#include "compat.hh"

#include <algorithm>
#include <fstream>
#include <iterator>

namespace negative_cache {

std::vector<std::string> commandLine()
{
    std::ifstream file("/proc/self/cmdline", std::ios::binary);
    std::string all{std::istreambuf_iterator<char>(file), {}};
    std::vector<std::string> arguments;
    for (size_t start = 0; start < all.size();) {
        auto end = std::min(all.find('\0', start), all.size());
        arguments.push_back(all.substr(start, end - start));
        start = end + 1;
    }
    return arguments;
}

std::string programOf(const std::vector<std::string> & arguments)
{
    return arguments.empty() ? "" : std::string(nix::baseNameOf(arguments[0]));
}

std::vector<std::string> withoutOtherPrograms(std::vector<std::string> arguments)
{
    bool commandTakesRest = programOf(arguments) == "nix";
    auto end = std::find_if(arguments.begin(), arguments.end(), [&](auto & argument) {
        return argument == "--" || (commandTakesRest && (argument == "-c" || argument == "--command"));
    });
    arguments.erase(end, arguments.end());
    return arguments;
}

bool isBuildHook(const std::vector<std::string> & arguments)
{
    return programOf(arguments) == "build-remote" || (arguments.size() > 1 && arguments[1] == "__build-remote");
}

/* Whether an option of `nix` that comes before the command is followed by a value. Most such options are settings of Nix.
   A switch such as `--keep-going` has no value. */
static bool takesValue(const std::string & option)
{
    if (option == "--log-format" || option == "-j")
        return true;
    if (!nix::hasPrefix(option, "--"))
        return false;
    /* `--extra-NAME VALUE` adds to the setting `NAME`. */
    auto isMeant = [name = option.substr(2)](const std::string & setting) {
        return setting == name || "extra-" + setting == name;
    };
    for (auto setting : compat::settingsNamed(isMeant)) {
        auto value = compat::valueOf(*setting);
        return value != "true" && value != "false" && setting->name != "sandbox";
    }
    return false;
}

/* The command on a command line of `nix`, such as `build`; empty if there is none. */
static std::string commandOfNix(const std::vector<std::string> & arguments)
{
    for (size_t i = 1; i < arguments.size(); ++i) {
        auto & argument = arguments[i];
        if (!nix::hasPrefix(argument, "-"))
            return argument;
        if (argument == "--option")
            i += 2;
        else if (takesValue(argument))
            i += 1;
    }
    return "";
}

static bool hasAny(const std::vector<std::string> & arguments, const std::vector<std::string> & wanted)
{
    return std::find_first_of(arguments.begin(), arguments.end(), wanted.begin(), wanted.end()) != arguments.end();
}

bool isServer(const std::vector<std::string> & arguments)
{
    auto program = programOf(arguments);
    if (program == "nix")
        return commandOfNix(arguments) == "daemon";
    return program == "nix-daemon" || (program == "nix-store" && hasAny(arguments, {"--serve"}));
}

/* Whether the arguments may be those of a script that names nix-shell or nix in its first line. Nix reads more options from
   the script (nix-build.cc, `RootArgs::parseCmdline`). */
static bool isScript(const std::vector<std::string> & arguments)
{
    if (arguments.size() < 2 || nix::hasPrefix(arguments[1], "-"))
        return false;
    char start[2] = {};
    std::ifstream(arguments[1], std::ios::binary).read(start, sizeof start);
    return start[0] == '#' && start[1] == '!';
}

/* Whether the program first asks what each request would build, to print it, and then makes the request. */
static bool printsAndBuilds(const std::vector<std::string> & arguments)
{
    auto program = programOf(arguments);
    if (program == "nix") {
        auto command = commandOfNix(arguments);
        return command == "build" || command == "run" || command == "shell";
    }
    if (program == "nix-store")
        return hasAny(arguments, {"--realise", "--realize", "-r"});
    return program == "nix-build" || program == "nix-env" || program == "nix-shell";
}

NextStep nextStep(const std::vector<std::string> & all)
{
    /* The older programs read options behind `--` as well. */
    auto arguments = programOf(all) == "nix" ? withoutOtherPrograms(all) : all;
    if (isScript(arguments) || !printsAndBuilds(arguments))
        return NextStep::Unknown;
    if (hasAny(arguments, {"--dry-run"}))
        return NextStep::DryRun;
    /* These want a build although there was one, or use the answer for more than to print it. */
    return hasAny(arguments, {"--check", "--repair", "--rebuild", "--ignore-unknown"}) ? NextStep::Unknown
                                                                                       : NextStep::Build;
}

} // namespace negative_cache
