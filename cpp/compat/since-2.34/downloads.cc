#include "../downloads.hh"
#include "../private_member.hh"

namespace negative_cache::compat {

using namespace nix;

bool HttpAddress::isFor(const std::string & url)
{
    return hasPrefix(url, "http://") || hasPrefix(url, "https://") || hasPrefix(url, "s3://");
}

/* Knows how a cache's client certificate and the region of a bucket become part of a request. */
struct RequestOfHttpStore
{
    friend auto memberOf(RequestOfHttpStore);
};

template struct PrivateMember<RequestOfHttpStore, &HttpBinaryCacheStore::makeRequest>;

/* A store object that was not initialised, and so has asked nothing. */
static ref<HttpBinaryCacheStore> httpStore(const std::string & url)
{
    auto config = resolveStoreConfig(StoreReference::parse(url)).dynamic_pointer_cast<HttpBinaryCacheStoreConfig>();
    if (!config)
        throw Error("'%s' is no binary cache", url);
    return make_ref<HttpBinaryCacheStore>(ref(config));
}

HttpAddress::HttpAddress(const std::string & url)
    : store(httpStore(url))
    , key(store->config->getReference().render(/*withParams=*/false))
    , storeDir(store->storeDir)
{
}

FileTransferRequest HttpAddress::request(const std::string & path) const
{
    auto request = (&*store->*memberOf(RequestOfHttpStore{}))(path);
#if NIX_AT_LEAST(2, 35)
    request.retryAttempts = 1;
#endif
    return request;
}

/* KiB a second that a download may have. Nix keeps all of an error's page in memory, so not too much of it may come before the
   deadline. What is asked for here is small. */
static constexpr unsigned int speedLimit = 4096;

OwnFileTransfer::OwnFileTransfer()
{
    std::map<std::string, AbstractConfig::SettingInfo> changed;
    fileTransferSettings.getSettings(changed, /*overriddenOnly=*/true);
    for (auto & [name, setting] : changed)
        settings.set(name, setting.value);
    settings.tries = 1;
    if (settings.downloadSpeed == 0 || settings.downloadSpeed > speedLimit)
        settings.downloadSpeed = speedLimit;
    transfer = makeFileTransfer(settings);
}

void OwnFileTransfer::enqueue(
    FileTransferRequest request,
    std::function<void(std::string_view)> onData,
    std::function<void(std::future<FileTransferResult>)> onEnd)
{
    if (!hasPrefix(request.uri.to_string(), "http://"))
        requests++;
    request.dataCallback = [onData = std::move(onData)](std::string_view data) {
        onData(data);
        return PauseTransfer::No;
    };
    transfer->enqueueFileTransfer(request, {[onEnd = std::move(onEnd)](std::future<FileTransferResult> result) {
                                      onEnd(std::move(result));
                                  }});
}

} // namespace negative_cache::compat
