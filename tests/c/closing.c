/* Closing waits for others, never for itself, and for no longer than it may. */
#include "threads.h"
#include <poll.h>
#include <semaphore.h>

/* What callbacks have seen, and what they do. */
struct seen {
    sem_t handled;             /* one for each handler that has begun */
    sem_t go_on;               /* one for each handler that may return */
    sem_t dropped;             /* the user data were released */
    sem_t over;                /* the callback that closes has returned */
    bool hold;                 /* handlers wait for `go_on` */
    int completed;             /* completions */
    int reports;               /* of producers */
    int closed;                /* ... that said FLOWMESH_CLOSED */
    flowmesh_worker_t *worker; /* that a callback closes */
    flowmesh_status_t status;  /* and how that ended */
};

static void start(struct seen *seen)
{
    memset(seen, 0, sizeof(*seen));
    sem_init(&seen->handled, 0, 0);
    sem_init(&seen->go_on, 0, 0);
    sem_init(&seen->dropped, 0, 0);
    sem_init(&seen->over, 0, 0);
    seen->status = FLOWMESH_INTERNAL;
}

static void end(struct seen *seen)
{
    sem_destroy(&seen->handled);
    sem_destroy(&seen->go_on);
    sem_destroy(&seen->dropped);
    sem_destroy(&seen->over);
}

static void await(sem_t *semaphore)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_MS / 1000;
    assert_int_equal(sem_timedwait(semaphore, &until), 0);
}

static void on_drop(void *user_data)
{
    sem_post(&((struct seen *)user_data)->dropped);
}

static flowmesh_verdict_t on_job(flowmesh_job_t *job, int64_t *delay_ms, void *user_data)
{
    struct seen *seen = (struct seen *)user_data;
    (void)job;
    (void)delay_ms;
    sem_post(&seen->handled);
    if (seen->hold)
        sem_wait(&seen->go_on);
    return FLOWMESH_VERDICT_ACK;
}

static void enqueue(const flowmesh_queue_t *queue, int count)
{
    flowmesh_error_t *error = NULL;
    for (int i = 0; i < count; i++)
        OK(flowmesh_queue_enqueue(queue, flowmesh_view_str("x"), NULL, NULL, NULL, &error));
}

/* ---- A worker, in callbacks of others -------------------------------------------------------- */

static void close_worker(struct seen *seen)
{
    seen->status = flowmesh_worker_close(seen->worker, -1, NULL, NULL);
    sem_post(&seen->over);
}

static void close_in_completion(flowmesh_error_t *error, bool ready, void *user_data)
{
    (void)ready;
    flowmesh_error_free(error);
    close_worker((struct seen *)user_data);
}

static flowmesh_verdict_t close_in_handler(flowmesh_job_t *job, int64_t *delay_ms, void *user_data)
{
    (void)job;
    (void)delay_ms;
    close_worker((struct seen *)user_data);
    return FLOWMESH_VERDICT_ACK;
}

/* The thread that would release the worker's user data is the one that waits for that. */
static void a_completion_closes_a_worker(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_error_t *error = NULL;
    struct seen seen;
    (void)state;
    start(&seen);
    enqueue(queue, 3);
    OK(flowmesh_worker_open(queue, NULL, on_job, &seen, on_drop, &seen.worker, &error));
    for (int i = 0; i < 3; i++)
        await(&seen.handled);
    OK(flowmesh_client_readiness_check_async(client, NULL, close_in_completion, &seen, NULL, NULL,
                                             &error));
    await(&seen.over);
    assert_int_equal(seen.status, FLOWMESH_OK);
    assert_int_equal(sem_trywait(&seen.dropped), 0);
    flowmesh_worker_free(seen.worker);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
    end(&seen);
}

