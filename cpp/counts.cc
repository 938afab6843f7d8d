#include "counts.hh"
#include "guard.hh"

#include <cstdlib>

namespace negative_cache {

using namespace nix;

/* Whether this process has begun to exit. What the end of a process destroys may need what is gone already. */
static std::atomic<bool> isExiting = false;

void countRefusals(const core::Policy & policy, const rust::Vec<core::RefusedDerivation> & refused)
{
    guarded([&] { core::count_refusals(policy, refused); });
}

static void writeTheRest() noexcept
{
    guardedNoexcept([] { core::write_all_counts(); });
}

static void endProcess() noexcept
{
    writeTheRest();
    isExiting = true;
}

CountingStore::~CountingStore()
{
    if (isAnythingLeft && !isExiting)
        writeTheRest();
}

CountsOfRequest::CountsOfRequest(Store & store, const core::Policy & policy)
    : store(store)
    , policy(policy)
{
}

CountsOfRequest::~CountsOfRequest()
{
    guardedNoexcept([&] {
        bool isAnythingLeft = core::write_counts(policy);
        auto counting = dynamic_cast<CountingStore *>(&store);
        if (!counting)
            return;
        if (isAnythingLeft) {
            /* A store that is destroyed at the end of the process was made before this, so that comes after this handler. Up to
               2.34, a daemon's process for a connection exits without closing its store. */
            static const bool isRegistered = std::atexit(endProcess) == 0;
            isAnythingLeft = isRegistered;
        }
        counting->isAnythingLeft = isAnythingLeft;
    });
}

} // namespace negative_cache
