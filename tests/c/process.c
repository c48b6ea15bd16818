/* What concerns the whole process: threads, fork, shutdown, SIGPIPE. */
#include "completion.h"
#include "threads.h"

#include <netinet/in.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

static void opening_starts_nothing(void **state)
{
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    (void)state;
    OK(flowmesh_client_open("localhost:1", NULL, &client, &error));
    flowmesh_stream_free(open_stream(client));
    assert_string_equal(library_threads().names, "");
    flowmesh_client_free(client);
}

static void on_messages(const flowmesh_message_batch_t *batch, void *user_data)
{
    (void)batch;
    if (user_data != NULL)
        sem_post((sem_t *)user_data);
}

static void shutdown_ends_everything_and_a_new_start_works(void **state)
{
    flowmesh_error_t *error = NULL;
    sem_t called;
    (void)state;
    sem_init(&called, 0, 0);
    for (int round = 0; round < 2; round++) {
        flowmesh_client_t *client = open_client();
        flowmesh_stream_t *stream = open_stream(client);
        flowmesh_subscription_t *subscription = NULL;
        int64_t offset = -1;
        write_numbers(stream, 0, 1);
        OK(flowmesh_stream_subscribe(stream, NULL, on_messages, &called, NULL, &subscription,
                                     &error));
        assert_int_equal(sem_wait(&called), 0);
        assert_non_null(
            strstr(library_threads().names, "flowmesh-callba")); /* names have 15 bytes */
        OK(flowmesh_shutdown(PATIENCE_MS, &error));
        FAILS(FLOWMESH_CLOSED, "", flowmesh_stream_latest_offset(stream, NULL, &offset, &error));
        OK(flowmesh_subscription_close(subscription, 0, &error));
        flowmesh_subscription_free(subscription);
        flowmesh_stream_free(stream);
        flowmesh_client_free(client);
        await_threads("");
    }
    OK(flowmesh_shutdown(0, &error)); /* nothing is left */
    sem_destroy(&called);
}

struct family {
    flowmesh_client_t *client;
    flowmesh_stream_t *stream;
    flowmesh_queue_t *queue;
    flowmesh_subscription_t *subscription;
    flowmesh_job_t *job;
    flowmesh_cancel_t *cancel;
};

