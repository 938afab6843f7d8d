#include "settings.hh"

#include <algorithm>
#include <fstream>
#include <iterator>

namespace negative_cache {

/* Checks the value of a text setting, which Rust reads. The error tells the user what is wrong with the value. */
static std::string check(const nix::AbstractSetting & setting, const std::string & value)
{
    /* A path need not be UTF-8. */
    auto text = rust::String::lossy(value);
    auto problem = core::problem_with(setting.name, text);
    if (!problem.empty())
        throw nix::UsageError(
            "option '%s' has invalid value '%s'; %s",
            setting.name,
            value,
            compat::plain(std::string(problem)));
    return value;
}

static std::string checkPath(const nix::AbstractSetting & setting, const std::string & value)
{
    check(setting, value);
    return value.empty() ? value : compat::canonicalPath(value);
}

Settings::Settings()
{
    for (auto & info : core::settings_of_plugin()) {
        std::string name(info.name), description(info.description);
        bool isDatabase = name == "negative-cache-database";
        switch (info.kind) {
        case core::SettingKind::Switch:
            switches.emplace_back(this, false, name, description);
            break;
        case core::SettingKind::Number:
            numbers.emplace_back(this, info.number, name, description);
            break;
        default:
            texts.emplace_back(this, std::string(info.text), name, description, isDatabase ? checkPath : check);
            if (isDatabase)
                databaseSetting = &texts.back();
        }
    }
}

static Settings * registered = nullptr;

Settings & settings()
{
    return *registered;
}

/* While Nix does not know a setting, it keeps the first value of the setting instead of the last (`GlobalConfig::set`).
   So the system's nix.conf would win over the command line. The code below finds the last value again. */

static bool isTrue(const nix::StringMap & values, const std::string & name)
{
    auto value = values.find(name);
    return value != values.end() && (value->second == "true" || value->second == "yes" || value->second == "1");
}

namespace {

/* Gives access to the values that Nix keeps for settings that it does not know yet. */
struct PendingSettings : nix::AbstractConfig
{
    static nix::StringMap & of(nix::AbstractConfig & config)
    {
        return config.*(&PendingSettings::unknownSettings);
    }
};

/* Keeps the last value of each setting of a configuration, and ignores all other settings. */
struct LastValues : nix::Config
{
    nix::StringMap values;
    std::map<std::string, SettingInfo> names;
    /* Whether any value so far turned the plugin on. */
    bool wasOn = false;

    explicit LastValues(nix::Config & config)
    {
        config.getSettings(names);
    }

    bool set(const std::string & name, const std::string & value) override
    {
        if (names.count(name))
            values.insert_or_assign(name, value);
        wasOn |= isTrue(values, settings().prefix());
        return true;
    }
};

} // namespace

/* The arguments of this process; none if the system does not tell. */
static std::vector<std::string> commandLine()
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

/* Applies each `--option NAME VALUE` of Nix's own command line. */
static void applyCommandLine(nix::Config & config, const std::vector<std::string> & arguments)
{
    if (arguments.empty())
        return;
    /* After `nix shell --command` and the like, all that follows is the command line of another program. */
    bool commandTakesRest = nix::baseNameOf(arguments[0]) == "nix";
    for (size_t i = 1; i < arguments.size(); ++i) {
        auto & argument = arguments[i];
        if (argument == "--" || (commandTakesRest && (argument == "-c" || argument == "--command")))
            return;
        if (argument == "--option" && i + 2 < arguments.size()) {
            config.set(arguments[i + 1], arguments[i + 2]);
            i += 2;
        }
    }
}

/* Whether this process is the build hook, which Nix starts to build on other machines. The hook does not know the
   command line of the Nix that started it. That Nix decides. */
static bool isBuildHook(const std::vector<std::string> & arguments)
{
    return (arguments.size() > 0 && nix::baseNameOf(arguments[0]) == "build-remote")
        || (arguments.size() > 1 && arguments[1] == "__build-remote");
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

static bool serves(const std::vector<std::string> & arguments)
{
    auto program = arguments.empty() ? "" : std::string(nix::baseNameOf(arguments[0]));
    if (program == "nix")
        return commandOfNix(arguments) == "daemon";
    return program == "nix-daemon"
        || (program == "nix-store" && std::count(arguments.begin(), arguments.end(), "--serve") > 0);
}

static bool serving = false;

bool servesClients()
{
    return serving;
}

static bool off = false;

bool isSwitchedOff()
{
    return off;
}

bool registerSettings()
{
    auto & pending = PendingSettings::of(nix::globalConfig);
    registered = new Settings;

    LastValues last(*registered);
    auto arguments = commandLine();
    /* This is read here and not later, because nix-daemon writes over its arguments for each client. */
    serving = serves(arguments);
    bool mentioned = false;
    for (auto & [name, _] : last.names)
        mentioned |= pending.count(name) || std::count(arguments.begin(), arguments.end(), name);
    if (mentioned) {
        compat::applyConfiguration(last);
        applyCommandLine(last, arguments);
        /* Some values can't be found again, such as those in the first lines of a script. They stay as they are. */
        for (auto & [name, value] : pending)
            if (last.names.count(name))
                value = last.values.emplace(name, value).first->second;
    }

    if (isBuildHook(arguments)) {
        for (auto & [name, _] : last.names)
            pending.erase(name);
        last.values.clear();
        last.wasOn = false;
    }

    /* Nix gives the pending values to the settings right after the plugins are loaded. */
    nix::GlobalConfig::Register registration(registered);
    bool on = isTrue(last.values, registered->prefix());
    off = !on && last.wasOn;
    return on;
}

} // namespace negative_cache
