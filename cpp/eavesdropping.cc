#include "eavesdropping.hh"

#include <map>
#include <mutex>

namespace negative_cache {

using namespace nix;

static thread_local Listener * currentListener = nullptr;

Listener * Listener::current()
{
    return currentListener;
}

Listener::Listener()
    : outer(std::exchange(currentListener, this))
{
}

Listener::~Listener()
{
    currentListener = outer;
}

static thread_local bool unannounced = false;

Unannounced::Unannounced(bool now)
    : outer(std::exchange(unannounced, unannounced || now))
{
}

Unannounced::~Unannounced()
{
    unannounced = outer;
}

std::optional<std::string_view> textField(const Logger::Fields & fields, size_t place)
{
    if (fields.size() <= place || fields[place].type != Logger::Field::tString)
        return std::nullopt;
    return fields[place].s;
}

namespace {

class EavesdroppingLogger : public compat::ForwardingLogger
{
public:
    using ForwardingLogger::ForwardingLogger;

    void logEI(const ErrorInfo & info) override
    {
        ForwardingLogger::logEI(info);
        if (auto listener = Listener::current(); listener && info.level == lvlError)
            listener->errorReported(info);
    }

    void startActivity(
        ActivityId activity,
        Verbosity level,
        ActivityType type,
        const std::string & text,
        const Fields & fields,
        ActivityId parent) override
    {
        if (!unannounced)
            ForwardingLogger::startActivity(activity, level, type, text, fields, parent);
        if (auto listener = Listener::current())
            listener->activityStarted(activity, type, fields, parent);
    }

    void result(ActivityId activity, ResultType type, const Fields & fields) override
    {
        /* First: whom Nix tells may not listen, and what is held until a build is recorded must not wait for that. */
        if (auto listener = Listener::current())
            listener->activityResult(activity, type, fields);
        if (!unannounced)
            ForwardingLogger::result(activity, type, fields);
    }

    void stopActivity(ActivityId activity) override
    {
        if (auto listener = Listener::current())
            listener->activityStopped(activity);
        if (!unannounced)
            ForwardingLogger::stopActivity(activity);
    }

protected:
    void logged(Verbosity level, std::string_view text) override
    {
        if (auto listener = Listener::current(); listener && level == lvlError)
            listener->errorLogged(text);
    }
};

/* Builds can run in several threads of one process (recursive Nix), with one logger for all. */
struct Installed
{
    std::mutex mutex;
    unsigned int users = 0;
    Logger * original = nullptr;
    /* Never destroyed: activities keep a reference to the logger they were made with, and some outlive the build. */
    std::map<Logger *, EavesdroppingLogger *> loggers;
};

Installed & installed()
{
    static auto * instance = new Installed;
    return *instance;
}

} // namespace

Eavesdropping::Eavesdropping()
{
    auto & state = installed();
    std::lock_guard lock(state.mutex);
    if (state.users++)
        return;
    state.original = compat::currentLogger();
    auto & eavesdropping = state.loggers[state.original];
    if (!eavesdropping)
        eavesdropping = new EavesdroppingLogger(*state.original);
    compat::replaceLogger(eavesdropping);
}

Eavesdropping::~Eavesdropping()
{
    auto & state = installed();
    std::lock_guard lock(state.mutex);
    if (--state.users)
        return;
    /* Somebody else's logger stays. */
    if (compat::currentLogger() == state.loggers[state.original])
        compat::replaceLogger(state.original);
}

} // namespace negative_cache