static int forked_calls(struct family *family)
{
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    int64_t offset = 0;
    int wrong = 0;
    wrong +=
        flowmesh_stream_latest_offset(family->stream, NULL, &offset, &error) != FLOWMESH_FORKED;
    wrong += strstr(flowmesh_error_message(error), "flowmesh_after_fork_child") == NULL;
    flowmesh_error_free(error);
    error = NULL;
    wrong += flowmesh_client_health_check(family->client, NULL, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_job_ack(family->job, NULL, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_client_close(family->client, -1, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_subscription_close(family->subscription, -1, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_shutdown(-1, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_client_open("embedded:", NULL, &client, NULL) != FLOWMESH_FORKED;
    return wrong;
}

static int forked_child(void *argument)
{
    struct family *family = (struct family *)argument;
    flowmesh_client_t *client = NULL;
    flowmesh_kv_t *kv = NULL;
    flowmesh_value_t *value = NULL;
    flowmesh_view_t key = FLOWMESH_VIEW_LITERAL("k");
    int wrong = forked_calls(family);

    /* Starting anew: what the parent made stays unusable, what the child makes works. */
    wrong += flowmesh_after_fork_child(NULL) != FLOWMESH_OK;
    wrong += flowmesh_after_fork_child(NULL) != FLOWMESH_OK;
    wrong += flowmesh_client_health_check(family->client, NULL, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_client_open("embedded:", NULL, &client, NULL) != FLOWMESH_OK;
    wrong += flowmesh_kv_open(client, "acme", "test", "kv", &kv, NULL) != FLOWMESH_OK;
    wrong += flowmesh_kv_set(kv, key, key, NULL, NULL) != FLOWMESH_OK;
    wrong += flowmesh_kv_get(kv, key, NULL, &value, NULL) != FLOWMESH_OK;
    flowmesh_value_free(value);
    flowmesh_kv_free(kv);
    flowmesh_client_free(client);

    flowmesh_subscription_free(family->subscription);
    flowmesh_job_free(family->job);
    flowmesh_queue_free(family->queue);
    flowmesh_stream_free(family->stream);
    flowmesh_cancel_free(family->cancel);
    flowmesh_client_free(family->client);
    wrong += flowmesh_shutdown(PATIENCE_MS, NULL) != FLOWMESH_OK;
    return wrong;
}

static void a_child_is_told_and_its_parent_goes_on(void **state)
{
    struct family family;
    flowmesh_error_t *error = NULL;
    (void)state;
    family.client = open_client();
    family.stream = open_stream(family.client);
    family.queue = open_queue(family.client);
    write_numbers(family.stream, 0, 1);
    OK(flowmesh_cancel_new(&family.cancel, &error));
    OK(flowmesh_queue_enqueue(family.queue, flowmesh_view_str("x"), NULL, NULL, NULL, &error));
    OK(flowmesh_queue_reserve(family.queue, NULL, &family.job, &error));
    OK(flowmesh_stream_subscribe(family.stream, NULL, on_messages, NULL, NULL, &family.subscription,
                                 &error));
    in_child(forked_child, &family);

    write_numbers(family.stream, 1, 1);
    OK(flowmesh_job_ack(family.job, NULL, &error));
    OK(flowmesh_after_fork_child(&error)); /* no child: does nothing */
    OK(flowmesh_client_health_check(family.client, NULL, &error));
    OK(flowmesh_subscription_close(family.subscription, PATIENCE_MS, &error));
    flowmesh_subscription_free(family.subscription);
    flowmesh_job_free(family.job);
    flowmesh_queue_free(family.queue);
    flowmesh_stream_free(family.stream);
    flowmesh_cancel_free(family.cancel);
    flowmesh_client_free(family.client);
}

/* ---- fork while everything is at work ---------------------------------------------------- */

/* Threads of the application that are inside the library at any time. */
struct crowd {
    struct family family;
    flowmesh_dispatcher_t *own;
    flowmesh_dispatcher_t *pool;
    flowmesh_client_t *own_client;
    flowmesh_operation_t *operation;
    flowmesh_producer_t *producer;
    flowmesh_kv_t *kv;
    flowmesh_queue_t *worked;
    flowmesh_worker_t *worker;
    struct call *waiting;
    sem_t over; /* one for each thread that writes and reads */
};

static flowmesh_verdict_t on_work(flowmesh_job_t *job, int64_t *delay_ms, void *user_data)
{
    (void)job;
    (void)delay_ms;
    (void)user_data;
    return FLOWMESH_VERDICT_ACK;
}

static void *write_and_read(void *argument)
{
    struct crowd *crowd = (struct crowd *)argument;
    while (sem_trywait(&crowd->over) != 0) {
        flowmesh_view_t view = FLOWMESH_VIEW_LITERAL("x");
        struct call *call = call_new();
        int64_t offset = 0;
        send_one(crowd->producer);
        if (flowmesh_kv_set(crowd->kv, view, view, NULL, NULL) != FLOWMESH_OK)
            abort();
        if (flowmesh_stream_latest_offset(crowd->family.stream, NULL, &offset, NULL) != FLOWMESH_OK)
            abort();
        if (flowmesh_stream_latest_offset_async(crowd->family.stream, NULL, on_offset, call,
                                                on_drop, NULL, NULL) != FLOWMESH_OK ||
            !call_wait(call))
            abort();
        call_free(call);
    }
    return NULL;
}

static void *run_own(void *argument)
{
    struct crowd *crowd = (struct crowd *)argument;
    while (!call_is_over(crowd->waiting))
        if (flowmesh_dispatcher_run(crowd->own, 0, -1, NULL, NULL) != FLOWMESH_OK)
            abort();
    return NULL;
}

static int forked_crowd(void *argument)
{
    struct crowd *crowd = (struct crowd *)argument;
    flowmesh_client_stats_t stats = FLOWMESH_CLIENT_STATS_INIT;
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    int wrong = 0;
    alarm(PATIENCE_MS / 1000); /* a lock that nobody will release */
    event.payload = FLOWMESH_VIEW_LITERAL("x");
    wrong += flowmesh_producer_send(crowd->producer, &event, NULL, -1, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_producer_flush(crowd->producer, -1, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_producer_close(crowd->producer, -1, NULL, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_producer_flush_async(crowd->producer, -1, on_done, NULL, NULL, NULL, NULL) !=
             FLOWMESH_FORKED;
    wrong += flowmesh_producer_close_async(crowd->producer, -1, on_count, NULL, NULL, NULL, NULL) !=
             FLOWMESH_FORKED;
    wrong +=
        flowmesh_subscription_seek(crowd->family.subscription, 0, NULL, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_dispatcher_run(crowd->own, 0, -1, NULL, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_client_close(crowd->own_client, -1, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_client_get_stats(crowd->own_client, &stats, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_stream_latest_offset_async(crowd->family.stream, NULL, on_offset, NULL, NULL,
                                                 NULL, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_worker_close(crowd->worker, -1, NULL, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_operation_cancel(crowd->operation, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_cancel_cancel(crowd->family.cancel, NULL) != FLOWMESH_FORKED;
    flowmesh_kv_free(crowd->kv);
    flowmesh_worker_free(crowd->worker);
    flowmesh_queue_free(crowd->worked);
    flowmesh_operation_free(crowd->operation);
    flowmesh_producer_free(crowd->producer);
    flowmesh_client_free(crowd->own_client);
    flowmesh_dispatcher_free(crowd->own);
    flowmesh_dispatcher_free(crowd->pool);
    return wrong + forked_child(&crowd->family);
}

static void a_fork_finds_everything_at_work(void **state)
{
    enum { FORKS = 10 };
    struct crowd crowd;
    struct family *family = &crowd.family;
    flowmesh_client_options_t *options = NULL;
    flowmesh_reserve_options_t waiting = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_error_t *error = NULL;
    pthread_t threads[3];
    (void)state;
    sem_init(&crowd.over, 0, 0);
    OK(flowmesh_dispatcher_new(0, &crowd.own, &error));
    OK(flowmesh_dispatcher_new(2, &crowd.pool, &error));
    OK(flowmesh_client_options_new(&options, &error));
    OK(flowmesh_client_options_set_dispatcher(options, crowd.own, &error));
    OK(flowmesh_client_open(test_endpoint(), options, &crowd.own_client, &error));
    OK(flowmesh_client_options_set_dispatcher(options, crowd.pool, &error));
    OK(flowmesh_client_open(test_endpoint(), options, &family->client, &error));
    flowmesh_client_options_free(options);
    family->stream = open_stream(family->client);
    family->queue = open_queue(family->client);
    write_numbers(family->stream, 0, 1);
    OK(flowmesh_cancel_new(&family->cancel, &error));
    OK(flowmesh_queue_enqueue(family->queue, flowmesh_view_str("x"), NULL, NULL, NULL, &error));
    OK(flowmesh_queue_reserve(family->queue, NULL, &family->job, &error));
    OK(flowmesh_stream_subscribe(family->stream, NULL, on_messages, NULL, NULL,
                                 &family->subscription, &error));
    OK(flowmesh_stream_producer_open(family->stream, NULL, &crowd.producer, &error));
    crowd.kv = open_kv(family->client);
    crowd.worked = open_queue(family->client);
    OK(flowmesh_worker_open(crowd.worked, NULL, on_work, NULL, NULL, &crowd.worker, &error));
    flowmesh_queue_t *queue = open_queue(crowd.own_client);
    crowd.waiting = call_new();
    waiting.wait_ms = -1;
    OK(flowmesh_queue_reserve_async(queue, &waiting, on_job, crowd.waiting, on_drop,
                                    &crowd.operation, &error));
    assert_int_equal(pthread_create(&threads[0], NULL, write_and_read, &crowd), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, write_and_read, &crowd), 0);
    assert_int_equal(pthread_create(&threads[2], NULL, run_own, &crowd), 0);
    for (int i = 0; i < FORKS; i++)
        in_child(forked_crowd, &crowd);

    /* The parent has not noticed. */
    for (int i = 0; i < 2; i++)
        sem_post(&crowd.over);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_false(call_is_over(crowd.waiting));
    OK(flowmesh_operation_cancel(crowd.operation, &error));
    ENDS(FLOWMESH_CANCELLED, crowd.waiting);
    pthread_join(threads[2], NULL);
    sem_destroy(&crowd.over);
    OK(flowmesh_producer_close(crowd.producer, PATIENCE_MS, NULL, &error));
    OK(flowmesh_worker_close(crowd.worker, PATIENCE_MS, NULL, &error));
    OK(flowmesh_job_ack(family->job, NULL, &error));
    OK(flowmesh_subscription_close(family->subscription, PATIENCE_MS, &error));
    OK(flowmesh_client_close(family->client, PATIENCE_MS, &error));
    OK(flowmesh_client_close(crowd.own_client, PATIENCE_MS, &error));
    call_free(crowd.waiting);
    flowmesh_queue_free(queue);
    flowmesh_operation_free(crowd.operation);
    flowmesh_kv_free(crowd.kv);
    flowmesh_worker_free(crowd.worker);
    flowmesh_queue_free(crowd.worked);
    flowmesh_producer_free(crowd.producer);
    flowmesh_client_free(crowd.own_client);
    flowmesh_dispatcher_free(crowd.own);
    flowmesh_dispatcher_free(crowd.pool);
    flowmesh_subscription_free(family->subscription);
    flowmesh_job_free(family->job);
    flowmesh_queue_free(family->queue);
    flowmesh_stream_free(family->stream);
    flowmesh_cancel_free(family->cancel);
    flowmesh_client_free(family->client);
}

/* ---- SIGPIPE --------------------------------------------------------------------------- */

/* A peer that takes connections and cuts each at its first bytes; on TCP by a reset. */
static void *cut_connections(void *listener)
{
    const struct linger reset = {1, 0};
    int fd;
    while ((fd = accept(*(int *)listener, NULL, NULL)) >= 0) {
        char byte;
        if (read(fd, &byte, 1) < 0)
            perror("read");
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        close(fd);
    }
    return NULL;
}

static int write_to_a_peer_that_cuts(void *endpoint)
{
    flowmesh_client_t *client = NULL;
    flowmesh_call_options_t options = FLOWMESH_CALL_OPTIONS_INIT;
    int wrong = 0;
    signal(SIGPIPE, SIG_DFL); /* the signal would end this process */
    options.timeout_ms = 2000;
    wrong += flowmesh_after_fork_child(NULL) != FLOWMESH_OK;
    wrong += flowmesh_client_open((const char *)endpoint, NULL, &client, NULL) != FLOWMESH_OK;
    for (int i = 0; i < 50; i++)
        wrong += flowmesh_client_health_check(client, &options, NULL) == FLOWMESH_OK;
    flowmesh_client_free(client);
    wrong += flowmesh_shutdown(PATIENCE_MS, NULL) != FLOWMESH_OK;
    return wrong;
}

static void raises_no_sigpipe(int listener, char *endpoint)
{
    pthread_t thread;
    assert_int_equal(listen(listener, 64), 0);
    assert_int_equal(pthread_create(&thread, NULL, cut_connections, &listener), 0);
    in_child(write_to_a_peer_that_cuts, endpoint);
    shutdown(listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(listener);
}

static void no_call_raises_sigpipe_on_a_unix_socket(void **state)
{
    char directory[] = "/tmp/flowmesh-pipe-XXXXXX";
    char endpoint[128];
    struct sockaddr_un address;
    (void)state;
    assert_non_null(mkdtemp(directory));
    memset(&address, 0, sizeof(address));
    address.sun_family = AF_UNIX;
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", directory);
    snprintf(endpoint, sizeof(endpoint), "unix:%s", address.sun_path);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    raises_no_sigpipe(listener, endpoint);
    unlink(address.sun_path);
    rmdir(directory);
}

static void no_call_raises_sigpipe_on_tcp(void **state)
{
    char endpoint[64];
    struct sockaddr_in address;
    socklen_t size = sizeof(address);
    (void)state;
    memset(&address, 0, sizeof(address));
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    snprintf(endpoint, sizeof(endpoint), "127.0.0.1:%d", ntohs(address.sin_port));
    raises_no_sigpipe(listener, endpoint);
}

/* ---- threads ----------------------------------------------------------------------------- */

/* Two threads serve everything that there is of a kind, however much. */
static void threads_do_not_grow_with_the_work(void **state)
{
    enum { MANY = 8 };
    flowmesh_client_t *clients[MANY];
    flowmesh_stream_t *streams[MANY];
    flowmesh_subscription_t *subscriptions[MANY];
    flowmesh_error_t *error = NULL;
    sem_t called;
    (void)state;
    if (strcmp(test_endpoint(), "embedded:") == 0)
        skip(); /* every engine in memory has threads of its own */
    sem_init(&called, 0, 0);
    for (int i = 0; i < MANY; i++) {
        clients[i] = open_client();
        streams[i] = open_stream(clients[i]);
        write_numbers(streams[i], 0, 1);
        OK(flowmesh_stream_subscribe(streams[i], NULL, on_messages, &called, NULL,
                                     &subscriptions[i], &error));
    }
    for (int i = 0; i < MANY; i++)
        assert_int_equal(sem_wait(&called), 0);
    await_threads("flowmesh-callba flowmesh-io "); /* 15 bytes */
    for (int i = 0; i < MANY; i++) {
        OK(flowmesh_subscription_close(subscriptions[i], PATIENCE_MS, &error));
        flowmesh_subscription_free(subscriptions[i]);
        flowmesh_stream_free(streams[i]);
        flowmesh_client_free(clients[i]);
    }
    sem_destroy(&called);
}

/* ---- signal handlers ------------------------------------------------------------------- */

static void signals_stay_as_they_were(void **state)
{
    struct sigaction before[NSIG];
    sigset_t mask_before;
    sigset_t mask_after;
    (void)state;
    memset(before, 0, sizeof(before));
    for (int i = 1; i < NSIG; i++)
        sigaction(i, NULL, &before[i]);
    pthread_sigmask(SIG_SETMASK, NULL, &mask_before);
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    write_numbers(stream, 0, 1);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
    pthread_sigmask(SIG_SETMASK, NULL, &mask_after);
    for (int i = 1; i < NSIG; i++) {
        struct sigaction after;
        memset(&after, 0, sizeof(after));
        sigaction(i, NULL, &after);
        assert_true(after.sa_handler == before[i].sa_handler);
        assert_int_equal(sigismember(&mask_before, i), sigismember(&mask_after, i));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_starts_nothing),
        cmocka_unit_test(shutdown_ends_everything_and_a_new_start_works),
        cmocka_unit_test(a_child_is_told_and_its_parent_goes_on),
        cmocka_unit_test(a_fork_finds_everything_at_work),
        cmocka_unit_test(no_call_raises_sigpipe_on_a_unix_socket),
        cmocka_unit_test(no_call_raises_sigpipe_on_tcp),
        cmocka_unit_test(threads_do_not_grow_with_the_work),
        cmocka_unit_test(signals_stay_as_they_were),
    };
    return cmocka_run_group_tests(tests, NULL, end_library);
}
