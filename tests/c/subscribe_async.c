/* The asynchronous forms of the calls on subscriptions. */
#include "completion.h"

#include <netinet/in.h>
#include <sys/socket.h>

/* A subscription that is being made, and what it delivers. */
struct follower {
    struct call *call;
    flowmesh_subscription_t *subscription;
    int64_t next; /* as far as delivered without a gap */
    int64_t wanted;
    struct call *closed; /* to be closed with, inside the callback */
    flowmesh_status_t refusal;
};

static void on_subscription(flowmesh_error_t *error, flowmesh_subscription_t *subscription,
                            void *user_data)
{
    struct follower *follower = (struct follower *)user_data;
    struct call *call = call_noted(error, follower->call);
    follower->subscription = subscription;
    call_done(call);
}

static void on_messages(const flowmesh_message_batch_t *batch, void *user_data)
{
    struct follower *follower = (struct follower *)user_data;
    pthread_mutex_lock(&follower->call->mutex);
    for (size_t i = 0; i < flowmesh_message_batch_count(batch); i++)
        follower->next += flowmesh_message_batch_at(batch, i)->offset == follower->next;
    bool close = follower->closed != NULL && follower->next == follower->wanted;
    pthread_cond_broadcast(&follower->call->changed);
    pthread_mutex_unlock(&follower->call->mutex);
    if (close)
        follower->refusal = flowmesh_subscription_close_async(follower->subscription, -1, on_done,
                                                              follower->closed, on_drop, NULL);
}

static void drop_follower(void *user_data)
{
    on_drop(((struct follower *)user_data)->call);
}

/* Waits until the completion has run; the release comes with the end of the subscription. */
static void wait_subscribed(struct follower *follower)
{
    pthread_mutex_lock(&follower->call->mutex);
    while (follower->call->completions == 0)
        pthread_cond_wait(&follower->call->changed, &follower->call->mutex);
    pthread_mutex_unlock(&follower->call->mutex);
    assert_int_equal(follower->call->status, FLOWMESH_OK);
    assert_non_null(follower->subscription);
    assert_false(call_is_over(follower->call));
}

static void wait_delivered(struct follower *follower, int64_t next)
{
    pthread_mutex_lock(&follower->call->mutex);
    while (follower->next < next)
        pthread_cond_wait(&follower->call->changed, &follower->call->mutex);
    pthread_mutex_unlock(&follower->call->mutex);
}

static void follow(struct follower *follower, const flowmesh_stream_t *stream)
{
    flowmesh_error_t *error = NULL;
    memset(follower, 0, sizeof(*follower));
    follower->call = call_new();
    OK(flowmesh_stream_subscribe_async(stream, NULL, on_messages, on_subscription, follower,
                                       drop_follower, NULL, &error));
}

