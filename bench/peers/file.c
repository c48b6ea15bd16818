/* file.c: no server, the floor under every durable figure: a log file in this
 * process, zeros written ahead, one fdatasync for all writers that wait. */
#include "bench.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { AHEAD = 160 << 20 };

struct conn {
    char dir[256];
    int fd;
};

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t synced = PTHREAD_COND_INITIALIZER;
static unsigned char *pending; /* appended, not yet being written */
static size_t pending_len, pending_cap;
static uint64_t batch, done_batch; /* number of the pending batch; last one synced */
static int busy;                   /* some thread writes and syncs */
static off_t at;

static conn *open_(const char *addr, int thread)
{
    (void)thread;
    conn *c = calloc(1, sizeof *c);
    snprintf(c->dir, sizeof c->dir, "%s", addr);
    c->fd = -1;
    return c;
}

static void close_(conn *c)
{
    if (c->fd >= 0)
        close(c->fd);
    free(c);
}

static int log_open(conn *c, const char *stream, int flags)
{
    char path[320];
    if (c->fd >= 0)
        return 0;
    snprintf(path, sizeof path, "%s/%s.log", c->dir, stream);
    c->fd = open(path, flags, 0600);
    CHECK(c->fd >= 0, "open %s", path);
    return 0;
}

static int stream_make(conn *c, const char *stream)
{
    static char zeros[1 << 20];
    if (log_open(c, stream, O_RDWR | O_CREAT | O_TRUNC))
        return -1;
    for (int i = 0; i < AHEAD; i += sizeof zeros)
        CHECK(write(c->fd, zeros, sizeof zeros) == sizeof zeros, "write");
    CHECK(!fsync(c->fd), "fsync");
    close(c->fd);
    c->fd = -1;
    return 0;
}

static int append(conn *c, const char *stream, const void *data, size_t len)
{
    if (log_open(c, stream, O_RDWR))
        return -1;
    pthread_mutex_lock(&mu);
    if (pending_len + len > pending_cap)
        pending = realloc(pending, pending_cap = (pending_cap + len) * 2);
    memcpy(pending + pending_len, data, len);
    pending_len += len;
    uint64_t mine = batch + 1;
    while (done_batch < mine) {
        if (busy) {
            pthread_cond_wait(&synced, &mu);
            continue;
        }
        unsigned char *buf = pending;
        size_t n = pending_len;
        pending = NULL;
        pending_len = pending_cap = 0;
        busy = 1;
        batch++;
        pthread_mutex_unlock(&mu);
        int ok = pwrite(c->fd, buf, n, at) == (ssize_t)n && !fdatasync(c->fd);
        free(buf);
        pthread_mutex_lock(&mu);
        at = (at + n) % (AHEAD - (1 << 20)); /* timed runs may wrap; s3 and s4 fit */
        busy = 0;
        done_batch = batch;
        pthread_cond_broadcast(&synced);
        if (!ok) {
            pthread_mutex_unlock(&mu);
            return fail("write");
        }
    }
    pthread_mutex_unlock(&mu);
    return 0;
}

static long append_many(conn *c, const char *stream, long n)
{
    static unsigned char buf[BATCH][PAYLOAD];
    long i = 0;
    if (log_open(c, stream, O_RDWR))
        return -1;
    while (i < n && !late()) {
        int k = 0;
        for (; k < BATCH && i < n; k++)
            payload(buf[k], i++);
        CHECK(write(c->fd, buf, k * PAYLOAD) == k * PAYLOAD && !fdatasync(c->fd), "write");
    }
    return i;
}

static long read_(conn *c, const char *stream, long n, struct sink *s)
{
    static unsigned char buf[BATCH][PAYLOAD];
    long got = 0;
    if (log_open(c, stream, O_RDONLY))
        return -1;
    while (got < n) {
        ssize_t k = read(c->fd, buf, sizeof buf) / PAYLOAD;
        CHECK(k > 0, "read");
        for (int i = 0; i < k && got < n; i++, got++)
            s->on_event(s, buf[i], PAYLOAD);
    }
    return got;
}

const struct peer_ops file_ops = {.name = "file",
                                  .open = open_,
                                  .close = close_,
                                  .stream_make = stream_make,
                                  .append = append,
                                  .append_many = append_many,
                                  .read = read_};
