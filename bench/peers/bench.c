/* bench.c: runs one workload of WORKLOADS.md against one peer and prints one
 * JSON line. Usage: bench PEER ADDR SERVER_PID WORKLOAD   (see main). */
#include "bench.h"
#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

extern const struct peer_ops *const peers[];

static const struct peer_ops *ops;
static const char *addr;
static int server_pid;
static uint64_t deadline;

/* ---- clocks, randomness, errors ---------------------------------------- */

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void sleep_until(uint64_t ns)
{
    struct timespec t = {ns / 1000000000ull, ns % 1000000000ull};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL)) {
    }
}

static double setting(const char *name, double otherwise)
{
    const char *v = getenv(name);
    return v ? atof(v) : otherwise;
}

int late(void)
{
    return now_ns() > deadline;
}

static uint64_t next_random(uint64_t *s) /* xorshift64 */
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

void payload(unsigned char buf[PAYLOAD], uint64_t seq)
{
    static _Thread_local unsigned char noise[PAYLOAD];
    if (!noise[PAYLOAD - 1]) {
        uint64_t s = 88172645463325252ull;
        for (int i = 0; i < PAYLOAD; i++)
            noise[i] = next_random(&s) | 1;
    }
    memcpy(buf, noise, PAYLOAD);
    memcpy(buf, &seq, sizeof seq);
}

int fail(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "%s: ", ops ? ops->name : "bench");
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return -1;
}

static void die(const char *what)
{
    fail("%s failed", what);
    exit(1);
}

/* ---- CPU seconds ------------------------------------------------------- */

/* utime+stime of the server, of its living children, and of those it reaped. */
static double server_cpu(void)
{
    double ticks = 0;
    if (server_pid <= 0) /* none: nobody's children count */
        return 0;
    DIR *d = opendir("/proc");
    for (struct dirent *e; d && (e = readdir(d));) {
        int pid = atoi(e->d_name), ppid;
        char path[64], line[1024], *p;
        if (pid <= 0)
            continue;
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        FILE *f = fopen(path, "r");
        if (!f)
            continue;
        if (fgets(line, sizeof line, f) && (p = strrchr(line, ')'))) {
            unsigned long u, s, cu, cs;
            if (sscanf(p + 2, "%*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %lu %lu", &ppid,
                       &u, &s, &cu, &cs) == 5) {
                if (pid == server_pid)
                    ticks += u + s + cu + cs;
                else if (ppid == server_pid)
                    ticks += u + s;
            }
        }
        fclose(f);
    }
    if (d)
        closedir(d);
    return ticks / sysconf(_SC_CLK_TCK);
}