/* The one thread of a dispatcher closes a worker whose jobs only that thread can handle. */
static void a_handler_closes_the_other_worker_of_its_thread(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *first = open_queue(client), *second = open_queue(client);
    flowmesh_dispatcher_t *dispatcher = NULL;
    flowmesh_worker_options_t *options = NULL;
    flowmesh_worker_t *closer = NULL;
    flowmesh_error_t *error = NULL;
    struct seen seen;
    (void)state;
    start(&seen);
    OK(flowmesh_dispatcher_new(1, &dispatcher, &error));
    OK(flowmesh_worker_options_new(&options, &error));
    OK(flowmesh_worker_options_set_dispatcher(options, dispatcher, &error));
    OK(flowmesh_worker_open(first, options, on_job, &seen, on_drop, &seen.worker, &error));
    enqueue(first, 1);
    await(&seen.handled);
    OK(flowmesh_worker_open(second, options, close_in_handler, &seen, NULL, &closer, &error));
    enqueue(second, 1);
    await(&seen.over);
    assert_int_equal(seen.status, FLOWMESH_OK);
    assert_int_equal(sem_trywait(&seen.dropped), 0);
    OK(flowmesh_worker_close(closer, PATIENCE_MS, NULL, &error));
    flowmesh_worker_free(closer);
    flowmesh_worker_free(seen.worker);
    flowmesh_worker_options_free(options);
    flowmesh_dispatcher_free(dispatcher);
    flowmesh_queue_free(first);
    flowmesh_queue_free(second);
    flowmesh_client_free(client);
    end(&seen);
}

/* ---- A client -------------------------------------------------------------------------------- */

/* Jobs that wait in the worker when its client is closed are not begun: their verdicts could not be
 * sent. */
static void no_handler_begins_under_a_closed_client(void **state)
{
    enum { JOBS = 10 };
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_client_stats_t stats = FLOWMESH_CLIENT_STATS_INIT;
    flowmesh_worker_options_t *options = NULL;
    flowmesh_error_t *error = NULL;
    struct seen seen;
    (void)state;
    start(&seen);
    seen.hold = true;
    enqueue(queue, JOBS);
    OK(flowmesh_worker_options_new(&options, &error));
    OK(flowmesh_worker_options_set_visibility_timeout_ms(options, 3600000, &error));
    OK(flowmesh_worker_open(queue, options, on_job, &seen, on_drop, &seen.worker, &error));
    flowmesh_worker_options_free(options);
    /* From the first that is done on, jobs are leased ahead. */
    await(&seen.handled);
    sem_post(&seen.go_on);
    await(&seen.handled);
    for (int waited_ms = 0; stats.worker_jobs < 2; waited_ms++) {
        assert_true(waited_ms < PATIENCE_MS);
        usleep(1000);
        OK(flowmesh_client_get_stats(client, &stats, &error));
    }
    FAILS(FLOWMESH_DEADLINE_EXCEEDED, "callback", flowmesh_client_close(client, 0, &error));
    for (int i = 0; i < JOBS; i++)
        sem_post(&seen.go_on);
    OK(flowmesh_worker_close(seen.worker, PATIENCE_MS, NULL, &error));
    assert_int_equal(sem_trywait(&seen.handled), -1); /* nobody after the second */
    assert_int_equal(sem_trywait(&seen.dropped), 0);
    flowmesh_worker_free(seen.worker);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
    end(&seen);
}

static void on_reports(const flowmesh_report_batch_t *reports, void *user_data)
{
    struct seen *seen = (struct seen *)user_data;
    for (size_t i = 0; i < flowmesh_report_batch_count(reports); i++) {
        seen->reports++;
        seen->closed += flowmesh_report_batch_at(reports, i)->status == FLOWMESH_CLOSED;
    }
}

static void on_slow_reports(const flowmesh_report_batch_t *reports, void *user_data)
{
    usleep(5000);
    on_reports(reports, user_data);
}

static flowmesh_producer_t *producer_on(const flowmesh_stream_t *stream,
                                        flowmesh_report_callback_t callback, size_t max_buffered,
                                        struct seen *seen)
{
    flowmesh_producer_options_t *options = NULL;
    flowmesh_producer_t *producer = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_producer_options_new(&options, &error));
    OK(flowmesh_producer_options_set_max_buffered_messages(options, max_buffered, &error));
    OK(flowmesh_producer_options_set_max_batch_messages(options, 1, &error));
    OK(flowmesh_producer_options_set_report_callback(options, callback, seen, on_drop, &error));
    OK(flowmesh_stream_producer_open(stream, options, &producer, &error));
    flowmesh_producer_options_free(options);
    return producer;
}

/* A producer sends nothing while too many reports wait; nobody runs the dispatcher, and only the
 * close of the client would deliver them. */
