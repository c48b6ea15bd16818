/* flowmesh_async.c: many calls under way from one thread, through flowmesh.h. Compared with
 * grpc_async.cc. Each completion starts the next call.
 *   flowmesh_async ENDPOINT callback|run get|write DEPTH SECONDS
 * callback: completions on the library's thread; run: in this thread, by flowmesh_dispatcher_run.
 */
#include <flowmesh.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "measure.h"

static flowmesh_error_t *error;

static void must(flowmesh_status_t status, const char *what)
{
    if (status != FLOWMESH_OK)
        die(what, flowmesh_error_message(error));
}

static struct {
    flowmesh_kv_t *store;
    flowmesh_stream_t *stream;
    flowmesh_event_t event;
    unsigned char payload[PAYLOAD];
    void (*start)(void);
    size_t under_way, completed;
    atomic_bool stop;
    sem_t finished;
} run;

static void completed(flowmesh_error_t *failure)
{
    if (failure)
        die("call", flowmesh_error_message(failure));
    run.completed++;
    if (!atomic_load_explicit(&run.stop, memory_order_relaxed)) {
        run.start();
    } else if (--run.under_way == 0) {
        sem_post(&run.finished);
    }
}

static void on_value(flowmesh_error_t *failure, flowmesh_value_t *value, void *with)
{
    (void)with;
    if (!failure && flowmesh_value_data(value).len != PAYLOAD)
        die("get", "the value has another size");
    flowmesh_value_free(value);
    completed(failure);
}

static void start_get(void)
{
    must(flowmesh_kv_get_async(run.store, flowmesh_view_str(KEY), NULL, on_value, NULL, NULL, NULL,
                               &error),
         "get");
}

static void on_offsets(flowmesh_error_t *failure, const int64_t *offsets, size_t count, void *with)
{
    (void)with;
    if (!failure && (count != 1 || offsets[0] < 0))
        die("write", "an offset is missing");
    completed(failure);
}

static void start_write(void)
{
    must(flowmesh_stream_write_async(run.stream, &run.event, 1, NULL, on_offsets, NULL, NULL, NULL,
                                     &error),
         "write");
}

int main(int argc, char **argv)
{
    if (argc != 6)
        die("usage", "flowmesh_async ENDPOINT callback|run get|write DEPTH SECONDS");
    int own = strcmp(argv[2], "run") == 0;
    size_t depth = (size_t)atoll(argv[4]);
    double seconds = atof(argv[5]);
    flowmesh_dispatcher_t *dispatcher = NULL;
    flowmesh_client_options_t *options = NULL;
    flowmesh_client_t *client = NULL;
    struct meter m;

    sem_init(&run.finished, 0, 0);
    fill(run.payload, PAYLOAD);
    run.event = (flowmesh_event_t)FLOWMESH_EVENT_INIT;
    run.event.payload = flowmesh_view_bytes(run.payload, PAYLOAD);
    must(flowmesh_client_options_new(&options, &error), "options");
    must(flowmesh_client_options_set_fsync(options, FLOWMESH_FSYNC_NONE, &error), "fsync");
    if (own) {
        must(flowmesh_dispatcher_new(0, &dispatcher, &error), "dispatcher");
        must(flowmesh_client_options_set_dispatcher(options, dispatcher, &error), "dispatcher");
    }
    must(flowmesh_client_open(argv[1], options, &client, &error), argv[1]);
    flowmesh_client_options_free(options);
    must(flowmesh_client_connect(client, 10000, &error), argv[1]);
    must(flowmesh_kv_open(client, TENANT, NAMESPACE, STORE, &run.store, &error), STORE);
    must(flowmesh_stream_open(client, TENANT, NAMESPACE, STREAM_WRITE, &run.stream, &error),
         STREAM_WRITE);
    run.start = strcmp(argv[3], "write") == 0 ? start_write : start_get;

    meter_start(&m);
    run.under_way = depth;
    for (size_t i = 0; i < depth; i++)
        run.start();
    if (own) {
        while (run.under_way > 0) {
            must(flowmesh_dispatcher_run(dispatcher, 0, -1, NULL, &error), "run");
            if ((double)(now_ns() - m.started) / 1e9 >= seconds)
                atomic_store(&run.stop, 1);
        }
    } else {
        struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
        nanosleep(&time, NULL);
        atomic_store(&run.stop, 1);
        while (sem_wait(&run.finished)) {
        }
    }
    meter_report(&m, (double)run.completed);

    flowmesh_stream_free(run.stream);
    flowmesh_kv_free(run.store);
    flowmesh_client_free(client);
    flowmesh_dispatcher_free(dispatcher);
    return 0;
}
