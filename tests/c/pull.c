/* Subscriptions without a callback: next, and who gets what; seek, pause, commit, state. */
#include "test.h"
#include <pthread.h>

static flowmesh_subscription_t *pull_from(const flowmesh_stream_t *stream, int64_t offset,
                                          size_t max_messages)
{
    flowmesh_subscription_options_t *options = NULL;
    flowmesh_subscription_t *subscription = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_subscription_options_new(&options, &error));
    OK(flowmesh_subscription_options_set_start_offset(options, offset, &error));
    OK(flowmesh_subscription_options_set_max_batch_messages(options, max_messages, &error));
    OK(flowmesh_subscription_open(stream, options, &subscription, &error));
    flowmesh_subscription_options_free(options);
    return subscription;
}

/* Takes messages up to offset `last`; they begin with `first` and have no gap. */
static void expect(const flowmesh_subscription_t *subscription, int64_t first, int64_t last)
{
    flowmesh_error_t *error = NULL;
    int64_t position = -1;
    while (first <= last) {
        flowmesh_message_batch_t *batch = NULL;
        OK(flowmesh_subscription_next(subscription, PATIENCE_MS, NULL, &batch, &error));
        assert_non_null(batch);
        assert_true(flowmesh_message_batch_count(batch) > 0);
        for (size_t i = 0; i < flowmesh_message_batch_count(batch); i++)
            assert_int_equal(flowmesh_message_batch_at(batch, i)->offset, first++);
        flowmesh_message_batch_free(batch);
        OK(flowmesh_subscription_get_position(subscription, &position, &error));
        assert_int_equal(position, first);
    }
    assert_int_equal(first, last + 1);
}

/* Nothing comes within `timeout_ms`. */
static void expect_nothing(const flowmesh_subscription_t *subscription, int64_t timeout_ms)
{
    flowmesh_message_batch_t *batch = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_subscription_next(subscription, timeout_ms, NULL, &batch, &error));
    assert_null(batch);
}

