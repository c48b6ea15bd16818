/* Who has nothing to do sleeps: no thread of the library wakes up while nothing happens. */
#include "threads.h"

#include <poll.h>

static void on_messages(const flowmesh_message_batch_t *batch, void *user_data)
{
    (void)batch;
    (void)user_data;
}

static void on_log(flowmesh_log_level_t level, const char *target, uint64_t client_id,
                   const char *text, void *user_data)
{
    (void)level;
    (void)target;
    (void)client_id;
    (void)text;
    (void)user_data;
}

static void on_job(flowmesh_error_t *error, flowmesh_job_t *job, void *user_data)
{
    (void)user_data;
    flowmesh_error_free(error);
    flowmesh_job_free(job);
}

static flowmesh_verdict_t on_work(flowmesh_job_t *job, int64_t *delay_ms, void *user_data)
{
    (void)job;
    (void)delay_ms;
    (void)user_data;
    return FLOWMESH_VERDICT_ACK;
}

/* A client with everything that can wait. */
struct idler {
    flowmesh_client_t *client;
    flowmesh_stream_t *stream;
    flowmesh_queue_t *queue;
    flowmesh_subscription_t *subscription;
    flowmesh_producer_t *producer;
    flowmesh_queue_t *worked;
    flowmesh_worker_t *worker;
};

static struct idler idler_open(const flowmesh_dispatcher_t *dispatcher)
{
    struct idler idler;
    flowmesh_error_t *error = NULL;
    idler.client = client_on(dispatcher);
    idler.stream = open_stream(idler.client);
    idler.queue = open_queue(idler.client);
    write_numbers(idler.stream, 0, 10);
    OK(flowmesh_stream_subscribe(idler.stream, NULL, on_messages, NULL, NULL, &idler.subscription,
                                 &error));
    OK(flowmesh_stream_producer_open(idler.stream, NULL, &idler.producer, &error));
    send_one(idler.producer);
    idler.worked = open_queue(idler.client);
    OK(flowmesh_worker_open(idler.worked, NULL, on_work, NULL, NULL, &idler.worker, &error));
    return idler;
}

static void idler_free(struct idler idler)
{
    flowmesh_error_t *error = NULL;
    OK(flowmesh_subscription_close(idler.subscription, PATIENCE_MS, &error));
    OK(flowmesh_client_close(idler.client, PATIENCE_MS, &error));
    flowmesh_worker_free(idler.worker);
    flowmesh_queue_free(idler.worked);
    flowmesh_producer_free(idler.producer);
    flowmesh_subscription_free(idler.subscription);
    flowmesh_queue_free(idler.queue);
    flowmesh_stream_free(idler.stream);
    flowmesh_client_free(idler.client);
}

/* There comes a time without a single wake-up, long enough for every timer that polls. What was
 * begun may still be ending before. */
static void check_silence(void)
{
    unsigned long wakeups = 0;
    for (int attempt = 0; attempt < 5; attempt++) {
        unsigned long before = library_threads().wakeups;
        poll(NULL, 0, 1500);
        wakeups = library_threads().wakeups - before;
        if (wakeups == 0)
            return;
    }
    fail_msg("%lu wake-ups of: %s", wakeups, library_threads().names);
}

static void idle_threads_sleep(void **state)
{
    flowmesh_dispatcher_t *own = NULL;
    flowmesh_dispatcher_t *pool = NULL;
    flowmesh_error_t *error = NULL;
    (void)state;
    OK(flowmesh_dispatcher_new(0, &own, &error));
    OK(flowmesh_dispatcher_new(3, &pool, &error));
    OK(flowmesh_log_set_callback(FLOWMESH_LOG_DEBUG, on_log, NULL, NULL, &error));
    struct idler idlers[] = {idler_open(NULL), idler_open(own), idler_open(pool)};
    OK(flowmesh_dispatcher_run(own, 0, 0, NULL, &error));
    check_silence();
    assert_true(library_threads().count >= 4); /* there was somebody to wake up */
    for (int i = 0; i < 3; i++)
        idler_free(idlers[i]);
    flowmesh_dispatcher_free(own);
    flowmesh_dispatcher_free(pool);
    OK(flowmesh_log_set_callback(0, NULL, NULL, NULL, &error));
}

/* A call that waits for a job costs nothing until the server answers, after 20 s. */
static void a_call_that_waits_does_not_poll(void **state)
{
    struct idler idler = idler_open(NULL);
    flowmesh_reserve_options_t options = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_error_t *error = NULL;
    (void)state;
    options.wait_ms = -1;
    OK(flowmesh_queue_reserve_async(idler.queue, &options, on_job, NULL, NULL, NULL, &error));
    check_silence();
    idler_free(idler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_threads_sleep),
        cmocka_unit_test(a_call_that_waits_does_not_poll),
    };
    return cmocka_run_group_tests(tests, NULL, end_library);
}
