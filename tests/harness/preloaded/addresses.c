/* Preloaded into Nix: every C++ object has a higher address than those that were made before it. Nix 2.35 starts goals in the
   order of their addresses (`WeakGoals`, goal.hh), so that any other use of the heap could mean another order. */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { ALIGNMENT = 16 };
static const size_t SIZE = (size_t) 16 << 30;
static _Atomic(char *) next;
static char * end;

/* Called by the first `new`, when there is one thread. */
static void reserve(void)
{
    char * start = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED)
        abort();
    end = start + SIZE;
    next = start;
}

/* `operator new`, which those for arrays call. */
void * _Znwm(size_t size)
{
    if (!next)
        reserve();
    char * object = atomic_fetch_add(&next, (size + ALIGNMENT) / ALIGNMENT * ALIGNMENT);
    if (object + size >= end)
        abort();
    return object;
}

/* `operator delete`, which the others call. */
void _ZdlPv(void * object)
{
    (void) object;
}