static double client_cpu(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return r.ru_utime.tv_sec + r.ru_stime.tv_sec + (r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

/* Busy CPU seconds of the whole machine; what is neither client nor server is
 * the kernel's disk work, or somebody else's noise. */
static double machine_cpu(void)
{
    unsigned long long v[8] = {0};
    FILE *f = fopen("/proc/stat", "r");
    if (f && fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", v, v + 1, v + 2, v + 3, v + 4,
                    v + 5, v + 6, v + 7) != 8)
        v[0] = 0;
    if (f)
        fclose(f);
    return (double)(v[0] + v[1] + v[2] + v[5] + v[6] + v[7]) / sysconf(_SC_CLK_TCK);
}

/* ---- one result line ---------------------------------------------------- */

struct lat {
    uint64_t *ns;
    size_t n, cap;
};

static void lat_add(struct lat *l, uint64_t ns)
{
    if (l->n == l->cap)
        l->ns = realloc(l->ns, (l->cap = l->cap ? l->cap * 2 : 4096) * sizeof *l->ns);
    l->ns[l->n++] = ns;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

struct meter {
    uint64_t t0, t1;
    double scpu, ccpu, all;
};

static void meter_start(struct meter *m)
{
    m->scpu = server_cpu();
    m->ccpu = client_cpu();
    m->all = machine_cpu();
    m->t0 = now_ns();
}

static void meter_stop(struct meter *m)
{
    m->t1 = now_ns();
    m->scpu = server_cpu() - m->scpu;
    m->ccpu = client_cpu() - m->ccpu;
    m->all = machine_cpu() - m->all;
}

static void report(const char *work, int threads, long n, struct meter *m, struct lat *l)
{
    double secs = (m->t1 - m->t0) / 1e9;
    printf(
        "{\"peer\":\"%s\",\"work\":\"%s\",\"threads\":%d,\"ops\":%ld,\"secs\":%.3f,\"rate\":%.1f",
        ops->name, work, threads, n, secs, n / secs);
    if (l && l->n) {
        qsort(l->ns, l->n, sizeof *l->ns, by_value);
        printf(",\"p50_us\":%.1f,\"p99_us\":%.1f", l->ns[l->n / 2] / 1e3,
               l->ns[l->n * 99 / 100] / 1e3);
    }
    if (n > 0)
        printf(",\"server_cpu_s_per_M\":%.2f,\"client_cpu_s_per_M\":%.2f", m->scpu * 1e6 / n,
               m->ccpu * 1e6 / n);
    printf(",\"other_cpus\":%.2f}\n", fmax(0, m->all - m->scpu - m->ccpu) / secs);
}

static conn *open_or_die(int thread)
{
    conn *c = ops->open(addr, thread);
    if (!c)
        die("open");
    return c;
}

/* ---- timed loops: N threads, each with one operation outstanding --------- */

struct timed {
    pthread_t tid;
    conn *c;
    int (*op)(struct timed *);
    const char *name; /* of the stream or queue */
    uint64_t count, rnd, from, until;
    struct lat lat;
};

static void *timed_loop(void *arg)
{
    struct timed *t = arg;
    prctl(PR_SET_TIMERSLACK, 1);
    for (;;) {
        uint64_t t0 = now_ns();
        if (t0 >= t->until)
            return NULL;
        if (t->op(t))
            die("operation");
        uint64_t t1 = now_ns();
        t->count++;
        if (t0 >= t->from && t1 <= t->until)
            lat_add(&t->lat, t1 - t0);
    }
}

static int op_append(struct timed *t)
{
    unsigned char b[PAYLOAD];
    payload(b, t->count);
    return ops->append(t->c, t->name, b, PAYLOAD);
}

static int op_put(struct timed *t)
{
    unsigned char b[PAYLOAD];
    payload(b, t->rnd + t->count);
    return ops->put(t->c, t->name, b, PAYLOAD);
}

static int op_cycle(struct timed *t)
{
    struct job j;
    if (op_put(t))
        return -1;
    int r;
    while ((r = ops->take(t->c, t->name, &j, 1000)) == 0) {
    }
    if (r < 0)
        return -1;
    if (j.len != PAYLOAD)
        return fail("job of %zu bytes", j.len);
    return ops->done(t->c, t->name, &j);
}

static void key_name(char *key, uint64_t i)
{
    sprintf(key, "key%06u", (unsigned)(i % KEYS));
}

static int op_set(struct timed *t)
{
    unsigned char b[PAYLOAD];
    char key[32];
    key_name(key, next_random(&t->rnd));
    payload(b, t->count);
    return ops->set(t->c, key, b, PAYLOAD);
}

static int op_get(struct timed *t)
{
    unsigned char b[PAYLOAD];
    char key[32];
    key_name(key, next_random(&t->rnd));
    long n = ops->get(t->c, key, b, sizeof b);
    return n == PAYLOAD ? 0 : fail("get %s: %ld bytes", key, n);
}

static void timed_run(const char *work, const char *name, int (*op)(struct timed *), int threads)
{
    struct timed *t = calloc(threads, sizeof *t);
    double secs = setting("SECS", 2);
    for (int i = 0; i < threads; i++) {
        t[i].c = open_or_die(i);
        t[i].op = op;
        t[i].name = name;
        t[i].rnd = 0x9e3779b97f4a7c15ull * (i + 1);
    }
    uint64_t start = now_ns(), from = start + 3e8, until = from + secs * 1e9;
    for (int i = 0; i < threads; i++) {
        t[i].from = from;
        t[i].until = until;
        if (pthread_create(&t[i].tid, NULL, timed_loop, &t[i]))
            die("thread");
    }
    struct meter m;
    sleep_until(from);
    meter_start(&m);
    sleep_until(until);
    meter_stop(&m);
    struct lat all = {0};
    for (int i = 0; i < threads; i++) {
        pthread_join(t[i].tid, NULL);
        for (size_t k = 0; k < t[i].lat.n; k++)
            lat_add(&all, t[i].lat.ns[k]);
    }
    report(work, threads, all.n, &m, &all);
    for (int i = 0; i < threads; i++)
        ops->close(t[i].c);
}

/* ---- whole-run workloads -------------------------------------------------- */

static void on_event_ordered(struct sink *s, const void *data, size_t len)
{
    uint64_t seq;
    memcpy(&seq, data, sizeof seq);
    if (len != PAYLOAD || seq != (uint64_t)atomic_load_explicit(&s->seen, memory_order_relaxed)) {
        fail("event %ld: seq %lu, %zu bytes", atomic_load(&s->seen), (unsigned long)seq, len);
        exit(1);
    }
    atomic_fetch_add_explicit(&s->seen, 1, memory_order_relaxed);
}

static void run_bulk(const char *work, long (*many)(conn *, const char *, long), const char *name,
                     long n, int exact)
{
    conn *c = open_or_die(0);
    struct meter m;
    deadline = now_ns() + setting("BULK_SECS", exact ? 120 : 6) * 1e9;
    meter_start(&m);
    long got = many(c, name, n);
    meter_stop(&m);
    if (got < 1 || (exact && got != n)) {
        fail("%s: %ld of %ld", work, got, n);
        exit(1);
    }
    report(work, 1, got, &m, NULL);
    ops->close(c);
}

static void run_read(const char *work, const char *name, long n)
{
    conn *c = open_or_die(0);
    struct sink s = {.on_event = on_event_ordered};
    struct meter m;
    deadline = now_ns() + 120e9;
    meter_start(&m);
    long got = ops->read(c, name, n, &s);
    meter_stop(&m);
    if (got != n || atomic_load(&s.seen) != n) {
        fail("%s: %ld of %ld", work, got, n);
        exit(1);
    }
    report(work, 1, n, &m, NULL);
    ops->close(c);
}

enum { TAIL_FIRST = 20, TAIL_WARM = 300 }; /* events that are not measured: at once; in all */

struct tail {
    const char *name;
    struct sink sink;
    struct lat lat;
    atomic_int ready, stop;
};

static void on_event_stamp(struct sink *s, const void *data, size_t len)
{
    uint64_t sent, t = now_ns();
    struct tail *tail = s->arg;
    memcpy(&sent, data, sizeof sent);
    if (len != PAYLOAD)
        die("event size");
    if (atomic_fetch_add(&s->seen, 1) >= TAIL_WARM)
        lat_add(&tail->lat, t - sent);
}

static void *tail_loop(void *arg)
{
    struct tail *t = arg;
    conn *c = open_or_die(1);
    if (ops->subscribe(c, t->name, &t->sink, &t->ready, &t->stop))
        die("subscribe");
    ops->close(c);
    return NULL;
}

/* 1000 events/s for SECS; each carries the instant it was due (or, if the
 * writer merely woke up late, the instant it was sent). */
static void run_tail(const char *work, const char *name)
{
    struct tail t = {.name = name};
    t.sink = (struct sink){.on_event = on_event_stamp, .arg = &t};
    pthread_t tid;
    int (*offer)(conn *, const char *, const void *, size_t) =
        ops->offer ? ops->offer : ops->append;
    conn *c = open_or_die(0);
    pthread_create(&tid, NULL, tail_loop, &t);
    while (!atomic_load(&t.ready))
        usleep(1000);
    usleep(200000);
    prctl(PR_SET_TIMERSLACK, 1);
    long n = TAIL_WARM + setting("SECS", 2) * 1000;
    unsigned char b[PAYLOAD];
    for (int i = 0; i < TAIL_FIRST; i++) { /* connections, metadata */
        payload(b, now_ns());
        if (ops->append(c, name, b, PAYLOAD))
            die("append");
    }
    struct meter m;
    meter_start(&m);
    uint64_t start = now_ns() + 1000000, free_at = start;
    for (long i = TAIL_FIRST; i < n; i++) {
        uint64_t due = start + (i - TAIL_FIRST) * 1000000ull;
        if (now_ns() < due)
            sleep_until(due);
        payload(b, free_at > due ? due : now_ns());
        if (offer(c, name, b, PAYLOAD))
            die("append");
        free_at = now_ns();
    }
    meter_stop(&m);
    for (int i = 0; i < 5000 && atomic_load(&t.sink.seen) < n; i++)
        usleep(1000);
    atomic_store(&t.stop, 1);
    pthread_join(tid, NULL);
    if (atomic_load(&t.sink.seen) != n) {
        fail("%s: %ld of %ld delivered", work, atomic_load(&t.sink.seen), n);
        exit(1);
    }
    report(work, 1, n - TAIL_FIRST, &m, &t.lat);
    ops->close(c);
}

struct handoff {
    const char *name;
    atomic_int done, stop;
    uint64_t at;
};

static void *handoff_worker(void *arg)
{
    struct handoff *h = arg;
    conn *c = open_or_die(1);
    struct job j;
    while (!atomic_load(&h->stop)) {
        int r = ops->take(c, h->name, &j, 1000);
        if (r < 0)
            die("take");
        if (!r)
            continue;
        h->at = now_ns();
        if (ops->done(c, h->name, &j))
            die("done");
        atomic_store(&h->done, 1);
    }
    ops->close(c);
    return NULL;
}

/* From the call of put to the return of a take that was already waiting. */
static void run_handoff(const char *work, const char *name)
{
    struct handoff h = {.name = name};
    struct lat lat = {0};
    struct meter m;
    pthread_t tid;
    conn *c = open_or_die(0);
    pthread_create(&tid, NULL, handoff_worker, &h);
    usleep(300000);
    meter_start(&m);
    for (int i = 0; i < 530; i++) {
        unsigned char b[PAYLOAD];
        payload(b, i);
        atomic_store(&h.done, 0);
        uint64_t t0 = now_ns();
        if (ops->put(c, name, b, PAYLOAD))
            die("put");
        while (!atomic_load(&h.done))
            usleep(100);
        if (i >= 30)
            lat_add(&lat, h.at - t0);
        usleep(2000); /* the worker goes back to its long poll */
    }
    meter_stop(&m);
    atomic_store(&h.stop, 1);
    pthread_join(tid, NULL);
    report(work, 1, lat.n, &m, &lat);
    ops->close(c);
}

/* ---- setup ---------------------------------------------------------------- */

static void make(int (*f)(conn *, const char *), conn *c, const char *name)
{
    if (f(c, name))
        die(name);
}

/* Creates everything the workloads use; loads s4, q3 and the keys. The runner
 * calls it against the peer with syncing off: this is not measured. */
static void prepare(const char *group)
{
    conn *c = open_or_die(0);
    deadline = now_ns() + 300e9;
    if (*group == 'S') {
        const char *names[] = {"s1", "s2", "s3", "s4", "s5"};
        for (int i = 0; i < 5; i++)
            make(ops->stream_make, c, names[i]);
        long n = setting("S4_EVENTS", 500000);
        if (ops->append_many(c, "s4", n) != n)
            die("load of s4");
    }
    if (*group == 'Q') {
        const char *names[] = {"q1", "q116", "q2", "q216", "q3", "q4"};
        for (int i = 0; i < 6; i++)
            make(ops->queue_make, c, names[i]);
        long n = setting("Q3_JOBS", 100000);
        if (ops->put_many(c, "q3", n) != n)
            die("load of q3");
    }
    if (*group == 'K') {
        if (ops->kv_make(c))
            die("kv_make");
        for (int i = 0; i < KEYS; i++) {
            unsigned char b[PAYLOAD];
            char key[32];
            key_name(key, i);
            payload(b, i);
            if (ops->set(c, key, b, PAYLOAD))
                die("set");
        }
    }
    ops->close(c);
}

static int is(const char *a, const char *b)
{
    return !strcmp(a, b);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: bench PEER ADDR SERVER_PID WORKLOAD\n"
                        "  WORKLOAD: S K Q (prepare a group), S1 S2 S3 S4 S5 Q1 Q1x16 Q2 Q2x16 Q3 "
                        "Q4 K1 K1x16 K2 K2x16\n");
        return 2;
    }
    for (int i = 0; peers[i]; i++)
        if (is(peers[i]->name, argv[1]))
            ops = peers[i];
    if (!ops)
        return fail("no peer %s", argv[1]), 2;
    addr = argv[2];
    server_pid = atoi(argv[3]);
    const char *w = argv[4];
    if (is(w, "S") || is(w, "Q") || is(w, "K"))
        prepare(w);
    else if (is(w, "S1"))
        timed_run(w, "s1", op_append, 1);
    else if (is(w, "S2"))
        timed_run(w, "s2", op_append, 16);
    else if (is(w, "S3"))
        run_bulk(w, ops->append_many, "s3", setting("S3_EVENTS", 300000), 0);
    else if (is(w, "S4"))
        run_read(w, "s4", setting("S4_EVENTS", 500000));
    else if (is(w, "S5"))
        run_tail(w, "s5");
    else if (is(w, "Q1"))
        timed_run(w, "q1", op_put, 1);
    else if (is(w, "Q1x16"))
        timed_run(w, "q116", op_put, 16);
    else if (is(w, "Q2"))
        timed_run(w, "q2", op_cycle, 1);
    else if (is(w, "Q2x16"))
        timed_run(w, "q216", op_cycle, 16);
    else if (is(w, "Q3"))
        run_bulk(w, ops->drain, "q3", setting("Q3_JOBS", 100000), 1);
    else if (is(w, "Q4"))
        run_handoff(w, "q4");
    else if (is(w, "K1"))
        timed_run(w, NULL, op_set, 1);
    else if (is(w, "K1x16"))
        timed_run(w, NULL, op_set, 16);
    else if (is(w, "K2"))
        timed_run(w, NULL, op_get, 1);
    else if (is(w, "K2x16"))
        timed_run(w, NULL, op_get, 16);
    else
        return fail("no workload %s", w), 2;
    return 0;
}
