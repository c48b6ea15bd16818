/* flowmesh_client.c: what is compared with grpc_client.cc, through flowmesh.h.
 *   flowmesh_client ENDPOINT load MESSAGES          stores what get and subscribe read
 *   flowmesh_client ENDPOINT get|health SECONDS
 *   flowmesh_client ENDPOINT asleep SECONDS         get, by a client that must not spin
 *   flowmesh_client ENDPOINT threads N SECONDS      get, on so many threads at once
 *   flowmesh_client ENDPOINT subscribe MESSAGES
 *   flowmesh_client ENDPOINT write EVENTS_PER_CALL SECONDS
 *   flowmesh_client ENDPOINT idle SUBSCRIPTIONS     connects, subscribes, says so, waits for EOF
 *   flowmesh_client ENDPOINT connect SECONDS        a new client each time, and a health check
 * The environment says whom to trust and what to present, as flowmesh.h has it. */
#include <flowmesh.h>
#include <semaphore.h>
#include <unistd.h>

#include "allocations.h"
#include "measure.h"

enum { LOAD_BATCH = 1000 };

static flowmesh_error_t *error;

static void must(flowmesh_status_t status, const char *what)
{
    if (status != FLOWMESH_OK)
        die(what, flowmesh_error_message(error));
}

static flowmesh_client_t *open_client(const char *endpoint, bool spin)
{
    flowmesh_client_options_t *options = NULL;
    flowmesh_client_t *client = NULL;
    must(flowmesh_client_options_new(&options, &error), "options");
    /* The server runs without syncing; an embedded engine must be like it. */
    must(flowmesh_client_options_set_fsync(options, FLOWMESH_FSYNC_NONE, &error), "fsync");
    must(flowmesh_client_options_set_spin(options, spin, &error), "spin");
    must(flowmesh_client_open(endpoint, options, &client, &error), endpoint);
    flowmesh_client_options_free(options);
    must(flowmesh_client_connect(client, 10000, &error), endpoint);
    return client;
}

static flowmesh_stream_t *open_stream(flowmesh_client_t *client, const char *name)
{
    flowmesh_stream_t *stream = NULL;
    must(flowmesh_stream_open(client, TENANT, NAMESPACE, name, &stream, &error), name);
    return stream;
}

static flowmesh_kv_t *open_store(flowmesh_client_t *client)
{
    flowmesh_kv_t *store = NULL;
    must(flowmesh_kv_open(client, TENANT, NAMESPACE, STORE, &store, &error), STORE);
    return store;
}

static void call_get(void *with)
{
    flowmesh_value_t *value = NULL;
    must(flowmesh_kv_get(with, flowmesh_view_str(KEY), NULL, &value, &error), "get");
    if (flowmesh_value_data(value).len != PAYLOAD)
        die("get", "the value has another size");
    flowmesh_value_free(value);
}

static void call_health(void *with)
{
    must(flowmesh_client_health_check(with, NULL, &error), "health");
}

static void call_connect(void *endpoint)
{
    flowmesh_client_t *client = NULL;
    must(flowmesh_client_open(endpoint, NULL, &client, &error), endpoint);
    call_health(client);
    flowmesh_client_free(client);
}

struct write {
    flowmesh_stream_t *stream;
    size_t count;
    flowmesh_event_t *events;
    int64_t *offsets;
    unsigned char payload[PAYLOAD];
};

static void call_write(void *with)
{
    struct write *w = with;
    must(flowmesh_stream_write(w->stream, w->events, w->count, NULL, w->offsets, &error), "write");
}

/* Events that share one payload: what a call does with them is the same. */
static void prepare_write(struct write *w, flowmesh_stream_t *stream, size_t count)
{
    w->stream = stream;
    w->count = count;
    w->events = malloc(count * sizeof *w->events);
    w->offsets = malloc(count * sizeof *w->offsets);
    if (!w->events || !w->offsets)
        die("write", "out of memory");
    fill(w->payload, PAYLOAD);
    for (size_t i = 0; i < count; i++) {
        w->events[i] = (flowmesh_event_t)FLOWMESH_EVENT_INIT;
        w->events[i].payload = flowmesh_view_bytes(w->payload, PAYLOAD);
    }
}

static void finish_write(struct write *w)
{
    flowmesh_stream_free(w->stream);
    free(w->events);
    free(w->offsets);
}

struct reading {
    int64_t seen, wanted;
    unsigned long before, after; /* allocations, at half of the messages and at the last */
    sem_t complete;
};

