#include "daemon.hh"
#include "private_member.hh"

#include <fcntl.h>
#include <unistd.h>

namespace negative_cache::compat {

using namespace nix;

static std::optional<bool> ask(RemoteStore::Connection & connection, const std::string & path)
{
#if NIX_AT_LEAST(2, 18)
    connection.to << WorkerProto::Op::IsValidPath << path;
#else
    connection.to << wopIsValidPath << path;
#endif
#if NIX_AT_LEAST(2, 24)
    auto error = connection.processStderrReturn();
#else
    auto error = connection.processStderr();
#endif
    if (error)
        return std::nullopt;
    return readInt(connection.from) != 0;
}

std::optional<bool> askValidity(RemoteStore::Connection & connection, const std::string & path)
{
    /* A daemon that rejects a path closes the connection. If that reaches the client before the daemon's error has, there
       is no answer, and what Nix throws is about the closed connection. */
    try {
        return ask(connection, path);
    } catch (Interrupted &) {
        throw;
    } catch (Error &) {
        return std::nullopt;
    }
}

struct OpenConnection
{
    friend auto memberOf(OpenConnection);
};

template struct PrivateMember<OpenConnection, &RemoteStore::openConnection>;

void reconnect(RemoteStore & store, RemoteStore::Connection & connection)
{
    /* Data from the old socket that is in the buffer is no part of the new conversation. Only the buffer is asked, as
       `FdSource::hasData` takes the end of the old socket for data. */
    for (char unread; connection.from.BufferedSource::hasData();)
        static_cast<Source &>(connection.from)(&unread, 1);
    auto fresh = (store.*memberOf(OpenConnection{}))();
    /* Both directions of a connection to a daemon are the same socket. */
    if (::dup3(fresh->from.fd, connection.from.fd, O_CLOEXEC) == -1)
        throw SysError("cannot connect to the daemon again");
}

bool tellsResults(Store & store)
{
    /* The minor version is the lower byte, in every version (worker-protocol.hh). */
    return (store.getProtocol() & 0xff) >= 34;
}

} // namespace negative_cache::compat