static void a_client_closes_although_a_producer_is_held_up(void **state)
{
    flowmesh_dispatcher_t *dispatcher = NULL;
    flowmesh_error_t *error = NULL;
    struct pollfd watch = {-1, POLLIN, 0};
    struct seen seen;
    (void)state;
    start(&seen);
    OK(flowmesh_dispatcher_new(0, &dispatcher, &error));
    OK(flowmesh_dispatcher_fd(dispatcher, &watch.fd, &error));
    flowmesh_client_t *client = client_on(dispatcher);
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_producer_t *producer = producer_on(stream, on_reports, 1, &seen);
    send_one(producer);
    assert_int_equal(poll(&watch, 1, PATIENCE_MS), 1); /* its report waits */
    send_one(producer);
    OK(flowmesh_client_close(client, PATIENCE_MS, &error));
    assert_int_equal(seen.reports, 2);
    assert_int_equal(seen.closed, 1);
    OK(flowmesh_producer_close(producer, PATIENCE_MS, NULL, &error));
    assert_int_equal(sem_trywait(&seen.dropped), 0);
    flowmesh_producer_free(producer);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
    flowmesh_dispatcher_free(dispatcher);
    end(&seen);
}

/* ---- Time ------------------------------------------------------------------------------------ */

static void on_slow_completion(flowmesh_error_t *error, void *user_data)
{
    flowmesh_error_free(error);
    usleep(5000);
    ((struct seen *)user_data)->completed++;
}

/* Waits until so many calls have succeeded: all but the last of their callbacks wait by then. */
static void await_calls(const flowmesh_client_t *client, uint64_t count)
{
    flowmesh_client_stats_t stats = FLOWMESH_CLIENT_STATS_INIT;
    flowmesh_error_t *error = NULL;
    for (int waited_ms = 0; stats.calls_succeeded < count; waited_ms++) {
        assert_true(waited_ms < PATIENCE_MS);
        usleep(1000);
        OK(flowmesh_client_get_stats(client, &stats, &error));
    }
}

/* Callbacks that the closing thread makes outlast the timeout, but no second one is begun. */
static void the_timeout_comes_between_two_callbacks(void **state)
{
    enum { MANY = 20 };
    flowmesh_dispatcher_t *dispatcher = NULL;
    flowmesh_error_t *error = NULL;
    struct seen seen;
    (void)state;
    start(&seen);
    OK(flowmesh_dispatcher_new(0, &dispatcher, &error));
    flowmesh_client_t *client = client_on(dispatcher);
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_producer_t *producer = producer_on(stream, on_slow_reports, MANY, &seen);
    for (int i = 0; i < MANY; i++)
        send_one(producer);
    await_calls(client, MANY);
    FAILS(FLOWMESH_DEADLINE_EXCEEDED, "reported", flowmesh_producer_flush(producer, 1, &error));
    assert_in_range(seen.reports, 0, 1);
    OK(flowmesh_producer_flush(producer, PATIENCE_MS, &error));
    assert_int_equal(seen.reports, MANY);
    OK(flowmesh_producer_close(producer, PATIENCE_MS, NULL, &error));
    flowmesh_producer_free(producer);

    for (int i = 0; i < MANY; i++)
        OK(flowmesh_client_health_check_async(client, NULL, on_slow_completion, &seen, NULL, NULL,
                                              &error));
    await_calls(client, (uint64_t)2 * MANY);
    FAILS(FLOWMESH_DEADLINE_EXCEEDED, "close", flowmesh_client_close(client, 1, &error));
    assert_in_range(seen.completed, 0, 1);
    OK(flowmesh_client_close(client, PATIENCE_MS, &error));
    assert_int_equal(seen.completed, MANY);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
    flowmesh_dispatcher_free(dispatcher);
    end(&seen);
}

/* ---- What is left ---------------------------------------------------------------------------- */

static void on_messages(const flowmesh_message_batch_t *batch, void *user_data)
{
    (void)batch;
    (void)user_data;
}

