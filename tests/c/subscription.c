/* Subscriptions: what is delivered, when it ends, who owns what. */
#include "peers.h"
#include <pthread.h>

/* What a callback has seen, with a bell. Tests wait for events, never for time. */
struct seen {
    pthread_mutex_t lock;
    pthread_cond_t bell;
    int64_t next;  /* the offset that must come next */
    int64_t last;  /* the last one of the test */
    size_t most;   /* the largest batch */
    int gaps;      /* offsets that were not `next` */
    int running;   /* callbacks at this moment */
    int overlaps;  /* callbacks that ran at once */
    int dropped;   /* releases of the user data */
    int late;      /* callbacks after a release */
    int connected; /* state changes */
    int lost;
    flowmesh_status_t ended; /* OK: not */
    bool hold;               /* callbacks wait while it is set */
    bool close_inside;       /* the first callback ends its subscription */
    bool free_inside;
    bool closed;      /* a close inside a callback returned */
    bool call_inside; /* callbacks make a blocking call */
    flowmesh_stream_t *stream;
    flowmesh_subscription_t *subscription;
    flowmesh_message_batch_t *kept;
};

static void start(struct seen *seen)
{
    memset(seen, 0, sizeof(*seen));
    pthread_mutex_init(&seen->lock, NULL);
    pthread_cond_init(&seen->bell, NULL);
}

/* Waits until `condition` holds; `seen` must be locked. */
#define AWAIT(seen, condition)                                                                     \
    do {                                                                                           \
        struct timespec until;                                                                     \
        clock_gettime(CLOCK_REALTIME, &until);                                                     \
        until.tv_sec += PATIENCE_MS / 1000;                                                        \
        while (!(condition))                                                                       \
            assert_int_equal(pthread_cond_timedwait(&(seen)->bell, &(seen)->lock, &until), 0);     \
    } while (0)

static void await_last(struct seen *seen)
{
    pthread_mutex_lock(&seen->lock);
    AWAIT(seen, seen->next > seen->last);
    pthread_mutex_unlock(&seen->lock);
}

static void ring(struct seen *seen)
{
    pthread_cond_broadcast(&seen->bell);
}

static void on_messages(const flowmesh_message_batch_t *batch, void *user_data)
{
    struct seen *seen = (struct seen *)user_data;
    size_t count = flowmesh_message_batch_count(batch);
    flowmesh_subscription_t *close = NULL;
    flowmesh_subscription_t *release = NULL;

    pthread_mutex_lock(&seen->lock);
    seen->overlaps += seen->running++ > 0;
    seen->late += seen->dropped > 0;
    seen->most = count > seen->most ? count : seen->most;
    for (size_t i = 0; i < count; i++)
        seen->gaps += flowmesh_message_batch_at(batch, i)->offset != seen->next + (int64_t)i;
    while (seen->subscription == NULL && (seen->close_inside || seen->free_inside))
        pthread_cond_wait(&seen->bell, &seen->lock);
    if (seen->close_inside)
        close = seen->subscription;
    if (seen->free_inside)
        release = seen->subscription;
    pthread_mutex_unlock(&seen->lock);

    if (seen->kept == NULL && seen->stream != NULL &&
        flowmesh_message_batch_retain(batch, &seen->kept, NULL) != FLOWMESH_OK)
        seen->gaps++;
    if (seen->call_inside &&
        flowmesh_stream_commit_offset(seen->stream, "g", seen->next, NULL, NULL) != FLOWMESH_OK)
        seen->gaps++;
    bool closed = close != NULL && flowmesh_subscription_close(close, -1, NULL) == FLOWMESH_OK;
    flowmesh_subscription_free(release);

    pthread_mutex_lock(&seen->lock);
    seen->closed = seen->closed || closed;
    seen->next += (int64_t)count;
    ring(seen);
    while (seen->hold)
        pthread_cond_wait(&seen->bell, &seen->lock);
    seen->running--;
    pthread_mutex_unlock(&seen->lock);
}

