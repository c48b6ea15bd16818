/* What the C API promises, while a proxy breaks the connections or the server is killed: no gap
 * and no repeat in a subscription, writes as they were told, jobs done once acknowledged, bounded
 * memory, and an end in time. Runs against a server on TCP.
 */
#include "peers.h"
#include <pthread.h>

/* ---- a subscription that is watched ------------------------------------------------------ */

struct watch {
    pthread_mutex_t lock;
    pthread_cond_t bell;
    int64_t next; /* the offset that must come next */
    int wrong;    /* messages that were not at `next` */
    int lost;
    int dropped;
    bool hold; /* callbacks wait while it is set */
    flowmesh_subscription_t *subscription;
};

/* Waits until `condition` holds; `watch` must be locked. */
#define AWAIT(watch, condition)                                                                    \
    do {                                                                                           \
        struct timespec until;                                                                     \
        clock_gettime(CLOCK_REALTIME, &until);                                                     \
        until.tv_sec += 2 * PATIENCE_MS / 1000;                                                    \
        while (!(condition))                                                                       \
            assert_int_equal(pthread_cond_timedwait(&(watch)->bell, &(watch)->lock, &until), 0);   \
    } while (0)

static void on_messages(const flowmesh_message_batch_t *batch, void *user_data)
{
    struct watch *watch = (struct watch *)user_data;
    pthread_mutex_lock(&watch->lock);
    for (size_t i = 0; i < flowmesh_message_batch_count(batch); i++)
        watch->wrong += flowmesh_message_batch_at(batch, i)->offset != watch->next++;
    pthread_cond_broadcast(&watch->bell);
    while (watch->hold)
        pthread_cond_wait(&watch->bell, &watch->lock);
    pthread_mutex_unlock(&watch->lock);
}

static void on_state(flowmesh_subscription_state_t state, const flowmesh_error_t *reason,
                     void *user_data)
{
    struct watch *watch = (struct watch *)user_data;
    (void)reason;
    pthread_mutex_lock(&watch->lock);
    watch->lost += state == FLOWMESH_SUBSCRIPTION_LOST;
    pthread_cond_broadcast(&watch->bell);
    pthread_mutex_unlock(&watch->lock);
}

static void on_drop(void *user_data)
{
    struct watch *watch = (struct watch *)user_data;
    pthread_mutex_lock(&watch->lock);
    watch->dropped++;
    pthread_mutex_unlock(&watch->lock);
}

static void follow(struct watch *watch, const flowmesh_stream_t *stream)
{
    flowmesh_subscription_options_t *options = NULL;
    flowmesh_error_t *error = NULL;
    memset(watch, 0, sizeof(*watch));
    pthread_mutex_init(&watch->lock, NULL);
    pthread_cond_init(&watch->bell, NULL);
    OK(flowmesh_subscription_options_new(&options, &error));
    OK(flowmesh_subscription_options_set_start_offset(options, 0, &error));
    OK(flowmesh_subscription_options_set_state_callback(options, on_state, watch, NULL, &error));
    OK(flowmesh_stream_subscribe(stream, options, on_messages, watch, on_drop, &watch->subscription,
                                 &error));
    flowmesh_subscription_options_free(options);
}

static void await_offset(struct watch *watch, int64_t offset)
{
    pthread_mutex_lock(&watch->lock);
    AWAIT(watch, watch->next > offset);
    pthread_mutex_unlock(&watch->lock);
}

/* Closes it and checks what it has seen: everything up to `last`, once and in order. */
static void end(struct watch *watch, int64_t last)
{
    flowmesh_error_t *error = NULL;
    OK(flowmesh_subscription_close(watch->subscription, PATIENCE_MS, &error));
    flowmesh_subscription_free(watch->subscription);
    assert_int_equal(watch->wrong, 0);
    assert_int_equal(watch->dropped, 1);
    if (last >= 0)
        assert_int_equal(watch->next, last + 1);
}

/* ---- writers and what they were told ----------------------------------------------------- */

enum { WRITES = 400 };

struct writer {
    const flowmesh_stream_t *stream;
    char name; /* of its events */
    int written;
    int64_t offsets[WRITES]; /* where each write is; -1: it is not stored, -2: unknown */
    int seen[WRITES];
};

