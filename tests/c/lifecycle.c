/* Clients, options, cancellation, errors: what every handle has in common. */
#include "test.h"
#include <pthread.h>

static void health_and_readiness(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_error_t *error = NULL;
    bool ready = false;
    (void)state;
    OK(flowmesh_client_connect(client, PATIENCE_MS, &error));
    OK(flowmesh_client_health_check(client, NULL, &error));
    OK(flowmesh_client_readiness_check(client, NULL, &ready, &error));
    assert_true(ready);
    flowmesh_client_free(client);
}

static void options_are_copied(void **state)
{
    flowmesh_client_options_t *options = NULL;
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    (void)state;
    OK(flowmesh_client_options_new(&options, &error));
    OK(flowmesh_client_options_set_timeout_ms(options, PATIENCE_MS, &error));
    OK(flowmesh_client_options_set_timeout_ms(options, -1, &error));
    OK(flowmesh_client_options_set_connect_timeout_ms(options, 1000, &error));
    OK(flowmesh_client_options_set_max_message_bytes(options, 1 << 20, &error));
    OK(flowmesh_client_options_set_spin(options, false, &error));
    OK(flowmesh_client_options_set_fsync(options, FLOWMESH_FSYNC_NONE, &error));
    OK(flowmesh_client_options_set_create(options, true, &error));
    OK(flowmesh_client_options_set_auth_token(options, "", &error));
    OK(flowmesh_client_open(test_endpoint(), options, &client, &error));
    flowmesh_client_options_free(options);
    OK(flowmesh_client_health_check(client, NULL, &error));
    flowmesh_client_free(client);
}

