#pragma once

/* Gives access to private members of Nix's classes: an explicit instantiation may name them ([temp.spec.general]). */

namespace negative_cache::compat {

/* After `struct T { friend auto memberOf(T); };` and `template struct PrivateMember<T, &Class::member>;`,
   `memberOf(T{})` is the pointer to that member. */
template<typename Tag, auto member>
struct PrivateMember
{
    friend auto memberOf(Tag)
    {
        return member;
    }
};

} // namespace negative_cache::compat