static void on_batch(const flowmesh_message_batch_t *batch, void *with)
{
    struct reading *r = with;
    size_t count = flowmesh_message_batch_count(batch);
    for (size_t i = 0; i < count; i++, r->seen++) {
        const flowmesh_message_t *m = flowmesh_message_batch_at(batch, i);
        if (m->offset != r->seen || m->payload.len != PAYLOAD)
            die("subscribe", "a message is out of order or has another size");
        if (r->seen == r->wanted / 2)
            r->before = allocations_so_far();
        if (r->seen + 1 == r->wanted) {
            r->after = allocations_so_far();
            sem_post(&r->complete);
        }
    }
}

static flowmesh_subscription_t *subscribe(flowmesh_stream_t *stream, struct reading *r)
{
    flowmesh_subscription_options_t *options = NULL;
    flowmesh_subscription_t *subscription = NULL;
    must(flowmesh_subscription_options_new(&options, &error), "options");
    must(flowmesh_subscription_options_set_consumer_group(options, "bench", &error), "group");
    must(flowmesh_subscription_options_set_start_offset(options, 0, &error), "start");
    must(flowmesh_stream_subscribe(stream, options, on_batch, r, NULL, &subscription, &error),
         "subscribe");
    flowmesh_subscription_options_free(options);
    return subscription;
}

static void end(flowmesh_subscription_t *subscription)
{
    must(flowmesh_subscription_close(subscription, 10000, &error), "close");
    flowmesh_subscription_free(subscription);
}

static void measure_subscribe(flowmesh_client_t *client, int64_t messages)
{
    struct reading r = {.wanted = messages};
    struct meter m;
    sem_init(&r.complete, 0, 0);
    flowmesh_stream_t *stream = open_stream(client, STREAM_READ);
    meter_start(&m);
    flowmesh_subscription_t *subscription = subscribe(stream, &r);
    while (sem_wait(&r.complete)) {
    }
#ifdef COUNT_ALLOCATIONS
    m.allocations = (double)(r.after - r.before) / (double)(messages - messages / 2);
#endif
    meter_report(&m, (double)messages);
    end(subscription);
    flowmesh_stream_free(stream);
}

static void load(flowmesh_client_t *client, int64_t messages)
{
    struct write w;
    prepare_write(&w, open_stream(client, STREAM_READ), LOAD_BATCH);
    for (int64_t left = messages; left > 0; left -= LOAD_BATCH) {
        w.count = left < LOAD_BATCH ? (size_t)left : LOAD_BATCH;
        call_write(&w);
    }
    flowmesh_kv_t *store = open_store(client);
    must(flowmesh_kv_set(store, flowmesh_view_str(KEY), w.events[0].payload, NULL, &error), "set");
    flowmesh_kv_free(store);
    finish_write(&w);
}

/* Holds subscriptions that have nothing to read, until standard input ends. */
static void idle(flowmesh_client_t *client, size_t count)
{
    static struct reading nothing;
    flowmesh_subscription_t **all = calloc(count ? count : 1, sizeof *all);
    flowmesh_stream_t *stream = open_stream(client, "quiet");
    char byte;
    if (!all)
        die("idle", "out of memory");
    for (size_t i = 0; i < count; i++)
        all[i] = subscribe(stream, &nothing);
    printf("ready\n");
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    for (size_t i = 0; i < count; i++)
        end(all[i]);
    flowmesh_stream_free(stream);
    free(all);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        die("usage", "flowmesh_client ENDPOINT "
                     "load|get|asleep|threads|health|subscribe|write|idle|connect ...");
    const char *work = argv[2];
    flowmesh_client_t *client = open_client(argv[1], strcmp(work, "asleep") != 0);
    if (strcmp(work, "load") == 0) {
        load(client, atoll(argv[3]));
    } else if (strcmp(work, "get") == 0 || strcmp(work, "asleep") == 0) {
        flowmesh_kv_t *store = open_store(client);
        repeat(call_get, store, atof(argv[3]), 1);
        flowmesh_kv_free(store);
    } else if (strcmp(work, "threads") == 0 && argc == 5) {
        flowmesh_kv_t *store = open_store(client);
        repeat_on((size_t)atoll(argv[3]), call_get, store, atof(argv[4]));
        flowmesh_kv_free(store);
    } else if (strcmp(work, "health") == 0) {
        repeat(call_health, client, atof(argv[3]), 1);
    } else if (strcmp(work, "subscribe") == 0) {
        measure_subscribe(client, atoll(argv[3]));
    } else if (strcmp(work, "write") == 0 && argc == 5) {
        struct write w;
        prepare_write(&w, open_stream(client, STREAM_WRITE), (size_t)atoll(argv[3]));
        repeat(call_write, &w, atof(argv[4]), (double)w.count);
        finish_write(&w);
    } else if (strcmp(work, "connect") == 0) {
        repeat(call_connect, argv[1], atof(argv[3]), 1);
    } else if (strcmp(work, "idle") == 0) {
        idle(client, (size_t)atoll(argv[3]));
    } else {
        die("no such work", work);
    }
    flowmesh_client_free(client);
    return 0;
}
