#pragma once
/* Variables in inline functions of Nix's headers. The plugin has a copy of each, and would use its own copy, because it
   exports nothing but its entry. So Nix's copy is looked up by its name. */

#include "nix.hh"

#include <dlfcn.h>

namespace negative_cache::compat {

template<typename Variable>
Variable & exportedVariable(const char * mangledName)
{
    auto found = dlsym(RTLD_DEFAULT, mangledName);
    if (!found)
        throw nix::Error("this Nix exports no variable '%s'", mangledName);
    return *static_cast<Variable *>(found);
}

} // namespace negative_cache::compat
