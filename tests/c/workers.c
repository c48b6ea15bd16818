/* Workers: handlers and their verdicts, on threads of the library and on the application's own. */
#include "test.h"
#include <poll.h>
#include <pthread.h>

enum { MOST = 64 };

/* What handler and events have seen, with a bell. Tests wait for events, never for time. */
struct seen {
    pthread_mutex_t lock;
    pthread_cond_t bell;
    int handled;
    int running; /* handlers at this moment */
    int most;    /* handlers that ran at once */
    int dropped; /* releases of the user data */
    int late;    /* calls after a release */
    int events[8];
    int64_t event_seq;
    bool hold;          /* handlers wait while it is set */
    bool leave;         /* handlers pass their jobs on */
    bool own_thread;    /* a handler ran in the thread of the test */
    bool close_inside;  /* the first handler closes its worker */
    bool free_inside;   /* ... frees it */
    bool closed_inside; /* and that returned OK */
    flowmesh_verdict_t verdict;
    int64_t delay_ms;
    pthread_t thread; /* of the test */
    flowmesh_worker_t *worker;
    flowmesh_job_t *left[MOST];
    int left_count;
};

static void start(struct seen *seen)
{
    memset(seen, 0, sizeof(*seen));
    pthread_mutex_init(&seen->lock, NULL);
    pthread_cond_init(&seen->bell, NULL);
    seen->verdict = FLOWMESH_VERDICT_ACK;
    seen->thread = pthread_self();
}

/* Waits until `condition` holds. */
#define AWAIT(seen, condition)                                                                     \
    do {                                                                                           \
        struct timespec until;                                                                     \
        clock_gettime(CLOCK_REALTIME, &until);                                                     \
        until.tv_sec += PATIENCE_MS / 1000;                                                        \
        pthread_mutex_lock(&(seen)->lock);                                                         \
        while (!(condition))                                                                       \
            assert_int_equal(pthread_cond_timedwait(&(seen)->bell, &(seen)->lock, &until), 0);     \
        pthread_mutex_unlock(&(seen)->lock);                                                       \
    } while (0)

static void set(struct seen *seen, bool *flag, bool value)
{
    pthread_mutex_lock(&seen->lock);
    *flag = value;
    pthread_cond_broadcast(&seen->bell);
    pthread_mutex_unlock(&seen->lock);
}

static flowmesh_verdict_t handler(flowmesh_job_t *job, int64_t *delay_ms, void *user_data)
{
    struct seen *seen = (struct seen *)user_data;
    flowmesh_worker_t *close = NULL, *release = NULL;
    flowmesh_verdict_t verdict;

    pthread_mutex_lock(&seen->lock);
    seen->running++;
    seen->most = seen->running > seen->most ? seen->running : seen->most;
    seen->late += seen->dropped > 0;
    seen->own_thread = seen->own_thread || pthread_equal(pthread_self(), seen->thread);
    seen->handled++;
    pthread_cond_broadcast(&seen->bell);
    while (seen->hold || ((seen->close_inside || seen->free_inside) && seen->worker == NULL))
        pthread_cond_wait(&seen->bell, &seen->lock);
    if (seen->close_inside)
        close = seen->worker;
    if (seen->free_inside)
        release = seen->worker;
    pthread_mutex_unlock(&seen->lock);

    bool closed = close != NULL && flowmesh_worker_close(close, -1, NULL, NULL) == FLOWMESH_OK;
    flowmesh_worker_free(release);

    pthread_mutex_lock(&seen->lock);
    seen->closed_inside = seen->closed_inside || closed;
    *delay_ms = seen->delay_ms;
    verdict = seen->leave ? FLOWMESH_VERDICT_LEAVE : seen->verdict;
    if (seen->leave && seen->left_count < MOST)
        seen->left[seen->left_count++] = job;
    seen->running--;
    pthread_cond_broadcast(&seen->bell);
    pthread_mutex_unlock(&seen->lock);
    return verdict;
}

static void on_event(const flowmesh_worker_event_t *event, void *user_data)
{
    struct seen *seen = (struct seen *)user_data;
    pthread_mutex_lock(&seen->lock);
    seen->events[event->kind]++;
    seen->event_seq = event->seq;
    seen->late += seen->dropped > 0;
    pthread_cond_broadcast(&seen->bell);
    pthread_mutex_unlock(&seen->lock);
}

