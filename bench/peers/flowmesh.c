/* flowmesh.c: FlowMesh through flowmesh.h and nothing else. Two peers of the same code: flowmesh
 * (a server over TCP) and flowmesh_embedded (ADDR is `embedded:DIR`, the engine runs in this
 * process). All threads share one client, as its manual advises: their calls share packets.
 * RELAXED=1 turns the syncing of an embedded engine off, which a server has as a flag. */
#include <flowmesh.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

enum { LOADERS = 8, LEASE_MS = 30000 };

struct conn {
    flowmesh_client_t *client;
    flowmesh_stream_t *stream;
    flowmesh_producer_t *producer; /* of the stream */
    atomic_long stored;            /* events of the producer, so far */
    flowmesh_queue_t *queue;
    flowmesh_kv_t *kv;
    char stream_name[32], queue_name[32];
};

/* Prints the error of a failed call and frees it. */
static int failed(const char *call, flowmesh_error_t *error)
{
    fail("%s: %s", call, flowmesh_error_message(error));
    flowmesh_error_free(error);
    return -1;
}

#define OK(call)                                                                                   \
    do {                                                                                           \
        flowmesh_error_t *error = NULL;                                                            \
        if ((call) != FLOWMESH_OK)                                                                 \
            return failed(#call, error);                                                           \
    } while (0)

/* The one client, and the connections that use it. */
static struct {
    pthread_mutex_t lock;
    flowmesh_client_t *client;
    int users;
} shared = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int dial(const char *addr)
{
    flowmesh_client_options_t *options;
    OK(flowmesh_client_options_new(&options, &error));
    if (getenv("RELAXED"))
        OK(flowmesh_client_options_set_fsync(options, FLOWMESH_FSYNC_NONE, &error));
    OK(flowmesh_client_open(addr, options, &shared.client, &error));
    flowmesh_client_options_free(options);
    OK(flowmesh_client_connect(shared.client, 10000, &error));
    return 0;
}

static conn *open_(const char *addr, int thread)
{
    (void)thread;
    conn *c = calloc(1, sizeof *c);
    pthread_mutex_lock(&shared.lock);
    int failure = shared.users == 0 ? dial(addr) : 0;
    if (!failure)
        shared.users++;
    c->client = shared.client;
    pthread_mutex_unlock(&shared.lock);
    return failure ? NULL : c;
}

static void close_(conn *c)
{
    flowmesh_producer_free(c->producer);
    flowmesh_stream_free(c->stream);
    flowmesh_queue_free(c->queue);
    flowmesh_kv_free(c->kv);
    pthread_mutex_lock(&shared.lock);
    if (--shared.users == 0)
        flowmesh_client_free(shared.client);
    pthread_mutex_unlock(&shared.lock);
    free(c);
}

/* Streams, queues and stores come into being with their first use. */
static int made_on_use(conn *c, const char *name)
{
    (void)c;
    (void)name;
    return 0;
}

static int kv_make(conn *c)
{
    (void)c;
    return 0;
}

static int use_stream(conn *c, const char *name)
{
    if (strcmp(c->stream_name, name) == 0)
        return 0;
    flowmesh_producer_free(c->producer);
    c->producer = NULL;
    flowmesh_stream_free(c->stream);
    snprintf(c->stream_name, sizeof c->stream_name, "%s", name);
    OK(flowmesh_stream_open(c->client, "bench", "peers", name, &c->stream, &error));
    return 0;
}

static int use_queue(conn *c, const char *name)
{
    if (strcmp(c->queue_name, name) == 0)
        return 0;
    flowmesh_queue_free(c->queue);
    snprintf(c->queue_name, sizeof c->queue_name, "%s", name);
    OK(flowmesh_queue_open(c->client, "bench", "peers", name, &c->queue, &error));
    return 0;
}

static int use_kv(conn *c)
{
    if (!c->kv)
        OK(flowmesh_kv_open(c->client, "bench", "peers", "kv", &c->kv, &error));
    return 0;
}

/* ---- streams ------------------------------------------------------------ */

static int append(conn *c, const char *stream, const void *data, size_t len)
{
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    event.payload = flowmesh_view_bytes(data, len);
    if (use_stream(c, stream))
        return -1;
    OK(flowmesh_stream_write(c->stream, &event, 1, NULL, NULL, &error));
    return 0;
}

static void on_reports(const flowmesh_report_batch_t *reports, void *with)
{
    conn *c = with;
    size_t count = flowmesh_report_batch_count(reports);
    for (size_t i = 0; i < count; i++) {
        const flowmesh_report_t *r = flowmesh_report_batch_at(reports, i);
        if (r->status != FLOWMESH_OK) {
            fail("report: %s", flowmesh_error_message(r->error));
            exit(1);
        }
    }
    atomic_fetch_add(&c->stored, (long)count);
}

static int use_producer(conn *c, const char *stream)
{
    flowmesh_producer_options_t *options;
    if (use_stream(c, stream))
        return -1;
    if (c->producer)
        return 0;
    atomic_store(&c->stored, 0);
    OK(flowmesh_producer_options_new(&options, &error));
    OK(flowmesh_producer_options_set_report_callback(options, on_reports, c, NULL, &error));
    OK(flowmesh_stream_producer_open(c->stream, options, &c->producer, &error));
    flowmesh_producer_options_free(options);
    return 0;
}

/* Hands over without waiting: what became of it, a report tells. */
static int offer(conn *c, const char *stream, const void *data, size_t len)
{
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    event.payload = flowmesh_view_bytes(data, len);
    if (use_producer(c, stream))
        return -1;
    OK(flowmesh_producer_send(c->producer, &event, NULL, -1, &error));
    return 0;
}

/* The producer batches; the order of the events is kept. */
static long append_many(conn *c, const char *stream, long n)
{
    unsigned char b[PAYLOAD];
    for (long i = 0; i < n && !late(); i++) {
        payload(b, (uint64_t)i);
        if (offer(c, stream, b, PAYLOAD))
            return -1;
    }
    OK(flowmesh_producer_flush(c->producer, 60000, &error));
    return atomic_load(&c->stored);
}

struct reading {
    struct sink *sink;
    long wanted; /* -1: no end */
    sem_t complete;
};

static void on_batch(const flowmesh_message_batch_t *batch, void *with)
{
    struct reading *r = with;
    size_t count = flowmesh_message_batch_count(batch);
    for (size_t i = 0; i < count; i++) {
        const flowmesh_message_t *m = flowmesh_message_batch_at(batch, i);
        if (m->offset == r->wanted)
            return;
        r->sink->on_event(r->sink, m->payload.data, m->payload.len);
        if (m->offset + 1 == r->wanted)
            sem_post(&r->complete);
    }
}

static int start(conn *c, int64_t from, struct reading *r, flowmesh_subscription_t **subscription)
{
    flowmesh_subscription_options_t *options;
    OK(flowmesh_subscription_options_new(&options, &error));
    OK(flowmesh_subscription_options_set_consumer_group(options, "bench", &error));
    OK(flowmesh_subscription_options_set_start_offset(options, from, &error));
    OK(flowmesh_stream_subscribe(c->stream, options, on_batch, r, NULL, subscription, &error));
    flowmesh_subscription_options_free(options);
    return 0;
}

static int finish(flowmesh_subscription_t *subscription)
{
    OK(flowmesh_subscription_close(subscription, 10000, &error));
    flowmesh_subscription_free(subscription);
    return 0;
}

static long read_(conn *c, const char *stream, long n, struct sink *s)
{
    struct reading r = {.sink = s, .wanted = n};
    flowmesh_subscription_t *subscription;
    sem_init(&r.complete, 0, 0);
    if (use_stream(c, stream) || start(c, 0, &r, &subscription))
        return -1;
    while (sem_wait(&r.complete)) {
    }
    return finish(subscription) ? -1 : atomic_load(&s->seen);
}

static int subscribe(conn *c, const char *stream, struct sink *s, atomic_int *ready,
                     atomic_int *stop)
{
    struct reading r = {.sink = s, .wanted = -1};
    flowmesh_subscription_t *subscription;
    flowmesh_error_t *error = NULL;
    int64_t latest = -1;
    if (use_stream(c, stream))
        return -1;
    /* A stream that nobody has written to does not exist yet. */
    flowmesh_status_t status = flowmesh_stream_latest_offset(c->stream, NULL, &latest, &error);
    if (status == FLOWMESH_NOT_FOUND)
        flowmesh_error_free(error);
    else if (status != FLOWMESH_OK)
        return failed("latest offset", error);
    if (start(c, latest + 1, &r, &subscription))
        return -1;
    atomic_store(ready, 1);
    while (!atomic_load(stop))
        usleep(5000);
    return finish(subscription);
}

/* ---- queues ------------------------------------------------------------- */

static int put(conn *c, const char *queue, const void *data, size_t len)
{
    if (use_queue(c, queue))
        return -1;
    OK(flowmesh_queue_enqueue(c->queue, flowmesh_view_bytes(data, len), NULL, NULL, NULL, &error));
    return 0;
}

struct loading {
    conn *c;
    const char *queue;
    long n;
    atomic_long next, put;
};

static void *load(void *with)
{
    struct loading *l = with;
    unsigned char b[PAYLOAD];
    for (long i; (i = atomic_fetch_add(&l->next, 1)) < l->n;) {
        payload(b, (uint64_t)i);
        if (put(l->c, l->queue, b, PAYLOAD))
            break;
        atomic_fetch_add(&l->put, 1);
    }
    return NULL;
}

/* The load of Q3, not measured: single enqueues from a few threads. */
static long put_many(conn *c, const char *queue, long n)
{
    struct loading l = {.c = c, .queue = queue, .n = n};
    pthread_t threads[LOADERS];
    if (use_queue(c, queue))
        return -1;
    for (int i = 0; i < LOADERS; i++)
        if (pthread_create(&threads[i], NULL, load, &l))
            return fail("thread");
    for (int i = 0; i < LOADERS; i++)
        pthread_join(threads[i], NULL);
    return atomic_load(&l.put);
}

static int take(conn *c, const char *queue, struct job *j, int wait_ms)
{
    flowmesh_reserve_options_t options = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_job_t *job = NULL;
    options.visibility_timeout_ms = LEASE_MS;
    options.wait_ms = wait_ms;
    if (use_queue(c, queue))
        return -1;
    OK(flowmesh_queue_reserve(c->queue, &options, &job, &error));
    if (!job)
        return 0;
    j->ref = job;
    j->len = job->payload.len;
    memcpy(j->data, job->payload.data, j->len < PAYLOAD ? j->len : PAYLOAD);
    return 1;
}

static int done(conn *c, const char *queue, struct job *j)
{
    (void)c;
    (void)queue;
    OK(flowmesh_job_ack(j->ref, NULL, &error));
    flowmesh_job_free(j->ref);
    return 0;
}

static long drain(conn *c, const char *queue, long n)
{
    flowmesh_reserve_options_t options = FLOWMESH_RESERVE_OPTIONS_INIT;
    long got = 0;
    options.visibility_timeout_ms = LEASE_MS;
    if (use_queue(c, queue))
        return -1;
    while (got < n && !late()) {
        flowmesh_job_batch_t *batch;
        size_t acked;
        OK(flowmesh_queue_receive(c->queue, FETCH, &options, &batch, &error));
        OK(flowmesh_job_batch_ack(batch, NULL, &acked, &error));
        flowmesh_job_batch_free(batch);
        if (!acked)
            break;
        got += (long)acked;
    }
    return got;
}

/* ---- KV ----------------------------------------------------------------- */

static int set(conn *c, const char *key, const void *data, size_t len)
{
    if (use_kv(c))
        return -1;
    OK(flowmesh_kv_set(c->kv, flowmesh_view_str(key), flowmesh_view_bytes(data, len), NULL,
                       &error));
    return 0;
}

static long get(conn *c, const char *key, void *buf, size_t cap)
{
    flowmesh_value_t *value;
    if (use_kv(c))
        return -1;
    OK(flowmesh_kv_get(c->kv, flowmesh_view_str(key), NULL, &value, &error));
    flowmesh_view_t data = flowmesh_value_data(value);
    memcpy(buf, data.data, data.len < cap ? data.len : cap);
    flowmesh_value_free(value);
    return (long)data.len;
}

#define OPERATIONS                                                                                 \
    open_, close_, made_on_use, append, offer, append_many, read_, subscribe, made_on_use, put,    \
        put_many, take, done, drain, kv_make, set, get
const struct peer_ops flowmesh_ops = {"flowmesh", OPERATIONS};
const struct peer_ops flowmesh_embedded_ops = {"flowmesh_embedded", OPERATIONS};