static void a_subscription_is_made_used_and_closed_without_blocking(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    struct follower follower;
    struct call *committed = call_new(), *sought = call_new(), *closed = call_new();
    int64_t offset = -7;
    (void)state;
    write_numbers(stream, 0, 3);
    follow(&follower, stream);
    wait_subscribed(&follower);
    wait_delivered(&follower, 3);
    OK(flowmesh_subscription_commit_async(follower.subscription, NULL, on_done, committed, on_drop,
                                          NULL, &error));
    ENDS(FLOWMESH_OK, committed);
    OK(flowmesh_stream_get_offset(stream, "default", NULL, &offset, &error));
    assert_int_equal(offset, 2);
    follower.next = 1;
    OK(flowmesh_subscription_seek_async(follower.subscription, 1, NULL, on_done, sought, on_drop,
                                        NULL, &error));
    ENDS(FLOWMESH_OK, sought);
    wait_delivered(&follower, 3);
    OK(flowmesh_subscription_close_async(follower.subscription, -1, on_done, closed, on_drop,
                                         &error));
    ENDS(FLOWMESH_OK, closed);
    ENDS(FLOWMESH_OK, follower.call); /* one completion, and now the release */
    flowmesh_subscription_free(follower.subscription);
    call_free(follower.call);
    call_free(committed);
    call_free(sought);
    call_free(closed);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void a_subscription_is_closed_in_its_callback(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    struct follower follower;
    struct call *closed = call_new();
    (void)state;
    follow(&follower, stream);
    wait_subscribed(&follower);
    follower.closed = closed;
    follower.wanted = 2;
    write_numbers(stream, 0, 2);
    ENDS(FLOWMESH_OK, closed);
    assert_int_equal(follower.refusal, FLOWMESH_OK);
    ENDS(FLOWMESH_OK, follower.call);
    flowmesh_subscription_free(follower.subscription);
    call_free(follower.call);
    call_free(closed);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void a_pulled_subscription_is_opened_without_blocking(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_message_batch_t *batch = NULL;
    flowmesh_error_t *error = NULL;
    struct follower follower;
    (void)state;
    memset(&follower, 0, sizeof(follower));
    follower.call = call_new();
    write_numbers(stream, 0, 1);
    OK(flowmesh_subscription_open_async(stream, NULL, on_subscription, &follower, drop_follower,
                                        NULL, &error));
    ENDS(FLOWMESH_OK, follower.call);
    OK(flowmesh_subscription_next(follower.subscription, PATIENCE_MS, NULL, &batch, &error));
    check_view(flowmesh_message_batch_at(batch, 0)->payload, "0");
    flowmesh_message_batch_free(batch);
    flowmesh_subscription_free(follower.subscription);
    call_free(follower.call);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

/* A subscription that cannot get its position, cancelled and closed. */
static void a_subscription_that_is_not_made_says_so(void **state)
{
    struct sockaddr_in address;
    socklen_t length = sizeof(address);
    char endpoint[32];
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    flowmesh_operation_t *operation = NULL;
    struct follower cancelled, closed;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    (void)state;
    memset(&address, 0, sizeof(address));
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    snprintf(endpoint, sizeof(endpoint), "127.0.0.1:%d", (int)ntohs(address.sin_port));
    OK(flowmesh_client_open(endpoint, NULL, &client, &error));
    flowmesh_stream_t *stream = open_stream(client);
    memset(&cancelled, 0, sizeof(cancelled));
    cancelled.call = call_new();
    OK(flowmesh_stream_subscribe_async(stream, NULL, on_messages, on_subscription, &cancelled,
                                       drop_follower, &operation, &error));
    follow(&closed, stream);
    OK(flowmesh_operation_cancel(operation, &error));
    flowmesh_operation_free(operation);
    ENDS(FLOWMESH_CANCELLED, cancelled.call);
    assert_null(cancelled.subscription);
    assert_false(call_is_over(closed.call));
    OK(flowmesh_client_close(client, PATIENCE_MS, &error));
    ENDS(FLOWMESH_CLOSED, closed.call);
    assert_null(closed.subscription);
    call_free(cancelled.call);
    call_free(closed.call);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
    close(listener);
}

static void bad_arguments_are_refused_and_released(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    struct call *call = call_new();
    (void)state;
    FAILS(FLOWMESH_INVALID_ARGUMENT, "callback must not be NULL",
          flowmesh_stream_subscribe_async(stream, NULL, NULL, on_subscription, call, on_drop, NULL,
                                          &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "subscribed must not be NULL",
          flowmesh_stream_subscribe_async(stream, NULL, on_messages, NULL, call, on_drop, NULL,
                                          &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "stream must not be NULL",
          flowmesh_stream_subscribe_async(NULL, NULL, on_messages, on_subscription, call, on_drop,
                                          NULL, &error));
    FAILS(
        FLOWMESH_INVALID_ARGUMENT, "stream must not be NULL",
        flowmesh_subscription_open_async(NULL, NULL, on_subscription, call, on_drop, NULL, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "subscription must not be NULL",
          flowmesh_subscription_seek_async(NULL, 0, NULL, on_done, call, on_drop, NULL, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "subscription must not be NULL",
          flowmesh_subscription_commit_async(NULL, NULL, on_done, call, on_drop, NULL, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "subscription must not be NULL",
          flowmesh_subscription_close_async(NULL, 0, on_done, call, on_drop, &error));
    assert_int_equal(call->completions, 0);
    assert_int_equal(call->drops, 7); /* once for each */
    call_free(call);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_subscription_is_made_used_and_closed_without_blocking),
        cmocka_unit_test(a_subscription_is_closed_in_its_callback),
        cmocka_unit_test(a_pulled_subscription_is_opened_without_blocking),
        cmocka_unit_test(a_subscription_that_is_not_made_says_so),
        cmocka_unit_test(bad_arguments_are_refused_and_released),
    };
    return cmocka_run_group_tests(tests, NULL, end_library);
}