static void drop_seen(void *user_data)
{
    struct seen *seen = (struct seen *)user_data;
    pthread_mutex_lock(&seen->lock);
    seen->dropped++;
    pthread_cond_broadcast(&seen->bell);
    pthread_mutex_unlock(&seen->lock);
}

static flowmesh_worker_options_t *new_options(struct seen *seen, size_t concurrency)
{
    flowmesh_worker_options_t *options = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_worker_options_new(&options, &error));
    OK(flowmesh_worker_options_set_concurrency(options, concurrency, &error));
    OK(flowmesh_worker_options_set_event_callback(options, on_event, seen, NULL, &error));
    return options;
}

static flowmesh_worker_t *open_worker(struct seen *seen, const flowmesh_queue_t *queue,
                                      size_t concurrency)
{
    flowmesh_worker_options_t *options = new_options(seen, concurrency);
    flowmesh_worker_t *worker = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_worker_open(queue, options, handler, seen, drop_seen, &worker, &error));
    flowmesh_worker_options_free(options);
    return worker;
}

static void enqueue(const flowmesh_queue_t *queue, int count)
{
    flowmesh_error_t *error = NULL;
    for (int i = 0; i < count; i++)
        OK(flowmesh_queue_enqueue(queue, flowmesh_view_str("x"), NULL, NULL, NULL, &error));
}

static flowmesh_queue_stats_t stats_of(const flowmesh_queue_t *queue)
{
    flowmesh_queue_stats_t stats = FLOWMESH_QUEUE_STATS_INIT;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_queue_stats(queue, NULL, &stats, &error));
    return stats;
}

static void close_and_free(struct seen *seen, flowmesh_worker_t *worker)
{
    flowmesh_error_t *error = NULL;
    size_t unfinished = 99;
    OK(flowmesh_worker_close(worker, PATIENCE_MS, &unfinished, &error));
    assert_int_equal(unfinished, 0);
    /* Without a wait: after OK the user data is released. */
    assert_int_equal(seen->dropped, 1);
    assert_int_equal(seen->late, 0);
    OK(flowmesh_worker_close(worker, 0, NULL, &error));
    flowmesh_worker_free(worker);
    assert_int_equal(seen->dropped, 1);
}

