#include "build_events.hh"

#include <map>
#include <mutex>

namespace negative_cache::compat {

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

static thread_local bool quietActivities = false;

QuietActivities::QuietActivities(bool quiet)
    : outer(std::exchange(quietActivities, quietActivities || quiet))
{
}

QuietActivities::~QuietActivities()
{
    quietActivities = outer;
}

namespace {

#if NIX_AT_LEAST(2, 36)
using LogFields = std::span<const Logger::Field>;
#else
using LogFields = const Logger::Fields &;
#endif

/* Whether loggers may not throw. */
#if NIX_AT_LEAST(2, 36) || IS_DETERMINATE_NIX
#  define LOGGERS_ARE_NOEXCEPT 1
#  define NEGATIVE_CACHE_LOGS noexcept override
#else
#  define LOGGERS_ARE_NOEXCEPT 0
#  define NEGATIVE_CACHE_LOGS override
#endif

/* A field if it is text, or nothing. The result is valid for as long as the fields are. */
std::optional<std::string_view> text(LogFields fields, size_t index)
{
    if (fields.size() <= index)
        return std::nullopt;
    auto & field = fields[index];
#if NIX_AT_LEAST(2, 36)
    auto string = std::get_if<std::string>(&field);
    return string ? std::optional<std::string_view>(*string) : std::nullopt;
#else
    return field.type == Logger::Field::tString ? std::optional<std::string_view>(field.s) : std::nullopt;
#endif
}

/* A field if it is a number, or 0. */
uint64_t number(LogFields fields, size_t index)
{
    if (fields.size() <= index)
        return 0;
    auto & field = fields[index];
#if NIX_AT_LEAST(2, 36)
    auto integer = std::get_if<uint64_t>(&field);
    return integer ? *integer : 0;
#else
    return field.type == Logger::Field::tInt ? field.i : 0;
#endif
}

/* Tells the listener of this thread about builds, if there is one. */
template<typename Tell>
void tellListener(Tell && tell)
{
    auto listener = Listener::current();
    if (!listener)
        return;
#if LOGGERS_ARE_NOEXCEPT
    try {
        tell(*listener);
    } catch (...) {
    }
#else
    tell(*listener);
#endif
}

/* Passes everything on to another logger, and tells the listener of this thread about builds. */
class Forwarding : public Logger
{
    Logger & inner;

    void tellOfError(Verbosity level, std::string_view text)
    {
        if (level == lvlError)
            tellListener([&](Listener & listener) { listener.errorLogged(text); });
    }

public:
    explicit Forwarding(Logger & inner)
        : inner(inner)
    {
    }

    void stop() override
    {
        inner.stop();
    }

    bool isVerbose() override
    {
        return inner.isVerbose();
    }

    void warn(const std::string & text) NEGATIVE_CACHE_LOGS
    {
        inner.warn(text);
    }

    void writeToStdout(std::string_view text) override
    {
        inner.writeToStdout(text);
    }

    std::optional<char> ask(std::string_view text) override
    {
        return inner.ask(text);
    }

    void logEI(const ErrorInfo & info) NEGATIVE_CACHE_LOGS
    {
        inner.logEI(info);
        if (info.level == lvlError)
            tellListener([&](Listener & listener) { listener.errorReported(info); });
    }

    void startActivity(
        ActivityId activity,
        Verbosity level,
        ActivityType type,
        const std::string & message,
        LogFields fields,
        ActivityId parent) NEGATIVE_CACHE_LOGS
    {
        if (!quietActivities)
            inner.startActivity(activity, level, type, message, fields, parent);
        if (auto derivation = text(fields, 0); derivation && type == actBuild)
            tellListener([&](Listener & listener) {
                listener.buildStarted(
                    {activity, parent, *derivation, text(fields, 1).value_or(std::string_view()), number(fields, 2)});
            });
    }

    void result(ActivityId activity, ResultType type, LogFields fields) NEGATIVE_CACHE_LOGS
    {
        /* The listener comes first. The other logger may wait for a reader that is slow, and the locks that are held
           until a build is recorded must not wait for that. */
        tellListener([&](Listener & listener) {
            if (type == resProgress)
                listener.progressed(activity);
            else if (auto line = text(fields, 0); line && type == resBuildLogLine)
                listener.logLine(activity, *line);
        });
        if (!quietActivities)
            inner.result(activity, type, fields);
    }

    void stopActivity(ActivityId activity) NEGATIVE_CACHE_LOGS
    {
        tellListener([&](Listener & listener) { listener.activityEnded(activity); });
        if (!quietActivities)
            inner.stopActivity(activity);
    }

#if NIX_AT_LEAST(2, 18)
    void log(Verbosity level, std::string_view text) NEGATIVE_CACHE_LOGS
    {
        inner.log(level, text);
        tellOfError(level, text);
    }

    void pause() override
    {
        inner.pause();
    }

    void resume() override
    {
        inner.resume();
    }

    void setPrintBuildLogs(bool print) override
    {
        inner.setPrintBuildLogs(print);
    }
#else
    void log(Verbosity level, const FormatOrString & text) override
    {
        inner.log(level, text);
        tellOfError(level, text.s);
    }
#endif

#if LOGGERS_ARE_NOEXCEPT
    void result(ActivityId activity, ResultType type, const nlohmann::json & json) NEGATIVE_CACHE_LOGS
    {
        inner.result(activity, type, json);
    }
#endif
};

Logger * currentLogger()
{
    return &*logger;
}

/* Makes `next` the logger of this process. The logger before it stays alive, and belongs to the caller until it is put
   back. The pointer is never null in between, because other threads may log. */
void replaceLogger(Logger * next)
{
#if NIX_AT_LEAST(2, 28) && !NIX_AT_LEAST(2, 35) && !IS_DETERMINATE_NIX
    std::unique_ptr<Logger> replacement(next);
    logger.swap(replacement);
    (void) replacement.release();
#else
    logger = next;
#endif
}

/* Builds can run in several threads of one process (recursive Nix), with one logger for all. */
struct Installed
{
    std::mutex mutex;
    unsigned int users = 0;
    Logger * original = nullptr;
    /* Never destroyed: activities keep a reference to the logger they were made with, and some outlive the build. */
    std::map<Logger *, Forwarding *> loggers;
};

Installed & installed()
{
    static auto * instance = new Installed;
    return *instance;
}

} // namespace

ListeningLogger::ListeningLogger()
{
    auto & state = installed();
    std::lock_guard lock(state.mutex);
    if (state.users++)
        return;
    state.original = currentLogger();
    auto & forwarding = state.loggers[state.original];
    if (!forwarding)
        forwarding = new Forwarding(*state.original);
    replaceLogger(forwarding);
}

ListeningLogger::~ListeningLogger()
{
    auto & state = installed();
    std::lock_guard lock(state.mutex);
    if (--state.users)
        return;
    /* A logger that somebody else has set in the meantime stays. */
    if (currentLogger() == state.loggers[state.original])
        replaceLogger(state.original);
}

} // namespace negative_cache::compat
