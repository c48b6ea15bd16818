/* Dispatchers: callbacks run where they should, the descriptor says exactly when, and nothing is
 * lost when a dispatcher or what uses it goes.
 */
#include "completion.h"

#include <poll.h>
#include <sys/prctl.h>

static flowmesh_dispatcher_t *new_dispatcher(size_t threads)
{
    flowmesh_dispatcher_t *dispatcher = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_dispatcher_new(threads, &dispatcher, &error));
    return dispatcher;
}

static struct call *start_health_check(const flowmesh_client_t *client)
{
    flowmesh_error_t *error = NULL;
    struct call *call = call_new();
    OK(flowmesh_client_health_check_async(client, NULL, on_done, call, on_drop, NULL, &error));
    return call;
}

/* A call that ends only by cancel or close. */
static struct call *start_waiting(const flowmesh_client_t *client)
{
    flowmesh_error_t *error = NULL;
    flowmesh_reserve_options_t forever = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_queue_t *queue = open_queue(client);
    struct call *call = call_new();
    forever.wait_ms = -1;
    OK(flowmesh_queue_reserve_async(queue, &forever, on_job, call, on_drop, NULL, &error));
    flowmesh_queue_free(queue);
    return call;
}

static bool is_readable(const flowmesh_dispatcher_t *dispatcher, int timeout_ms)
{
    flowmesh_error_t *error = NULL;
    struct pollfd watch = {-1, POLLIN, 0};
    OK(flowmesh_dispatcher_fd(dispatcher, &watch.fd, &error));
    int ready = poll(&watch, 1, timeout_ms);
    assert_true(ready >= 0);
    return ready == 1 && (watch.revents & POLLIN) != 0;
}

static size_t run(const flowmesh_dispatcher_t *dispatcher, size_t max, int64_t timeout_ms)
{
    flowmesh_error_t *error = NULL;
    size_t count = 77;
    OK(flowmesh_dispatcher_run(dispatcher, max, timeout_ms, &count, &error));
    return count;
}

static void run_until_over(const flowmesh_dispatcher_t *dispatcher, struct call *call)
{
    while (!call_is_over(call))
        assert_true(run(dispatcher, 0, PATIENCE_MS) > 0);
}

static void callbacks_run_where_the_dispatcher_is_run(void **state)
{
    flowmesh_dispatcher_t *dispatcher = new_dispatcher(0);
    flowmesh_client_t *client = client_on(dispatcher);
    (void)state;
    assert_false(is_readable(dispatcher, 0));
    assert_int_equal(run(dispatcher, 0, 0), 0);
    struct call *call = start_health_check(client);
    assert_true(is_readable(dispatcher, PATIENCE_MS)); /* though nobody is in run */
    assert_false(call_is_over(call));
    assert_int_equal(run(dispatcher, 0, 0), 1);
    ENDS(FLOWMESH_OK, call);
    assert_true(pthread_equal(call->thread, pthread_self()));
    assert_false(is_readable(dispatcher, 0));
    call_free(call);
    flowmesh_client_free(client);
    flowmesh_dispatcher_free(dispatcher);
}

static void run_takes_no_more_than_it_may(void **state)
{
    enum { CALLS = 5 };
    flowmesh_dispatcher_t *dispatcher = new_dispatcher(0);
    flowmesh_client_t *client = client_on(dispatcher);
    struct call *calls[CALLS];
    int over = 0;
    (void)state;
    for (int i = 0; i < CALLS; i++)
        calls[i] = start_health_check(client);
    for (int ran = 0; ran < CALLS; ran++) {
        assert_true(is_readable(dispatcher, PATIENCE_MS));
        assert_int_equal(run(dispatcher, 1, 0), 1);
        for (int i = over = 0; i < CALLS; i++)
            over += call_is_over(calls[i]);
        assert_int_equal(over, ran + 1);
    }
    assert_false(is_readable(dispatcher, 0));
    for (int i = 0; i < CALLS; i++) {
        ENDS(FLOWMESH_OK, calls[i]);
        call_free(calls[i]);
    }
    flowmesh_client_free(client);
    flowmesh_dispatcher_free(dispatcher);
}

