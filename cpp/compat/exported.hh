#pragma once
/* Variables in inline functions of Nix's headers. The plugin has each as well, and would use its own, as what it exports is
   limited to its entry; so Nix's is looked up by its name. */

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
