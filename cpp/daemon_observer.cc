#include "daemon_observer.hh"
#include "ended_build.hh"
#include "guard.hh"
#include "output_keys.hh"

#include <algorithm>

namespace negative_cache {

using namespace nix;

DaemonObserver::DaemonObserver(Store & store, BuildMode mode, const core::Policy & policy)
    : store(store)
    , mode(mode)
    , policy(policy)
{
}

void DaemonObserver::start(const compat::BuildStarted & started)
{
    auto path = store.parseStorePath(std::string(started.derivation));
    /* A second start is either a report of another machine about its own build, or another round of the same build. */
    auto [i, isNew] = builds.try_emplace(path, Build{std::string(started.machine), {}, false, core::start_build(policy)});
    auto & build = i->second;
    if (started.round > 1)
        build.again = true;
    else if (!isNew && !build.machine.empty() && !started.machine.empty())
        build.delegate = started.machine;
    activities.insert_or_assign(started.activity, path);
}

void DaemonObserver::buildStarted(const compat::BuildStarted & build)
{
    guarded([&] { start(build); });
}

void DaemonObserver::logLine(ActivityId activity, std::string_view line)
{
    auto path = activities.find(activity);
    if (path == activities.end())
        return;
    if (auto build = builds.find(path->second); build != builds.end())
        core::log_line(*build->second.running, {reinterpret_cast<const uint8_t *>(line.data()), line.size()});
}

void DaemonObserver::errorLogged(std::string_view whole)
{
    guarded([&] { keep(compat::excerpt(whole)); });
}

void DaemonObserver::keep(std::string && text)
{
    bool ofAnOutput = text.find("' is not allowed to refer to the following paths:") != text.npos
        || text.find("' is too large at ") != text.npos;
    bool ofADerivation = text.find("builder for '") != text.npos || text.find("Cannot build '") != text.npos
        || text.find("cycle detected in build of '") != text.npos;
    if (diskIsFull.empty() && saysDiskIsFull(text))
        diskIsFull = text;
    if (!ofAnOutput && !ofADerivation)
        return;
    /* Nix itself does not say more than that. More text comes from builders that imitate Nix's messages. */
    constexpr size_t most = 16 * 1024 * 1024;
    if (sizeOfErrors + text.size() > most)
        return;
    sizeOfErrors += text.size();
    errors.push_back(std::move(text));
    namesOutputs |= ofAnOutput;
}

/* Calls `found` with each part of a text that may be the base name of a store path: a hash of 32 characters, a dash, and
   all that follows up to a character that no store path has. */
template<typename Found>
static void forEachBaseName(std::string_view text, Found && found)
{
    auto isPart = [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) || std::string_view("+-._?=").find(c) != std::string_view::npos;
    };
    for (size_t start = 0; start < text.size();) {
        if (!isPart(text[start])) {
            ++start;
            continue;
        }
        auto end = start;
        while (end < text.size() && isPart(text[end]))
            ++end;
        if (end - start > StorePath::HashLen && text[start + StorePath::HashLen] == '-')
            found(text.substr(start, end - start));
        start = end;
    }
}

DaemonObserver::ErrorsByName DaemonObserver::errorsByName() const
{
    ErrorsByName byName;
    for (size_t index = 0; index < errors.size(); ++index)
        forEachBaseName(errors[index], [&](std::string_view name) {
            /* A sentence may end with a path, so the name is also kept without the dots at its end. */
            for (auto end : {name.size(), name.find_last_not_of('.') + 1}) {
                auto & indexes = byName.try_emplace(std::string(name.substr(0, end))).first->second;
                if (indexes.empty() || indexes.back() != index)
                    indexes.push_back(index);
            }
        });
    return byName;
}

bool DaemonObserver::settle(
    const StorePath & path,
    const Build & build,
    const ErrorsByName & errorsByName,
    bool successesMatter)
{
    std::set<size_t> about;
    auto add = [&](std::string_view name) {
        if (auto found = errorsByName.find(name); found != errorsByName.end())
            about.insert(found->second.begin(), found->second.end());
    };
    add(path.to_string());
    /* Most builds succeed, and there is no record that their success would lift. Then the derivation need not be read. */
    if (about.empty() && !namesOutputs && !successesMatter)
        return false;
    auto given = derivations.find(path);
    auto ended = endedBuild(store, path, given == derivations.end() ? store.readDerivation(path) : given->second);
    if (namesOutputs)
        for (auto & output : ended.outputs)
            if (auto path = store.maybeParseStorePath(std::string(output.key)))
                add(path->to_string());
    if (about.empty() && !successesMatter)
        return false;
    bool built = areBuilt(store, ended.outputs);
    /* The build was given up, or the daemon was. */
    if (about.empty() && !built)
        return false;
    for (auto index : about)
        ended.messages.push_back(rust::String::lossy(errors[index]));
    if (!diskIsFull.empty())
        ended.messages.push_back(rust::String::lossy(diskIsFull));
    ended.ending = built ? core::Ending::Built : core::Ending::Reported;
    ended.machine = build.machine;
    ended.delegate = build.delegate;
    ended.normal_mode = !build.again;
    auto recorded = core::build_ended(policy, ended, *build.running);
    startHook(policy, ended, recorded);
    sayRecorded(ended, recorded);
    return recorded.is_recorded;
}

void DaemonObserver::settle()
{
    /* A check or a repair says nothing of the build of missing outputs. */
    if (mode != bmNormal)
        builds.clear();
    if (builds.empty())
        return;
    guarded([&] {
        bool known = core::has_records(policy);
        auto byName = errorsByName();
        bool recorded = false;
        for (auto & i : builds)
            guarded([&] { recorded |= settle(i.first, i.second, byName, known); });
        if (recorded)
            core::tidy(policy);
    });
    builds.clear();
}

} // namespace negative_cache
