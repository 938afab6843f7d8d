/* Preloaded into Nix: a file system that has no locks for the failure database (if NO_LOCKS is set), and a clock that is
   ahead by the seconds in the file CLOCK. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int has_no_locks(int file)
{
    char link[64], name[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    return getenv("NO_LOCKS") && readlink(link, name, sizeof name - 1) > 0 && strstr(name, "failures.sqlite");
}

int fcntl(int file, int command, ...)
{
    va_list rest;
    va_start(rest, command);
    void * argument = va_arg(rest, void *);
    va_end(rest);
    switch (command) {
    case F_GETLK: case F_SETLK: case F_SETLKW: case F_OFD_GETLK: case F_OFD_SETLK: case F_OFD_SETLKW:
        if (has_no_locks(file)) {
            errno = ENOLCK;
            return -1;
        }
    }
    return syscall(SYS_fcntl, file, command, argument);
}

int fcntl64(int, int, ...) __attribute__((alias("fcntl")));

static long ahead(void)
{
    char text[32] = "";
    int file = getenv("CLOCK") ? open(getenv("CLOCK"), O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    return length > 0 ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec * now)
{
    int result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += ahead();
    return result;
}

int gettimeofday(struct timeval * restrict now, void * restrict zone)
{
    int result = syscall(SYS_gettimeofday, now, zone);
    if (result == 0)
        now->tv_sec += ahead();
    return result;
}

time_t time(time_t * now)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now)
        *now = exact.tv_sec;
    return exact.tv_sec;
}