static void next_gives_what_is_there_and_waits_for_more(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    (void)state;
    flowmesh_subscription_t *subscription = pull_from(stream, 0, 7);
    expect_nothing(subscription, 0);
    expect_nothing(subscription, 20);
    int64_t last = write_numbers(stream, 0, 30);
    expect(subscription, 0, last);
    expect_nothing(subscription, 0);
    last = write_numbers(stream, 30, 1);
    expect(subscription, 30, last);
    OK(flowmesh_subscription_close(subscription, -1, &error));
    OK(flowmesh_subscription_close(subscription, 0, &error));
    flowmesh_message_batch_t *batch = NULL;
    FAILS(FLOWMESH_CLOSED, "closed",
          flowmesh_subscription_next(subscription, -1, NULL, &batch, &error));
    flowmesh_subscription_free(subscription);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

struct puller {
    const flowmesh_subscription_t *subscription;
    const flowmesh_cancel_t *cancel;
    pthread_mutex_t *lock;
    int *seen; /* by offset */
    int *left;
    bool order; /* what this thread got was ascending */
    flowmesh_status_t status;
    pthread_t thread;
};

/* Takes batches until the subscription ends. */
static void *pull_all(void *argument)
{
    struct puller *me = (struct puller *)argument;
    int64_t last = -1;
    me->order = true;
    for (;;) {
        flowmesh_message_batch_t *batch = NULL;
        me->status = flowmesh_subscription_next(me->subscription, -1, me->cancel, &batch, NULL);
        if (me->status != FLOWMESH_OK)
            return NULL;
        pthread_mutex_lock(me->lock);
        for (size_t i = 0; i < flowmesh_message_batch_count(batch); i++) {
            int64_t offset = flowmesh_message_batch_at(batch, i)->offset;
            me->order = me->order && offset > last;
            last = offset;
            me->seen[offset]++;
            --*me->left;
        }
        bool all = *me->left == 0;
        pthread_mutex_unlock(me->lock);
        flowmesh_message_batch_free(batch);
        if (all)
            flowmesh_subscription_close(me->subscription, 0, NULL);
    }
}

static void each_batch_goes_to_one_thread(void **state)
{
    enum { MESSAGES = 200, THREADS = 3 };
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_subscription_t *subscription = pull_from(stream, 0, 4);
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct puller pullers[THREADS];
    int seen[MESSAGES];
    int left = MESSAGES;
    (void)state;
    memset(seen, 0, sizeof(seen));
    memset(pullers, 0, sizeof(pullers));
    for (int i = 0; i < THREADS; i++) {
        pullers[i].subscription = subscription;
        pullers[i].lock = &lock;
        pullers[i].seen = seen;
        pullers[i].left = &left;
        assert_int_equal(pthread_create(&pullers[i].thread, NULL, pull_all, &pullers[i]), 0);
    }
    write_numbers(stream, 0, MESSAGES);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(pullers[i].thread, NULL);
        assert_true(pullers[i].order);
        assert_int_equal(pullers[i].status, FLOWMESH_CLOSED);
    }
    for (int i = 0; i < MESSAGES; i++)
        assert_int_equal(seen[i], 1);
    flowmesh_subscription_free(subscription);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void a_cancelled_next_ends_alone(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_subscription_t *subscription = pull_from(stream, 0, 100);
    flowmesh_cancel_t *cancel = NULL;
    flowmesh_error_t *error = NULL;
    struct puller puller;
    (void)state;
    memset(&puller, 0, sizeof(puller));
    OK(flowmesh_cancel_new(&cancel, &error));
    puller.subscription = subscription;
    puller.cancel = cancel;
    assert_int_equal(pthread_create(&puller.thread, NULL, pull_all, &puller), 0);
    OK(flowmesh_cancel_cancel(cancel, &error));
    pthread_join(puller.thread, NULL);
    assert_int_equal(puller.status, FLOWMESH_CANCELLED);
    int64_t last = write_numbers(stream, 0, 3);
    expect(subscription, 0, last); /* it goes on */
    flowmesh_cancel_free(cancel);
    flowmesh_subscription_free(subscription);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void closing_ends_a_next_that_waits(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    struct puller puller;
    (void)state;
    for (int whole_client = 0; whole_client < 2; whole_client++) {
        flowmesh_subscription_t *subscription = pull_from(stream, 0, 100);
        memset(&puller, 0, sizeof(puller));
        puller.subscription = subscription;
        assert_int_equal(pthread_create(&puller.thread, NULL, pull_all, &puller), 0);
        if (whole_client)
            OK(flowmesh_client_close(client, PATIENCE_MS, &error));
        else
            OK(flowmesh_subscription_close(subscription, PATIENCE_MS, &error));
        pthread_join(puller.thread, NULL);
        assert_int_equal(puller.status, FLOWMESH_CLOSED);
        flowmesh_subscription_state_t now = FLOWMESH_SUBSCRIPTION_LOST;
        flowmesh_error_t *reason = NULL;
        OK(flowmesh_subscription_get_state(subscription, &now, &reason, &error));
        assert_int_equal(now, FLOWMESH_SUBSCRIPTION_ENDED);
        assert_int_equal(flowmesh_error_status(reason), FLOWMESH_CLOSED);
        flowmesh_error_free(reason);
        flowmesh_subscription_free(subscription);
    }
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void after_a_seek_nothing_older_comes(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    (void)state;
    int64_t last = write_numbers(stream, 0, 50);
    flowmesh_subscription_t *subscription = pull_from(stream, 0, 5);
    expect(subscription, 0, 9);
    OK(flowmesh_subscription_seek(subscription, 40, NULL, &error));
    expect(subscription, 40, last);
    OK(flowmesh_subscription_seek(subscription, 2, NULL, &error));
    expect(subscription, 2, 6);
    OK(flowmesh_stream_commit_offset(stream, "default", 29, NULL, &error));
    OK(flowmesh_subscription_seek(subscription, FLOWMESH_START_COMMITTED, NULL, &error));
    expect(subscription, 30, 34);
    OK(flowmesh_subscription_seek(subscription, FLOWMESH_START_NEW, NULL, &error));
    expect_nothing(subscription, 0);
    last = write_numbers(stream, 50, 5);
    expect(subscription, 50, last);
    FAILS(FLOWMESH_INVALID_ARGUMENT, "offset",
          flowmesh_subscription_seek(subscription, -3, NULL, &error));
    OK(flowmesh_subscription_close(subscription, 0, &error));
    FAILS(FLOWMESH_CLOSED, "closed", flowmesh_subscription_seek(subscription, 0, NULL, &error));
    flowmesh_subscription_free(subscription);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void a_pause_holds_everything_back(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    (void)state;
    flowmesh_subscription_t *subscription = pull_from(stream, 0, 100);
    write_numbers(stream, 0, 5);
    expect(subscription, 0, 4);
    OK(flowmesh_subscription_pause(subscription, &error));
    OK(flowmesh_subscription_pause(subscription, &error));
    int64_t last = write_numbers(stream, 5, 5);
    expect_nothing(subscription, 0);
    expect_nothing(subscription, 20);
    OK(flowmesh_subscription_resume(subscription, &error));
    expect(subscription, 5, last);
    flowmesh_subscription_free(subscription);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void a_commit_is_what_was_handed_out(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    int64_t committed = -1;
    (void)state;
    write_numbers(stream, 0, 20);
    flowmesh_subscription_t *subscription = pull_from(stream, FLOWMESH_START_COMMITTED, 5);
    OK(flowmesh_subscription_commit(subscription, NULL, &error)); /* nothing */
    OK(flowmesh_stream_get_offset(stream, "default", NULL, &committed, &error));
    assert_int_equal(committed, -1);
    expect(subscription, 0, 9);
    OK(flowmesh_subscription_commit(subscription, NULL, &error));
    OK(flowmesh_stream_get_offset(stream, "default", NULL, &committed, &error));
    assert_int_equal(committed, 9);
    flowmesh_subscription_free(subscription);
    subscription = pull_from(stream, FLOWMESH_START_COMMITTED, 100);
    expect(subscription, 10, 19);
    flowmesh_subscription_free(subscription);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void its_state_can_be_asked_for(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    flowmesh_error_t *reason = NULL;
    flowmesh_subscription_state_t now = FLOWMESH_SUBSCRIPTION_ENDED;
    (void)state;
    flowmesh_subscription_t *subscription = pull_from(stream, 0, 100);
    OK(flowmesh_subscription_get_state(subscription, &now, &reason, &error));
    assert_int_equal(now, FLOWMESH_SUBSCRIPTION_CONNECTING);
    assert_null(reason);
    write_numbers(stream, 0, 1);
    expect(subscription, 0, 0);
    OK(flowmesh_subscription_get_state(subscription, &now, &reason, &error));
    assert_int_equal(now, FLOWMESH_SUBSCRIPTION_CONNECTED);
    assert_null(reason);
    OK(flowmesh_subscription_close(subscription, 0, &error));
    OK(flowmesh_subscription_get_state(subscription, &now, &reason, &error));
    assert_int_equal(now, FLOWMESH_SUBSCRIPTION_ENDED);
    assert_int_equal(flowmesh_error_status(reason), FLOWMESH_CLOSED);
    flowmesh_error_free(reason);
    flowmesh_subscription_free(subscription);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void on_state(flowmesh_subscription_state_t now, const flowmesh_error_t *reason, void *data)
{
    (void)now;
    (void)reason;
    (void)data;
}

static void on_messages(const flowmesh_message_batch_t *batch, void *data)
{
    (void)batch;
    (void)data;
}

static void what_only_callbacks_have_is_refused(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_subscription_options_t *options = NULL;
    flowmesh_subscription_t *subscription = NULL;
    flowmesh_message_batch_t *batch = NULL;
    flowmesh_error_t *error = NULL;
    (void)state;
    OK(flowmesh_subscription_options_new(&options, &error));
    OK(flowmesh_subscription_options_set_commit_mode(options, FLOWMESH_COMMIT_PERIODIC, 10,
                                                     &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "commit mode",
          flowmesh_subscription_open(stream, options, &subscription, &error));
    OK(flowmesh_subscription_options_set_commit_mode(options, FLOWMESH_COMMIT_MANUAL, 0, &error));
    OK(flowmesh_subscription_options_set_state_callback(options, on_state, NULL, NULL, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "state callback",
          flowmesh_subscription_open(stream, options, &subscription, &error));
    OK(flowmesh_stream_subscribe(stream, options, on_messages, NULL, NULL, &subscription, &error));
    FAILS(FLOWMESH_FAILED_PRECONDITION, "callback",
          flowmesh_subscription_next(subscription, 0, NULL, &batch, &error));
    flowmesh_subscription_free(subscription);
    flowmesh_subscription_options_free(options);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void wrong_arguments_are_named(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_subscription_options_t *options = NULL;
    flowmesh_subscription_t *subscription = pull_from(stream, 0, 1);
    flowmesh_message_batch_t *batch = NULL;
    flowmesh_error_t *error = NULL;
    int64_t position = 0;
    (void)state;
    OK(flowmesh_subscription_options_new(&options, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "mode",
          flowmesh_subscription_options_set_commit_mode(options, 3, 0, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "interval_ms",
          flowmesh_subscription_options_set_commit_mode(options, FLOWMESH_COMMIT_PERIODIC, 0,
                                                        &error));
    FAILS(
        FLOWMESH_INVALID_ARGUMENT, "interval_ms",
        flowmesh_subscription_options_set_commit_mode(options, FLOWMESH_COMMIT_MANUAL, 5, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "max_bytes",
          flowmesh_subscription_options_set_max_prefetch_bytes(options, 0, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "first_ms",
          flowmesh_subscription_options_set_backoff(options, 0, 5, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "longest_ms",
          flowmesh_subscription_options_set_backoff(options, 5, 4, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "timeout_ms",
          flowmesh_subscription_next(subscription, -2, NULL, &batch, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "batch",
          flowmesh_subscription_next(subscription, 0, NULL, NULL, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "subscription",
          flowmesh_subscription_next(NULL, 0, NULL, &batch, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "subscription", flowmesh_subscription_pause(NULL, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "subscription", flowmesh_subscription_resume(NULL, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "subscription",
          flowmesh_subscription_seek(NULL, 0, NULL, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "subscription",
          flowmesh_subscription_commit(NULL, NULL, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "subscription",
          flowmesh_subscription_get_position(NULL, &position, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "offset",
          flowmesh_subscription_get_position(subscription, NULL, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "state",
          flowmesh_subscription_get_state(subscription, NULL, NULL, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "subscription",
          flowmesh_subscription_open(stream, NULL, NULL, &error));
    flowmesh_subscription_options_free(options);
    flowmesh_subscription_free(subscription);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(next_gives_what_is_there_and_waits_for_more),
        cmocka_unit_test(each_batch_goes_to_one_thread),
        cmocka_unit_test(a_cancelled_next_ends_alone),
        cmocka_unit_test(closing_ends_a_next_that_waits),
        cmocka_unit_test(after_a_seek_nothing_older_comes),
        cmocka_unit_test(a_pause_holds_everything_back),
        cmocka_unit_test(a_commit_is_what_was_handed_out),
        cmocka_unit_test(its_state_can_be_asked_for),
        cmocka_unit_test(what_only_callbacks_have_is_refused),
        cmocka_unit_test(wrong_arguments_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, end_library);
}
