/*
 * Preloaded into the server: its disk fails and its clock jumps when the test says so.
 *
 * The test and this library share a file, which FLOWMESH_SOAK_HOST names: five numbers of 64 bits.
 * What passes here are calls of the C library; the server's index of the write-ahead log, which is
 * mapped, does not. Nothing here may allocate or call the C library's own form of what it replaces.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct host {
    /* Seconds by which the clock is ahead. */
    _Atomic int64_t ahead;
    /* So many writes leave half of their data, and fail. */
    _Atomic int64_t failing_writes;
    /* So many syncs do nothing, and fail. */
    _Atomic int64_t failing_syncs;
    /* What writes fail with. */
    _Atomic int64_t error;
    /* How many calls have failed so far. */
    _Atomic int64_t failed;
};

static struct host calm;
static struct host *host = &calm;

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("FLOWMESH_SOAK_HOST");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *shared = fd < 0
                       ? MAP_FAILED
                       : mmap(NULL, sizeof(struct host), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED) {
        /* A server that nothing happens to would pass every test. */
        abort();
    }
    close(fd);
    host = shared;
}

/* Whether this call is one that has to fail. */
static int fails(_Atomic int64_t *left)
{
    int64_t n = atomic_load(left);
    while (n > 0) {
        if (atomic_compare_exchange_weak(left, &n, n - 1)) {
            atomic_fetch_add(&host->failed, 1);
            return 1;
        }
    }
    return 0;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    if (fails(&host->failing_writes)) {
        if (host->error == EIO) {
            syscall(SYS_pwrite64, fd, data, size / 2, at);
        }
        errno = (int)host->error;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, data, size, at);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    return pwrite64(fd, data, size, at);
}

int fallocate64(int fd, int mode, off64_t at, off64_t size)
{
    if (fails(&host->failing_writes)) {
        errno = (int)host->error;
        return -1;
    }
    return (int)syscall(SYS_fallocate, fd, mode, at, size);
}

int fallocate(int fd, int mode, off_t at, off_t size)
{
    return fallocate64(fd, mode, at, size);
}

static int sync_by(long call, int fd)
{
    if (fails(&host->failing_syncs)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(call, fd);
}

int fsync(int fd)
{
    return sync_by(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return sync_by(SYS_fdatasync, fd);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        now->tv_sec += host->ahead;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    int result = (int)syscall(SYS_gettimeofday, now, zone);
    if (result == 0) {
        now->tv_sec += host->ahead;
    }
    return result;
}

time_t time(time_t *result)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) {
        *result = now.tv_sec;
    }
    return now.tv_sec;
}
