#include "ended_build.hh"
#include "guard.hh"
#include "output_keys.hh"

#include <csignal>

namespace negative_cache {

using namespace nix;

/* Whether this process was told to stop. A process that nix-daemon forks never handles such a signal, because the thread
   that waits for signals stays behind in the daemon. In the forked process the signals stay pending. */
static bool beingStopped()
{
    sigset_t pending;
    sigemptyset(&pending);
    sigpending(&pending);
    for (auto signal : {SIGINT, SIGTERM, SIGHUP})
        if (sigismember(&pending, signal) == 1)
            return true;
    return compat::interrupted();
}

core::EndedBuild endedBuild(Store & store, const StorePath & path, const Derivation & derivation)
{
    return {
        .derivation = store.printStorePath(path),
        .outputs = outputKeys(store, derivation),
        .store_dir = store.storeDir,
        .name = rust::String::lossy(derivation.name),
        .system = rust::String::lossy(derivation.platform),
        .ending = core::Ending::Other,
        .messages = {},
        .fixed_output = compat::typeOf(derivation).isFixed(),
        .impure = compat::isImpure(derivation),
        .builtin = derivation.isBuiltin(),
        .machine = {},
        .delegate = {},
        .normal_mode = true,
        .interrupted = beingStopped(),
        .recursive = compat::usesRecursiveNix(derivation),
        .opted_out = !compat::wantsNegativeCache(derivation),
        .without_sandbox = false,
        .no_chroot = compat::refusesSandbox(derivation),
        .stays_here = compat::staysOnThisMachine(derivation),
    };
}

bool saysDiskIsFull(std::string_view message)
{
    return message.find("build failure may have been caused by lack of free disk space") != message.npos;
}

void sayNotRecorded(const std::string & derivation, const std::string & reason)
{
    printTalkative("negative cache: the failure of '%s' is not recorded: %s", derivation, compat::plain(reason));
}

void startHook(const core::Policy & policy, const core::EndedBuild & ended, const core::Recorded & recorded)
{
    if (!recorded.is_recorded)
        return;
    guarded([&] {
        auto problem = core::start_hook(policy, ended);
        if (!problem.empty())
            warn("%s", compat::plain(std::string(problem)));
    });
}

void sayRecorded(const core::EndedBuild & ended, const core::Recorded & recorded)
{
    std::string derivation(ended.derivation);
    if (!recorded.reason.empty())
        sayNotRecorded(derivation, std::string(recorded.reason));
    if (!recorded.doubtful.empty())
        printTalkative(
            "negative cache: the failure of '%s' is doubtful, so it counts once the same has come twice in a row: %s",
            derivation,
            compat::plain(std::string(recorded.doubtful)));
}

} // namespace negative_cache
