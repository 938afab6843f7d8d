#pragma once
/* Nix's logger, and one that can stand in front of it. */

#include "nix.hh"

namespace negative_cache::compat {

inline nix::Logger * currentLogger()
{
    return &*nix::logger;
}

/* Makes `next` the logger of this process. The one before stays alive, and belongs to the caller until it is put back. */
inline void replaceLogger(nix::Logger * next)
{
#if NIX_AT_LEAST(2, 35)
    nix::logger = next;
#elif NIX_AT_LEAST(2, 28)
    (void) nix::logger.release();
    nix::logger.reset(next);
#else
    nix::logger = next;
#endif
}

/* A logger that passes everything on to another one. */
class ForwardingLogger : public nix::Logger
{
protected:
    nix::Logger & inner;

public:
    explicit ForwardingLogger(nix::Logger & inner)
        : inner(inner)
    {
    }

    /* What was passed on. */
    virtual void logged(nix::Verbosity level, std::string_view text) = 0;

    void stop() override { inner.stop(); }
    bool isVerbose() override { return inner.isVerbose(); }
    void logEI(const nix::ErrorInfo & info) override { inner.logEI(info); }
    void warn(const std::string & text) override { inner.warn(text); }
    void writeToStdout(std::string_view text) override { inner.writeToStdout(text); }
    std::optional<char> ask(std::string_view text) override { return inner.ask(text); }

    void startActivity(
        nix::ActivityId activity,
        nix::Verbosity level,
        nix::ActivityType type,
        const std::string & text,
        const Fields & fields,
        nix::ActivityId parent) override
    {
        inner.startActivity(activity, level, type, text, fields, parent);
    }

    void stopActivity(nix::ActivityId activity) override { inner.stopActivity(activity); }

    void result(nix::ActivityId activity, nix::ResultType type, const Fields & fields) override
    {
        inner.result(activity, type, fields);
    }

#if NIX_AT_LEAST(2, 26)
    void log(nix::Verbosity level, std::string_view text) override
    {
        inner.log(level, text);
        logged(level, text);
    }

    void pause() override { inner.pause(); }
    void resume() override { inner.resume(); }
    void setPrintBuildLogs(bool print) override { inner.setPrintBuildLogs(print); }
#else
    void log(nix::Verbosity level, const nix::FormatOrString & text) override
    {
        inner.log(level, text);
        logged(level, text.s);
    }
#endif
};

} // namespace negative_cache::compat