static void on_state(flowmesh_subscription_state_t state, const flowmesh_error_t *reason,
                     void *user_data)
{
    struct seen *seen = (struct seen *)user_data;
    pthread_mutex_lock(&seen->lock);
    seen->connected += state == FLOWMESH_SUBSCRIPTION_CONNECTED && reason == NULL;
    seen->lost += state == FLOWMESH_SUBSCRIPTION_LOST && reason != NULL;
    if (state == FLOWMESH_SUBSCRIPTION_ENDED)
        seen->ended = flowmesh_error_status(reason);
    ring(seen);
    pthread_mutex_unlock(&seen->lock);
}

static void on_drop(void *user_data)
{
    struct seen *seen = (struct seen *)user_data;
    pthread_mutex_lock(&seen->lock);
    seen->dropped++;
    ring(seen);
    pthread_mutex_unlock(&seen->lock);
}

/* Options that start at offset 0 and report states to `seen`, which both callbacks then own. */
static flowmesh_subscription_options_t *from_start(struct seen *seen)
{
    flowmesh_subscription_options_t *options = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_subscription_options_new(&options, &error));
    OK(flowmesh_subscription_options_set_start_offset(options, 0, &error));
    OK(flowmesh_subscription_options_set_state_callback(options, on_state, seen, NULL, &error));
    return options;
}

static void subscribe(const flowmesh_stream_t *stream,
                      const flowmesh_subscription_options_t *options, struct seen *seen)
{
    flowmesh_subscription_t *subscription = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_stream_subscribe(stream, options, on_messages, seen, on_drop, &subscription,
                                 &error));
    pthread_mutex_lock(&seen->lock);
    seen->subscription = subscription;
    ring(seen);
    pthread_mutex_unlock(&seen->lock);
}

static void close_and_check(struct seen *seen)
{
    flowmesh_error_t *error = NULL;
    OK(flowmesh_subscription_close(seen->subscription, PATIENCE_MS, &error));
    OK(flowmesh_subscription_close(seen->subscription, 0, &error)); /* again */
    assert_int_equal(seen->dropped, 1);
    assert_int_equal(seen->gaps, 0);
    assert_int_equal(seen->overlaps, 0);
    assert_int_equal(seen->late, 0);
    flowmesh_subscription_free(seen->subscription);
    assert_int_equal(seen->dropped, 1);
}

