/* flowmesh_producer.c: producers, and the calls that an application would batch by itself.
 *   flowmesh_producer ENDPOINT produce THREADS SECONDS [MAX]  a producer each, of events
 *   flowmesh_producer ENDPOINT write THREADS SECONDS BATCH    blocking writes of BATCH events
 *   flowmesh_producer ENDPOINT enqueue THREADS SECONDS        a producer each, of jobs
 * Rates count what the server has acknowledged, up to the end of the last flush. Allocations are
 * those of the whole program, counted in the second half of the time. */
#include <flowmesh.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define COUNT_ALLOCATIONS
#include "allocations.h"
#include "measure.h"

enum { MAX_THREADS = 64 };

struct worker {
    flowmesh_producer_t *producer; /* NULL: blocking writes */
    flowmesh_stream_t *stream;
    size_t batch;
    uint64_t until;
    atomic_ulong done; /* acknowledged */
    int64_t last;      /* position of the last report */
    bool in_order;     /* positions must rise */
};

static unsigned char payload[PAYLOAD];

static void on_reports(const flowmesh_report_batch_t *reports, void *with)
{
    struct worker *w = with;
    size_t count = flowmesh_report_batch_count(reports);
    for (size_t i = 0; i < count; i++) {
        const flowmesh_report_t *report = flowmesh_report_batch_at(reports, i);
        if (report->status != FLOWMESH_OK)
            die("a message failed", flowmesh_error_message(report->error));
        if (w->in_order && report->position <= w->last)
            die("produce", "a report is out of order");
        w->last = report->position;
    }
    atomic_fetch_add_explicit(&w->done, count, memory_order_relaxed);
}

static void must(flowmesh_status_t status, const char *what, flowmesh_error_t *error)
{
    if (status != FLOWMESH_OK)
        die(what, flowmesh_error_message(error));
}

static void *produce(void *with)
{
    struct worker *w = with;
    flowmesh_error_t *error = NULL;
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    event.payload = flowmesh_view_bytes(payload, PAYLOAD);
    while (now_ns() < w->until)
        for (int i = 0; i < 100; i++)
            must(flowmesh_producer_send(w->producer, &event, w, -1, &error), "send", error);
    must(flowmesh_producer_flush(w->producer, -1, &error), "flush", error);
    return NULL;
}

static void *write_batches(void *with)
{
    struct worker *w = with;
    flowmesh_error_t *error = NULL;
    flowmesh_event_t *events = calloc(w->batch, sizeof *events);
    int64_t *offsets = calloc(w->batch, sizeof *offsets);
    for (size_t i = 0; i < w->batch; i++) {
        events[i] = (flowmesh_event_t)FLOWMESH_EVENT_INIT;
        events[i].payload = flowmesh_view_bytes(payload, PAYLOAD);
    }
    while (now_ns() < w->until) {
        must(flowmesh_stream_write(w->stream, events, w->batch, NULL, offsets, &error), "write",
             error);
        atomic_fetch_add_explicit(&w->done, w->batch, memory_order_relaxed);
    }
    free(events);
    free(offsets);
    return NULL;
}

static unsigned long total(struct worker *all, size_t threads)
{
    unsigned long sum = 0;
    for (size_t i = 0; i < threads; i++)
        sum += atomic_load(&all[i].done);
    return sum;
}

int main(int argc, char **argv)
{
    static struct worker workers[MAX_THREADS];
    pthread_t ids[MAX_THREADS];
    flowmesh_client_t *client = NULL;
    flowmesh_stream_t *stream = NULL;
    flowmesh_queue_t *queue = NULL;
    flowmesh_error_t *error = NULL;
    if (argc < 5)
        die("usage", "flowmesh_producer ENDPOINT produce|write|enqueue THREADS SECONDS [BATCH]");
    size_t threads = (size_t)atoll(argv[3]);
    double seconds = atof(argv[4]);
    bool writes = strcmp(argv[2], "write") == 0, jobs = strcmp(argv[2], "enqueue") == 0;
    if (threads > MAX_THREADS)
        die("usage", "too many threads");
    fill(payload, PAYLOAD);
    must(flowmesh_client_open(argv[1], NULL, &client, &error), argv[1], error);
    must(flowmesh_client_connect(client, 10000, &error), argv[1], error);
    must(flowmesh_stream_open(client, TENANT, NAMESPACE, STREAM_WRITE, &stream, &error), "", error);
    must(flowmesh_queue_open(client, TENANT, NAMESPACE, "jobs", &queue, &error), "", error);
    uint64_t started = now_ns(), cpu = cpu_ns();
    for (size_t i = 0; i < threads; i++) {
        struct worker *w = &workers[i];
        w->stream = stream;
        w->batch = argc > 5 ? (size_t)atoll(argv[5]) : 1;
        w->until = started + (uint64_t)(seconds * 1e9);
        w->last = -1;
        w->in_order = !jobs;
        if (!writes) {
            flowmesh_producer_options_t *options = NULL;
            must(flowmesh_producer_options_new(&options, &error), "options", error);
            must(
                flowmesh_producer_options_set_report_callback(options, on_reports, w, NULL, &error),
                "callback", error);
            if (argc > 5)
                must(flowmesh_producer_options_set_max_batch_messages(options, w->batch, &error),
                     "batch", error);
            must(jobs ? flowmesh_queue_producer_open(queue, options, &w->producer, &error)
                      : flowmesh_stream_producer_open(stream, options, &w->producer, &error),
                 "producer", error);
            flowmesh_producer_options_free(options);
        }
        pthread_create(&ids[i], NULL, writes ? write_batches : produce, w);
    }
    struct timespec half = {(time_t)(seconds / 2),
                            (long)((seconds / 2 - (long)(seconds / 2)) * 1e9)};
    nanosleep(&half, NULL);
    unsigned long before = allocations_so_far(), done = total(workers, threads);
    for (size_t i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    double passed = (double)(now_ns() - started) / 1e9;
    double all = (double)total(workers, threads);
    printf("{\"rate\":%.1f,\"cpu_us\":%.4f,\"allocations\":%.3f}\n", all / passed,
           (double)(cpu_ns() - cpu) / 1e3 / all,
           (double)(allocations_so_far() - before) / (all - (double)done));
    for (size_t i = 0; i < threads; i++)
        flowmesh_producer_free(workers[i].producer);
    flowmesh_queue_free(queue);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
    return 0;
}
