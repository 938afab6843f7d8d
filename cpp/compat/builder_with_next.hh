#pragma once

#include "builder.hh"

namespace negative_cache::compat {

/* A builder that goes on with another one, `next`. It reads derivations from `evalStore`, if that is not null. */
class BuilderWithNext : public Builder
{
protected:
    const std::shared_ptr<nix::Store> evalStore;
    Builder & next;

    BuilderWithNext(const std::shared_ptr<nix::Store> & evalStore, Builder & next)
        : evalStore(evalStore)
        , next(next)
    {
    }

#if NIX_AT_LEAST(2, 36)
public:
    void ensurePath(const nix::StorePath & path) override
    {
        next.ensurePath(path);
    }

    void repairPath(const nix::StorePath & path) override
    {
        next.repairPath(path);
    }
#endif
};

} // namespace negative_cache::compat
