/* Streams: a batch with headers, a reader that pages, a subscription, a consumer group.
 *
 *     streams [ENDPOINT]
 */
#define _POSIX_C_SOURCE 200809L
#include <flowmesh.h>
#include <semaphore.h>
#include <stdio.h>

enum { EVENTS = 5 };

/* What the subscription's callback works with. */
struct consumer {
    flowmesh_stream_t *stream;
    int64_t last;
    sem_t done;
};

static void print(const flowmesh_message_t *message)
{
    flowmesh_view_t kind = FLOWMESH_VIEW_INIT;
    flowmesh_message_get_header(message, "kind", &kind);
    printf("  %lld: " FLOWMESH_VIEW_FMT " (" FLOWMESH_VIEW_FMT ")\n", (long long)message->offset,
           FLOWMESH_VIEW_ARG(message->payload), FLOWMESH_VIEW_ARG(kind));
}

/* Runs on a thread of the library, one call at a time. It may block. */
static void on_messages(const flowmesh_message_batch_t *batch, void *user_data)
{
    struct consumer *consumer = (struct consumer *)user_data;
    size_t count = flowmesh_message_batch_count(batch);
    int64_t offset = flowmesh_message_batch_at(batch, count - 1)->offset;
    flowmesh_error_t *error = NULL;

    for (size_t i = 0; i < count; i++)
        print(flowmesh_message_batch_at(batch, i));
    /* Processed first, committed second: after a crash some come again, none is lost. */
    if (flowmesh_stream_commit_offset(consumer->stream, "printer", offset, NULL, &error))
        fprintf(stderr, "commit: %s\n", flowmesh_error_message(error));
    flowmesh_error_free(error);
    if (offset >= consumer->last)
        sem_post(&consumer->done);
}

static flowmesh_status_t write_some(flowmesh_stream_t *stream, int64_t *last,
                                    flowmesh_error_t **error)
{
    static const flowmesh_header_t header = {{(const uint8_t *)"kind", 4},
                                             {(const uint8_t *)"drink", 5}};
    static const char *const drinks[EVENTS] = {"espresso", "mate", "tea", "water", "milk"};
    flowmesh_event_t events[EVENTS];
    int64_t offsets[EVENTS];

    for (int i = 0; i < EVENTS; i++) {
        const flowmesh_event_t init = FLOWMESH_EVENT_INIT;
        events[i] = init;
        events[i].payload = flowmesh_view_str(drinks[i]);
        events[i].headers = &header;
        events[i].header_count = 1;
    }
    flowmesh_status_t status = flowmesh_stream_write(stream, events, EVENTS, NULL, offsets, error);
    if (status == FLOWMESH_OK)
        *last = offsets[EVENTS - 1];
    return status;
}

static flowmesh_status_t read_all(flowmesh_stream_t *stream, flowmesh_error_t **error)
{
    flowmesh_stream_reader_t *reader = NULL;
    flowmesh_read_options_t options = FLOWMESH_READ_OPTIONS_INIT;
    options.max_messages = 2;

    flowmesh_status_t status = flowmesh_stream_reader_open(stream, 0, &options, &reader, error);
    for (size_t count = 1; status == FLOWMESH_OK && count > 0;) {
        flowmesh_message_batch_t *page = NULL;
        status = flowmesh_stream_reader_next(reader, NULL, &page, error);
        count = flowmesh_message_batch_count(page);
        for (size_t i = 0; i < count; i++)
            print(flowmesh_message_batch_at(page, i));
        flowmesh_message_batch_free(page);
    }
    flowmesh_stream_reader_free(reader);
    return status;
}

static flowmesh_status_t subscribe(flowmesh_stream_t *stream, int64_t last,
                                   flowmesh_error_t **error)
{
    struct consumer consumer = {.stream = stream, .last = last};
    flowmesh_subscription_options_t *options = NULL;
    flowmesh_subscription_t *subscription = NULL;
    sem_init(&consumer.done, 0, 0);

    flowmesh_status_t status = flowmesh_subscription_options_new(&options, error);
    if (status == FLOWMESH_OK)
        status = flowmesh_subscription_options_set_consumer_group(options, "printer", error);
    if (status == FLOWMESH_OK)
        status = flowmesh_stream_subscribe(stream, options, on_messages, &consumer, NULL,
                                           &subscription, error);
    if (status == FLOWMESH_OK) {
        sem_wait(&consumer.done);
        /* After this no callback runs, so that `consumer` may go. */
        status = flowmesh_subscription_close(subscription, -1, error);
    }
    flowmesh_subscription_free(subscription);
    flowmesh_subscription_options_free(options);
    sem_destroy(&consumer.done);
    return status;
}

int main(int argc, char **argv)
{
    flowmesh_client_t *client = NULL;
    flowmesh_stream_t *stream = NULL;
    flowmesh_error_t *error = NULL;
    flowmesh_group_state_t group = FLOWMESH_GROUP_STATE_INIT;
    int64_t last = -1;

    flowmesh_status_t status =
        flowmesh_client_open(argc > 1 ? argv[1] : NULL, NULL, &client, &error);
    if (status == FLOWMESH_OK)
        status = flowmesh_stream_open(client, "demo", "cafe", "drinks", &stream, &error);
    if (status == FLOWMESH_OK)
        status = write_some(stream, &last, &error);
    if (status == FLOWMESH_OK) {
        puts("everything, page by page:");
        status = read_all(stream, &error);
    }
    if (status == FLOWMESH_OK) {
        puts("what the group \"printer\" has not seen:");
        status = subscribe(stream, last, &error);
    }
    if (status == FLOWMESH_OK)
        status = flowmesh_stream_group_state(stream, "printer", NULL, &group, &error);
    if (status == FLOWMESH_OK)
        printf("committed %lld of %lld, %lld to go\n", (long long)group.committed_offset,
               (long long)group.latest_offset, (long long)group.lag);
    else
        fprintf(stderr, "streams: %s\n", flowmesh_error_message(error));
    flowmesh_error_free(error);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
    return status == FLOWMESH_OK ? 0 : 1;
}