static void write_one(struct writer *writer)
{
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    flowmesh_error_t *error = NULL;
    char text[16];
    int number = writer->written++;
    snprintf(text, sizeof(text), "%c%d", writer->name, number);
    event.payload = flowmesh_view_str(text);
    flowmesh_status_t status =
        flowmesh_stream_write(writer->stream, &event, 1, NULL, &writer->offsets[number], &error);
    if (status != FLOWMESH_OK) {
        assert_int_equal(status, FLOWMESH_UNAVAILABLE);
        assert_int_not_equal(flowmesh_error_outcome(error), FLOWMESH_OUTCOME_APPLIED);
        writer->offsets[number] =
            flowmesh_error_outcome(error) == FLOWMESH_OUTCOME_NOT_APPLIED ? -1 : -2;
        flowmesh_error_free(error);
    }
}

static void *write_all(void *writer)
{
    while (((struct writer *)writer)->written < WRITES)
        write_one((struct writer *)writer);
    return NULL;
}

static void start_writer(struct writer *writer, const flowmesh_stream_t *stream, char name)
{
    memset(writer, 0, sizeof(*writer));
    writer->stream = stream;
    writer->name = name;
}

/* Reads the stream and compares it with what the writers were told. Returns its last offset. */
static int64_t check_writes(const flowmesh_stream_t *stream, struct writer *writers, int count)
{
    flowmesh_error_t *error = NULL;
    flowmesh_message_batch_t *batch = NULL;
    int64_t next = 0;
    do {
        flowmesh_message_batch_free(batch);
        batch = NULL;
        OK(flowmesh_stream_read(stream, next, NULL, &batch, &error));
        for (size_t i = 0; i < flowmesh_message_batch_count(batch); i++, next++) {
            const flowmesh_message_t *message = flowmesh_message_batch_at(batch, i);
            char text[16] = "";
            assert_int_equal(message->offset, next);
            assert_in_range(message->payload.len, 2, sizeof(text) - 1);
            memcpy(text, message->payload.data, message->payload.len);
            for (int w = 0; w < count; w++) {
                if (writers[w].name == text[0]) {
                    int number = atoi(text + 1);
                    assert_in_range(number, 0, WRITES - 1);
                    assert_int_equal(writers[w].seen[number]++, 0);
                    assert_int_not_equal(writers[w].offsets[number], -1);
                    if (writers[w].offsets[number] >= 0)
                        assert_int_equal(writers[w].offsets[number], next);
                }
            }
        }
    } while (flowmesh_message_batch_count(batch) > 0);
    flowmesh_message_batch_free(batch);
    for (int w = 0; w < count; w++)
        for (int number = 0; number < writers[w].written; number++)
            if (writers[w].offsets[number] >= 0)
                assert_int_equal(writers[w].seen[number], 1);
    return next - 1;
}

/* ---- scenarios ---------------------------------------------------------------------------- */

/* A proxy to the server of the test run, a client through it, and one past it. */
struct world {
    struct peer proxy;
    flowmesh_client_t *client;
    flowmesh_client_t *direct;
    flowmesh_stream_t *stream;
    flowmesh_stream_t *direct_stream;
};

static void open_world(struct world *world)
{
    flowmesh_error_t *error = NULL;
    const char *name = test_name();
    if (!have_peers())
        skip();
    world->proxy = start_proxy(test_endpoint());
    OK(flowmesh_client_open(world->proxy.address, NULL, &world->client, &error));
    world->direct = open_client();
    world->stream = world->direct_stream = NULL;
    OK(flowmesh_stream_open(world->client, "acme", "test", name, &world->stream, &error));
    OK(flowmesh_stream_open(world->direct, "acme", "test", name, &world->direct_stream, &error));
}

static void close_world(struct world *world)
{
    flowmesh_error_t *error = NULL;
    OK(flowmesh_client_close(world->client, PATIENCE_MS, &error));
    OK(flowmesh_client_close(world->direct, PATIENCE_MS, &error));
    flowmesh_stream_free(world->stream);
    flowmesh_stream_free(world->direct_stream);
    flowmesh_client_free(world->client);
    flowmesh_client_free(world->direct);
    kill_peer(&world->proxy);
}

