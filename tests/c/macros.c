/* Every macro and inline helper of the header, and the versions. */
#include "test.h"

static void the_versions_agree(void **state)
{
    char version[32];
    (void)state;
    snprintf(version, sizeof(version), "%d.%d.%d", FLOWMESH_VERSION_MAJOR, FLOWMESH_VERSION_MINOR,
             FLOWMESH_VERSION_PATCH);
    assert_string_equal(version, FLOWMESH_VERSION_STRING);
    assert_string_equal(version, flowmesh_version());
}

static void views_of_texts(void **state)
{
    flowmesh_view_t literal = FLOWMESH_VIEW_LITERAL("a\0b");
    flowmesh_view_t empty = FLOWMESH_VIEW_INIT;
    char printed[32];
    (void)state;
    assert_int_equal(literal.len, 3);
    assert_memory_equal(literal.data, "a\0b", 3);
    assert_int_equal(FLOWMESH_VIEW_LITERAL("").len, 0);
    assert_int_equal(flowmesh_view_str("abc").len, 3);
    assert_int_equal(flowmesh_view_str("").len, 0);
    assert_null(flowmesh_view_str(NULL).data);
    assert_int_equal(flowmesh_view_bytes("abc", 2).len, 2);
    snprintf(printed, sizeof(printed), "<" FLOWMESH_VIEW_FMT "|" FLOWMESH_VIEW_FMT ">",
             FLOWMESH_VIEW_ARG(flowmesh_view_str("abc")), FLOWMESH_VIEW_ARG(empty));
    assert_string_equal(printed, "<abc|>");
}

/* The struct says its size, and all else is zero: every default. */
#define CHECK_INIT(type, init)                                                                     \
    do {                                                                                           \
        type value = init;                                                                         \
        type zero;                                                                                 \
        memset(&zero, 0, sizeof(zero));                                                            \
        assert_int_equal(value.size, sizeof(type));                                                \
        value.size = 0;                                                                            \
        assert_memory_equal((const char *)&value, (const char *)&zero, sizeof(type));              \
    } while (0)

static void initialisers_are_the_defaults(void **state)
{
    (void)state;
    CHECK_INIT(flowmesh_event_t, FLOWMESH_EVENT_INIT);
    CHECK_INIT(flowmesh_call_options_t, FLOWMESH_CALL_OPTIONS_INIT);
    CHECK_INIT(flowmesh_write_options_t, FLOWMESH_WRITE_OPTIONS_INIT);
    CHECK_INIT(flowmesh_group_state_t, FLOWMESH_GROUP_STATE_INIT);
    CHECK_INIT(flowmesh_enqueue_options_t, FLOWMESH_ENQUEUE_OPTIONS_INIT);
    CHECK_INIT(flowmesh_reserve_options_t, FLOWMESH_RESERVE_OPTIONS_INIT);
    CHECK_INIT(flowmesh_nack_options_t, FLOWMESH_NACK_OPTIONS_INIT);
    CHECK_INIT(flowmesh_set_options_t, FLOWMESH_SET_OPTIONS_INIT);
    CHECK_INIT(flowmesh_queue_stats_t, FLOWMESH_QUEUE_STATS_INIT);
    CHECK_INIT(flowmesh_client_stats_t, FLOWMESH_CLIENT_STATS_INIT);
    CHECK_INIT(flowmesh_read_options_t, FLOWMESH_READ_OPTIONS_INIT);

    /* Ends in padding, which an initialiser may leave as it is. */
    flowmesh_offset_options_t offset = FLOWMESH_OFFSET_OPTIONS_INIT;
    assert_int_equal(offset.size, sizeof(offset));
    assert_int_equal(offset.timeout_ms, 0);
    assert_null(offset.cancel);
    assert_null(offset.traceparent);
    assert_null(offset.tracestate);
    assert_int_equal(offset.partition, 0);

    flowmesh_retry_policy_t policy = FLOWMESH_RETRY_POLICY_INIT;
    assert_int_equal(policy.size, sizeof(policy));
    assert_int_equal(policy.max_attempts, 3);
    assert_int_equal(policy.backoff_strategy, FLOWMESH_BACKOFF_EXPONENTIAL);
    assert_int_equal(policy.initial_backoff_ms, 1000);
    assert_int_equal(policy.max_backoff_ms, 60000);
    assert_true(policy.backoff_multiplier == 2.0);
}