static void without_create_nothing_is_made(void **state)
{
    flowmesh_client_options_t *options = NULL;
    flowmesh_client_t *client = NULL;
    flowmesh_queue_t *queue = NULL;
    flowmesh_error_t *error = NULL;
    flowmesh_view_t payload = FLOWMESH_VIEW_LITERAL("x");
    (void)state;
    OK(flowmesh_client_options_new(&options, &error));
    OK(flowmesh_client_options_set_create(options, false, &error));
    OK(flowmesh_client_open("embedded:", options, &client, &error));
    OK(flowmesh_queue_open(client, "acme", "test", "jobs", &queue, &error));
    FAILS(FLOWMESH_NOT_FOUND, "acme/test/queue/jobs",
          flowmesh_queue_enqueue(queue, payload, NULL, NULL, NULL, &error));
    flowmesh_client_options_free(options);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static void children_outlive_their_parents(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_kv_t *kv = open_kv(client);
    flowmesh_stream_reader_t *reader = NULL;
    flowmesh_message_batch_t *batch = NULL;
    flowmesh_job_t *job = NULL;
    flowmesh_error_t *error = NULL;
    (void)state;
    flowmesh_client_free(client);

    write_numbers(stream, 0, 3);
    OK(flowmesh_stream_reader_open(stream, 0, NULL, &reader, &error));
    flowmesh_stream_free(stream);
    OK(flowmesh_stream_reader_next(reader, NULL, &batch, &error));
    flowmesh_stream_reader_free(reader);
    assert_int_equal(flowmesh_message_batch_count(batch), 3);
    check_view(flowmesh_message_batch_at(batch, 2)->payload, "2");
    flowmesh_message_batch_free(batch);

    OK(flowmesh_queue_enqueue(queue, flowmesh_view_str("job"), NULL, NULL, NULL, &error));
    OK(flowmesh_queue_reserve(queue, NULL, &job, &error));
    assert_non_null(job);
    flowmesh_queue_free(queue);
    check_view(job->payload, "job");
    OK(flowmesh_job_ack(job, NULL, &error));
    flowmesh_job_free(job);

    OK(flowmesh_kv_set(kv, flowmesh_view_str("k"), flowmesh_view_str("v"), NULL, &error));
    flowmesh_kv_free(kv);
}

static void free_of_null_does_nothing(void **state)
{
    (void)state;
    flowmesh_error_free(NULL);
    flowmesh_cancel_free(NULL);
    flowmesh_client_options_free(NULL);
    flowmesh_client_free(NULL);
    flowmesh_stream_free(NULL);
    flowmesh_message_batch_free(NULL);
    flowmesh_stream_reader_free(NULL);
    flowmesh_subscription_options_free(NULL);
    flowmesh_subscription_free(NULL);
    flowmesh_queue_free(NULL);
    flowmesh_job_free(NULL);
    flowmesh_job_batch_free(NULL);
    flowmesh_kv_free(NULL);
    flowmesh_value_free(NULL);
    flowmesh_key_list_free(NULL);
}

static void a_closed_client_says_so(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_kv_t *kv = open_kv(client);
    flowmesh_error_t *error = NULL;
    flowmesh_value_t *value = NULL;
    int64_t offset = 42;
    (void)state;
    write_numbers(stream, 0, 1);
    OK(flowmesh_client_close(client, PATIENCE_MS, &error));
    OK(flowmesh_client_close(client, 0, &error)); /* again */
    FAILS(FLOWMESH_CLOSED, "closed", flowmesh_client_health_check(client, NULL, &error));
    FAILS(FLOWMESH_CLOSED, "closed", flowmesh_stream_latest_offset(stream, NULL, &offset, &error));
    assert_int_equal(offset, 42);
    FAILS(FLOWMESH_CLOSED, "closed",
          flowmesh_kv_get(kv, flowmesh_view_str("k"), NULL, &value, &error));
    assert_null(value);
    flowmesh_kv_free(kv);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

/* A thread that waits for a job for ever. */
struct waiter {
    flowmesh_queue_t *queue;
    flowmesh_cancel_t *cancel;
    flowmesh_status_t status;
    flowmesh_error_t *error;
};

static void *wait_for_job(void *argument)
{
    struct waiter *waiter = (struct waiter *)argument;
    flowmesh_reserve_options_t options = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_job_t *job = NULL;
    options.wait_ms = -1;
    options.cancel = waiter->cancel;
    waiter->status = flowmesh_queue_reserve(waiter->queue, &options, &job, &waiter->error);
    flowmesh_job_free(job);
    return NULL;
}

static void another_thread_cancels_a_waiting_call(void **state)
{
    flowmesh_client_t *client = open_client();
    struct waiter waiter = {open_queue(client), NULL, FLOWMESH_OK, NULL};
    flowmesh_error_t *error = NULL;
    flowmesh_job_t *job = NULL;
    pthread_t thread;
    (void)state;
    OK(flowmesh_cancel_new(&waiter.cancel, &error));
    assert_int_equal(pthread_create(&thread, NULL, wait_for_job, &waiter), 0);
    OK(flowmesh_cancel_cancel(waiter.cancel, &error));
    pthread_join(thread, NULL);
    assert_int_equal(waiter.status, FLOWMESH_CANCELLED);
    assert_int_equal(flowmesh_error_status(waiter.error), FLOWMESH_CANCELLED);
    flowmesh_error_free(waiter.error);
    flowmesh_cancel_free(waiter.cancel);

    /* It leased nothing: a job that comes now is there for others. */
    OK(flowmesh_queue_enqueue(waiter.queue, flowmesh_view_str("x"), NULL, NULL, NULL, &error));
    OK(flowmesh_queue_reserve(waiter.queue, NULL, &job, &error));
    assert_non_null(job);
    flowmesh_job_free(job);
    flowmesh_queue_free(waiter.queue);
    flowmesh_client_free(client);
}

static void closing_the_client_ends_a_waiting_call(void **state)
{
    flowmesh_client_t *client = open_client();
    struct waiter waiter = {open_queue(client), NULL, FLOWMESH_OK, NULL};
    flowmesh_error_t *error = NULL;
    pthread_t thread;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, wait_for_job, &waiter), 0);
    OK(flowmesh_client_close(client, PATIENCE_MS, &error));
    pthread_join(thread, NULL);
    assert_int_equal(waiter.status, FLOWMESH_CLOSED);
    flowmesh_error_free(waiter.error);
    flowmesh_queue_free(waiter.queue);
    flowmesh_client_free(client);
}