static void the_descriptor_never_cries_wolf(void **state)
{
    enum { CALLS = 300 };
    flowmesh_dispatcher_t *dispatcher = new_dispatcher(0);
    flowmesh_client_t *client = client_on(dispatcher);
    static struct call *calls[CALLS];
    size_t ran = 0;
    (void)state;
    for (int i = 0; i < CALLS; i++)
        calls[i] = start_health_check(client);
    while (ran < CALLS) {
        assert_true(is_readable(dispatcher, PATIENCE_MS));
        size_t more = run(dispatcher, 7, 0);
        assert_in_range(more, 1, 7);
        ran += more;
    }
    assert_int_equal(ran, CALLS);
    assert_false(is_readable(dispatcher, 0));
    for (int i = 0; i < CALLS; i++) {
        ENDS(FLOWMESH_OK, calls[i]);
        call_free(calls[i]);
    }
    flowmesh_client_free(client);
    flowmesh_dispatcher_free(dispatcher);
}

static void run_waits_for_the_first_callback(void **state)
{
    flowmesh_dispatcher_t *dispatcher = new_dispatcher(0);
    flowmesh_client_t *client = client_on(dispatcher);
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct call *call = start_health_check(client);
        assert_int_equal(run(dispatcher, 0, -1), 1);
        ENDS(FLOWMESH_OK, call);
        call_free(call);
    }
    assert_int_equal(run(dispatcher, 0, 20), 0); /* the time is up */
    flowmesh_client_free(client);
    flowmesh_dispatcher_free(dispatcher);
}

static void *wake(void *dispatcher)
{
    flowmesh_dispatcher_wake((const flowmesh_dispatcher_t *)dispatcher, NULL);
    return NULL;
}

static void a_wake_ends_one_run(void **state)
{
    flowmesh_dispatcher_t *dispatcher = new_dispatcher(0);
    flowmesh_error_t *error = NULL;
    pthread_t thread;
    (void)state;
    OK(flowmesh_dispatcher_wake(dispatcher, &error));
    assert_true(is_readable(dispatcher, 0));
    assert_int_equal(run(dispatcher, 0, -1), 0);
    assert_false(is_readable(dispatcher, 0));
    assert_int_equal(pthread_create(&thread, NULL, wake, dispatcher), 0);
    assert_int_equal(run(dispatcher, 0, -1), 0);
    pthread_join(thread, NULL);
    flowmesh_dispatcher_free(dispatcher);
}

struct runner {
    const flowmesh_dispatcher_t *dispatcher;
    size_t ran;
    flowmesh_status_t status;
};

static void *run_until_closed(void *argument)
{
    struct runner *runner = (struct runner *)argument;
    size_t count = 0;
    while ((runner->status = flowmesh_dispatcher_run(runner->dispatcher, 1, -1, &count, NULL)) ==
           FLOWMESH_OK)
        runner->ran += count;
    return NULL;
}

