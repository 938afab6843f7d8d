#include "daemon.hh"

namespace negative_cache::compat {

using namespace nix;

bool askValidity(RemoteStore::Connection & connection, const std::string & path)
{
#if NIX_AT_LEAST(2, 26)
    connection.to << WorkerProto::Op::IsValidPath << path;
    auto error = connection.processStderrReturn();
#else
    connection.to << wopIsValidPath << path;
    auto error = connection.processStderr();
#endif
    /* The daemon may have another store directory or other rules for paths, and take the path for an error. */
    if (error)
        return false;
    return readInt(connection.from);
}

bool tellsResults(Store & store)
{
    /* The minor version is the lower byte, in every version (worker-protocol.hh). */
    return (store.getProtocol() & 0xff) >= 34;
}

} // namespace negative_cache::compat