/* A subscription that was closed leaves nothing behind that an event loop would be woken for. */
static void a_closed_subscription_wakes_nobody(void **state)
{
    flowmesh_dispatcher_t *dispatcher = NULL;
    flowmesh_subscription_t *subscription = NULL;
    flowmesh_error_t *error = NULL;
    struct pollfd watch = {-1, POLLIN, 0};
    (void)state;
    OK(flowmesh_dispatcher_new(0, &dispatcher, &error));
    OK(flowmesh_dispatcher_fd(dispatcher, &watch.fd, &error));
    flowmesh_client_t *client = client_on(dispatcher);
    flowmesh_stream_t *stream = open_stream(client);
    write_numbers(stream, 0, 3);
    OK(flowmesh_stream_subscribe(stream, NULL, on_messages, NULL, NULL, &subscription, &error));
    assert_int_equal(poll(&watch, 1, PATIENCE_MS), 1);
    do {
        OK(flowmesh_dispatcher_run(dispatcher, 0, 0, NULL, &error));
    } while (poll(&watch, 1, 20) == 1);
    OK(flowmesh_subscription_close(subscription, PATIENCE_MS, &error));
    assert_int_equal(poll(&watch, 1, 20), 0);
    flowmesh_subscription_free(subscription);
    flowmesh_stream_free(stream);
    OK(flowmesh_client_close(client, PATIENCE_MS, &error));
    flowmesh_client_free(client);
    flowmesh_dispatcher_free(dispatcher);
}

static void on_closed(flowmesh_error_t *error, void *user_data)
{
    struct seen *seen = (struct seen *)user_data;
    if (error == NULL)
        sem_post(&seen->over);
    flowmesh_error_free(error);
}

/* However many subscriptions are closed without waiting, no thread is started for it. */
static void closing_many_at_once_starts_no_thread(void **state)
{
    enum { MANY = 50 };
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_subscription_options_t *options = NULL;
    flowmesh_subscription_t *subscriptions[MANY];
    flowmesh_error_t *error = NULL;
    struct seen seen;
    (void)state;
    start(&seen);
    write_numbers(stream, 0, 1);
    OK(flowmesh_subscription_options_new(&options, &error));
    OK(flowmesh_subscription_options_set_commit_mode(options, FLOWMESH_COMMIT_AFTER_CALLBACK, 0,
                                                     &error));
    for (int i = 0; i < MANY; i++)
        OK(flowmesh_stream_subscribe(stream, options, on_messages, &seen, on_drop,
                                     &subscriptions[i], &error));
    flowmesh_subscription_options_free(options);
    for (int i = 0; i < MANY; i++)
        OK(flowmesh_subscription_close_async(subscriptions[i], -1, on_closed, &seen, NULL, &error));
    for (int i = 0; i < MANY; i++)
        await(&seen.over);
    /* The library's own, and what an engine has. Threads that were started live on for a second. */
    assert_in_range(library_threads().count, 1, 8);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(sem_trywait(&seen.dropped), 0);
        flowmesh_subscription_free(subscriptions[i]);
    }
    flowmesh_stream_free(stream);
    OK(flowmesh_client_close(client, PATIENCE_MS, &error));
    flowmesh_client_free(client);
    end(&seen);
}

static void on_held(flowmesh_error_t *error, void *user_data)
{
    struct seen *seen = (struct seen *)user_data;
    flowmesh_error_free(error);
    sem_post(&seen->handled);
    sem_wait(&seen->go_on);
    sem_post(&seen->over);
}

/* What one shutdown could not wait for, the next one waits for. */
static void a_second_shutdown_waits_again(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_error_t *error = NULL;
    struct seen seen;
    (void)state;
    start(&seen);
    OK(flowmesh_client_health_check_async(client, NULL, on_held, &seen, NULL, NULL, &error));
    await(&seen.handled);
    FAILS(FLOWMESH_DEADLINE_EXCEEDED, "shutdown", flowmesh_shutdown(0, &error));
    FAILS(FLOWMESH_DEADLINE_EXCEEDED, "shutdown", flowmesh_shutdown(0, &error));
    sem_post(&seen.go_on);
    OK(flowmesh_shutdown(PATIENCE_MS, &error));
    assert_int_equal(sem_trywait(&seen.over), 0);
    flowmesh_client_free(client);
    end(&seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_completion_closes_a_worker),
        cmocka_unit_test(a_handler_closes_the_other_worker_of_its_thread),
        cmocka_unit_test(no_handler_begins_under_a_closed_client),
        cmocka_unit_test(a_client_closes_although_a_producer_is_held_up),
        cmocka_unit_test(the_timeout_comes_between_two_callbacks),
        cmocka_unit_test(a_closed_subscription_wakes_nobody),
        cmocka_unit_test(closing_many_at_once_starts_no_thread),
        cmocka_unit_test(a_second_shutdown_waits_again),
    };
    return cmocka_run_group_tests(tests, NULL, end_library);
}
