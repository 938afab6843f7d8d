#include "counts.hh"
#include "guard.hh"

#include <cstdlib>

namespace negative_cache {

using namespace nix;

void countRefusals(const core::Policy & policy, const rust::Vec<core::RefusedDerivation> & refused)
{
    guarded([&] { core::count_refusals(policy, refused); });
}

static void writeTheRest() noexcept
{
    guardedNoexcept([] { core::write_all_counts(); });
}

CountsOfRequest::CountsOfRequest(const core::Policy & policy)
    : policy(policy)
{
}

CountsOfRequest::~CountsOfRequest()
{
    guardedNoexcept([&] {
        if (core::write_counts(policy)) {
            [[maybe_unused]] static const int registered = std::atexit(writeTheRest);
        }
    });
}

} // namespace negative_cache
