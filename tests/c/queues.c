/* Queues: leases, retries, dead letters, by a clock that the tests move. */
#include "test.h"

/* A client whose engine has a clock of its own. */
static flowmesh_client_t *open_with_clock(void)
{
    flowmesh_client_options_t *options = NULL;
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_client_options_new(&options, &error));
    OK(flowmesh_client_options_set_test_clock(options, true, &error));
    OK(flowmesh_client_open("embedded:", options, &client, &error));
    flowmesh_client_options_free(options);
    return client;
}

static flowmesh_job_t *reserve(const flowmesh_queue_t *queue)
{
    flowmesh_error_t *error = NULL;
    flowmesh_job_t *job = NULL;
    OK(flowmesh_queue_reserve(queue, NULL, &job, &error));
    return job;
}

static void enqueue(const flowmesh_queue_t *queue, const char *payload)
{
    flowmesh_error_t *error = NULL;
    OK(flowmesh_queue_enqueue(queue, flowmesh_view_str(payload), NULL, NULL, NULL, &error));
}

static void a_job_is_delivered_with_all_it_has(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_error_t *error = NULL;
    flowmesh_enqueue_options_t options = FLOWMESH_ENQUEUE_OPTIONS_INIT;
    flowmesh_header_t header = {FLOWMESH_VIEW_INIT, FLOWMESH_VIEW_INIT};
    flowmesh_view_t value = FLOWMESH_VIEW_INIT;
    char id[FLOWMESH_JOB_ID_SIZE] = "";
    int64_t seq = -1;
    (void)state;
    header.key = flowmesh_view_str("kind");
    header.value = flowmesh_view_str("mail");
    options.headers = &header;
    options.header_count = 1;
    OK(flowmesh_queue_enqueue(queue, flowmesh_view_str("hi"), &options, id, &seq, &error));
    assert_int_equal(seq, 0);
    assert_int_equal(strlen(id), FLOWMESH_JOB_ID_SIZE - 1);

    flowmesh_job_t *job = reserve(queue);
    assert_non_null(job);
    assert_string_equal(job->id, id);
    assert_int_equal(job->seq, 0);
    assert_int_equal(job->attempts, 1);
    assert_true(job->reserve_until_ns > job->created_at_ns);
    assert_true(job->visible_at_ns >= job->created_at_ns);
    check_view(job->payload, "hi");
    assert_memory_equal(job->resource_path.data, "acme/test/queue/", 16);
    assert_true(flowmesh_job_get_header(job, "kind", &value));
    check_view(value, "mail");
    assert_false(flowmesh_job_get_header(job, "other", &value));
    assert_in_range(flowmesh_job_time_left_ms(job), 1, 30000);
    OK(flowmesh_job_ack(job, NULL, &error));
    OK(flowmesh_job_ack(job, NULL, &error)); /* no failure, changes nothing */
    flowmesh_job_free(job);
    assert_null(reserve(queue));
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static void a_batch_is_acknowledged_together(void **state)
{
    enum { COUNT = 7 };
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_error_t *error = NULL;
    flowmesh_job_batch_t *batch = NULL;
    flowmesh_queue_stats_t stats = FLOWMESH_QUEUE_STATS_INIT;
    size_t acked = 0;
    (void)state;
    for (int i = 0; i < COUNT; i++)
        enqueue(queue, "x");
    OK(flowmesh_queue_receive(queue, 100, NULL, &batch, &error));
    assert_int_equal(flowmesh_job_batch_count(batch), COUNT);
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal(flowmesh_job_batch_at(batch, i)->seq, i);
    assert_null(flowmesh_job_batch_at(batch, COUNT));
    OK(flowmesh_job_batch_ack(batch, NULL, &acked, &error));
    assert_int_equal(acked, COUNT);
    flowmesh_job_batch_free(batch);
    OK(flowmesh_queue_stats(queue, NULL, &stats, &error));
    assert_int_equal(stats.total_jobs, COUNT);
    assert_int_equal(stats.completed_jobs, COUNT);
    assert_int_equal(stats.pending_jobs, 0);
    assert_int_equal(stats.in_flight_jobs, 0);
    assert_int_equal(stats.failed_jobs, 0);
    assert_int_equal(stats.oldest_job_age_ms, 0);
    OK(flowmesh_queue_receive(queue, 100, NULL, &batch, &error));
    assert_int_equal(flowmesh_job_batch_count(batch), 0);
    OK(flowmesh_job_batch_ack(batch, NULL, &acked, &error));
    assert_int_equal(acked, 0);
    flowmesh_job_batch_free(batch);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static void jobs_are_handled_by_their_ids(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_error_t *error = NULL;
    char id[FLOWMESH_JOB_ID_SIZE];
    bool dead = true;
    (void)state;
    OK(flowmesh_queue_enqueue(queue, flowmesh_view_str("x"), NULL, id, NULL, &error));
    FAILS(FLOWMESH_NOT_FOUND, "acme/test/queue/",
          flowmesh_queue_nack(queue, id, NULL, &dead, &error));
    assert_true(dead); /* untouched */
    flowmesh_job_free(reserve(queue));
    OK(flowmesh_queue_nack(queue, id, NULL, &dead, &error));
    assert_false(dead);
    OK(flowmesh_queue_ack(queue, id, NULL, &error)); /* waits, so nothing happens */
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static void a_delay_and_a_lease_end_by_the_clock(void **state)
{
    flowmesh_client_t *client = open_with_clock();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_error_t *error = NULL;
    flowmesh_enqueue_options_t later = FLOWMESH_ENQUEUE_OPTIONS_INIT;
    flowmesh_reserve_options_t options = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_job_t *job = NULL;
    (void)state;
    later.delay_ms = 1500; /* counts as 2 s */
    OK(flowmesh_queue_enqueue(queue, flowmesh_view_str("x"), &later, NULL, NULL, &error));
    OK(flowmesh_test_clock_advance(client, 1999, &error));
    assert_null(reserve(queue));
    OK(flowmesh_test_clock_advance(client, 1, &error));
    options.visibility_timeout_ms = 10000;
    OK(flowmesh_queue_reserve(queue, &options, &job, &error));
    assert_non_null(job);
    assert_int_equal(flowmesh_job_time_left_ms(job), 10000);
    OK(flowmesh_test_clock_advance(client, 9999, &error));
    assert_int_equal(flowmesh_job_time_left_ms(job), 1);
    assert_null(reserve(queue));
    OK(flowmesh_test_clock_advance(client, 1, &error));
    assert_int_equal(flowmesh_job_time_left_ms(job), 0);
    flowmesh_job_free(job);
    OK(flowmesh_test_clock_advance(client, 1000, &error)); /* the backoff */
    job = reserve(queue);
    assert_non_null(job);
    assert_int_equal(job->attempts, 2);
    flowmesh_job_free(job);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static void a_job_at_its_limit_is_a_dead_letter_and_comes_back(void **state)
{
    flowmesh_client_t *client = open_with_clock();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_error_t *error = NULL;
    flowmesh_retry_policy_t policy = FLOWMESH_RETRY_POLICY_INIT;
    flowmesh_nack_options_t soon = FLOWMESH_NACK_OPTIONS_INIT;
    flowmesh_job_batch_t *letters = NULL;
    flowmesh_view_t value = FLOWMESH_VIEW_INIT;
    char id[FLOWMESH_JOB_ID_SIZE];
    bool dead = true;
    int64_t seq = -1;
    (void)state;
    policy.max_attempts = 2;
    OK(flowmesh_queue_set_retry_policy(queue, &policy, NULL, &error));
    enqueue(queue, "x");
    flowmesh_job_t *job = reserve(queue);
    soon.delay_ms = 1000;
    OK(flowmesh_job_nack(job, &soon, &dead, &error));
    assert_false(dead);
    flowmesh_job_free(job);
    OK(flowmesh_test_clock_advance(client, 1000, &error));
    job = reserve(queue);
    OK(flowmesh_job_nack(job, &soon, &dead, &error));
    assert_true(dead);
    flowmesh_job_free(job);

    OK(flowmesh_queue_list_dlq_jobs(queue, 0, NULL, &letters, &error));
    assert_int_equal(flowmesh_job_batch_count(letters), 1);
    const flowmesh_job_t *letter = flowmesh_job_batch_at(letters, 0);
    check_view(letter->payload, "x");
    assert_true(flowmesh_job_get_header(letter, "x-flowmesh-attempts", &value));
    check_view(value, "2");
    assert_int_equal(flowmesh_job_time_left_ms(letter), 0);
    FAILS(FLOWMESH_FAILED_PRECONDITION, "listed, not leased",
          flowmesh_job_ack(letter, NULL, &error));
    FAILS(FLOWMESH_FAILED_PRECONDITION, "listed, not leased",
          flowmesh_job_nack(letter, NULL, NULL, &error));
    FAILS(FLOWMESH_FAILED_PRECONDITION, "listed, not leased",
          flowmesh_job_batch_ack(letters, NULL, NULL, &error));
    OK(flowmesh_queue_replay_dlq_job(queue, letter->id, NULL, id, &seq, &error));
    assert_int_equal(seq, 1);
    FAILS(FLOWMESH_NOT_FOUND, "acme/test/queue/",
          flowmesh_queue_replay_dlq_job(queue, letter->id, NULL, NULL, NULL, &error));
    flowmesh_job_batch_free(letters);

    job = reserve(queue);
    assert_string_equal(job->id, id);
    assert_int_equal(job->attempts, 1);
    assert_false(flowmesh_job_get_header(job, "x-flowmesh-attempts", &value));
    flowmesh_job_free(job);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static void the_retry_policy_is_kept(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_error_t *error = NULL;
    flowmesh_retry_policy_t policy = FLOWMESH_RETRY_POLICY_INIT;
    flowmesh_retry_policy_t kept = FLOWMESH_RETRY_POLICY_INIT;
    (void)state;
    policy.max_attempts = 9;
    policy.backoff_strategy = FLOWMESH_BACKOFF_LINEAR;
    policy.initial_backoff_ms = 1001; /* counts as 2 s */
    policy.max_backoff_ms = 90000;
    policy.backoff_multiplier = 1.5;
    OK(flowmesh_queue_set_retry_policy(queue, &policy, NULL, &error));
    OK(flowmesh_queue_get_retry_policy(queue, NULL, &kept, &error));
    assert_int_equal(kept.size, sizeof(kept));
    assert_int_equal(kept.max_attempts, 9);
    assert_int_equal(kept.backoff_strategy, FLOWMESH_BACKOFF_LINEAR);
    assert_int_equal(kept.initial_backoff_ms, 2000);
    assert_int_equal(kept.max_backoff_ms, 90000);
    assert_true(kept.backoff_multiplier == 1.5);
    policy.backoff_strategy = FLOWMESH_BACKOFF_FIXED;
    OK(flowmesh_queue_set_retry_policy(queue, &policy, NULL, &error));
    OK(flowmesh_queue_get_retry_policy(queue, NULL, &kept, &error));
    assert_int_equal(kept.backoff_strategy, FLOWMESH_BACKOFF_FIXED);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static void an_untouched_queue_has_the_default_policy(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_error_t *error = NULL;
    const flowmesh_retry_policy_t init = FLOWMESH_RETRY_POLICY_INIT;
    flowmesh_retry_policy_t policy = {sizeof(policy), 0, 0, 0, 0, 0};
    (void)state;
    enqueue(queue, "x");
    OK(flowmesh_queue_get_retry_policy(queue, NULL, &policy, &error));
    assert_memory_equal(&policy, &init, sizeof(policy));
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static void only_a_test_clock_can_be_moved(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_error_t *error = NULL;
    (void)state;
    FAILS(FLOWMESH_FAILED_PRECONDITION, "test clock",
          flowmesh_test_clock_advance(client, 1, &error));
    flowmesh_client_free(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_is_delivered_with_all_it_has),
        cmocka_unit_test(a_batch_is_acknowledged_together),
        cmocka_unit_test(jobs_are_handled_by_their_ids),
        cmocka_unit_test(a_delay_and_a_lease_end_by_the_clock),
        cmocka_unit_test(a_job_at_its_limit_is_a_dead_letter_and_comes_back),
        cmocka_unit_test(the_retry_policy_is_kept),
        cmocka_unit_test(an_untouched_queue_has_the_default_policy),
        cmocka_unit_test(only_a_test_clock_can_be_moved),
    };
    return cmocka_run_group_tests(tests, NULL, end_library);
}
