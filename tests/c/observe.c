/* What an operator can see: statistics. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_client_has_counted_nothing),
        cmocka_unit_test(calls_are_counted_by_their_end),
        cmocka_unit_test(the_place_for_statistics_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, end_library);
}