static void several_threads_share_one_dispatcher_until_the_shutdown(void **state)
{
    enum { THREADS = 4, CALLS = 400 };
    flowmesh_dispatcher_t *dispatcher = new_dispatcher(0);
    flowmesh_client_t *client = client_on(dispatcher);
    flowmesh_error_t *error = NULL;
    static struct call *calls[CALLS];
    struct runner runners[THREADS];
    pthread_t threads[THREADS];
    size_t ran = 0;
    (void)state;
    for (int i = 0; i < THREADS; i++) {
        runners[i].dispatcher = dispatcher;
        runners[i].ran = 0;
        assert_int_equal(pthread_create(&threads[i], NULL, run_until_closed, &runners[i]), 0);
    }
    for (int i = 0; i < CALLS; i++)
        calls[i] = start_health_check(client);
    for (int i = 0; i < CALLS; i++) {
        ENDS(FLOWMESH_OK, calls[i]);
        call_free(calls[i]);
    }
    OK(flowmesh_shutdown(PATIENCE_MS, &error));
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(runners[i].status, FLOWMESH_CLOSED);
        ran += runners[i].ran;
    }
    assert_int_equal(ran, CALLS);
    flowmesh_client_free(client);
    client = NULL;

    /* What was made before the shutdown serves nobody after it. */
    flowmesh_client_options_t *options = NULL;
    OK(flowmesh_client_options_new(&options, &error));
    OK(flowmesh_client_options_set_dispatcher(options, dispatcher, &error));
    FAILS(FLOWMESH_CLOSED, "dispatcher",
          flowmesh_client_open(test_endpoint(), options, &client, &error));
    flowmesh_client_options_free(options);
    FAILS(FLOWMESH_CLOSED, "", flowmesh_dispatcher_run(dispatcher, 0, -1, NULL, &error));
    flowmesh_dispatcher_free(dispatcher);
}

/* Waits in its callback for those of the other calls. */
struct meeting {
    struct call *call;
    pthread_barrier_t *barrier;
    char thread[16];
};

static void on_meeting(flowmesh_error_t *error, void *user_data)
{
    struct meeting *meeting = (struct meeting *)user_data;
    prctl(PR_GET_NAME, meeting->thread);
    pthread_barrier_wait(meeting->barrier);
    call_done(call_noted(error, meeting->call));
}

static void drop_meeting(void *user_data)
{
    on_drop(((struct meeting *)user_data)->call);
}

static void threads_of_the_library_run_callbacks_at_once(void **state)
{
    enum { THREADS = 3 };
    flowmesh_dispatcher_t *dispatcher = new_dispatcher(THREADS);
    flowmesh_client_t *client = client_on(dispatcher);
    flowmesh_error_t *error = NULL;
    struct meeting meetings[THREADS];
    pthread_barrier_t barrier;
    int fd = -1;
    (void)state;
    FAILS(FLOWMESH_FAILED_PRECONDITION, "threads", flowmesh_dispatcher_fd(dispatcher, &fd, &error));
    FAILS(FLOWMESH_FAILED_PRECONDITION, "threads",
          flowmesh_dispatcher_run(dispatcher, 0, 0, NULL, &error));
    FAILS(FLOWMESH_FAILED_PRECONDITION, "threads", flowmesh_dispatcher_wake(dispatcher, &error));
    flowmesh_dispatcher_free(dispatcher); /* the client keeps it */
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        meetings[i].call = call_new();
        meetings[i].barrier = &barrier;
        OK(flowmesh_client_health_check_async(client, NULL, on_meeting, &meetings[i], drop_meeting,
                                              NULL, &error));
    }
    for (int i = 0; i < THREADS; i++) {
        ENDS(FLOWMESH_OK, meetings[i].call);
        assert_string_equal(meetings[i].thread, "flowmesh-callba"); /* the kernel keeps 15 bytes */
        call_free(meetings[i].call);
    }
    OK(flowmesh_client_close(client, PATIENCE_MS, &error)); /* all have left the barrier */
    pthread_barrier_destroy(&barrier);
    flowmesh_client_free(client);
}

static void two_clients_on_two_dispatchers(void **state)
{
    flowmesh_dispatcher_t *first = new_dispatcher(0), *second = new_dispatcher(0);
    flowmesh_client_t *one = client_on(first), *two = client_on(second);
    struct call *of_one = start_health_check(one), *of_two = start_health_check(two);
    (void)state;
    assert_true(is_readable(first, PATIENCE_MS));
    assert_true(is_readable(second, PATIENCE_MS));
    assert_int_equal(run(second, 0, 0), 1);
    ENDS(FLOWMESH_OK, of_two);
    assert_false(call_is_over(of_one));
    assert_true(is_readable(first, 0));
    assert_int_equal(run(first, 0, 0), 1);
    ENDS(FLOWMESH_OK, of_one);
    call_free(of_one);
    call_free(of_two);
    flowmesh_client_free(one);
    flowmesh_client_free(two);
    flowmesh_dispatcher_free(first);
    flowmesh_dispatcher_free(second);
}

