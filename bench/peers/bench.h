/* bench.h: what a peer must offer to be measured. One peer is one file that
 * defines one `struct peer_ops`; bench.c owns every clock, thread and count. */
#ifndef BENCH_H
#define BENCH_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus /* C++23, for stdatomic.h */
extern "C" {
#endif

enum { PAYLOAD = 256, BATCH = 1000, FETCH = 100, KEYS = 10000 };

/* One connection, used by one thread at a time. Each peer defines it. */
typedef struct conn conn;

/* Where a peer hands over each event it reads; called in stream order. */
struct sink {
    void (*on_event)(struct sink *, const void *data, size_t len);
    atomic_long seen; /* events handed over, bumped by on_event */
    void *arg;
};

/* A job that was taken and is not yet done. */
struct job {
    uint64_t num; /* either of these three, as the peer likes */
    char id[64];
    void *ref;
    size_t len;
    unsigned char data[PAYLOAD];
};

/* Every call returns -1 on failure, after printing why. NULL: not offered.
 * "Durable": the peer has synced the change to disk before the call returns. */
struct peer_ops {
    const char *name;
    conn *(*open)(const char *addr, int thread);
    void (*close)(conn *);

    int (*stream_make)(conn *, const char *stream);
    int (*append)(conn *, const char *stream, const void *data, size_t len); /* durable */
    /* S5 only: hands over without waiting for the ack. NULL: append does. */
    int (*offer)(conn *, const char *stream, const void *data, size_t len);
    /* Appends payload(0..n-1), pipelined as the client does it best; durable.
     * May stop early once late() says so. Returns how many were acknowledged. */
    long (*append_many)(conn *, const char *stream, long n);
    /* Reads n events from the start, in order. Returns how many. */
    long (*read)(conn *, const char *stream, long n, struct sink *);
    /* Delivers what is appended after *ready was set, until *stop. */
    int (*subscribe)(conn *, const char *stream, struct sink *, atomic_int *ready,
                     atomic_int *stop);

    int (*queue_make)(conn *, const char *queue);
    int (*put)(conn *, const char *queue, const void *data, size_t len); /* durable */
    long (*put_many)(conn *, const char *queue, long n);
    /* Waits up to wait_ms for a job. Returns 1, or 0 if there was none. */
    int (*take)(conn *, const char *queue, struct job *, int wait_ms);
    int (*done)(conn *, const char *queue, struct job *); /* durable */
    /* Takes and acknowledges up to n jobs, FETCH at a time. Returns how many. */
    long (*drain)(conn *, const char *queue, long n);

    int (*kv_make)(conn *);
    int (*set)(conn *, const char *key, const void *data, size_t len); /* durable */
    long (*get)(conn *, const char *key, void *buf, size_t cap);       /* length */
};

/* Offered by bench.c to the peers. */
void payload(unsigned char buf[PAYLOAD], uint64_t seq); /* seq, then noise */
uint64_t now_ns(void);
int late(void); /* past the time limit of this workload? */
int fail(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* prints, returns -1 */
#define CHECK(cond, ...)                                                                           \
    do {                                                                                           \
        if (!(cond))                                                                               \
            return fail(__VA_ARGS__);                                                              \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