static void everything_comes_once_in_order_in_batches(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    struct seen seen;
    (void)state;
    start(&seen);
    write_numbers(stream, 0, 50);
    flowmesh_subscription_options_t *options = from_start(&seen);
    OK(flowmesh_subscription_options_set_max_batch_messages(options, 7, &error));
    OK(flowmesh_subscription_options_set_max_batch_bytes(options, 4096, &error));
    OK(flowmesh_subscription_options_set_partition(options, 0, &error));
    OK(flowmesh_subscription_options_set_consumer_group(options, "g", &error));
    subscribe(stream, options, &seen);
    flowmesh_subscription_options_free(options);
    seen.last = write_numbers(stream, 50, 50);
    await_last(&seen);
    close_and_check(&seen);
    assert_int_equal(seen.next, 100);
    assert_in_range(seen.most, 1, 7);
    assert_int_equal(seen.connected, 1);
    assert_int_equal(seen.ended, FLOWMESH_OK); /* closing is not told */
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void new_means_from_the_call_on(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_subscription_options_t *options = NULL;
    flowmesh_error_t *error = NULL;
    struct seen seen;
    (void)state;
    start(&seen);
    seen.next = write_numbers(stream, 0, 10) + 1;
    OK(flowmesh_subscription_options_new(&options, &error));
    OK(flowmesh_subscription_options_set_start_offset(options, FLOWMESH_START_NEW, &error));
    subscribe(stream, options, &seen);
    flowmesh_subscription_options_free(options);
    seen.last = write_numbers(stream, 10, 10);
    await_last(&seen);
    close_and_check(&seen);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void committed_means_after_the_commit(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    struct seen seen;
    (void)state;
    start(&seen);
    seen.last = write_numbers(stream, 0, 10);
    OK(flowmesh_stream_commit_offset(stream, "default", 6, NULL, &error));
    seen.next = 7;
    subscribe(stream, NULL, &seen); /* by default */
    await_last(&seen);
    close_and_check(&seen);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void a_stream_that_is_not_there_is_waited_for(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    struct seen seen;
    (void)state;
    start(&seen);
    subscribe(stream, NULL, &seen);
    seen.last = write_numbers(stream, 0, 1);
    await_last(&seen);
    close_and_check(&seen);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void callbacks_may_block_and_retain(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    int64_t committed = -1;
    struct seen seen;
    (void)state;
    start(&seen);
    seen.stream = stream;
    seen.call_inside = true;
    flowmesh_subscription_options_t *options = from_start(&seen);
    subscribe(stream, options, &seen);
    flowmesh_subscription_options_free(options);
    seen.last = write_numbers(stream, 0, 20);
    await_last(&seen);
    close_and_check(&seen);
    OK(flowmesh_stream_get_offset(stream, "g", NULL, &committed, &error));
    assert_in_range(committed, 0, 19);
    check_view(flowmesh_message_batch_at(seen.kept, 0)->payload, "0");
    flowmesh_message_batch_free(seen.kept);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void two_subscriptions_share_the_thread(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    struct seen seen[2];
    (void)state;
    for (int i = 0; i < 2; i++) {
        start(&seen[i]);
        flowmesh_subscription_options_t *options = from_start(&seen[i]);
        subscribe(stream, options, &seen[i]);
        flowmesh_subscription_options_free(options);
    }
    seen[0].last = seen[1].last = write_numbers(stream, 0, 30);
    for (int i = 0; i < 2; i++)
        await_last(&seen[i]);
    for (int i = 0; i < 2; i++)
        close_and_check(&seen[i]);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void a_callback_can_close_its_subscription(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    struct seen seen;
    (void)state;
    start(&seen);
    seen.close_inside = true;
    subscribe(stream, NULL, &seen);
    write_numbers(stream, 0, 10);
    pthread_mutex_lock(&seen.lock);
    AWAIT(&seen, seen.dropped == 1);
    pthread_mutex_unlock(&seen.lock);
    assert_true(seen.closed);
    close_and_check(&seen);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void a_callback_can_free_its_subscription(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    struct seen seen;
    (void)state;
    start(&seen);
    seen.free_inside = true;
    subscribe(stream, NULL, &seen);
    write_numbers(stream, 0, 10);
    pthread_mutex_lock(&seen.lock);
    AWAIT(&seen, seen.dropped == 1);
    pthread_mutex_unlock(&seen.lock);
    assert_int_equal(seen.late, 0);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void close_reports_a_callback_that_lasts(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    struct seen seen;
    (void)state;
    start(&seen);
    seen.hold = true;
    subscribe(stream, NULL, &seen);
    seen.last = write_numbers(stream, 0, 1);
    await_last(&seen);
    FAILS(FLOWMESH_DEADLINE_EXCEEDED, "still running",
          flowmesh_subscription_close(seen.subscription, 0, &error));
    FAILS(FLOWMESH_DEADLINE_EXCEEDED, "still running",
          flowmesh_subscription_close(seen.subscription, 1, &error));
    assert_int_equal(seen.dropped, 0);
    write_numbers(stream, 1, 1); /* none starts any more */
    pthread_mutex_lock(&seen.lock);
    seen.hold = false;
    ring(&seen);
    AWAIT(&seen, seen.dropped == 1);
    pthread_mutex_unlock(&seen.lock);
    close_and_check(&seen);
    assert_int_equal(seen.next, 1);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void closing_the_client_ends_its_subscriptions(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    struct seen seen;
    (void)state;
    start(&seen);
    flowmesh_subscription_options_t *options = from_start(&seen);
    subscribe(stream, options, &seen);
    flowmesh_subscription_options_free(options);
    seen.last = write_numbers(stream, 0, 3);
    await_last(&seen);
    OK(flowmesh_client_close(client, PATIENCE_MS, &error));
    assert_int_equal(seen.dropped, 1);
    assert_int_equal(seen.ended, FLOWMESH_CLOSED);
    flowmesh_subscription_free(seen.subscription);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void user_data_is_released_also_when_the_call_fails(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_subscription_options_t *options = NULL;
    flowmesh_subscription_t *subscription = NULL;
    flowmesh_error_t *error = NULL;
    struct seen seen;
    (void)state;
    start(&seen);
    FAILS(FLOWMESH_INVALID_ARGUMENT, "callback",
          flowmesh_stream_subscribe(stream, NULL, NULL, &seen, on_drop, &subscription, &error));
    assert_int_equal(seen.dropped, 1);
    FAILS(
        FLOWMESH_INVALID_ARGUMENT, "stream",
        flowmesh_stream_subscribe(NULL, NULL, on_messages, &seen, on_drop, &subscription, &error));
    assert_int_equal(seen.dropped, 2);
    OK(flowmesh_subscription_options_new(&options, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "callback",
          flowmesh_subscription_options_set_state_callback(options, NULL, &seen, on_drop, &error));
    assert_int_equal(seen.dropped, 3);
    OK(flowmesh_subscription_options_set_state_callback(options, on_state, &seen, on_drop, &error));
    OK(flowmesh_subscription_options_set_state_callback(options, on_state, &seen, on_drop, &error));
    assert_int_equal(seen.dropped, 4); /* the one before */
    flowmesh_subscription_options_free(options);
    assert_int_equal(seen.dropped, 5);
    OK(flowmesh_client_close(client, PATIENCE_MS, &error));
    FAILS(FLOWMESH_CLOSED, "closed",
          flowmesh_stream_subscribe(stream, NULL, on_messages, &seen, on_drop, &subscription,
                                    &error));
    assert_int_equal(seen.dropped, 6);
    assert_null(subscription);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

/* ---- a server that dies ------------------------------------------------------------------ */

static void a_subscription_resumes_when_the_server_is_back(void **state)
{
    char directory[32];
    char endpoint[96];
    flowmesh_client_t *client = NULL;
    flowmesh_stream_t *stream = NULL;
    flowmesh_error_t *error = NULL;
    struct seen seen;
    (void)state;
    if (getenv("FLOWMESH_SERVER") == NULL)
        skip();
    start(&seen);
    make_directory(directory);
    snprintf(endpoint, sizeof(endpoint), "unix:%s/socket", directory);
    struct peer server = start_server(endpoint, directory);
    OK(flowmesh_client_open(endpoint, NULL, &client, &error));
    OK(flowmesh_stream_open(client, "acme", "test", "resume", &stream, &error));
    seen.last = write_numbers(stream, 0, 10);
    flowmesh_subscription_options_t *options = from_start(&seen);
    subscribe(stream, options, &seen);
    flowmesh_subscription_options_free(options);
    await_last(&seen);
    kill_peer(&server);
    pthread_mutex_lock(&seen.lock);
    AWAIT(&seen, seen.lost > 0);
    pthread_mutex_unlock(&seen.lock);
    server = start_server(endpoint, directory);
    /* The write takes a connection of its own time; the subscription comes back by itself. */
    OK(flowmesh_client_connect(client, PATIENCE_MS, &error));
    seen.last = write_numbers(stream, 10, 10);
    await_last(&seen);
    assert_int_equal(seen.connected, 2);
    close_and_check(&seen);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
    kill_peer(&server);
    remove_directory(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_comes_once_in_order_in_batches),
        cmocka_unit_test(new_means_from_the_call_on),
        cmocka_unit_test(committed_means_after_the_commit),
        cmocka_unit_test(a_stream_that_is_not_there_is_waited_for),
        cmocka_unit_test(callbacks_may_block_and_retain),
        cmocka_unit_test(two_subscriptions_share_the_thread),
        cmocka_unit_test(a_callback_can_close_its_subscription),
        cmocka_unit_test(a_callback_can_free_its_subscription),
        cmocka_unit_test(close_reports_a_callback_that_lasts),
        cmocka_unit_test(closing_the_client_ends_its_subscriptions),
        cmocka_unit_test(user_data_is_released_also_when_the_call_fails),
        cmocka_unit_test(a_subscription_resumes_when_the_server_is_back),
    };
    return cmocka_run_group_tests(tests, NULL, end_library);
}
