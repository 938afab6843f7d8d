#include "settings.hh"
#include "exported.hh"
#include "private_member.hh"

namespace negative_cache::compat {

using namespace nix;

void applyConfiguration(AbstractConfig & config)
{
#if NIX_AT_LEAST(2, 24)
    loadConfFile(config);
#else
    /* `loadConfFile` of this version knows only the global configuration. */
    config.applyConfigFile(settings.nixConfDir + "/nix.conf");
    auto files = settings.nixUserConfFiles;
    for (auto file = files.rbegin(); file != files.rend(); ++file)
        config.applyConfigFile(*file);
    if (auto text = getEnv("NIX_CONFIG"))
        config.applyConfig(*text, "NIX_CONFIG");
#endif
}

/* Nix's own functions only return all settings at once, as copies that include the descriptions. */
struct SettingsOfConfig
{
    friend auto memberOf(SettingsOfConfig);
};

template struct PrivateMember<SettingsOfConfig, &Config::_settings>;

std::vector<AbstractSetting *> settingsNamed(const std::function<bool(const std::string &)> & wanted)
{
    std::vector<AbstractSetting *> settings;
    auto look = [&](auto & registrations) {
        for (auto & config : registrations)
            for (auto & [name, data] : config->*memberOf(SettingsOfConfig{}))
                if (!data.isAlias && wanted(name))
                    settings.push_back(data.setting);
    };
#if NIX_AT_LEAST(2, 34)
    look(GlobalConfig::configRegistrations());
#elif NIX_AT_LEAST(2, 30)
    look(exportedVariable<GlobalConfig::ConfigRegistrations>(
        "_ZZN3nix12GlobalConfig19configRegistrationsEvE19configRegistrations"));
#else
    if (GlobalConfig::configRegistrations)
        look(*GlobalConfig::configRegistrations);
#endif
    return settings;
}

namespace {

struct ReadableSetting : AbstractSetting
{
    static auto reader()
    {
        return &ReadableSetting::to_string;
    }
};

} // namespace

std::string valueOf(const AbstractSetting & setting)
{
    return (setting.*ReadableSetting::reader())();
}

std::string canonicalPath(const std::string & path)
{
#if NIX_AT_LEAST(2, 34)
    return canonPath(std::filesystem::path(path)).string();
#else
    return canonPath(path);
#endif
}

} // namespace negative_cache::compat
