#include "settings.hh"

#include <algorithm>
#include <fstream>
#include <iterator>

namespace negative_cache {

/* Values of text are looked at in Rust; this tells whoever sets them what is wrong. */
static std::string check(const nix::AbstractSetting & setting, const std::string & value)
{
    auto problem = core::problem_with(setting.name, value);
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

/* While a setting is not known yet, Nix keeps its first value instead of its last (`GlobalConfig::set`), so that the
   system's nix.conf would beat the command line. What follows finds the last one again. */

static bool isTrue(const nix::StringMap & values, const std::string & name)
{
    auto value = values.find(name);
    return value != values.end() && (value->second == "true" || value->second == "yes" || value->second == "1");
}

namespace {

/* Reaches the values that Nix keeps until their settings are known. */
struct PendingSettings : nix::AbstractConfig
{
    static nix::StringMap & of(nix::AbstractConfig & config)
    {
        return config.*(&PendingSettings::unknownSettings);
    }
};

/* Takes the last value of each setting that it was made for, and nothing else. */
struct LastValues : nix::Config
{
    nix::StringMap values;
    std::map<std::string, SettingInfo> names;
    /* Whether something that came before said that the plugin is on. */
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

/* The arguments of this process; none where the system does not tell. */
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

/* Sets what `--option NAME VALUE` says on the command line of Nix itself. */
static void applyCommandLine(nix::Config & config, const std::vector<std::string> & arguments)
{
    if (arguments.empty())
        return;
    /* `nix shell --command` and the like take all that follows for another program's command line. */
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

/* Whether this process is what Nix asks to build on other machines. It does not know what was said on the command line
   of the process that does know, and decides. */
static bool isBuildHook(const std::vector<std::string> & arguments)
{
    return (arguments.size() > 0 && nix::baseNameOf(arguments[0]) == "build-remote")
        || (arguments.size() > 1 && arguments[1] == "__build-remote");
}

static bool serves(const std::vector<std::string> & arguments)
{
    auto has = [&](const char * name) { return std::count(arguments.begin(), arguments.end(), name) > 0; };
    auto program = arguments.empty() ? "" : std::string(nix::baseNameOf(arguments[0]));
    return program == "nix-daemon" || (program == "nix" && has("daemon")) || (program == "nix-store" && has("--serve"));
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
    /* Now: for each client, nix-daemon writes over its arguments. */
    serving = serves(arguments);
    bool mentioned = false;
    for (auto & [name, _] : last.names)
        mentioned |= pending.count(name) || std::count(arguments.begin(), arguments.end(), name);
    if (mentioned) {
        compat::applyConfiguration(last);
        applyCommandLine(last, arguments);
        /* What was said where it can't be found again, such as in a script's first lines, stays. */
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
