#pragma once
/* Hears what Nix tells its logger of builds: Nix has no virtual function that would report them. */

#include "compat.hh"

namespace negative_cache {

/* Hears what this thread's builds say, for as long as it lives and somebody eavesdrops. */
class Listener
{
    Listener * const outer;

public:
    Listener();
    virtual ~Listener();
    Listener(const Listener &) = delete;

    /* The listener of this thread, or null. */
    static Listener * current();

    virtual void activityStarted(
        nix::ActivityId activity, nix::ActivityType type, const nix::Logger::Fields & fields, nix::ActivityId parent) = 0;
    virtual void activityResult(nix::ActivityId activity, nix::ResultType type, const nix::Logger::Fields & fields) = 0;
    virtual void activityStopped(nix::ActivityId) {}
    virtual void errorLogged(std::string_view text) = 0;
    /* Nix reports an error, such as that of a goal which others depend on. */
    virtual void errorReported(const nix::ErrorInfo &) {}
};

/* A field of an activity or a result that is text, for as long as the fields are there. */
std::optional<std::string_view> textField(const nix::Logger::Fields & fields, size_t place);

/* Puts a logger that tells this thread's listener in front of Nix's, for as long as it lives. */
class Eavesdropping
{
public:
    Eavesdropping();
    ~Eavesdropping();
    Eavesdropping(const Eavesdropping &) = delete;
};

/* For as long as it lives, nobody is told of activities of this thread: there is nothing to wait for, and each of them is a
   message to the client of a daemon. */
class Unannounced
{
    const bool outer;

public:
    explicit Unannounced(bool unannounced);
    ~Unannounced();
    Unannounced(const Unannounced &) = delete;
};

} // namespace negative_cache
