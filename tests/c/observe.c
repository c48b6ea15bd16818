/* What an operator can see: statistics, traces. */
#include "test.h"

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
    flowmesh_event_t events[] = {FLOWMESH_EVENT_INIT, FLOWMESH_EVENT_INIT};
    flowmesh_header_t own = {FLOWMESH_VIEW_LITERAL("traceparent"), flowmesh_view_str(other_parent)};
    flowmesh_message_batch_t *batch = NULL;
    flowmesh_error_t *error = NULL;
    (void)state;
    options.traceparent = parent;
    options.tracestate = "vendor=1";
    events[0].payload = events[1].payload = flowmesh_view_str("x");
    events[1].headers = &own;
    events[1].header_count = 1;
    OK(flowmesh_stream_write(stream, events, 2, &options, NULL, &error));
    OK(flowmesh_stream_write(stream, events, 1, NULL, NULL, &error));
    OK(flowmesh_stream_read(stream, 0, NULL, &batch, &error));
    assert_int_equal(flowmesh_message_batch_count(batch), 3);
    check_message_header(flowmesh_message_batch_at(batch, 0), "traceparent", parent);
    check_message_header(flowmesh_message_batch_at(batch, 0), "tracestate", "vendor=1");
    check_message_header(flowmesh_message_batch_at(batch, 1), "traceparent", other_parent);
    check_message_header(flowmesh_message_batch_at(batch, 1), "tracestate", NULL);
    check_message_header(flowmesh_message_batch_at(batch, 2), "traceparent", NULL);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_client_has_counted_nothing),
        cmocka_unit_test(calls_are_counted_by_their_end),
        cmocka_unit_test(the_place_for_statistics_is_checked),
        cmocka_unit_test(events_carry_the_trace_of_their_write),
        cmocka_unit_test(jobs_carry_the_trace_of_their_enqueue),
        cmocka_unit_test(malformed_traces_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, end_library);
}
