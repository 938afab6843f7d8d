#pragma once
/* Turns what Nix logs about builds into events. Nix has no virtual function that would report how builds end. */

#include "nix.hh"

namespace negative_cache::compat {

/* A builder has been started (`actBuild`), here or on another machine. */
struct BuildStarted
{
    nix::ActivityId activity, parent;
    /* The path of the derivation. */
    std::string_view derivation;
    /* The other machine that builds; empty if this machine does. */
    std::string_view machine;
    /* How often the builder has been started for the same request (`repeat`, until 2.11). */
    uint64_t round;
};

/* Receives the events of the builds of its thread, while it lives and a `ListeningLogger` exists. Its functions may throw
   `Interrupted` and nothing else. In older versions of Nix a thread meets that exception only once, so it must pass; since
   2.36 loggers throw nothing, and Nix asks again. */
class Listener
{
    Listener * const outer;

public:
    Listener();
    virtual ~Listener();
    Listener(const Listener &) = delete;

    /* The listener of this thread, or null. */
    static Listener * current();

    virtual void buildStarted(const BuildStarted & build) = 0;
    /* A line of the log. It comes with an activity of the build. */
    virtual void logLine(nix::ActivityId activity, std::string_view line) = 0;

    /* An activity has reported its progress. When a goal that builds is done, it reports progress
       (`Worker::updateProgress`). */
    virtual void progressed(nix::ActivityId) {}

    virtual void activityEnded(nix::ActivityId) {}

    /* A text was logged as an error. */
    virtual void errorLogged(std::string_view text) = 0;

    /* Nix has reported an error, such as that of a goal which others depend on. */
    virtual void errorReported(const nix::ErrorInfo &) {}
};

/* While an object of this class lives, the logger of this process tells the listener of each thread about builds, and
   passes everything on to the logger before it. */
class ListeningLogger
{
public:
    ListeningLogger();
    ~ListeningLogger();
    ListeningLogger(const ListeningLogger &) = delete;
};

/* While an object of this class lives, activities of this thread are not passed on. This is for requests in which there
   is nothing to wait for, because each activity is a message to the client of a daemon. */
class QuietActivities
{
    const bool outer;

public:
    explicit QuietActivities(bool quiet);
    ~QuietActivities();
    QuietActivities(const QuietActivities &) = delete;
};

} // namespace negative_cache::compat
