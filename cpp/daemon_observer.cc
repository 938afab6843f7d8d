#include "daemon_observer.hh"
#include "evidence.hh"
#include "outputs.hh"
#include "trouble.hh"

#include <algorithm>

namespace negative_cache {

using namespace nix;

DaemonObserver::DaemonObserver(Store & store, BuildMode mode, const core::Policy & policy)
    : store(store)
    , mode(mode)
    , policy(policy)
{
}

void DaemonObserver::activityStarted(ActivityId activity, ActivityType type, const Logger::Fields & fields, ActivityId)
{
    auto derivation = textField(fields, 0);
    if (type != actBuild || !derivation)
        return;
    harmless([&] {
        auto path = store.parseStorePath(*derivation);
        /* A second one is what another machine says of its own build, or another round. */
        auto & build = builds.try_emplace(path, Build{textField(fields, 1).value_or(""), false, core::start_build(policy)})
                           .first->second;
        if (fields.size() > 2 && fields[2].type == Logger::Field::tInt && fields[2].i > 1)
            build.again = true;
        activities.insert_or_assign(activity, path);
    });
}

void DaemonObserver::activityResult(ActivityId activity, ResultType type, const Logger::Fields & fields)
{
    auto build = activities.find(activity);
    auto line = textField(fields, 0);
    if (type == resBuildLogLine && build != activities.end() && line)
        core::log_line(
            *builds.at(build->second).running, {reinterpret_cast<const uint8_t *>(line->data()), line->size()});
}

void DaemonObserver::errorLogged(std::string_view text)
{
    if (text.find("builder for '") == text.npos && text.find("Cannot build '") == text.npos)
        return;
    /* More than that is not what Nix says, but what builders say in its name. */
    constexpr size_t most = 16 * 1024 * 1024;
    if (sizeOfErrors + text.size() > most)
        return;
    sizeOfErrors += text.size();
    errors.emplace_back(text);
}

bool DaemonObserver::settle(const StorePath & path, const Build & build, bool successesMatter)
{
    rust::Vec<rust::String> messages;
    auto name = path.to_string();
    for (auto & error : errors)
        if (error.find(name) != error.npos)
            messages.push_back(rust::String::lossy(error));
    /* Most builds succeed, and were never known to fail. */
    if (messages.empty() && !successesMatter)
        return false;
    auto ended = evidence(store, path, store.readDerivation(path));
    ended.status = areBuilt(store, ended.outputs) ? core::Status::Built : core::Status::Reported;
    ended.messages = std::move(messages);
    ended.machine = build.machine;
    ended.normal_mode = !build.again;
    return sayRecorded(ended, core::build_ended(policy, ended, *build.running));
}

void DaemonObserver::settle()
{
    /* A check or a repair says nothing of the build of missing outputs. */
    if (mode != bmNormal)
        builds.clear();
    if (builds.empty())
        return;
    bool known = isYes(core::has_records(policy));
    bool recorded = false;
    for (auto & [path, build] : builds)
        harmless([&] { recorded |= settle(path, build, known); });
    builds.clear();
    if (recorded)
        report(core::tidy(policy));
}

} // namespace negative_cache
