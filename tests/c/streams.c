/* Streams: writing, reading, the reader, consumer groups. */
#include "test.h"

static void a_batch_gets_consecutive_offsets(void **state)
{
    enum { COUNT = 5 };
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    flowmesh_message_batch_t *batch = NULL;
    flowmesh_event_t events[COUNT];
    const flowmesh_event_t init = FLOWMESH_EVENT_INIT;
    int64_t offsets[COUNT];
    flowmesh_write_options_t options = FLOWMESH_WRITE_OPTIONS_INIT;
    (void)state;
    for (int i = 0; i < COUNT; i++) {
        events[i] = init;
        events[i].payload = flowmesh_view_bytes("abcdefgh", (size_t)i + 1);
    }
    options.timeout_ms = PATIENCE_MS;
    OK(flowmesh_stream_write(stream, events, COUNT, &options, offsets, &error));
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(offsets[i], i);
    OK(flowmesh_stream_read(stream, 0, NULL, &batch, &error));
    assert_int_equal(flowmesh_message_batch_count(batch), COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        const flowmesh_message_t *message = flowmesh_message_batch_at(batch, i);
        assert_int_equal(message->offset, i);
        assert_int_equal(message->payload.len, i + 1);
        assert_memory_equal(message->payload.data, "abcdefgh", i + 1);
        assert_int_equal(message->header_count, 0);
        assert_int_equal(message->partition, 0);
        assert_int_equal(message->schema_version, 0);
        assert_int_equal(message->id.len, 32);
        assert_true(message->created_at_ns > 1600000000000000000);
        assert_memory_equal(message->resource_path.data, "acme/test/stream/", 17);
    }
    assert_null(flowmesh_message_batch_at(batch, COUNT));
    flowmesh_message_batch_free(batch);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void payloads_are_any_bytes(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    flowmesh_message_batch_t *batch = NULL;
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    unsigned char bytes[256];
    (void)state;
    for (int i = 0; i < 256; i++)
        bytes[i] = (unsigned char)i;
    event.payload = flowmesh_view_bytes(bytes, sizeof(bytes));
    OK(flowmesh_stream_write(stream, &event, 1, NULL, NULL, &error));
    memset(bytes, 0, sizeof(bytes)); /* it was copied */
    OK(flowmesh_stream_read(stream, 0, NULL, &batch, &error));
    const flowmesh_message_t *message = flowmesh_message_batch_at(batch, 0);
    assert_int_equal(message->payload.len, 256);
    for (int i = 0; i < 256; i++)
        assert_int_equal(message->payload.data[i], i);
    flowmesh_message_batch_free(batch);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void headers_come_back_and_the_last_of_equal_keys_counts(void **state)
{
    enum { MANY = 40 };
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    flowmesh_message_batch_t *batch = NULL;
    flowmesh_event_t events[2] = {FLOWMESH_EVENT_INIT, FLOWMESH_EVENT_INIT};
    flowmesh_header_t few[3];
    flowmesh_header_t many[MANY];
    char keys[MANY][8];
    flowmesh_view_t value = FLOWMESH_VIEW_INIT;
    (void)state;
    few[0].key = few[2].key = flowmesh_view_str("a");
    few[0].value = flowmesh_view_str("first");
    few[1].key = flowmesh_view_str("b");
    few[1].value = flowmesh_view_str("");
    few[2].value = flowmesh_view_str("last");
    for (int i = 0; i < MANY; i++) { /* every key twice */
        snprintf(keys[i], sizeof(keys[i]), "k%d", i / 2);
        many[i].key = flowmesh_view_str(keys[i]);
        many[i].value = flowmesh_view_str(i % 2 ? "last" : "first");
    }
    events[0].payload = events[1].payload = flowmesh_view_str("x");
    events[0].headers = few;
    events[0].header_count = 3;
    events[1].headers = many;
    events[1].header_count = MANY;
    OK(flowmesh_stream_write(stream, events, 2, NULL, NULL, &error));
    OK(flowmesh_stream_read(stream, 0, NULL, &batch, &error));

    const flowmesh_message_t *message = flowmesh_message_batch_at(batch, 0);
    assert_int_equal(message->header_count, 2);
    assert_true(flowmesh_message_get_header(message, "a", &value));
    check_view(value, "last");
    assert_true(flowmesh_message_get_header(message, "b", &value));
    assert_int_equal(value.len, 0);
    assert_false(flowmesh_message_get_header(message, "c", &value));
    message = flowmesh_message_batch_at(batch, 1);
    assert_int_equal(message->header_count, MANY / 2);
    for (size_t i = 0; i < message->header_count; i++)
        check_view(message->headers[i].value, "last");
    flowmesh_message_batch_free(batch);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void longer_structs_with_a_zero_tail_are_understood(void **state)
{
    struct future_event { /* of a header that knows one field more */
        flowmesh_event_t known;
        int64_t unknown;
    };
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    flowmesh_message_batch_t *batch = NULL;
    struct future_event events[3];
    (void)state;
    memset(events, 0, sizeof(events));
    for (int i = 0; i < 3; i++) {
        events[i].known.size = sizeof(events[i]);
        events[i].known.payload = flowmesh_view_bytes(&"abc"[i], 1);
    }
    OK(flowmesh_stream_write(stream, &events[0].known, 3, NULL, NULL, &error));
    OK(flowmesh_stream_read(stream, 0, NULL, &batch, &error));
    assert_int_equal(flowmesh_message_batch_count(batch), 3);
    check_view(flowmesh_message_batch_at(batch, 2)->payload, "c");
    flowmesh_message_batch_free(batch);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void reading_pages_and_never_waits(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    flowmesh_message_batch_t *batch = NULL;
    flowmesh_read_options_t options = FLOWMESH_READ_OPTIONS_INIT;
    (void)state;
    write_numbers(stream, 0, 10);
    options.max_messages = 4;
    OK(flowmesh_stream_read(stream, 3, &options, &batch, &error));
    assert_int_equal(flowmesh_message_batch_count(batch), 4);
    assert_int_equal(flowmesh_message_batch_at(batch, 0)->offset, 3);
    flowmesh_message_batch_free(batch);
    OK(flowmesh_stream_read(stream, 10, &options, &batch, &error));
    assert_int_equal(flowmesh_message_batch_count(batch), 0);
    assert_null(flowmesh_message_batch_at(batch, 0));
    flowmesh_message_batch_free(batch);
    options.partition = 7; /* nothing is ever there */
    OK(flowmesh_stream_read(stream, 0, &options, &batch, &error));
    assert_int_equal(flowmesh_message_batch_count(batch), 0);
    flowmesh_message_batch_free(batch);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void a_reader_goes_through_the_stream_once(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    flowmesh_stream_reader_t *reader = NULL;
    flowmesh_message_batch_t *batch = NULL;
    flowmesh_read_options_t options = FLOWMESH_READ_OPTIONS_INIT;
    flowmesh_call_options_t call = FLOWMESH_CALL_OPTIONS_INIT;
    int64_t next = 2;
    (void)state;
    write_numbers(stream, 0, 10);
    options.max_messages = 3;
    OK(flowmesh_stream_reader_open(stream, next, &options, &reader, &error));
    for (size_t count = 1; count > 0;) {
        OK(flowmesh_stream_reader_next(reader, NULL, &batch, &error));
        count = flowmesh_message_batch_count(batch);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(flowmesh_message_batch_at(batch, i)->offset, next++);
        flowmesh_message_batch_free(batch);
    }
    assert_int_equal(next, 10);
    write_numbers(stream, 10, 1); /* and goes on when there is more */
    call.timeout_ms = PATIENCE_MS;
    OK(flowmesh_stream_reader_next(reader, &call, &batch, &error));
    assert_int_equal(flowmesh_message_batch_count(batch), 1);
    assert_int_equal(flowmesh_message_batch_at(batch, 0)->offset, 10);
    flowmesh_message_batch_free(batch);
    flowmesh_stream_reader_free(reader);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void retained_batches_outlive_the_original(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    flowmesh_message_batch_t *batch = NULL;
    flowmesh_message_batch_t *kept = NULL;
    (void)state;
    write_numbers(stream, 0, 2);
    OK(flowmesh_stream_read(stream, 0, NULL, &batch, &error));
    OK(flowmesh_message_batch_retain(batch, &kept, &error));
    flowmesh_message_batch_free(batch);
    check_view(flowmesh_message_batch_at(kept, 1)->payload, "1");
    flowmesh_message_batch_free(kept);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void groups_remember_where_they_are(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    flowmesh_group_state_t group = FLOWMESH_GROUP_STATE_INIT;
    flowmesh_offset_options_t options = FLOWMESH_OFFSET_OPTIONS_INIT;
    int64_t offset = 42;
    (void)state;
    FAILS(FLOWMESH_NOT_FOUND, "acme/test/stream/",
          flowmesh_stream_latest_offset(stream, NULL, &offset, &error));
    assert_int_equal(offset, 42);
    write_numbers(stream, 0, 5);
    OK(flowmesh_stream_latest_offset(stream, &options, &offset, &error));
    assert_int_equal(offset, 4);
    OK(flowmesh_stream_get_offset(stream, "g", NULL, &offset, &error));
    assert_int_equal(offset, -1);
    OK(flowmesh_stream_group_state(stream, "g", NULL, &group, &error));
    assert_int_equal(group.lag, 5);
    OK(flowmesh_stream_commit_offset(stream, "g", 2, NULL, &error));
    OK(flowmesh_stream_get_offset(stream, "g", NULL, &offset, &error));
    assert_int_equal(offset, 2);
    OK(flowmesh_stream_group_state(stream, "g", NULL, &group, &error));
    assert_int_equal(group.size, sizeof(group));
    assert_int_equal(group.committed_offset, 2);
    assert_int_equal(group.latest_offset, 4);
    assert_int_equal(group.lag, 2);
    OK(flowmesh_stream_commit_offset(stream, "g", -1, NULL, &error));
    OK(flowmesh_stream_get_offset(stream, "g", NULL, &offset, &error));
    assert_int_equal(offset, -1);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_gets_consecutive_offsets),
        cmocka_unit_test(payloads_are_any_bytes),
        cmocka_unit_test(headers_come_back_and_the_last_of_equal_keys_counts),
        cmocka_unit_test(longer_structs_with_a_zero_tail_are_understood),
        cmocka_unit_test(reading_pages_and_never_waits),
        cmocka_unit_test(a_reader_goes_through_the_stream_once),
        cmocka_unit_test(retained_batches_outlive_the_original),
        cmocka_unit_test(groups_remember_where_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, end_library);
}
