/* The work in plain C. */
#define _POSIX_C_SOURCE 200809L
#include "measure.h"

#include <flowmesh.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SIZE = 100, PER_WRITE = 1000 };

double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double failed(const char *what, flowmesh_error_t *error)
{
    fprintf(stderr, "%s: %s\n", what, flowmesh_error_message(error));
    flowmesh_error_free(error);
    return -1;
}

double c_gets(long count)
{
    flowmesh_client_t *client = NULL;
    flowmesh_kv_t *kv = NULL;
    flowmesh_error_t *error = NULL;
    flowmesh_view_t key = FLOWMESH_VIEW_LITERAL("key");
    flowmesh_status_t status = flowmesh_client_open("embedded:", NULL, &client, &error);
    size_t bytes = 0;
    if (status == FLOWMESH_OK)
        status = flowmesh_kv_open(client, "bench", "cpp", "kv", &kv, &error);
    if (status == FLOWMESH_OK)
        status = flowmesh_kv_set(kv, key, flowmesh_view_str("value"), NULL, &error);
    double from = seconds_now();
    for (long i = 0; i < count && status == FLOWMESH_OK; i++) {
        flowmesh_value_t *value = NULL;
        status = flowmesh_kv_get(kv, key, NULL, &value, &error);
        bytes += flowmesh_value_data(value).len;
        flowmesh_value_free(value);
    }
    double rate = (double)count / (seconds_now() - from);
    flowmesh_kv_free(kv);
    flowmesh_client_free(client);
    if (status != FLOWMESH_OK)
        return failed("c gets", error);
    return bytes == (size_t)count * 5 ? rate : -1;
}

struct counter {
    long left;
    size_t bytes;
    sem_t done;
};

static void on_messages(const flowmesh_message_batch_t *batch, void *user_data)
{
    struct counter *counter = user_data;
    size_t count = flowmesh_message_batch_count(batch);
    for (size_t i = 0; i < count; i++)
        counter->bytes += flowmesh_message_batch_at(batch, i)->payload.len;
    counter->left -= (long)count;
    if (counter->left == 0)
        sem_post(&counter->done);
}

double c_messages(long count)
{
    static char payload[SIZE];
    flowmesh_client_t *client = NULL;
    flowmesh_stream_t *stream = NULL;
    flowmesh_subscription_options_t *options = NULL;
    flowmesh_subscription_t *subscription = NULL;
    flowmesh_error_t *error = NULL;
    flowmesh_event_t events[PER_WRITE];
    struct counter counter = {.left = count};
    sem_init(&counter.done, 0, 0);
    memset(payload, 'x', SIZE);
    for (size_t i = 0; i < PER_WRITE; i++) {
        const flowmesh_event_t init = FLOWMESH_EVENT_INIT;
        events[i] = init;
        events[i].payload = flowmesh_view_bytes(payload, SIZE);
    }
    flowmesh_status_t status = flowmesh_client_open("embedded:", NULL, &client, &error);
    if (status == FLOWMESH_OK)
        status = flowmesh_stream_open(client, "bench", "cpp", "stream", &stream, &error);
    for (long i = 0; i < count && status == FLOWMESH_OK; i += PER_WRITE)
        status = flowmesh_stream_write(stream, events, PER_WRITE, NULL, NULL, &error);
    if (status == FLOWMESH_OK)
        status = flowmesh_subscription_options_new(&options, &error);
    if (status == FLOWMESH_OK)
        status = flowmesh_subscription_options_set_start_offset(options, 0, &error);
    double from = seconds_now();
    if (status == FLOWMESH_OK)
        status = flowmesh_stream_subscribe(stream, options, on_messages, &counter, NULL,
                                           &subscription, &error);
    if (status == FLOWMESH_OK)
        sem_wait(&counter.done);
    double rate = (double)count / (seconds_now() - from);
    if (status == FLOWMESH_OK)
        status = flowmesh_subscription_close(subscription, -1, &error);
    flowmesh_subscription_free(subscription);
    flowmesh_subscription_options_free(options);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
    sem_destroy(&counter.done);
    if (status != FLOWMESH_OK)
        return failed("c messages", error);
    return counter.bytes == (size_t)count * SIZE ? rate : -1;
}
