/* Streams, queues and key-value storage on one page.
 *
 *     quickstart [ENDPOINT]
 *
 * Try "embedded:./data" (no server needed), or start flowmesh-server and give "localhost:50051".
 */
#include <flowmesh.h>
#include <stdio.h>

static flowmesh_status_t streams(flowmesh_client_t *client, flowmesh_error_t **error)
{
    flowmesh_stream_t *orders = NULL;
    flowmesh_message_batch_t *batch = NULL;
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    int64_t offset = -1;
    event.payload = FLOWMESH_VIEW_LITERAL("one espresso");

    flowmesh_status_t status =
        flowmesh_stream_open(client, "demo", "cafe", "orders", &orders, error);
    if (status == FLOWMESH_OK)
        status = flowmesh_stream_write(orders, &event, 1, NULL, &offset, error);
    if (status == FLOWMESH_OK)
        status = flowmesh_stream_read(orders, offset, NULL, &batch, error);
    for (size_t i = 0; i < flowmesh_message_batch_count(batch); i++) {
        const flowmesh_message_t *message = flowmesh_message_batch_at(batch, i);
        printf("stream: offset %lld is \"" FLOWMESH_VIEW_FMT "\"\n", (long long)message->offset,
               FLOWMESH_VIEW_ARG(message->payload));
    }
    flowmesh_message_batch_free(batch);
    flowmesh_stream_free(orders);
    return status;
}

static flowmesh_status_t queues(flowmesh_client_t *client, flowmesh_error_t **error)
{
    flowmesh_queue_t *dishes = NULL;
    flowmesh_job_t *job = NULL;
    flowmesh_view_t payload = FLOWMESH_VIEW_LITERAL("wash the cup");

    flowmesh_status_t status =
        flowmesh_queue_open(client, "demo", "cafe", "dishes", &dishes, error);
    if (status == FLOWMESH_OK)
        status = flowmesh_queue_enqueue(dishes, payload, NULL, NULL, NULL, error);
    if (status == FLOWMESH_OK)
        status = flowmesh_queue_reserve(dishes, NULL, &job, error);
    if (status == FLOWMESH_OK && job != NULL) {
        printf("queue: job %lld is \"" FLOWMESH_VIEW_FMT "\"\n", (long long)job->seq,
               FLOWMESH_VIEW_ARG(job->payload));
        status = flowmesh_job_ack(job, NULL, error);
    }
    flowmesh_job_free(job);
    flowmesh_queue_free(dishes);
    return status;
}

static flowmesh_status_t values(flowmesh_client_t *client, flowmesh_error_t **error)
{
    flowmesh_kv_t *menu = NULL;
    flowmesh_value_t *price = NULL;
    flowmesh_view_t key = FLOWMESH_VIEW_LITERAL("espresso");

    flowmesh_status_t status = flowmesh_kv_open(client, "demo", "cafe", "menu", &menu, error);
    if (status == FLOWMESH_OK)
        status = flowmesh_kv_set(menu, key, flowmesh_view_str("2.20"), NULL, error);
    if (status == FLOWMESH_OK)
        status = flowmesh_kv_get(menu, key, NULL, &price, error);
    if (status == FLOWMESH_OK)
        printf("kv: espresso costs " FLOWMESH_VIEW_FMT "\n",
               FLOWMESH_VIEW_ARG(flowmesh_value_data(price)));
    flowmesh_value_free(price);
    flowmesh_kv_free(menu);
    return status;
}

int main(int argc, char **argv)
{
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    /* NULL: what FLOWMESH_ENDPOINT says, else localhost:50051. */
    const char *endpoint = argc > 1 ? argv[1] : NULL;

    flowmesh_status_t status = flowmesh_client_open(endpoint, NULL, &client, &error);
    if (status == FLOWMESH_OK)
        status = streams(client, &error);
    if (status == FLOWMESH_OK)
        status = queues(client, &error);
    if (status == FLOWMESH_OK)
        status = values(client, &error);
    if (status != FLOWMESH_OK)
        fprintf(stderr, "quickstart: %s: %s\n", flowmesh_status_name(status),
                flowmesh_error_message(error));
    flowmesh_error_free(error);
    flowmesh_client_free(client);
    return status == FLOWMESH_OK ? 0 : 1;
}