static void every_job_is_handled(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    struct seen seen;
    (void)state;
    start(&seen);
    enqueue(queue, 40);
    flowmesh_worker_t *worker = open_worker(&seen, queue, 4);
    AWAIT(&seen, seen.handled == 40);
    close_and_free(&seen, worker);
    assert_int_equal(stats_of(queue).completed_jobs, 40);
    assert_in_range(seen.most, 1, 4);
    assert_false(seen.own_thread);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static void as_many_at_once_as_asked_for(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    struct seen seen;
    (void)state;
    start(&seen);
    seen.hold = true;
    enqueue(queue, 6);
    flowmesh_worker_t *worker = open_worker(&seen, queue, 3);
    AWAIT(&seen, seen.running == 3);
    set(&seen, &seen.hold, false);
    AWAIT(&seen, seen.handled == 6);
    close_and_free(&seen, worker);
    assert_int_equal(seen.most, 3);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static void set_max_attempts(const flowmesh_queue_t *queue, int32_t max_attempts)
{
    flowmesh_retry_policy_t policy = FLOWMESH_RETRY_POLICY_INIT;
    flowmesh_error_t *error = NULL;
    policy.max_attempts = max_attempts;
    OK(flowmesh_queue_set_retry_policy(queue, &policy, NULL, &error));
}

static void dead_letters_and_wrong_verdicts_are_told(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    struct seen seen;
    (void)state;
    start(&seen);
    seen.verdict = FLOWMESH_VERDICT_NACK;
    set_max_attempts(queue, 1);
    enqueue(queue, 1);
    flowmesh_worker_t *worker = open_worker(&seen, queue, 1);
    AWAIT(&seen, seen.events[FLOWMESH_WORKER_DEAD_LETTERED] == 1);
    assert_int_equal(seen.event_seq, 0);
    pthread_mutex_lock(&seen.lock);
    seen.verdict = 77;
    pthread_mutex_unlock(&seen.lock);
    enqueue(queue, 1);
    AWAIT(&seen, seen.events[FLOWMESH_WORKER_DEAD_LETTERED] == 2);
    assert_int_equal(seen.events[FLOWMESH_WORKER_NOT_SETTLED], 1);
    pthread_mutex_lock(&seen.lock);
    seen.verdict = FLOWMESH_VERDICT_NACK;
    seen.delay_ms = -1;
    pthread_mutex_unlock(&seen.lock);
    enqueue(queue, 1);
    AWAIT(&seen, seen.events[FLOWMESH_WORKER_DEAD_LETTERED] == 3);
    assert_int_equal(seen.events[FLOWMESH_WORKER_NOT_SETTLED], 2);
    close_and_free(&seen, worker);
    assert_int_equal(stats_of(queue).failed_jobs, 3);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static void jobs_left_to_the_application_are_settled_later(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_error_t *error = NULL;
    struct seen seen;
    size_t unfinished = 0;
    (void)state;
    start(&seen);
    seen.leave = true;
    set_max_attempts(queue, 1);
    enqueue(queue, 5);
    flowmesh_worker_t *worker = open_worker(&seen, queue, 3);
    AWAIT(&seen, seen.left_count == 3 && seen.running == 0);
    FAILS(FLOWMESH_DEADLINE_EXCEEDED, "3 jobs were under way",
          flowmesh_worker_close(worker, 0, &unfinished, &error));
    assert_int_equal(unfinished, 3);

    FAILS(FLOWMESH_INVALID_ARGUMENT, "verdict",
          flowmesh_job_settle(seen.left[0], FLOWMESH_VERDICT_LEAVE, 0, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "delay_ms",
          flowmesh_job_settle(seen.left[0], FLOWMESH_VERDICT_NACK, -1, &error));
    OK(flowmesh_job_settle(seen.left[0], FLOWMESH_VERDICT_ACK, 0, &error));
    FAILS(FLOWMESH_FAILED_PRECONDITION, "has its verdict",
          flowmesh_job_settle(seen.left[0], FLOWMESH_VERDICT_ACK, 0, &error));
    OK(flowmesh_job_settle(seen.left[1], FLOWMESH_VERDICT_NACK, 0, &error));
    OK(flowmesh_job_ack(seen.left[2], NULL, &error));
    for (int i = 0; i < 3; i++)
        flowmesh_job_free(seen.left[i]);
    close_and_free(&seen, worker);
    flowmesh_queue_stats_t stats = stats_of(queue);
    assert_int_equal(stats.completed_jobs, 2);
    assert_int_equal(stats.failed_jobs, 1);
    assert_int_equal(stats.in_flight_jobs, 0);
    assert_int_equal(stats.pending_jobs, 2);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static flowmesh_verdict_t free_first(flowmesh_job_t *job, int64_t *delay_ms, void *user_data)
{
    struct seen *seen = (struct seen *)user_data;
    flowmesh_verdict_t verdict;
    (void)delay_ms;
    bool settled = flowmesh_job_settle(job, FLOWMESH_VERDICT_ACK, 0, NULL) == FLOWMESH_OK;
    pthread_mutex_lock(&seen->lock);
    /* Freed before the handler returns, as another thread might; with any verdict. */
    flowmesh_job_free(job);
    verdict = seen->handled % 2 == 0 ? FLOWMESH_VERDICT_LEAVE : FLOWMESH_VERDICT_NACK;
    seen->handled += settled;
    pthread_cond_broadcast(&seen->bell);
    pthread_mutex_unlock(&seen->lock);
    return verdict;
}

static void a_job_may_be_freed_before_its_handler_returns(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_worker_t *worker = NULL;
    flowmesh_error_t *error = NULL;
    struct seen seen;
    (void)state;
    start(&seen);
    enqueue(queue, 4);
    OK(flowmesh_worker_open(queue, NULL, free_first, &seen, drop_seen, &worker, &error));
    AWAIT(&seen, seen.handled == 4);
    close_and_free(&seen, worker);
    assert_int_equal(stats_of(queue).completed_jobs, 4);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static void a_handler_may_close_or_free_its_worker(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        flowmesh_client_t *client = open_client();
        flowmesh_queue_t *queue = open_queue(client);
        flowmesh_error_t *error = NULL;
        struct seen seen;
        start(&seen);
        seen.close_inside = i == 0;
        seen.free_inside = i == 1;
        enqueue(queue, 3);
        flowmesh_worker_t *worker = open_worker(&seen, queue, 1);
        pthread_mutex_lock(&seen.lock);
        seen.worker = worker;
        pthread_cond_broadcast(&seen.bell);
        pthread_mutex_unlock(&seen.lock);
        AWAIT(&seen, seen.dropped == 1);
        assert_int_equal(seen.handled, 1);
        assert_int_equal(seen.closed_inside, i == 0);
        if (i == 0) {
            OK(flowmesh_worker_close(worker, PATIENCE_MS, NULL, &error));
            assert_int_equal(stats_of(queue).completed_jobs, 1);
            flowmesh_worker_free(worker);
        }
        assert_int_equal(seen.late, 0);
        flowmesh_queue_free(queue);
        flowmesh_client_free(client);
    }
}

static void a_lease_that_ends_is_told_while_the_handler_runs(void **state)
{
    flowmesh_client_options_t *options = NULL;
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    struct seen seen;
    (void)state;
    start(&seen);
    OK(flowmesh_client_options_new(&options, &error));
    OK(flowmesh_client_options_set_test_clock(options, true, &error));
    OK(flowmesh_client_open("embedded:", options, &client, &error));
    flowmesh_client_options_free(options);
    flowmesh_queue_t *queue = open_queue(client);
    seen.hold = true;
    enqueue(queue, 1);
    flowmesh_worker_t *worker = open_worker(&seen, queue, 1);
    AWAIT(&seen, seen.running == 1);
    OK(flowmesh_test_clock_advance(client, 30000, &error));
    AWAIT(&seen, seen.events[FLOWMESH_WORKER_LEASE_LOST] == 1);
    assert_int_equal(seen.running, 1);
    set(&seen, &seen.hold, false);
    close_and_free(&seen, worker);
    flowmesh_queue_stats_t stats = stats_of(queue);
    assert_int_equal(stats.completed_jobs, 0);
    assert_int_equal(stats.pending_jobs, 1);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static void stop_sends_nothing_more(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_error_t *error = NULL;
    struct seen seen;
    size_t unfinished = 0;
    (void)state;
    start(&seen);
    seen.leave = true;
    enqueue(queue, 1);
    flowmesh_worker_t *worker = open_worker(&seen, queue, 1);
    AWAIT(&seen, seen.left_count == 1 && seen.running == 0);
    OK(flowmesh_worker_stop(worker, &error));
    /* Nobody waits for a verdict that would not be sent. */
    OK(flowmesh_worker_close(worker, -1, &unfinished, &error));
    assert_int_equal(unfinished, 1);
    assert_int_equal(seen.dropped, 1);
    FAILS(FLOWMESH_CLOSED, "stopped",
          flowmesh_job_settle(seen.left[0], FLOWMESH_VERDICT_ACK, 0, &error));
    flowmesh_job_free(seen.left[0]);
    close_and_free(&seen, worker);
    assert_int_equal(stats_of(queue).in_flight_jobs, 1);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

struct closing {
    struct seen *seen;
    bool began;
    flowmesh_status_t status;
    size_t unfinished;
};

static void *close_it(void *argument)
{
    struct closing *closing = (struct closing *)argument;
    set(closing->seen, &closing->began, true);
    closing->status = flowmesh_worker_close(closing->seen->worker, -1, &closing->unfinished, NULL);
    return NULL;
}

/* Nor where the client is closed: before the worker, or while somebody waits for that. */
static void a_closed_client_takes_no_verdicts(void **state)
{
    (void)state;
    for (int first = 0; first < 2; first++) {
        flowmesh_client_t *client = open_client();
        flowmesh_queue_t *queue = open_queue(client);
        flowmesh_error_t *error = NULL;
        struct seen seen;
        struct closing closing;
        pthread_t thread;
        start(&seen);
        memset(&closing, 0, sizeof(closing));
        closing.seen = &seen;
        closing.status = FLOWMESH_UNKNOWN;
        seen.leave = true;
        enqueue(queue, 2);
        seen.worker = open_worker(&seen, queue, 2);
        AWAIT(&seen, seen.left_count == 2 && seen.running == 0);
        if (first == 0) {
            assert_int_equal(pthread_create(&thread, NULL, close_it, &closing), 0);
            AWAIT(&seen, closing.began);
            OK(flowmesh_client_close(client, PATIENCE_MS, &error));
        } else {
            OK(flowmesh_client_close(client, PATIENCE_MS, &error));
            assert_int_equal(pthread_create(&thread, NULL, close_it, &closing), 0);
        }
        pthread_join(thread, NULL);
        assert_int_equal(closing.status, FLOWMESH_OK);
        assert_int_equal(closing.unfinished, 2);
        assert_int_equal(seen.dropped, 1);
        for (int i = 0; i < 2; i++) {
            FAILS(FLOWMESH_CLOSED, "closed",
                  flowmesh_job_settle(seen.left[i], FLOWMESH_VERDICT_ACK, 0, &error));
            flowmesh_job_free(seen.left[i]);
        }
        assert_int_equal(seen.events[FLOWMESH_WORKER_NOT_SETTLED], 0);
        flowmesh_worker_free(seen.worker);
        flowmesh_queue_free(queue);
        flowmesh_client_free(client);
    }
}

static flowmesh_worker_t *open_on_own(struct seen *seen, const flowmesh_queue_t *queue,
                                      const flowmesh_dispatcher_t *dispatcher, size_t concurrency)
{
    flowmesh_worker_options_t *options = new_options(seen, concurrency);
    flowmesh_worker_t *worker = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_worker_options_set_dispatcher(options, dispatcher, &error));
    OK(flowmesh_worker_open(queue, options, handler, seen, drop_seen, &worker, &error));
    flowmesh_worker_options_free(options);
    return worker;
}

static void an_event_loop_has_many_jobs_under_way(void **state)
{
    enum { JOBS = 30, AT_ONCE = 8 };
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_dispatcher_t *dispatcher = NULL;
    flowmesh_error_t *error = NULL;
    struct pollfd watch = {-1, POLLIN, 0};
    struct seen seen;
    int settled = 0, most = 0;
    (void)state;
    start(&seen);
    seen.leave = true;
    enqueue(queue, JOBS);
    OK(flowmesh_dispatcher_new(0, &dispatcher, &error));
    OK(flowmesh_dispatcher_fd(dispatcher, &watch.fd, &error));
    flowmesh_worker_t *worker = open_on_own(&seen, queue, dispatcher, AT_ONCE);
    while (settled < JOBS) {
        assert_int_equal(poll(&watch, 1, PATIENCE_MS), 1);
        OK(flowmesh_dispatcher_run(dispatcher, 0, 0, NULL, &error));
        int under_way = seen.left_count - settled;
        most = under_way > most ? under_way : most;
        /* Half of what is under way is done, or all when no more can come. */
        if (under_way == AT_ONCE || seen.left_count == JOBS) {
            int done = seen.left_count == JOBS ? under_way : under_way / 2;
            while (done-- > 0) {
                OK(flowmesh_job_settle(seen.left[settled], FLOWMESH_VERDICT_ACK, 0, &error));
                flowmesh_job_free(seen.left[settled++]);
            }
        }
    }
    assert_int_equal(most, AT_ONCE);
    close_and_free(&seen, worker);
    assert_true(seen.own_thread);
    assert_int_equal(seen.most, 1);
    assert_int_equal(stats_of(queue).completed_jobs, JOBS);
    flowmesh_dispatcher_free(dispatcher);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static void close_makes_the_calls_that_nobody_ran(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_dispatcher_t *dispatcher = NULL;
    flowmesh_error_t *error = NULL;
    struct pollfd watch = {-1, POLLIN, 0};
    struct seen seen;
    (void)state;
    start(&seen);
    enqueue(queue, 1);
    OK(flowmesh_dispatcher_new(0, &dispatcher, &error));
    OK(flowmesh_dispatcher_fd(dispatcher, &watch.fd, &error));
    flowmesh_worker_t *worker = open_on_own(&seen, queue, dispatcher, 1);
    assert_int_equal(poll(&watch, 1, PATIENCE_MS), 1);
    assert_int_equal(seen.handled, 0);
    close_and_free(&seen, worker);
    assert_int_equal(seen.handled, 1);
    assert_int_equal(stats_of(queue).completed_jobs, 1);
    flowmesh_dispatcher_free(dispatcher);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

/* Whoever closes makes the calls that wait; while there are none, it sleeps and sees the time pass.
 */
static void close_of_an_own_dispatcher_ends_at_its_timeout(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_dispatcher_t *dispatcher = NULL;
    flowmesh_error_t *error = NULL;
    size_t unfinished = 0;
    struct seen seen;
    (void)state;
    start(&seen);
    seen.leave = true;
    enqueue(queue, 1);
    OK(flowmesh_dispatcher_new(0, &dispatcher, &error));
    flowmesh_worker_t *worker = open_on_own(&seen, queue, dispatcher, 1);
    while (seen.left_count == 0)
        OK(flowmesh_dispatcher_run(dispatcher, 0, PATIENCE_MS, NULL, &error));
    FAILS(FLOWMESH_DEADLINE_EXCEEDED, "1 jobs were under way",
          flowmesh_worker_close(worker, 20, &unfinished, &error));
    assert_int_equal(unfinished, 1);
    OK(flowmesh_job_settle(seen.left[0], FLOWMESH_VERDICT_ACK, 0, &error));
    flowmesh_job_free(seen.left[0]);
    close_and_free(&seen, worker);
    assert_int_equal(stats_of(queue).completed_jobs, 1);
    flowmesh_dispatcher_free(dispatcher);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static void on_closed(flowmesh_error_t *error, size_t count, void *user_data)
{
    struct seen *seen = (struct seen *)user_data;
    pthread_mutex_lock(&seen->lock);
    seen->closed_inside = error == NULL && count == 0 && seen->dropped == 1;
    seen->events[0]++;
    pthread_mutex_unlock(&seen->lock);
    flowmesh_error_free(error);
}

static void an_event_loop_closes_without_waiting(void **state)
{
    flowmesh_dispatcher_t *dispatcher = NULL;
    flowmesh_error_t *error = NULL;
    struct seen seen;
    (void)state;
    start(&seen);
    seen.leave = true;
    OK(flowmesh_dispatcher_new(0, &dispatcher, &error));
    flowmesh_client_t *client = client_on(dispatcher);
    flowmesh_queue_t *queue = open_queue(client);
    enqueue(queue, 1);
    flowmesh_worker_t *worker = open_on_own(&seen, queue, dispatcher, 2);
    while (seen.left_count == 0)
        OK(flowmesh_dispatcher_run(dispatcher, 0, PATIENCE_MS, NULL, &error));
    OK(flowmesh_worker_close_async(worker, -1, on_closed, &seen, NULL, NULL, &error));
    assert_int_equal(seen.events[0], 0);
    OK(flowmesh_job_settle(seen.left[0], FLOWMESH_VERDICT_ACK, 0, &error));
    flowmesh_job_free(seen.left[0]);
    while (seen.events[0] == 0)
        OK(flowmesh_dispatcher_run(dispatcher, 0, PATIENCE_MS, NULL, &error));
    assert_true(seen.closed_inside);
    assert_int_equal(stats_of(queue).completed_jobs, 1);
    flowmesh_worker_free(worker);
    flowmesh_dispatcher_free(dispatcher);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static void any_order_of_frees(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_dispatcher_t *dispatcher = NULL;
    flowmesh_error_t *error = NULL;
    struct seen seen;
    (void)state;
    start(&seen);
    enqueue(queue, 2);
    OK(flowmesh_dispatcher_new(2, &dispatcher, &error));
    flowmesh_worker_t *worker = open_on_own(&seen, queue, dispatcher, 2);
    flowmesh_dispatcher_free(dispatcher);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
    AWAIT(&seen, seen.handled == 2);
    flowmesh_worker_free(worker);
    AWAIT(&seen, seen.dropped == 1);
    assert_int_equal(seen.late, 0);
}

static void arguments_are_checked(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_worker_options_t *options = NULL;
    flowmesh_worker_t *worker = NULL;
    flowmesh_job_t *job = NULL;
    flowmesh_error_t *error = NULL;
    struct seen seen;
    (void)state;
    start(&seen);
    FAILS(FLOWMESH_INVALID_ARGUMENT, "options", flowmesh_worker_options_new(NULL, &error));
    OK(flowmesh_worker_options_new(&options, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "options",
          flowmesh_worker_options_set_concurrency(NULL, 1, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "concurrency",
          flowmesh_worker_options_set_concurrency(options, 0, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "concurrency",
          flowmesh_worker_options_set_concurrency(options, SIZE_MAX, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "options",
          flowmesh_worker_options_set_prefetch(NULL, 1, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "prefetch",
          flowmesh_worker_options_set_prefetch(options, 101, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "options",
          flowmesh_worker_options_set_visibility_timeout_ms(NULL, 1, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "visibility_timeout_ms",
          flowmesh_worker_options_set_visibility_timeout_ms(options, -1, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "options",
          flowmesh_worker_options_set_poll_mode(NULL, FLOWMESH_POLL_AUTO, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "poll_mode",
          flowmesh_worker_options_set_poll_mode(options, 3, &error));
    OK(flowmesh_worker_options_set_poll_mode(options, FLOWMESH_POLL_LONG, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "options",
          flowmesh_worker_options_set_dispatcher(NULL, NULL, &error));
    OK(flowmesh_worker_options_set_dispatcher(options, NULL, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "callback",
          flowmesh_worker_options_set_event_callback(options, NULL, &seen, drop_seen, &error));
    assert_int_equal(seen.dropped, 1);
    FAILS(FLOWMESH_INVALID_ARGUMENT, "options",
          flowmesh_worker_options_set_event_callback(NULL, on_event, &seen, drop_seen, &error));
    assert_int_equal(seen.dropped, 2);
    FAILS(FLOWMESH_INVALID_ARGUMENT, "queue",
          flowmesh_worker_open(NULL, options, handler, &seen, drop_seen, &worker, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "handler",
          flowmesh_worker_open(queue, options, NULL, &seen, drop_seen, &worker, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "worker",
          flowmesh_worker_open(queue, options, handler, &seen, drop_seen, NULL, &error));
    assert_int_equal(seen.dropped, 5);
    assert_null(worker);
    FAILS(FLOWMESH_INVALID_ARGUMENT, "worker", flowmesh_worker_close(NULL, 0, NULL, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "worker",
          flowmesh_worker_close_async(NULL, 0, on_closed, &seen, drop_seen, NULL, &error));
    assert_int_equal(seen.dropped, 6);
    FAILS(FLOWMESH_INVALID_ARGUMENT, "worker", flowmesh_worker_stop(NULL, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "job",
          flowmesh_job_settle(NULL, FLOWMESH_VERDICT_ACK, 0, &error));
    enqueue(queue, 1);
    OK(flowmesh_queue_reserve(queue, NULL, &job, &error));
    FAILS(FLOWMESH_FAILED_PRECONDITION, "not handed out by a worker",
          flowmesh_job_settle(job, FLOWMESH_VERDICT_ACK, 0, &error));
    flowmesh_job_free(job);
    flowmesh_worker_free(NULL);
    flowmesh_worker_options_free(NULL);
    flowmesh_worker_options_free(options);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_job_is_handled),
        cmocka_unit_test(as_many_at_once_as_asked_for),
        cmocka_unit_test(dead_letters_and_wrong_verdicts_are_told),
        cmocka_unit_test(jobs_left_to_the_application_are_settled_later),
        cmocka_unit_test(a_job_may_be_freed_before_its_handler_returns),
        cmocka_unit_test(a_handler_may_close_or_free_its_worker),
        cmocka_unit_test(a_lease_that_ends_is_told_while_the_handler_runs),
        cmocka_unit_test(stop_sends_nothing_more),
        cmocka_unit_test(a_closed_client_takes_no_verdicts),
        cmocka_unit_test(an_event_loop_has_many_jobs_under_way),
        cmocka_unit_test(close_makes_the_calls_that_nobody_ran),
        cmocka_unit_test(close_of_an_own_dispatcher_ends_at_its_timeout),
        cmocka_unit_test(an_event_loop_closes_without_waiting),
        cmocka_unit_test(any_order_of_frees),
        cmocka_unit_test(arguments_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, end_library);
}