static void a_close_delivers_what_nobody_runs(void **state)
{
    flowmesh_dispatcher_t *dispatcher = new_dispatcher(0);
    flowmesh_client_t *client = client_on(dispatcher);
    flowmesh_error_t *error = NULL;
    struct call *call = start_waiting(client);
    (void)state;
    OK(flowmesh_client_close(client, PATIENCE_MS, &error));
    assert_true(call_is_over(call));
    ENDS(FLOWMESH_CLOSED, call);
    assert_true(pthread_equal(call->thread, pthread_self()));
    assert_false(is_readable(dispatcher, 0));
    call_free(call);
    flowmesh_client_free(client);
    flowmesh_dispatcher_free(dispatcher);
}

static void an_asynchronous_close_ends_in_run(void **state)
{
    flowmesh_dispatcher_t *dispatcher = new_dispatcher(0);
    flowmesh_client_t *client = client_on(dispatcher);
    flowmesh_error_t *error = NULL;
    struct call *waiting = start_waiting(client), *closed = call_new();
    (void)state;
    OK(flowmesh_client_close_async(client, -1, on_done, closed, on_drop, NULL, &error));
    run_until_over(dispatcher, closed);
    assert_true(call_is_over(waiting));
    ENDS(FLOWMESH_CLOSED, waiting);
    ENDS(FLOWMESH_OK, closed);
    call_free(waiting);
    call_free(closed);
    flowmesh_client_free(client);
    flowmesh_dispatcher_free(dispatcher);
}

/* Waits until every time of a few milliseconds is up that began before: one that began later and
 * takes longer. */
