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
        auto path = store.parseStorePath(std::string(*derivation));
        /* A second one is what another machine says of its own build, or another round. */
        std::string machine(textField(fields, 1).value_or(""));
        auto & build = builds.try_emplace(path, Build{machine, false, core::start_build(policy)}).first->second;
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

void DaemonObserver::errorLogged(std::string_view whole)
{
    auto text = compat::excerpt(whole);
    bool ofAnOutput = text.find("' is not allowed to refer to the following paths:") != text.npos
        || text.find("' is too large at ") != text.npos;
    bool ofADerivation = text.find("builder for '") != text.npos || text.find("Cannot build '") != text.npos
        || text.find("cycle detected in build of '") != text.npos;
    if (!ofAnOutput && !ofADerivation)
        return;
    /* More than that is not what Nix says, but what builders say in its name. */
    constexpr size_t most = 16 * 1024 * 1024;
    if (sizeOfErrors + text.size() > most)
        return;
    sizeOfErrors += text.size();
    errors.push_back(std::move(text));
    namesOutputs |= ofAnOutput;
}

rust::Vec<rust::String> DaemonObserver::errorsAbout(const StringSet & names) const
{
    rust::Vec<rust::String> found;
    for (auto & error : errors)
        if (std::any_of(names.begin(), names.end(), [&](auto & name) { return error.find(name) != error.npos; }))
            found.push_back(rust::String::lossy(error));
    return found;
}

bool DaemonObserver::settle(const StorePath & path, const Build & build, bool successesMatter)
{
    StringSet names{std::string(path.to_string())};
    auto messages = errorsAbout(names);
    /* Most builds succeed, and were never known to fail. */
    if (messages.empty() && !namesOutputs && !successesMatter)
        return false;
    auto ended = evidence(store, path, store.readDerivation(path));
    if (namesOutputs) {
        for (auto & output : ended.outputs)
            names.insert(std::string(output.path));
        messages = errorsAbout(names);
        if (messages.empty() && !successesMatter)
            return false;
    }
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
