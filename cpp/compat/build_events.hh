#pragma once
/* What Nix tells its logger of builds, as events: Nix has no virtual function that would report how builds end. */

#include "nix.hh"

namespace negative_cache::compat {

/* A builder has been started (`actBuild`), here or on another machine. */
struct BuildStarted
{
    nix::ActivityId activity, parent;
    /* The path of the derivation. */
    std::string_view derivation;
    /* The other machine; empty if it is this one. */
    std::string_view machine;
    /* How often the builder has been started for the same request (`repeat`, until 2.11). */
    uint64_t round;
};

/* Hears what the builds of its thread tell the logger, for as long as it lives and `ListeningLogger` is there. Nothing is thrown
   here: since 2.36, loggers must not. */
class Listener
{
    Listener * const outer;

public:
    Listener();
    virtual ~Listener();
    Listener(const Listener &) = delete;

    /* The listener of this thread, or null. */
    static Listener * current();

    virtual void buildStarted(const BuildStarted & build) noexcept = 0;
    /* A line of the log, which comes by an activity of a build. */
    virtual void logLine(nix::ActivityId activity, std::string_view line) noexcept = 0;

    /* An activity has told how far it is. A goal that builds does so when it is done (`Worker::updateProgress`). */
    virtual void progressed(nix::ActivityId) noexcept {}

    virtual void activityEnded(nix::ActivityId) noexcept {}

    /* A text was logged as an error. */
    virtual void errorLogged(std::string_view text) noexcept = 0;

    /* Nix has reported an error, such as that of a goal which others depend on. */
    virtual void errorReported(const nix::ErrorInfo &) noexcept {}
};

/* For as long as it lives, this process has a logger that tells the listener of each thread and passes everything on. */
class ListeningLogger
{
public:
    ListeningLogger();
    ~ListeningLogger();
    ListeningLogger(const ListeningLogger &) = delete;
};

/* For as long as it lives, nobody is told of activities of this thread: there is nothing to wait for, and each of them is a
   message to the client of a daemon. */
class QuietActivities
{
    const bool outer;

public:
    explicit QuietActivities(bool quiet);
    ~QuietActivities();
    QuietActivities(const QuietActivities &) = delete;
};

} // namespace negative_cache::compat
