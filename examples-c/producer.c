/* Producers: many events accepted at once, sent in large requests, each with a delivery report.
 *
 *     producer [ENDPOINT]
 */
#include <flowmesh.h>
#include <stdio.h>

enum { READINGS = 100000 };

/* What an application knows of a message until it is stored. */
struct reading {
    char text[32];
    int64_t offset;
};

struct tally {
    int64_t stored, failed, calls;
};

static struct reading readings[READINGS];

/* Runs on a thread of the library, one call at a time, in the order of the sends. */
static void on_reports(const flowmesh_report_batch_t *reports, void *user_data)
{
    struct tally *tally = (struct tally *)user_data;
    size_t count = flowmesh_report_batch_count(reports);

    tally->calls++;
    for (size_t i = 0; i < count; i++) {
        const flowmesh_report_t *report = flowmesh_report_batch_at(reports, i);
        struct reading *reading = (struct reading *)report->message_data;
        if (report->status == FLOWMESH_OK) {
            reading->offset = report->position;
            tally->stored++;
        } else {
            /* report->outcome says whether it is stored nevertheless. */
            fprintf(stderr, "%s: %s\n", reading->text, flowmesh_error_message(report->error));
            tally->failed++;
        }
    }
}

static flowmesh_status_t open_producer(const flowmesh_stream_t *stream, struct tally *tally,
                                       flowmesh_producer_t **producer, flowmesh_error_t **error)
{
    flowmesh_producer_options_t *options = NULL;
    flowmesh_status_t status = flowmesh_producer_options_new(&options, error);
    if (status == FLOWMESH_OK)
        status =
            flowmesh_producer_options_set_report_callback(options, on_reports, tally, NULL, error);
    if (status == FLOWMESH_OK)
        status = flowmesh_stream_producer_open(stream, options, producer, error);
    flowmesh_producer_options_free(options);
    return status;
}

static flowmesh_status_t send_all(const flowmesh_producer_t *producer, flowmesh_error_t **error)
{
    flowmesh_status_t status = FLOWMESH_OK;
    for (int i = 0; i < READINGS && status == FLOWMESH_OK; i++) {
        flowmesh_event_t event = FLOWMESH_EVENT_INIT;
        snprintf(readings[i].text, sizeof(readings[i].text), "sensor %d: %d C", i % 7, i % 40);
        event.payload = flowmesh_view_str(readings[i].text);
        /* Waits only while the buffer is full. With a timeout of 0 it never does: then
         * FLOWMESH_QUEUE_FULL is the sign to wait for the writable callback. */
        status = flowmesh_producer_send(producer, &event, &readings[i], -1, error);
    }
    return status;
}

int main(int argc, char **argv)
{
    flowmesh_client_t *client = NULL;
    flowmesh_stream_t *stream = NULL;
    flowmesh_producer_t *producer = NULL;
    flowmesh_error_t *error = NULL;
    struct tally tally = {0, 0, 0};
    size_t unsent = 0;

    flowmesh_status_t status =
        flowmesh_client_open(argc > 1 ? argv[1] : NULL, NULL, &client, &error);
    if (status == FLOWMESH_OK)
        status = flowmesh_stream_open(client, "demo", "lab", "readings", &stream, &error);
    if (status == FLOWMESH_OK)
        status = open_producer(stream, &tally, &producer, &error);
    if (status == FLOWMESH_OK)
        status = send_all(producer, &error);
    /* After this no callback runs: `tally` and `readings` are ours again. */
    if (status == FLOWMESH_OK)
        status = flowmesh_producer_close(producer, 30000, &unsent, &error);
    if (status == FLOWMESH_OK)
        printf("%lld stored in %lld calls of the callback, %lld failed, %zu unsent\n",
               (long long)tally.stored, (long long)tally.calls, (long long)tally.failed, unsent);
    else
        fprintf(stderr, "producer: %s\n", flowmesh_error_message(error));
    flowmesh_error_free(error);
    flowmesh_producer_free(producer);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
    return status == FLOWMESH_OK && tally.failed == 0 ? 0 : 1;
}
