/* measure.h: what the programs of this directory share: clocks, CPU time, latencies, and the
 * one JSON line in which each reports. Knows no client. */
#ifndef MEASURE_H
#define MEASURE_H

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* What both clients read and write; names and sizes are part of the comparison. */
#define TENANT "bench"
#define NAMESPACE "client"
#define STORE "values"
#define KEY "key"
#define STREAM_READ "stored"
#define STREAM_WRITE "written"
enum { PAYLOAD = 256 };

static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* User and system time of this process. */
static inline uint64_t cpu_ns(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (uint64_t)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000000u +
           (uint64_t)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1000u;
}

static inline void die(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

/* Fills a payload that does not compress. */
static inline void fill(unsigned char *bytes, size_t len)
{
    uint64_t s = 88172645463325252u;
    for (size_t i = 0; i < len; i++) {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        bytes[i] = (unsigned char)s;
    }
}

struct meter {
    uint64_t started, cpu; /* at the start */
    uint64_t *ns;          /* latency of each timed call */
    size_t count, capacity;
    double allocations; /* of each operation; negative when they were not counted */
};

static inline void meter_start(struct meter *m)
{
    memset(m, 0, sizeof *m);
    m->cpu = cpu_ns();
    m->started = now_ns();
    m->allocations = -1;
}

static inline void meter_add(struct meter *m, uint64_t ns)
{
    if (m->count == m->capacity) {
        m->capacity = m->capacity ? m->capacity * 2 : 1u << 16;
        m->ns = (uint64_t *)realloc(m->ns, m->capacity * sizeof *m->ns);
        if (!m->ns)
            die("measure", "out of memory");
    }
    m->ns[m->count++] = ns;
}

static inline int meter_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Prints what was measured since the start, for `operations` of them. */
static inline void meter_report(struct meter *m, double operations)
{
    double seconds = (double)(now_ns() - m->started) / 1e9;
    double cpu = (double)(cpu_ns() - m->cpu);
    printf("{\"rate\":%.1f,\"cpu_us\":%.4f", operations / seconds, cpu / 1e3 / operations);
    if (m->count) {
        qsort(m->ns, m->count, sizeof *m->ns, meter_order);
        printf(",\"p50_us\":%.3f,\"p99_us\":%.3f", (double)m->ns[m->count / 2] / 1e3,
               (double)m->ns[m->count * 99 / 100] / 1e3);
    }
    if (m->allocations >= 0)
        printf(",\"allocations\":%.4f", m->allocations);
    printf("}\n");
    free(m->ns);
}

/* Repeats `call` until `seconds` are over, the first tenth untimed, and reports; each call
 * stands for `weight` operations. `call` ends the program when it fails. */
static inline void repeat(void (*call)(void *), void *with, double seconds, double weight)
{
    uint64_t warm = now_ns() + (uint64_t)(seconds * 1e8);
    while (now_ns() < warm)
        call(with);
    struct meter m;
    meter_start(&m);
    uint64_t until = m.started + (uint64_t)(seconds * 1e9), before = m.started;
    while (before < until) {
        call(with);
        uint64_t after = now_ns();
        meter_add(&m, after - before);
        before = after;
    }
    meter_report(&m, (double)m.count * weight);
}

/* One of the threads that call at the same time. */
struct repeater {
    void (*call)(void *);
    void *with;
    uint64_t until, calls;
};

static inline void *repeater_run(void *with)
{
    struct repeater *r = (struct repeater *)with;
    while (now_ns() < r->until) {
        r->call(r->with);
        r->calls++;
    }
    return NULL;
}

/* Repeats `call`, with the same argument, on `threads` at once until `seconds` are over; reports
 * the calls of all of them. */
static inline void repeat_on(size_t threads, void (*call)(void *), void *with, double seconds)
{
    struct repeater *all = (struct repeater *)calloc(threads, sizeof *all);
    pthread_t *ids = (pthread_t *)calloc(threads, sizeof *ids);
    struct meter m;
    if (!all || !ids)
        die("measure", "out of memory");
    call(with);
    meter_start(&m);
    for (size_t i = 0; i < threads; i++) {
        all[i].call = call;
        all[i].with = with;
        all[i].until = m.started + (uint64_t)(seconds * 1e9);
        if (pthread_create(&ids[i], NULL, repeater_run, &all[i]))
            die("measure", "no thread");
    }
    uint64_t calls = 0;
    for (size_t i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        calls += all[i].calls;
    }
    meter_report(&m, (double)calls);
    free(all);
    free(ids);
}

#endif
