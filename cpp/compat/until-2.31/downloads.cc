#include "../downloads.hh"

namespace negative_cache::compat {

using namespace nix;

bool HttpAddress::isFor(const std::string & url)
{
    return hasPrefix(url, "http://") || hasPrefix(url, "https://");
}

#if NIX_AT_LEAST(2, 30)
HttpAddress::HttpAddress(const std::string & url)
{
    auto config = resolveStoreConfig(StoreReference::parse(url)).dynamic_pointer_cast<HttpBinaryCacheStoreConfig>();
    if (!config)
        throw Error("'%s' is no binary cache", url);
#  if NIX_AT_LEAST(2, 31)
    key = base = config->cacheUri.to_string();
#  else
    key = base = config->cacheUri;
#  endif
    storeDir = config->storeDir;
}
#else
HttpAddress::HttpAddress(const std::string & url)
{
    auto parsed = parseURL(url);
    base = parsed.scheme + "://" + parsed.authority.value_or("") + parsed.path;
#  if NIX_AT_LEAST(2, 18)
    while (hasSuffix(base, "/"))
        base.pop_back();
#  else
    if (hasSuffix(base, "/"))
        base.pop_back();
#  endif
    key = base;
    auto store = parsed.query.find("store");
    storeDir = store == parsed.query.end() ? settings.nixStore : store->second;
}
#endif

FileTransferRequest HttpAddress::request(const std::string & path) const
{
    FileTransferRequest request(base + "/" + path);
    request.tries = 1;
    return request;
}

OwnFileTransfer::OwnFileTransfer()
    : transfer(makeFileTransfer())
{
}

void OwnFileTransfer::enqueue(
    FileTransferRequest request,
    std::function<void(std::string_view)> onData,
    std::function<void(std::future<FileTransferResult>)> onEnd)
{
    if (!hasPrefix(request.uri, "http://"))
        requests++;
    request.dataCallback = std::move(onData);
    transfer->enqueueFileTransfer(request, {std::move(onEnd)});
}

} // namespace negative_cache::compat