static void a_storm_of_cuts_loses_and_repeats_nothing(void **state)
{
    struct world world;
    struct watch watch;
    struct writer writers[2];
    pthread_t threads[2];
    (void)state;
    open_world(&world);
    start_writer(&writers[0], world.direct_stream, 'a');
    start_writer(&writers[1], world.stream, 'b');
    write_one(&writers[0]);
    follow(&watch, world.stream);
    tell(&world.proxy, "storm 1 20000");
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, write_all, &writers[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    tell(&world.proxy, "calm");
    int64_t last = check_writes(world.direct_stream, writers, 2);
    await_offset(&watch, last);
    assert_true(watch.lost > 0);
    end(&watch, last);
    close_world(&world);
}

static void *reserve_for_ever(void *queue)
{
    flowmesh_reserve_options_t options = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_job_t *job = NULL;
    flowmesh_error_t *error = NULL;
    options.wait_ms = -1;
    options.timeout_ms = -1;
    FAILS(FLOWMESH_CLOSED, "closed",
          flowmesh_queue_reserve((const flowmesh_queue_t *)queue, &options, &job, &error));
    return NULL;
}

static void everything_closes_in_time_while_nothing_moves(void **state)
{
    struct world world;
    struct watch watch;
    flowmesh_queue_t *queue = NULL;
    flowmesh_error_t *error = NULL;
    pthread_t waiting;
    struct timespec before;
    struct timespec after;
    (void)state;
    open_world(&world);
    OK(flowmesh_queue_open(world.client, "acme", "test", test_name(), &queue, &error));
    follow(&watch, world.stream);
    await_offset(&watch, write_numbers(world.direct_stream, 0, 10));
    pthread_create(&waiting, NULL, reserve_for_ever, queue);
    tell(&world.proxy, "stall both");
    clock_gettime(CLOCK_MONOTONIC, &before);
    end(&watch, 9);
    close_world(&world);
    pthread_join(waiting, NULL);
    clock_gettime(CLOCK_MONOTONIC, &after);
    assert_in_range(after.tv_sec - before.tv_sec, 0, PATIENCE_MS / 1000);
    flowmesh_queue_free(queue);
}

/* Pages of this process that are in memory, in bytes. */
static long resident(void)
{
    long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    assert_int_equal(fscanf(statm, "%*d %ld", &pages), 1);
    fclose(statm);
    return pages * sysconf(_SC_PAGESIZE);
}

/* Whether what the process holds says something about the library. */
static bool memory_counts(void)
{
    const char *preloaded = getenv("LD_PRELOAD");
#if defined(__SANITIZE_ADDRESS__)
    return false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
    return false;
#endif
#endif
    return preloaded == NULL || strstr(preloaded, "vgpreload") == NULL;
}

static void a_callback_that_waits_does_not_fill_the_memory(void **state)
{
    enum { EVENTS = 64, SIZE = 1 << 20, ALLOWED = 24 << 20 };
    struct world world;
    struct watch watch;
    flowmesh_error_t *error = NULL;
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    (void)state;
    open_world(&world);
    uint8_t *payload = (uint8_t *)malloc(SIZE);
    memset(payload, 'x', SIZE);
    event.payload = flowmesh_view_bytes(payload, SIZE);
    for (int i = 0; i < EVENTS / 2; i++)
        OK(flowmesh_stream_write(world.direct_stream, &event, 1, NULL, NULL, &error));
    long before = resident();
    follow(&watch, world.stream);
    pthread_mutex_lock(&watch.lock);
    watch.hold = true;
    AWAIT(&watch, watch.next > 0);
    pthread_mutex_unlock(&watch.lock);
    for (int i = 0; i < EVENTS / 2; i++)
        OK(flowmesh_stream_write(world.direct_stream, &event, 1, NULL, NULL, &error));
    tell(&world.proxy, "await down %d", 4 << 20);
    long grown = resident() - before;
    if (memory_counts() && grown > ALLOWED)
        print_error("memory has grown by %ld bytes\n", grown);
    assert_true(!memory_counts() || grown <= ALLOWED);
    pthread_mutex_lock(&watch.lock);
    watch.hold = false;
    pthread_cond_broadcast(&watch.bell);
    pthread_mutex_unlock(&watch.lock);
    await_offset(&watch, EVENTS - 1);
    end(&watch, EVENTS - 1);
    free(payload);
    close_world(&world);
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Jobs that wait or are leased. */
static int64_t jobs_left(const flowmesh_queue_t *queue)
{
    flowmesh_queue_stats_t stats = FLOWMESH_QUEUE_STATS_INIT;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_queue_stats(queue, NULL, &stats, &error));
    assert_int_equal(stats.failed_jobs, 0);
    return stats.pending_jobs + stats.in_flight_jobs;
}

static void a_job_that_was_acknowledged_is_done_and_every_other_comes_back(void **state)
{
    enum { JOBS = 100 };
    struct world world;
    flowmesh_queue_t *queue = NULL;
    flowmesh_queue_t *direct = NULL;
    flowmesh_error_t *error = NULL;
    flowmesh_reserve_options_t options = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_retry_policy_t policy = FLOWMESH_RETRY_POLICY_INIT;
    bool tried[JOBS] = {false};
    bool acked[JOBS] = {false};
    const char *name = test_name();
    (void)state;
    open_world(&world);
    OK(flowmesh_queue_open(world.client, "acme", "test", name, &queue, &error));
    OK(flowmesh_queue_open(world.direct, "acme", "test", name, &direct, &error));
    policy.max_attempts = 0;
    policy.max_backoff_ms = 1000;
    OK(flowmesh_queue_set_retry_policy(queue, &policy, NULL, &error));
    for (int i = 0; i < JOBS; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        OK(flowmesh_queue_enqueue(queue, flowmesh_view_str(text), NULL, NULL, NULL, &error));
    }
    tell(&world.proxy, "storm 2 3000");
    options.visibility_timeout_ms = 1000;
    options.wait_ms = 100;
    while (jobs_left(direct) > 0) {
        flowmesh_job_t *job = NULL;
        int64_t before = now_ms();
        flowmesh_status_t status = flowmesh_queue_reserve(queue, &options, &job, &error);
        if (status == FLOWMESH_OK && job != NULL) {
            char text[16] = "";
            memcpy(text, job->payload.data, job->payload.len);
            int number = atoi(text);
            assert_false(acked[number]);
            tried[number] = true;
            status = flowmesh_job_ack(job, NULL, &error);
            /* An acknowledgement after the end of the lease is OK and does nothing. */
            acked[number] =
                status == FLOWMESH_OK && now_ms() - before < options.visibility_timeout_ms;
            flowmesh_job_free(job);
        }
        assert_true(status == FLOWMESH_OK || status == FLOWMESH_UNAVAILABLE);
        flowmesh_error_free(error);
        error = NULL;
    }
    for (int i = 0; i < JOBS; i++)
        assert_true(tried[i]);
    flowmesh_queue_free(queue);
    flowmesh_queue_free(direct);
    close_world(&world);
}

static void everything_goes_on_when_the_server_was_killed(void **state)
{
    enum { DEATHS = 3, EACH = 50 };
    char directory[32];
    flowmesh_client_t *client = NULL;
    flowmesh_stream_t *stream = NULL;
    flowmesh_error_t *error = NULL;
    struct watch watch;
    struct writer writer;
    (void)state;
    if (!have_peers())
        skip();
    make_directory(directory);
    struct peer server = start_server("127.0.0.1:0", directory);
    struct peer proxy = start_proxy(server.address);
    OK(flowmesh_client_open(proxy.address, NULL, &client, &error));
    OK(flowmesh_stream_open(client, "acme", "test", "s", &stream, &error));
    start_writer(&writer, stream, 'a');
    write_one(&writer);
    follow(&watch, stream);
    for (int death = 0; death < DEATHS; death++) {
        for (int i = 0; i < EACH; i++)
            write_one(&writer);
        await_offset(&watch, writer.offsets[writer.written - 1]); /* it is connected */
        kill_peer(&server);
        write_one(&writer);
        server = start_server("127.0.0.1:0", directory);
        tell(&proxy, "upstream %s", server.address);
        OK(flowmesh_client_connect(client, PATIENCE_MS, &error));
    }
    write_one(&writer);
    int64_t last = check_writes(stream, &writer, 1);
    await_offset(&watch, last);
    assert_in_range(watch.lost, DEATHS, 100);
    end(&watch, last);
    OK(flowmesh_client_close(client, PATIENCE_MS, &error));
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
    kill_peer(&proxy);
    kill_peer(&server);
    remove_directory(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_storm_of_cuts_loses_and_repeats_nothing),
        cmocka_unit_test(everything_closes_in_time_while_nothing_moves),
        cmocka_unit_test(a_callback_that_waits_does_not_fill_the_memory),
        cmocka_unit_test(a_job_that_was_acknowledged_is_done_and_every_other_comes_back),
        cmocka_unit_test(everything_goes_on_when_the_server_was_killed),
    };
    return cmocka_run_group_tests(tests, NULL, end_library);
}
