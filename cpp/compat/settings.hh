#pragma once
/* Settings: Nix's own, and how a plugin adds some. */

#include "nix.hh"

namespace negative_cache::compat {

/* ---- Nix's own settings, which versions keep in different places ---- */

/* The settings of builds. */
inline auto & workerSettings()
{
#if NIX_AT_LEAST(2, 34)
    return nix::settings.getWorkerSettings();
#else
    return nix::settings;
#endif
}

inline bool keepGoing()
{
    return workerSettings().keepGoing;
}

inline bool useSubstitutes()
{
    return workerSettings().useSubstitutes;
}

inline size_t logLines()
{
    return workerSettings().logLines;
}

inline unsigned int maxBuildJobs()
{
    return workerSettings().maxBuildJobs;
}

inline bool alwaysAllowSubstitutes()
{
#if NIX_AT_LEAST(2, 24)
    return workerSettings().alwaysAllowSubstitutes;
#else
    return false;
#endif
}

inline nix::SandboxMode sandboxMode()
{
#if NIX_AT_LEAST(2, 34)
    return nix::settings.getLocalSettings().sandboxMode;
#else
    return nix::settings.sandboxMode;
#endif
}

/* Whether a worker that starts to run asks what is missing and throws the answer away (`Worker::run`). */
#if NIX_AT_LEAST(2, 35)
inline constexpr bool workerAsksWhatIsMissing = false;
#else
inline constexpr bool workerAsksWhatIsMissing = true;
#endif

/* ---- Settings of a plugin ---- */

/* A setting whose value is looked at before it is accepted: `check` throws `nix::UsageError` or returns the value to
   use. */
class CheckedSetting : public nix::Setting<std::string>
{
    std::function<std::string(const nix::AbstractSetting &, const std::string &)> check;

public:
    CheckedSetting(
        nix::Config * config,
        const std::string & value,
        const std::string & name,
        const std::string & description,
        decltype(check) check)
        : nix::Setting<std::string>(config, value, name, description)
        , check(std::move(check))
    {
    }

#if NIX_AT_LEAST(2, 18)
    std::string parse(const std::string & text) const override
    {
        return check(*this, text);
    }
#else
    void set(const std::string & text, bool) override
    {
        value = check(*this, text);
    }
#endif
};

/* All settings of Nix and its plugins whose names satisfy `wanted`. */
std::vector<nix::AbstractSetting *> settingsNamed(const std::function<bool(const std::string &)> & wanted);

/* The value of a setting, as `nix config show` prints it. */
std::string valueOf(const nix::AbstractSetting & setting);

/* Whether users can set a setting. They can't if it belongs to an experimental feature that is off
   (`Config::getSettings`). */
inline bool isInForce([[maybe_unused]] const nix::AbstractSetting & setting)
{
#if NIX_AT_LEAST(2, 18)
    return nix::experimentalFeatureSettings.isEnabled(setting.experimentalFeature);
#else
    return true;
#endif
}

/* Applies the configuration files and NIX_CONFIG to `config`, in the order in which Nix does so at its start. The last
   value is applied last. */
void applyConfiguration(nix::AbstractConfig & config);

/* An absolute path without `.`, `..` and superfluous slashes. */
std::string canonicalPath(const std::string & path);

} // namespace negative_cache::compat
