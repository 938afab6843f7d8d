#include "settings.hh"

#include <algorithm>

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

static constexpr auto hookName = "negative-cache-hook";

Settings::Settings()
{
    for (auto & info : core::settings_of_plugin()) {
        std::string name(info.name), description(info.description);
        bool isDatabase = name == "negative-cache-database", isPath = isDatabase || name == hookName;
        switch (info.kind) {
        case core::SettingKind::Switch:
            switches.emplace_back(this, false, name, description);
            break;
        case core::SettingKind::Number:
            numbers.emplace_back(this, info.number, name, description);
            break;
        default:
            texts.emplace_back(this, std::string(info.text), name, description, isPath ? checkPath : check);
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

/* Applies each `--option NAME VALUE` of Nix's own command line. */
static void applyCommandLine(nix::Config & config, const std::vector<std::string> & arguments)
{
    for (size_t i = 1; i + 2 < arguments.size(); ++i)
        if (arguments[i] == "--option") {
            config.set(arguments[i + 1], arguments[i + 2]);
            i += 2;
        }
}

static bool serving = false;

bool servesClients()
{
    return serving;
}

static thread_local NextStep next = NextStep::Unknown;

NextStep nextStep()
{
    return next;
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
    serving = isServer(arguments);
    next = nextStep(arguments);
    bool mentioned = false;
    for (auto & [name, _] : last.names)
        mentioned |= pending.count(name) || std::count(arguments.begin(), arguments.end(), name);
    if (mentioned) {
        compat::applyConfiguration(last);
        applyCommandLine(last, withoutOtherPrograms(arguments));
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

    /* A value that is no path is an error of Nix's. */
    if (auto hook = last.values.find(hookName); hook != last.values.end() && nix::hasPrefix(hook->second, "/"))
        registered->hookWhenLoaded = compat::canonicalPath(hook->second);

    /* Nix gives the pending values to the settings right after the plugins are loaded. */
    nix::GlobalConfig::Register registration(registered);
    bool on = isTrue(last.values, registered->prefix());
    off = !on && last.wasOn;
    return on;
}

} // namespace negative_cache