static void sizes_of_the_first_release(void **state)
{
    (void)state;
    assert_int_equal(sizeof(flowmesh_view_t), 16);
    assert_int_equal(sizeof(flowmesh_header_t), 32);
    assert_true(sizeof(flowmesh_event_t) >= 56);
    assert_true(sizeof(flowmesh_call_options_t) >= 40);
    assert_true(sizeof(flowmesh_write_options_t) >= 40);
    assert_true(sizeof(flowmesh_read_options_t) >= 48);
    assert_true(sizeof(flowmesh_offset_options_t) >= 48);
    assert_true(sizeof(flowmesh_enqueue_options_t) >= 64);
    assert_true(sizeof(flowmesh_reserve_options_t) >= 56);
    assert_true(sizeof(flowmesh_nack_options_t) >= 48);
    assert_true(sizeof(flowmesh_set_options_t) >= 48);
    assert_true(sizeof(flowmesh_group_state_t) >= 32);
    assert_true(sizeof(flowmesh_queue_stats_t) >= 56);
    assert_true(sizeof(flowmesh_retry_policy_t) >= 40);
    assert_true(sizeof(flowmesh_client_stats_t) >= 176);
}

static void statuses_have_the_numbers_and_names_of_grpc(void **state)
{
    static const char *const names[] = {
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    };
    static const flowmesh_status_t values[] = {
        FLOWMESH_OK,
        FLOWMESH_CANCELLED,
        FLOWMESH_UNKNOWN,
        FLOWMESH_INVALID_ARGUMENT,
        FLOWMESH_DEADLINE_EXCEEDED,
        FLOWMESH_NOT_FOUND,
        FLOWMESH_ALREADY_EXISTS,
        FLOWMESH_PERMISSION_DENIED,
        FLOWMESH_RESOURCE_EXHAUSTED,
        FLOWMESH_FAILED_PRECONDITION,
        FLOWMESH_ABORTED,
        FLOWMESH_OUT_OF_RANGE,
        FLOWMESH_UNIMPLEMENTED,
        FLOWMESH_INTERNAL,
        FLOWMESH_UNAVAILABLE,
        FLOWMESH_DATA_LOSS,
        FLOWMESH_UNAUTHENTICATED,
    };
    (void)state;
    for (int i = 0; i < 17; i++) {
        assert_int_equal(values[i], i);
        assert_string_equal(flowmesh_status_name(i), names[i]);
    }
    assert_int_equal(FLOWMESH_CLOSED, 100);
    assert_string_equal(flowmesh_status_name(FLOWMESH_CLOSED), "CLOSED");
    assert_int_equal(FLOWMESH_FORKED, 101);
    assert_string_equal(flowmesh_status_name(FLOWMESH_FORKED), "FORKED");
    assert_int_equal(FLOWMESH_QUEUE_FULL, 102);
    assert_string_equal(flowmesh_status_name(FLOWMESH_QUEUE_FULL), "QUEUE_FULL");
    assert_string_equal(flowmesh_status_name(17), "?");
    assert_string_equal(flowmesh_status_name(-1), "?");
}

static void constants_never_change(void **state)
{
    (void)state;
    assert_int_equal(FLOWMESH_OUTCOME_UNKNOWN, 0);
    assert_int_equal(FLOWMESH_OUTCOME_NOT_APPLIED, 1);
    assert_int_equal(FLOWMESH_OUTCOME_APPLIED, 2);
    assert_int_equal(FLOWMESH_FSYNC_ALWAYS, 0);
    assert_int_equal(FLOWMESH_FSYNC_INTERVAL, 1);
    assert_int_equal(FLOWMESH_FSYNC_NONE, 2);
    assert_int_equal(FLOWMESH_SUBSCRIPTION_CONNECTED, 1);
    assert_int_equal(FLOWMESH_SUBSCRIPTION_LOST, 2);
    assert_int_equal(FLOWMESH_SUBSCRIPTION_ENDED, 3);
    assert_int_equal(FLOWMESH_START_COMMITTED, -1);
    assert_int_equal(FLOWMESH_START_NEW, -2);
    assert_int_equal(FLOWMESH_BACKOFF_FIXED, 1);
    assert_int_equal(FLOWMESH_BACKOFF_LINEAR, 2);
    assert_int_equal(FLOWMESH_BACKOFF_EXPONENTIAL, 3);
    assert_int_equal(FLOWMESH_JOB_ID_SIZE, 33);
    assert_int_equal(FLOWMESH_LOG_ERROR, 1);
    assert_int_equal(FLOWMESH_LOG_WARN, 2);
    assert_int_equal(FLOWMESH_LOG_INFO, 3);
    assert_int_equal(FLOWMESH_LOG_DEBUG, 4);
}

/* The two marks can stand where the header puts them. */
FLOWMESH_MUST_CHECK static int marked(const char *FLOWMESH_NULLABLE text)
{
    return text == NULL;
}

static void marks_change_nothing(void **state)
{
    (void)state;
    assert_int_equal(marked(NULL), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_versions_agree),
        cmocka_unit_test(views_of_texts),
        cmocka_unit_test(initialisers_are_the_defaults),
        cmocka_unit_test(sizes_of_the_first_release),
        cmocka_unit_test(statuses_have_the_numbers_and_names_of_grpc),
        cmocka_unit_test(constants_never_change),
        cmocka_unit_test(marks_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
