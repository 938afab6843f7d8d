/* Loaded by Nix as a plugin: a thread that looks at `nix::logger` all the time, and at the end writes to the file WATCHED
   how often it saw another logger than before, and how often none. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* `nix::logger`. It is a pointer, or a `std::unique_ptr`, which is laid out like one. */
extern void * logger __asm__("_ZN3nix6loggerE");

static char * watched;
static pthread_t thread;
static int ended;
static unsigned long changes, nulls;

static void * watch(void * unused)
{
    void * last = __atomic_load_n(&logger, __ATOMIC_RELAXED);
    while (!__atomic_load_n(&ended, __ATOMIC_RELAXED)) {
        void * now = __atomic_load_n(&logger, __ATOMIC_RELAXED);
        changes += now != last;
        nulls += !now;
        last = now;
    }
    return unused;
}

/* Runs before the destructors of Nix's globals, as it was registered later. */
static void report(void)
{
    __atomic_store_n(&ended, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    FILE * file = fopen(watched, "w");
    if (!file)
        abort();
    fprintf(file, "%lu changes, %lu nulls\n", changes, nulls);
    fclose(file);
}

__attribute__((constructor)) static void start(void)
{
    char * variable = getenv("WATCHED");
    if (!variable || pthread_create(&thread, NULL, watch, NULL) != 0)
        return;
    watched = strdup(variable);
    atexit(report);
    /* The build hook loads plugins as well, and must not be watched. */
    unsetenv("WATCHED");
}