static void a_wait_ends_at_its_time(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_error_t *error = NULL;
    flowmesh_reserve_options_t options = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_job_t *job = NULL;
    (void)state;
    options.wait_ms = 1;
    OK(flowmesh_queue_reserve(queue, &options, &job, &error));
    assert_null(job);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static void errors_tell_what_happened(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_kv_t *kv = open_kv(client);
    flowmesh_error_t *error = NULL;
    flowmesh_value_t *value = NULL;
    (void)state;
    assert_int_equal(flowmesh_kv_get(kv, flowmesh_view_str("nobody"), NULL, &value, &error),
                     FLOWMESH_NOT_FOUND);
    assert_null(value);
    assert_int_equal(flowmesh_error_status(error), FLOWMESH_NOT_FOUND);
    assert_non_null(strstr(flowmesh_error_message(error), "acme/test/kv/"));
    assert_true(strlen(flowmesh_error_detail(error)) > 0);
    assert_false(flowmesh_error_retryable(error));
    assert_int_equal(flowmesh_error_outcome(error), FLOWMESH_OUTCOME_NOT_APPLIED);

    /* A later success clears the pointer; the object is still the caller's. */
    flowmesh_error_t *first = error;
    OK(flowmesh_kv_set(kv, flowmesh_view_str("k"), flowmesh_view_str("v"), NULL, &error));
    flowmesh_error_free(first);

    /* Whoever does not ask gets the status alone. */
    assert_int_equal(flowmesh_kv_get(kv, flowmesh_view_str("nobody"), NULL, &value, NULL),
                     FLOWMESH_NOT_FOUND);

    /* NULL is no error. */
    assert_int_equal(flowmesh_error_status(NULL), FLOWMESH_OK);
    assert_string_equal(flowmesh_error_message(NULL), "");
    assert_string_equal(flowmesh_error_detail(NULL), "");
    assert_false(flowmesh_error_retryable(NULL));
    assert_int_equal(flowmesh_error_outcome(NULL), FLOWMESH_OUTCOME_UNKNOWN);
    flowmesh_kv_free(kv);
    flowmesh_client_free(client);
}

struct writer {
    flowmesh_stream_t *stream;
    int events;
};

static void *write_events(void *argument)
{
    struct writer *writer = (struct writer *)argument;
    write_numbers(writer->stream, 0, writer->events);
    return NULL;
}

static void one_handle_serves_many_threads(void **state)
{
    enum { THREADS = 8, EVENTS = 20 };
    flowmesh_client_t *client = open_client();
    struct writer writer = {open_stream(client), EVENTS};
    flowmesh_error_t *error = NULL;
    pthread_t threads[THREADS];
    int64_t latest = -1;
    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_events, &writer), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    OK(flowmesh_stream_latest_offset(writer.stream, NULL, &latest, &error));
    assert_int_equal(latest, THREADS * EVENTS - 1);
    flowmesh_stream_free(writer.stream);
    flowmesh_client_free(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(health_and_readiness),
        cmocka_unit_test(options_are_copied),
        cmocka_unit_test(without_create_nothing_is_made),
        cmocka_unit_test(children_outlive_their_parents),
        cmocka_unit_test(free_of_null_does_nothing),
        cmocka_unit_test(a_closed_client_says_so),
        cmocka_unit_test(another_thread_cancels_a_waiting_call),
        cmocka_unit_test(closing_the_client_ends_a_waiting_call),
        cmocka_unit_test(a_wait_ends_at_its_time),
        cmocka_unit_test(errors_tell_what_happened),
        cmocka_unit_test(one_handle_serves_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, end_library);
}
