#include "settings.hh"

#include <algorithm>
#include <fstream>
#include <iterator>

namespace negative_cache {

static std::string checkAction(const nix::AbstractSetting & setting, const std::string & value)
{
    if (value != "fail" && value != "warn")
        throw nix::UsageError("option '%s' has invalid value '%s'; it is 'fail' or 'warn'", setting.name, value);
    return value;
}

static std::string checkDatabase(const nix::AbstractSetting & setting, const std::string & value)
{
    if (!value.empty() && value[0] != '/')
        throw nix::UsageError("option '%s' has invalid value '%s'; it is an absolute path", setting.name, value);
    return value.empty() ? value : compat::canonicalPath(value);
}

/* Numbers are read in Rust; this tells its answer to whoever sets them. */
static std::string checkNumbers(
    const nix::AbstractSetting & setting, const std::string & value, rust::String (*problem)(rust::Str value))
{
    auto why = problem(value);
    if (!why.empty())
        throw nix::UsageError(
            "option '%s' has invalid value '%s'; %s", setting.name, value, compat::plain(std::string(why)));
    return value;
}

static std::string checkMinFailures(const nix::AbstractSetting & setting, const std::string & value)
{
    return checkNumbers(setting, value, core::problem_with_min_failures);
}

static std::string checkExitCodes(const nix::AbstractSetting & setting, const std::string & value)
{
    return checkNumbers(setting, value, core::problem_with_exit_codes);
}

Settings::Settings()
    : enable(
          this,
          false,
          "negative-cache",
          "Whether to record derivations whose builders failed, and to refuse to build what is known to fail.")
    , retry(
          this,
          false,
          "negative-cache-retry",
          "Whether to build even what is known to fail. How it ends is recorded; a success removes the record.")
    , action(
          this,
          "fail",
          "negative-cache-action",
          "What to do about a derivation that is known to fail: `fail` refuses to build it, `warn` says when it failed "
          "and where its log is, and builds it.",
          checkAction)
    , database(
          this,
          "",
          "negative-cache-database",
          "The file of the failure database. If empty, `negative-cache/failures.sqlite` in the state directory of the "
          "store.",
          checkDatabase)
    , ttl(
          this,
          core::default_ttl(),
          "negative-cache-ttl",
          "For how many seconds a failure is believed; then it is tried once more. Each failure that confirms it doubles "
          "the time. 0 is for ever.")
    , maxTtl(
          this,
          core::default_max_ttl(),
          "negative-cache-max-ttl",
          "For how many seconds a failure is believed at most, however often it was confirmed. 0 is for ever.")
    , minFailures(
          this,
          "1",
          "negative-cache-min-failures",
          "How often in a row a derivation must have failed before it is refused; at least twice if it has succeeded "
          "after a failure before.",
          checkMinFailures)
    , transientExitCodes(
          this,
          std::string(core::default_transient_exit_codes()),
          "negative-cache-transient-exit-codes",
          "The exit codes with which a builder says that its failure will pass, so that it is not recorded.",
          checkExitCodes)
    , timeouts(
          this,
          false,
          "negative-cache-timeouts",
          "Whether to record builds that `timeout`, `max-silent-time` or `max-build-log-size` ended. They are refused for "
          "as long as the limit is no higher.")
    , fixedOutput(
          this,
          false,
          "negative-cache-fixed-output",
          "Whether to record failures of fixed-output derivations and of `builtin:` builders.")
    , maxRecords(
          this,
          core::default_max_records(),
          "negative-cache-max-records",
          "How many failures the database keeps at most; beyond, those go that were not used for the longest time.")
{
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
        wasOn |= isTrue(values, settings().enable.name);
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
    bool on = isTrue(last.values, registered->enable.name);
    off = !on && last.wasOn;
    return on;
}

} // namespace negative_cache