static void await_time(void)
{
    flowmesh_reserve_options_t longer = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_error_t *error = NULL;
    struct call *call = call_new();
    longer.wait_ms = 50;
    OK(flowmesh_queue_reserve_async(queue, &longer, on_job, call, on_drop, NULL, &error));
    ENDS(FLOWMESH_OK, call);
    call_free(call);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static void an_asynchronous_close_tells_that_its_time_is_up(void **state)
{
    flowmesh_dispatcher_t *own = new_dispatcher(0);
    flowmesh_client_t *client = client_on(own);
    flowmesh_error_t *error = NULL;
    struct call *waiting = start_waiting(client), *closed = call_new(), *never = call_new();
    flowmesh_operation_t *operation = NULL;
    (void)state;
    /* Nobody runs the completion of the waiting call, so that neither close can end well. */
    OK(flowmesh_client_close_async(client, 1, on_done, closed, on_drop, NULL, &error));
    OK(flowmesh_client_close_async(client, -1, on_done, never, on_drop, &operation, &error));
    OK(flowmesh_operation_cancel(operation, &error));
    flowmesh_operation_free(operation);
    await_time();
    run_until_over(own, waiting);
    run_until_over(own, closed);
    run_until_over(own, never);
    ENDS(FLOWMESH_CLOSED, waiting);
    ENDS(FLOWMESH_DEADLINE_EXCEEDED, closed);
    ENDS(FLOWMESH_CANCELLED, never);
    call_free(waiting);
    call_free(closed);
    call_free(never);
    flowmesh_client_free(client);
    flowmesh_dispatcher_free(own);
}

static void a_shutdown_delivers_what_nobody_runs(void **state)
{
    flowmesh_dispatcher_t *dispatcher = new_dispatcher(0);
    flowmesh_client_t *client = client_on(dispatcher);
    flowmesh_error_t *error = NULL;
    struct call *call = start_waiting(client);
    (void)state;
    OK(flowmesh_shutdown(PATIENCE_MS, &error));
    assert_true(call_is_over(call));
    ENDS(FLOWMESH_CLOSED, call);
    call_free(call);
    flowmesh_dispatcher_free(dispatcher);
    flowmesh_client_free(client);
}

static void callbacks_of_a_freed_dispatcher_run_on_the_default_one(void **state)
{
    flowmesh_dispatcher_t *dispatcher = new_dispatcher(0);
    flowmesh_client_t *client = client_on(dispatcher);
    flowmesh_error_t *error = NULL;
    struct call *ready = start_health_check(client), *later = start_waiting(client);
    (void)state;
    assert_true(is_readable(dispatcher, PATIENCE_MS));
    flowmesh_dispatcher_free(dispatcher);
    ENDS(FLOWMESH_OK, ready);
    assert_false(pthread_equal(ready->thread, pthread_self()));
    assert_false(call_is_over(later));
    OK(flowmesh_client_close(client, PATIENCE_MS, &error));
    assert_true(call_is_over(later));
    ENDS(FLOWMESH_CLOSED, later);
    assert_false(pthread_equal(later->thread, pthread_self()));
    call_free(ready);
    call_free(later);
    flowmesh_client_free(client);
}

/* What a callback does to what has called it. */
struct inside {
    struct call *call;
    flowmesh_dispatcher_t *dispatcher;
    flowmesh_client_t *client;
    flowmesh_kv_t *kv;
    flowmesh_status_t nested, blocking, closed;
};

static void on_inside(flowmesh_error_t *error, void *user_data)
{
    struct inside *inside = (struct inside *)user_data;
    inside->nested = flowmesh_dispatcher_run(inside->dispatcher, 0, 0, NULL, NULL);
    inside->blocking =
        flowmesh_kv_set(inside->kv, flowmesh_view_str("k"), flowmesh_view_str("v"), NULL, NULL);
    inside->closed = flowmesh_client_close(inside->client, -1, NULL);
    flowmesh_dispatcher_free(inside->dispatcher);
    flowmesh_kv_free(inside->kv);
    flowmesh_client_free(inside->client);
    call_done(call_noted(error, inside->call));
}

static void drop_inside(void *user_data)
{
    on_drop(((struct inside *)user_data)->call);
}

static void a_callback_may_block_and_free_everything(void **state)
{
    flowmesh_error_t *error = NULL;
    struct inside inside;
    (void)state;
    inside.call = call_new();
    inside.dispatcher = new_dispatcher(0);
    inside.client = client_on(inside.dispatcher);
    inside.kv = open_kv(inside.client);
    struct call *other = start_waiting(inside.client);
    OK(flowmesh_client_health_check_async(inside.client, NULL, on_inside, &inside, drop_inside,
                                          NULL, &error));
    assert_true(run(inside.dispatcher, 0, PATIENCE_MS) > 0);
    ENDS(FLOWMESH_OK, inside.call);
    assert_int_equal(inside.nested, FLOWMESH_FAILED_PRECONDITION);
    assert_int_equal(inside.blocking, FLOWMESH_OK);
    assert_int_equal(inside.closed, FLOWMESH_OK);
    ENDS(FLOWMESH_CLOSED, other);
    call_free(inside.call);
    call_free(other);
}

struct received {
    int next;
    bool elsewhere;
    pthread_t thread;
};

static void on_numbers(const flowmesh_message_batch_t *batch, void *user_data)
{
    struct received *received = (struct received *)user_data;
    received->elsewhere |= !pthread_equal(received->thread, pthread_self());
    for (size_t i = 0; i < flowmesh_message_batch_count(batch); i++)
        received->next += flowmesh_message_batch_at(batch, i)->offset == received->next;
}

static void subscriptions_call_back_where_the_dispatcher_is_run(void **state)
{
    enum { COUNT = 50 };
    flowmesh_dispatcher_t *dispatcher = new_dispatcher(0);
    flowmesh_client_t *client = client_on(dispatcher);
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_subscription_t *subscription = NULL;
    flowmesh_error_t *error = NULL;
    struct received received = {0, false, pthread_self()};
    (void)state;
    OK(flowmesh_stream_subscribe(stream, NULL, on_numbers, &received, NULL, &subscription, &error));
    write_numbers(stream, 0, COUNT);
    while (received.next < COUNT)
        assert_true(run(dispatcher, 0, PATIENCE_MS) > 0);
    assert_false(received.elsewhere);
    OK(flowmesh_subscription_close(subscription, PATIENCE_MS, &error));
    flowmesh_subscription_free(subscription);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
    flowmesh_dispatcher_free(dispatcher);
}

/* Messages that came, and those that come meanwhile, wait for a run that nobody makes. */
static void a_client_closes_under_a_subscription_that_nobody_runs(void **state)
{
    (void)state;
    for (int moment = 0; moment < 3; moment++) {
        flowmesh_dispatcher_t *dispatcher = new_dispatcher(0);
        flowmesh_client_t *client = client_on(dispatcher);
        flowmesh_stream_t *stream = open_stream(client);
        flowmesh_subscription_t *subscription = NULL;
        flowmesh_error_t *error = NULL;
        struct received received = {0, false, pthread_self()};
        write_numbers(stream, 0, 10);
        OK(flowmesh_stream_subscribe(stream, NULL, on_numbers, &received, NULL, &subscription,
                                     &error));
        if (moment > 0)
            assert_true(is_readable(dispatcher, PATIENCE_MS));
        while (moment > 1 && received.next < 10)
            assert_true(run(dispatcher, 0, PATIENCE_MS) > 0);
        OK(flowmesh_client_close(client, PATIENCE_MS, &error));
        assert_false(received.elsewhere);
        assert_false(is_readable(dispatcher, 0));
        OK(flowmesh_subscription_close(subscription, PATIENCE_MS, &error));
        flowmesh_subscription_free(subscription);
        flowmesh_stream_free(stream);
        flowmesh_client_free(client);
        flowmesh_dispatcher_free(dispatcher);
    }
}

static void on_reports(const flowmesh_report_batch_t *reports, void *user_data)
{
    *(size_t *)user_data += flowmesh_report_batch_count(reports);
}

static void a_producer_is_flushed_and_closed_without_blocking(void **state)
{
    enum { COUNT = 100 };
    flowmesh_dispatcher_t *dispatcher = new_dispatcher(0);
    flowmesh_client_t *client = client_on(dispatcher);
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_producer_options_t *options = NULL;
    flowmesh_producer_t *producer = NULL;
    flowmesh_error_t *error = NULL;
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    struct call *flushed = call_new(), *cancelled = call_new(), *closed = call_new();
    struct call *again = call_new();
    flowmesh_operation_t *operation = NULL;
    size_t reports = 0;
    (void)state;
    event.payload = flowmesh_view_str("e");
    OK(flowmesh_producer_options_new(&options, &error));
    OK(flowmesh_producer_options_set_report_callback(options, on_reports, &reports, NULL, &error));
    OK(flowmesh_stream_producer_open(stream, options, &producer, &error));
    flowmesh_producer_options_free(options);
    for (int i = 0; i < COUNT; i++)
        OK(flowmesh_producer_send(producer, &event, NULL, -1, &error));
    OK(flowmesh_producer_flush_async(producer, -1, on_done, flushed, on_drop, NULL, &error));
    OK(flowmesh_producer_flush_async(producer, -1, on_done, cancelled, on_drop, &operation,
                                     &error));
    OK(flowmesh_operation_cancel(operation, &error));
    flowmesh_operation_free(operation);
    assert_int_equal(reports, 0); /* nobody has run anything yet */
    run_until_over(dispatcher, flushed);
    run_until_over(dispatcher, cancelled);
    ENDS(FLOWMESH_OK, flushed);
    ENDS(FLOWMESH_CANCELLED, cancelled);
    assert_int_equal(reports, COUNT);

    OK(flowmesh_producer_send(producer, &event, NULL, -1, &error));
    OK(flowmesh_producer_close_async(producer, -1, on_count, closed, on_drop, NULL, &error));
    FAILS(FLOWMESH_CLOSED, "", flowmesh_producer_send(producer, &event, NULL, -1, &error));
    run_until_over(dispatcher, closed);
    ENDS(FLOWMESH_OK, closed);
    assert_int_equal(closed->count, 0);
    assert_int_equal(reports, COUNT + 1);
    OK(flowmesh_producer_close_async(producer, 0, on_count, again, on_drop, NULL, &error));
    run_until_over(dispatcher, again);
    ENDS(FLOWMESH_OK, again);
    struct call *refused = call_new();
    FAILS(FLOWMESH_INVALID_ARGUMENT, "producer must not be NULL",
          flowmesh_producer_flush_async(NULL, -1, on_done, refused, on_drop, NULL, &error));
    call_refused(refused);
    call_free(flushed);
    call_free(cancelled);
    call_free(closed);
    call_free(again);
    flowmesh_producer_free(producer);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
    flowmesh_dispatcher_free(dispatcher);
}

/* What a process has open when it forks. */
struct family {
    flowmesh_dispatcher_t *own, *threads;
    flowmesh_client_t *client, *other;
    flowmesh_operation_t *operation;
    struct call *call;
};

static int forked_child(void *argument)
{
    struct family *family = (struct family *)argument;
    struct call *refused = call_new(), *call = call_new();
    int fd = -1, wrong = 0;
    wrong += flowmesh_dispatcher_run(family->own, 0, 0, NULL, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_dispatcher_fd(family->own, &fd, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_dispatcher_wake(family->own, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_client_health_check_async(family->client, NULL, on_done, refused, on_drop,
                                                NULL, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_client_close_async(family->other, -1, on_done, refused, on_drop, NULL,
                                         NULL) != FLOWMESH_FORKED;
    wrong += refused->completions != 0 || refused->drops != 2;
    flowmesh_operation_cancel(family->operation, NULL); /* of nobody here */
    flowmesh_operation_free(family->operation);
    flowmesh_client_free(family->client);
    flowmesh_dispatcher_free(family->own);
    flowmesh_dispatcher_free(family->threads);
    flowmesh_client_free(family->other);
    wrong += family->call->completions != 0 || family->call->drops != 0;

    wrong += flowmesh_after_fork_child(NULL) != FLOWMESH_OK;
    flowmesh_dispatcher_t *dispatcher = new_dispatcher(0);
    flowmesh_client_options_t *options = NULL;
    flowmesh_client_t *client = NULL;
    size_t count = 0;
    wrong += flowmesh_client_options_new(&options, NULL) != FLOWMESH_OK;
    wrong += flowmesh_client_options_set_dispatcher(options, dispatcher, NULL) != FLOWMESH_OK;
    wrong += flowmesh_client_open("embedded:", options, &client, NULL) != FLOWMESH_OK;
    wrong += flowmesh_client_health_check_async(client, NULL, on_done, call, on_drop, NULL, NULL) !=
             FLOWMESH_OK;
    wrong += flowmesh_dispatcher_run(dispatcher, 0, PATIENCE_MS, &count, NULL) != FLOWMESH_OK;
    wrong += count != 1 || call->completions != 1 || call->drops != 1;
    flowmesh_client_options_free(options);
    flowmesh_client_free(client);
    flowmesh_dispatcher_free(dispatcher);
    wrong += flowmesh_shutdown(PATIENCE_MS, NULL) != FLOWMESH_OK;
    return wrong;
}

static void a_child_leaves_its_parents_calls_alone(void **state)
{
    struct family family;
    flowmesh_error_t *error = NULL;
    (void)state;
    family.own = new_dispatcher(0);
    family.threads = new_dispatcher(2);
    family.client = client_on(family.own);
    family.other = client_on(family.threads);
    family.call = call_new();
    flowmesh_reserve_options_t forever = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_queue_t *queue = open_queue(family.client);
    forever.wait_ms = -1;
    OK(flowmesh_queue_reserve_async(queue, &forever, on_job, family.call, on_drop,
                                    &family.operation, &error));
    struct call *ready = start_health_check(family.client);
    assert_true(is_readable(family.own, PATIENCE_MS));
    in_child(forked_child, &family);

    assert_true(is_readable(family.own, 0)); /* the child has not taken it */
    assert_int_equal(run(family.own, 0, 0), 1);
    ENDS(FLOWMESH_OK, ready);
    assert_false(call_is_over(family.call));
    OK(flowmesh_operation_cancel(family.operation, &error));
    run_until_over(family.own, family.call);
    ENDS(FLOWMESH_CANCELLED, family.call);
    struct call *other = start_health_check(family.other);
    ENDS(FLOWMESH_OK, other);
    call_free(other);
    call_free(ready);
    call_free(family.call);
    flowmesh_operation_free(family.operation);
    flowmesh_queue_free(queue);
    flowmesh_client_free(family.client);
    flowmesh_client_free(family.other);
    flowmesh_dispatcher_free(family.own);
    flowmesh_dispatcher_free(family.threads);
}

static void bad_arguments_are_refused(void **state)
{
    flowmesh_dispatcher_t *dispatcher = NULL;
    flowmesh_error_t *error = NULL;
    size_t count = 77;
    int fd = -7;
    (void)state;
    FAILS(FLOWMESH_INVALID_ARGUMENT, "dispatcher must not be NULL",
          flowmesh_dispatcher_new(0, NULL, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "threads must be at most",
          flowmesh_dispatcher_new(SIZE_MAX, &dispatcher, &error));
    assert_null(dispatcher);
    FAILS(FLOWMESH_INVALID_ARGUMENT, "dispatcher must not be NULL",
          flowmesh_dispatcher_fd(NULL, &fd, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "dispatcher must not be NULL",
          flowmesh_dispatcher_run(NULL, 0, 0, &count, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "dispatcher must not be NULL",
          flowmesh_dispatcher_wake(NULL, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "options must not be NULL",
          flowmesh_client_options_set_dispatcher(NULL, NULL, &error));
    flowmesh_dispatcher_free(NULL);
    dispatcher = new_dispatcher(0);
    FAILS(FLOWMESH_INVALID_ARGUMENT, "fd must not be NULL",
          flowmesh_dispatcher_fd(dispatcher, NULL, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "timeout_ms",
          flowmesh_dispatcher_run(dispatcher, 0, -2, &count, &error));
    assert_int_equal(count, 77);
    OK(flowmesh_dispatcher_run(dispatcher, 0, 0, NULL, &error));
    flowmesh_dispatcher_free(dispatcher);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callbacks_run_where_the_dispatcher_is_run),
        cmocka_unit_test(run_takes_no_more_than_it_may),
        cmocka_unit_test(the_descriptor_never_cries_wolf),
        cmocka_unit_test(run_waits_for_the_first_callback),
        cmocka_unit_test(a_wake_ends_one_run),
        cmocka_unit_test(threads_of_the_library_run_callbacks_at_once),
        cmocka_unit_test(two_clients_on_two_dispatchers),
        cmocka_unit_test(a_close_delivers_what_nobody_runs),
        cmocka_unit_test(an_asynchronous_close_ends_in_run),
        cmocka_unit_test(an_asynchronous_close_tells_that_its_time_is_up),
        cmocka_unit_test(callbacks_of_a_freed_dispatcher_run_on_the_default_one),
        cmocka_unit_test(a_callback_may_block_and_free_everything),
        cmocka_unit_test(subscriptions_call_back_where_the_dispatcher_is_run),
        cmocka_unit_test(a_client_closes_under_a_subscription_that_nobody_runs),
        cmocka_unit_test(a_producer_is_flushed_and_closed_without_blocking),
        cmocka_unit_test(a_child_leaves_its_parents_calls_alone),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(a_shutdown_delivers_what_nobody_runs),
        cmocka_unit_test(several_threads_share_one_dispatcher_until_the_shutdown),
    };
    return cmocka_run_group_tests(tests, NULL, end_library);
}
