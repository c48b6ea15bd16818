/* What an operator can see: statistics, traces, the log. */
#include "test.h"
#include <pthread.h>

static flowmesh_client_stats_t stats_of(const flowmesh_client_t *client)
{
    flowmesh_client_stats_t stats = FLOWMESH_CLIENT_STATS_INIT;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_client_get_stats(client, &stats, &error));
    return stats;
}

static void a_new_client_has_counted_nothing(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_client_stats_t stats = stats_of(client);
    flowmesh_client_stats_t zero = FLOWMESH_CLIENT_STATS_INIT;
    (void)state;
    assert_memory_equal((const char *)&stats, (const char *)&zero, sizeof(stats));
    flowmesh_client_free(client);
}

static void calls_are_counted_by_their_end(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_kv_t *kv = open_kv(client);
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_view_t key = FLOWMESH_VIEW_LITERAL("k");
    flowmesh_value_t *value = NULL;
    flowmesh_job_t *job = NULL;
    flowmesh_cancel_t *cancel = NULL;
    flowmesh_reserve_options_t options = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_error_t *error = NULL;
    (void)state;
    OK(flowmesh_kv_set(kv, key, key, NULL, &error));
    OK(flowmesh_kv_get(kv, key, NULL, &value, &error));
    flowmesh_value_free(value);
    FAILS(FLOWMESH_NOT_FOUND, "",
          flowmesh_kv_get(kv, flowmesh_view_str("other"), NULL, &value, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "key",
          flowmesh_kv_get(kv, flowmesh_view_str(""), NULL, &value, &error));
    OK(flowmesh_cancel_new(&cancel, &error));
    OK(flowmesh_cancel_cancel(cancel, &error));
    options.cancel = cancel;
    FAILS(FLOWMESH_CANCELLED, "", flowmesh_queue_reserve(queue, &options, &job, &error));

    flowmesh_client_stats_t stats = stats_of(client);
    assert_int_equal(stats.calls_started, 4);
    assert_int_equal(stats.calls_succeeded, 2);
    assert_int_equal(stats.calls_failed, 1);
    assert_int_equal(stats.calls_cancelled, 1);
    assert_int_equal(stats.calls_under_way, 0);
    assert_true(stats.latency_p50_ns > 0);
    assert_true(stats.latency_p50_ns <= stats.latency_p90_ns);
    assert_true(stats.latency_p90_ns <= stats.latency_p99_ns);
    assert_true(stats.latency_p99_ns <= stats.latency_p999_ns);
    assert_true(stats.latency_p999_ns <= stats.latency_max_ns);
    if (strcmp(test_endpoint(), "embedded:") == 0) {
        assert_int_equal(stats.connections_made, 0);
        assert_int_equal(stats.bytes_sent, 0);
    } else {
        assert_int_equal(stats.connections_made, 1);
        assert_int_equal(stats.connections_lost, 0);
        assert_true(stats.bytes_sent > 0);
        assert_true(stats.bytes_received > 0);
    }

    OK(flowmesh_client_close(client, PATIENCE_MS, &error));
    FAILS(FLOWMESH_CLOSED, "", flowmesh_kv_get(kv, key, NULL, &value, &error));
    assert_int_equal(stats_of(client).calls_started, 4);
    flowmesh_cancel_free(cancel);
    flowmesh_queue_free(queue);
    flowmesh_kv_free(kv);
    flowmesh_client_free(client);
}

static void the_place_for_statistics_is_checked(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_client_stats_t stats = FLOWMESH_CLIENT_STATS_INIT;
    flowmesh_error_t *error = NULL;
    (void)state;
    stats.size = 8;
    FAILS(FLOWMESH_INVALID_ARGUMENT, "sizeof(flowmesh_client_stats_t)",
          flowmesh_client_get_stats(client, &stats, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "stats", flowmesh_client_get_stats(client, NULL, &error));
    stats.size = sizeof(stats);
    FAILS(FLOWMESH_INVALID_ARGUMENT, "client", flowmesh_client_get_stats(NULL, &stats, &error));
    flowmesh_client_free(client);
}

/* ---- traces ---------------------------------------------------------------------------- */

static const char parent[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
static const char other_parent[] = "00-11111111111111111111111111111111-b7ad6b7169203331-00";

static void check_message_header(const flowmesh_message_t *message, const char *key,
                                 const char *expected)
{
    flowmesh_view_t value = FLOWMESH_VIEW_INIT;
    assert_int_equal(flowmesh_message_get_header(message, key, &value), expected != NULL);
    if (expected != NULL)
        check_view(value, expected);
}

static void events_carry_the_trace_of_their_write(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_write_options_t options = FLOWMESH_WRITE_OPTIONS_INIT;
    flowmesh_event_t events[] = {FLOWMESH_EVENT_INIT, FLOWMESH_EVENT_INIT, FLOWMESH_EVENT_INIT};
    flowmesh_header_t own = {FLOWMESH_VIEW_LITERAL("traceparent"), flowmesh_view_str(other_parent)};
    flowmesh_message_batch_t *batch = NULL;
    flowmesh_producer_t *producer = NULL;
    flowmesh_error_t *error = NULL;
    (void)state;
    options.traceparent = parent;
    options.tracestate = "vendor=1";
    events[0].payload = events[1].payload = events[2].payload = flowmesh_view_str("x");
    events[1].headers = &own;
    events[1].header_count = 1;
    events[1].traceparent = parent; /* the header counts more */
    events[2].traceparent = other_parent;
    OK(flowmesh_stream_write(stream, events, 3, &options, NULL, &error));
    OK(flowmesh_stream_write(stream, events, 1, NULL, NULL, &error));
    events[2].tracestate = "vendor=2";
    OK(flowmesh_stream_producer_open(stream, NULL, &producer, &error));
    OK(flowmesh_producer_send(producer, &events[2], NULL, -1, &error));
    OK(flowmesh_producer_close(producer, PATIENCE_MS, NULL, &error));
    flowmesh_producer_free(producer);
    OK(flowmesh_stream_read(stream, 0, NULL, &batch, &error));
    assert_int_equal(flowmesh_message_batch_count(batch), 5);
    check_message_header(flowmesh_message_batch_at(batch, 0), "traceparent", parent);
    check_message_header(flowmesh_message_batch_at(batch, 0), "tracestate", "vendor=1");
    check_message_header(flowmesh_message_batch_at(batch, 1), "traceparent", other_parent);
    check_message_header(flowmesh_message_batch_at(batch, 1), "tracestate", NULL);
    check_message_header(flowmesh_message_batch_at(batch, 2), "traceparent", other_parent);
    check_message_header(flowmesh_message_batch_at(batch, 2), "tracestate", NULL);
    check_message_header(flowmesh_message_batch_at(batch, 3), "traceparent", NULL);
    check_message_header(flowmesh_message_batch_at(batch, 4), "traceparent", other_parent);
    check_message_header(flowmesh_message_batch_at(batch, 4), "tracestate", "vendor=2");
    flowmesh_message_batch_free(batch);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void jobs_carry_the_trace_of_their_enqueue(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_enqueue_options_t options = FLOWMESH_ENQUEUE_OPTIONS_INIT;
    flowmesh_header_t own = {FLOWMESH_VIEW_LITERAL("traceparent"), flowmesh_view_str(other_parent)};
    flowmesh_job_t *job = NULL;
    flowmesh_error_t *error = NULL;
    (void)state;
    options.traceparent = parent;
    for (int with_own = 0; with_own < 2; with_own++) {
        flowmesh_view_t value = FLOWMESH_VIEW_INIT;
        options.headers = &own;
        options.header_count = (size_t)with_own;
        OK(flowmesh_queue_enqueue(queue, flowmesh_view_str("x"), &options, NULL, NULL, &error));
        OK(flowmesh_queue_reserve(queue, NULL, &job, &error));
        assert_true(flowmesh_job_get_header(job, "traceparent", &value));
        check_view(value, with_own ? other_parent : parent);
        OK(flowmesh_job_ack(job, NULL, &error));
        flowmesh_job_free(job);
    }
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static void malformed_traces_are_refused(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_call_options_t options = FLOWMESH_CALL_OPTIONS_INIT;
    flowmesh_error_t *error = NULL;
    (void)state;
    options.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
    FAILS(FLOWMESH_INVALID_ARGUMENT, "traceparent",
          flowmesh_client_health_check(client, &options, &error));
    options.traceparent = parent;
    options.tracestate = "a\n";
    FAILS(FLOWMESH_INVALID_ARGUMENT, "tracestate",
          flowmesh_client_health_check(client, &options, &error));
    options.tracestate = "v=1";
    OK(flowmesh_client_health_check(client, &options, &error));
    options.traceparent = NULL;
    FAILS(FLOWMESH_INVALID_ARGUMENT, "without a traceparent",
          flowmesh_client_health_check(client, &options, &error));
    flowmesh_client_free(client);
}

/* ---- the log ----------------------------------------------------------------------------- */

/* What was told of one client: how often, the worst level, and the last line. */
struct heard {
    pthread_mutex_t lock;
    uint64_t client_id; /* 0 hears everything */
    int count;
    int released;
    flowmesh_log_level_t worst;
    char target[32];
    char text[512];
};

static const struct heard nothing_heard = {PTHREAD_MUTEX_INITIALIZER, 0, 0, 0, 99, "", ""};

static void hear(flowmesh_log_level_t level, const char *target, uint64_t client_id,
                 const char *text, void *user_data)
{
    struct heard *heard = (struct heard *)user_data;
    pthread_mutex_lock(&heard->lock);
    if (heard->client_id == 0 || heard->client_id == client_id) {
        heard->count++;
        heard->worst = level < heard->worst ? level : heard->worst;
        snprintf(heard->target, sizeof(heard->target), "%s", target);
        snprintf(heard->text, sizeof(heard->text), "%s", text);
    }
    pthread_mutex_unlock(&heard->lock);
}

static void release(void *user_data)
{
    ((struct heard *)user_data)->released++;
}

static void records_name_their_client(void **state)
{
    struct heard heard = nothing_heard;
    flowmesh_client_t *client = NULL;
    flowmesh_client_t *other = NULL;
    flowmesh_error_t *error = NULL;
    (void)state;
    OK(flowmesh_client_open("localhost:1", NULL, &client, &error));
    OK(flowmesh_client_open("localhost:1", NULL, &other, &error));
    assert_int_not_equal(flowmesh_client_id(client), 0);
    assert_int_not_equal(flowmesh_client_id(client), flowmesh_client_id(other));
    assert_int_equal(flowmesh_client_id(NULL), 0);

    heard.client_id = flowmesh_client_id(client);
    OK(flowmesh_log_set_callback(FLOWMESH_LOG_WARN, hear, &heard, release, &error));
    FAILS(FLOWMESH_UNAVAILABLE, "", flowmesh_client_connect(other, PATIENCE_MS, &error));
    assert_int_equal(heard.count, 0);
    FAILS(FLOWMESH_UNAVAILABLE, "", flowmesh_client_connect(client, PATIENCE_MS, &error));
    assert_true(heard.count > 0);
    assert_int_equal(heard.worst, FLOWMESH_LOG_WARN);
    assert_string_equal(heard.target, "connection");
    assert_non_null(strstr(heard.text, "cannot connect"));

    OK(flowmesh_log_set_callback(FLOWMESH_LOG_DEBUG, NULL, NULL, NULL, &error));
    assert_int_equal(heard.released, 1);
    heard.count = 0;
    FAILS(FLOWMESH_UNAVAILABLE, "", flowmesh_client_connect(client, PATIENCE_MS, &error));
    assert_int_equal(heard.count, 0);
    flowmesh_client_free(other);
    flowmesh_client_free(client);
}

static void unimportant_records_come_only_when_asked_for(void **state)
{
    struct heard heard = nothing_heard;
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    (void)state;
    OK(flowmesh_client_open("localhost:1", NULL, &client, &error));
    heard.client_id = flowmesh_client_id(client);
    OK(flowmesh_log_set_callback(FLOWMESH_LOG_ERROR, hear, &heard, release, &error));
    FAILS(FLOWMESH_UNAVAILABLE, "", flowmesh_client_connect(client, PATIENCE_MS, &error));
    assert_int_equal(heard.count, 0);
    OK(flowmesh_log_set_callback(FLOWMESH_LOG_INFO, hear, &heard, release, &error));
    assert_int_equal(heard.released, 1); /* the former one */
    OK(flowmesh_client_close(client, PATIENCE_MS, &error));
    assert_string_equal(heard.text, "closed");
    assert_int_equal(heard.worst, FLOWMESH_LOG_INFO);
    OK(flowmesh_log_set_callback(0, NULL, NULL, NULL, &error));
    assert_int_equal(heard.released, 2);
    flowmesh_client_free(client);
}

static void a_refused_log_callback_is_released(void **state)
{
    struct heard heard = nothing_heard;
    flowmesh_error_t *error = NULL;
    (void)state;
    FAILS(FLOWMESH_INVALID_ARGUMENT, "level",
          flowmesh_log_set_callback(0, hear, &heard, release, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "level",
          flowmesh_log_set_callback(5, hear, &heard, release, &error));
    assert_int_equal(heard.released, 2);
    OK(flowmesh_log_set_callback(FLOWMESH_LOG_INFO, NULL, &heard, release, &error));
    assert_int_equal(heard.released, 3);
}

static void unset_from_inside(flowmesh_log_level_t level, const char *target, uint64_t client_id,
                              const char *text, void *user_data)
{
    struct heard *heard = (struct heard *)user_data;
    flowmesh_error_t *error = NULL;
    hear(level, target, client_id, text, user_data);
    OK(flowmesh_log_set_callback(0, NULL, NULL, NULL, &error));
    assert_int_equal(heard->released, 0); /* only when this returns */
}

static void a_log_callback_unsets_itself(void **state)
{
    struct heard heard = nothing_heard;
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    (void)state;
    OK(flowmesh_log_set_callback(FLOWMESH_LOG_DEBUG, unset_from_inside, &heard, release, &error));
    OK(flowmesh_client_open("localhost:1", NULL, &client, &error));
    assert_int_equal(heard.count, 1);
    assert_int_equal(heard.released, 1);
    flowmesh_client_free(client);
}

/* Leaves a trace of a write that power failure cut short. */
static void tear(const char *base)
{
    char path[96];
    snprintf(path, sizeof(path), "%s/data/streams/00000001.log", base);
    FILE *log = fopen(path, "r+b");
    assert_non_null(log);
    assert_int_equal(fseek(log, 512 << 10, SEEK_SET), 0);
    assert_int_equal(fputs("torn", log) >= 0, 1);
    assert_int_equal(fclose(log), 0);
}

static void the_engine_is_heard(void **state)
{
    struct heard heard = nothing_heard;
    char base[] = "/tmp/flowmesh-log-XXXXXX";
    char text[64];
    flowmesh_error_t *error = NULL;
    (void)state;
    assert_non_null(mkdtemp(base));
    OK(flowmesh_log_set_callback(FLOWMESH_LOG_WARN, hear, &heard, release, &error));
    for (int torn = 0; torn < 2; torn++) {
        flowmesh_client_t *client = NULL;
        if (torn)
            tear(base);
        snprintf(text, sizeof(text), "embedded:%s/data", base);
        OK(flowmesh_client_open(text, NULL, &client, &error));
        flowmesh_stream_t *stream = open_stream(client);
        write_numbers(stream, 0, 1);
        flowmesh_stream_free(stream);
        flowmesh_client_free(client);
        OK(flowmesh_shutdown(PATIENCE_MS, &error));
        assert_int_equal(heard.count, torn);
    }
    OK(flowmesh_log_set_callback(0, NULL, NULL, NULL, &error));
    assert_string_equal(heard.target, "engine");
    assert_non_null(strstr(heard.text, "unfinished write"));
    snprintf(text, sizeof(text), "rm -r %s", base);
    assert_int_equal(system(text), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_client_has_counted_nothing),
        cmocka_unit_test(calls_are_counted_by_their_end),
        cmocka_unit_test(the_place_for_statistics_is_checked),
        cmocka_unit_test(events_carry_the_trace_of_their_write),
        cmocka_unit_test(jobs_carry_the_trace_of_their_enqueue),
        cmocka_unit_test(malformed_traces_are_refused),
        cmocka_unit_test(records_name_their_client),
        cmocka_unit_test(unimportant_records_come_only_when_asked_for),
        cmocka_unit_test(a_refused_log_callback_is_released),
        cmocka_unit_test(a_log_callback_unsets_itself),
        cmocka_unit_test(the_engine_is_heard),
    };
    return cmocka_run_group_tests(tests, NULL, end_library);
}
