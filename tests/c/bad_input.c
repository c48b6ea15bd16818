/* Whatever a caller does wrong: the documented status, a message that names the argument and the
 * rule, no crash, and nothing lost.
 */
#include "test.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* INVALID_ARGUMENT with `text`. */
#define REFUSES(text, call) FAILS(FLOWMESH_INVALID_ARGUMENT, text, call)

/* One of each, and an error, for tests to misuse. */
struct house {
    flowmesh_client_t *client;
    flowmesh_stream_t *stream;
    flowmesh_queue_t *queue;
    flowmesh_kv_t *kv;
};

static const flowmesh_view_t X = {(const uint8_t *)"x", 1};

static int build(void **state)
{
    static struct house house;
    house.client = open_client();
    house.stream = open_stream(house.client);
    house.queue = open_queue(house.client);
    house.kv = open_kv(house.client);
    *state = &house;
    return 0;
}

static int tear_down(void **state)
{
    struct house *house = (struct house *)*state;
    flowmesh_client_free(house->client);
    flowmesh_stream_free(house->stream);
    flowmesh_queue_free(house->queue);
    flowmesh_kv_free(house->kv);
    return 0;
}

static void callback(const flowmesh_message_batch_t *batch, void *user_data)
{
    (void)batch;
    (void)user_data;
}

static void state_callback(flowmesh_subscription_state_t state, const flowmesh_error_t *reason,
                           void *user_data)
{
    (void)state;
    (void)reason;
    (void)user_data;
}

/* ---- NULL --------------------------------------------------------------------------------- */

static void null_for_clients(void **state)
{
    struct house *house = (struct house *)*state;
    flowmesh_error_t *error = NULL;
    flowmesh_client_t *client = NULL;
    flowmesh_client_options_t *options = NULL;
    bool ready = false;
    REFUSES("client", flowmesh_client_open("embedded:", NULL, NULL, &error));
    REFUSES("client", flowmesh_client_connect(NULL, 0, &error));
    REFUSES("client", flowmesh_client_close(NULL, 0, &error));
    REFUSES("client", flowmesh_client_health_check(NULL, NULL, &error));
    REFUSES("client", flowmesh_client_readiness_check(NULL, NULL, &ready, &error));
    REFUSES("ready", flowmesh_client_readiness_check(house->client, NULL, NULL, &error));
    REFUSES("client", flowmesh_test_clock_advance(NULL, 0, &error));
    REFUSES("options", flowmesh_client_options_new(NULL, &error));
    REFUSES("options", flowmesh_client_options_set_auth_token(NULL, "t", &error));
    REFUSES("options", flowmesh_client_options_set_auth_token_file(NULL, "t", &error));
    REFUSES("options", flowmesh_client_options_set_allow_plaintext_token(NULL, true, &error));
    REFUSES("options", flowmesh_client_options_set_tls_ca_file(NULL, "f", &error));
    REFUSES("options", flowmesh_client_options_set_tls_certificate_file(NULL, "f", "f", &error));
    REFUSES("options", flowmesh_client_options_set_tls_server_name(NULL, "n", &error));
    REFUSES("options", flowmesh_client_options_set_timeout_ms(NULL, 1, &error));
    REFUSES("options", flowmesh_client_options_set_connect_timeout_ms(NULL, 1, &error));
    REFUSES("options", flowmesh_client_options_set_max_message_bytes(NULL, 1 << 20, &error));
    REFUSES("options", flowmesh_client_options_set_fsync(NULL, FLOWMESH_FSYNC_NONE, &error));
    REFUSES("options", flowmesh_client_options_set_spin(NULL, true, &error));
    REFUSES("options", flowmesh_client_options_set_create(NULL, true, &error));
    REFUSES("options", flowmesh_client_options_set_test_clock(NULL, true, &error));
    OK(flowmesh_client_options_new(&options, &error));
    REFUSES("token", flowmesh_client_options_set_auth_token(options, NULL, &error));
    REFUSES("path", flowmesh_client_options_set_auth_token_file(options, NULL, &error));
    REFUSES("path", flowmesh_client_options_set_tls_ca_file(options, NULL, &error));
    REFUSES("certificate_path",
            flowmesh_client_options_set_tls_certificate_file(options, NULL, "f", &error));
    REFUSES("key_path",
            flowmesh_client_options_set_tls_certificate_file(options, "f", NULL, &error));
    REFUSES("name", flowmesh_client_options_set_tls_server_name(options, NULL, &error));
    flowmesh_client_options_free(options);
    REFUSES("cancel", flowmesh_cancel_new(NULL, &error));
    REFUSES("cancel", flowmesh_cancel_cancel(NULL, &error));
    assert_null(client);
}

static void null_for_streams(void **state)
{
    struct house *house = (struct house *)*state;
    const flowmesh_stream_t *s = house->stream;
    flowmesh_error_t *error = NULL;
    flowmesh_stream_t *stream = NULL;
    flowmesh_message_batch_t *batch = NULL;
    flowmesh_stream_reader_t *reader = NULL;
    flowmesh_subscription_t *subscription = NULL;
    flowmesh_subscription_options_t *options = NULL;
    flowmesh_group_state_t group = FLOWMESH_GROUP_STATE_INIT;
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    flowmesh_view_t value = FLOWMESH_VIEW_INIT;
    int64_t offset = 42;
    event.payload = X;
    REFUSES("client", flowmesh_stream_open(NULL, "t", "n", "s", &stream, &error));
    REFUSES("tenant", flowmesh_stream_open(house->client, NULL, "n", "s", &stream, &error));
    REFUSES("namespace", flowmesh_stream_open(house->client, "t", NULL, "s", &stream, &error));
    REFUSES("name", flowmesh_stream_open(house->client, "t", "n", NULL, &stream, &error));
    REFUSES("stream", flowmesh_stream_open(house->client, "t", "n", "s", NULL, &error));
    REFUSES("stream", flowmesh_stream_write(NULL, &event, 1, NULL, NULL, &error));
    REFUSES("events", flowmesh_stream_write(s, NULL, 1, NULL, NULL, &error));
    REFUSES("stream", flowmesh_stream_read(NULL, 0, NULL, &batch, &error));
    REFUSES("batch", flowmesh_stream_read(s, 0, NULL, NULL, &error));
    REFUSES("stream", flowmesh_stream_commit_offset(NULL, "g", 0, NULL, &error));
    REFUSES("consumer_group", flowmesh_stream_commit_offset(s, NULL, 0, NULL, &error));
    REFUSES("stream", flowmesh_stream_get_offset(NULL, "g", NULL, &offset, &error));
    REFUSES("consumer_group", flowmesh_stream_get_offset(s, NULL, NULL, &offset, &error));
    REFUSES("offset", flowmesh_stream_get_offset(s, "g", NULL, NULL, &error));
    REFUSES("stream", flowmesh_stream_latest_offset(NULL, NULL, &offset, &error));
    REFUSES("offset", flowmesh_stream_latest_offset(s, NULL, NULL, &error));
    REFUSES("stream", flowmesh_stream_group_state(NULL, "g", NULL, &group, &error));
    REFUSES("consumer_group", flowmesh_stream_group_state(s, NULL, NULL, &group, &error));
    REFUSES("state", flowmesh_stream_group_state(s, "g", NULL, NULL, &error));
    REFUSES("stream", flowmesh_stream_reader_open(NULL, 0, NULL, &reader, &error));
    REFUSES("reader", flowmesh_stream_reader_open(s, 0, NULL, NULL, &error));
    REFUSES("reader", flowmesh_stream_reader_next(NULL, NULL, &batch, &error));
    OK(flowmesh_stream_reader_open(s, 0, NULL, &reader, &error));
    REFUSES("batch", flowmesh_stream_reader_next(reader, NULL, NULL, &error));
    flowmesh_stream_reader_free(reader);
    REFUSES("batch", flowmesh_message_batch_retain(NULL, &batch, &error));
    REFUSES("stream",
            flowmesh_stream_subscribe(NULL, NULL, callback, NULL, NULL, &subscription, &error));
    REFUSES("callback",
            flowmesh_stream_subscribe(s, NULL, NULL, NULL, NULL, &subscription, &error));
    REFUSES("subscription", flowmesh_stream_subscribe(s, NULL, callback, NULL, NULL, NULL, &error));
    REFUSES("subscription", flowmesh_subscription_close(NULL, 0, &error));
    REFUSES("options", flowmesh_subscription_options_new(NULL, &error));
    REFUSES("options", flowmesh_subscription_options_set_consumer_group(NULL, "g", &error));
    REFUSES("options", flowmesh_subscription_options_set_start_offset(NULL, 0, &error));
    REFUSES("options", flowmesh_subscription_options_set_partition(NULL, 0, &error));
    REFUSES("options", flowmesh_subscription_options_set_max_batch_messages(NULL, 1, &error));
    REFUSES("options", flowmesh_subscription_options_set_max_batch_bytes(NULL, 1, &error));
    REFUSES("options", flowmesh_subscription_options_set_state_callback(NULL, state_callback, NULL,
                                                                        NULL, &error));
    OK(flowmesh_subscription_options_new(&options, &error));
    REFUSES("consumer_group",
            flowmesh_subscription_options_set_consumer_group(options, NULL, &error));
    flowmesh_subscription_options_free(options);
    assert_int_equal(flowmesh_message_batch_count(NULL), 0);
    assert_null(flowmesh_message_batch_at(NULL, 0));
    assert_false(flowmesh_message_get_header(NULL, "k", &value));
    assert_int_equal(offset, 42);
    assert_null(batch);
    assert_null(subscription);
}

static void null_for_queues(void **state)
{
    struct house *house = (struct house *)*state;
    const flowmesh_queue_t *q = house->queue;
    flowmesh_error_t *error = NULL;
    flowmesh_queue_t *queue = NULL;
    flowmesh_job_t *job = NULL;
    flowmesh_job_batch_t *batch = NULL;
    flowmesh_queue_stats_t stats = FLOWMESH_QUEUE_STATS_INIT;
    flowmesh_retry_policy_t policy = FLOWMESH_RETRY_POLICY_INIT;
    flowmesh_view_t value = FLOWMESH_VIEW_INIT;
    flowmesh_view_t hole = {NULL, 3};
    REFUSES("client", flowmesh_queue_open(NULL, "t", "n", "q", &queue, &error));
    REFUSES("queue", flowmesh_queue_open(house->client, "t", "n", "q", NULL, &error));
    REFUSES("queue", flowmesh_queue_enqueue(NULL, X, NULL, NULL, NULL, &error));
    REFUSES("payload", flowmesh_queue_enqueue(q, hole, NULL, NULL, NULL, &error));
    REFUSES("queue", flowmesh_queue_reserve(NULL, NULL, &job, &error));
    REFUSES("job", flowmesh_queue_reserve(q, NULL, NULL, &error));
    REFUSES("queue", flowmesh_queue_receive(NULL, 1, NULL, &batch, &error));
    REFUSES("batch", flowmesh_queue_receive(q, 1, NULL, NULL, &error));
    REFUSES("queue", flowmesh_queue_ack(NULL, "id", NULL, &error));
    REFUSES("job_id", flowmesh_queue_ack(q, NULL, NULL, &error));
    REFUSES("queue", flowmesh_queue_nack(NULL, "id", NULL, NULL, &error));
    REFUSES("job_id", flowmesh_queue_nack(q, NULL, NULL, NULL, &error));
    REFUSES("queue", flowmesh_queue_stats(NULL, NULL, &stats, &error));
    REFUSES("stats", flowmesh_queue_stats(q, NULL, NULL, &error));
    REFUSES("queue", flowmesh_queue_set_retry_policy(NULL, &policy, NULL, &error));
    REFUSES("policy", flowmesh_queue_set_retry_policy(q, NULL, NULL, &error));
    REFUSES("queue", flowmesh_queue_get_retry_policy(NULL, NULL, &policy, &error));
    REFUSES("policy", flowmesh_queue_get_retry_policy(q, NULL, NULL, &error));
    REFUSES("queue", flowmesh_queue_list_dlq_jobs(NULL, 0, NULL, &batch, &error));
    REFUSES("batch", flowmesh_queue_list_dlq_jobs(q, 0, NULL, NULL, &error));
    REFUSES("queue", flowmesh_queue_replay_dlq_job(NULL, "id", NULL, NULL, NULL, &error));
    REFUSES("job_id", flowmesh_queue_replay_dlq_job(q, NULL, NULL, NULL, NULL, &error));
    REFUSES("job", flowmesh_job_ack(NULL, NULL, &error));
    REFUSES("job", flowmesh_job_nack(NULL, NULL, NULL, &error));
    REFUSES("batch", flowmesh_job_batch_ack(NULL, NULL, NULL, &error));
    assert_int_equal(flowmesh_job_time_left_ms(NULL), 0);
    assert_int_equal(flowmesh_job_batch_count(NULL), 0);
    assert_null(flowmesh_job_batch_at(NULL, 0));
    assert_false(flowmesh_job_get_header(NULL, "k", &value));
}

static void null_for_kv(void **state)
{
    struct house *house = (struct house *)*state;
    const flowmesh_kv_t *k = house->kv;
    flowmesh_error_t *error = NULL;
    flowmesh_kv_t *kv = NULL;
    flowmesh_value_t *value = NULL;
    flowmesh_key_list_t *keys = NULL;
    flowmesh_view_t hole = {NULL, 3};
    bool exists = false;
    REFUSES("client", flowmesh_kv_open(NULL, "t", "n", "k", &kv, &error));
    REFUSES("kv", flowmesh_kv_open(house->client, "t", "n", "k", NULL, &error));
    REFUSES("kv", flowmesh_kv_set(NULL, X, X, NULL, &error));
    REFUSES("key", flowmesh_kv_set(k, hole, X, NULL, &error));
    REFUSES("value", flowmesh_kv_set(k, X, hole, NULL, &error));
    REFUSES("kv", flowmesh_kv_get(NULL, X, NULL, &value, &error));
    REFUSES("key", flowmesh_kv_get(k, hole, NULL, &value, &error));
    REFUSES("value", flowmesh_kv_get(k, X, NULL, NULL, &error));
    REFUSES("kv", flowmesh_kv_delete(NULL, X, NULL, &error));
    REFUSES("kv", flowmesh_kv_exists(NULL, X, NULL, &exists, &error));
    REFUSES("exists", flowmesh_kv_exists(k, X, NULL, NULL, &error));
    REFUSES("kv", flowmesh_kv_list_keys(NULL, X, NULL, &keys, &error));
    REFUSES("prefix", flowmesh_kv_list_keys(k, hole, NULL, &keys, &error));
    REFUSES("keys", flowmesh_kv_list_keys(k, X, NULL, NULL, &error));
}

/* ---- names, texts, payloads ----------------------------------------------------------------- */

static void bad_names(void **state)
{
    struct house *house = (struct house *)*state;
    const flowmesh_client_t *client = house->client;
    flowmesh_error_t *error = NULL;
    flowmesh_stream_t *stream = NULL;
    flowmesh_queue_t *queue = NULL;
    flowmesh_kv_t *kv = NULL;
    char longest[257];
    memset(longest, 'x', 256);
    longest[256] = '\0';
    REFUSES("tenant must be 1 to 255 bytes",
            flowmesh_stream_open(client, "", "n", "s", &stream, &error));
    REFUSES("namespace must be 1 to 255",
            flowmesh_stream_open(client, "t", "", "s", &stream, &error));
    REFUSES("name must be 1 to 255", flowmesh_stream_open(client, "t", "n", "", &stream, &error));
    REFUSES("tenant must be 1 to 255",
            flowmesh_queue_open(client, longest, "n", "q", &queue, &error));
    REFUSES("namespace must be 1 to 255",
            flowmesh_queue_open(client, "t", longest, "q", &queue, &error));
    REFUSES("name must be 1 to 255",
            flowmesh_queue_open(client, "t", "n", longest, &queue, &error));
    REFUSES("tenant must not contain `/`", flowmesh_kv_open(client, "a/b", "n", "k", &kv, &error));
    REFUSES("namespace must not contain `/`",
            flowmesh_kv_open(client, "t", "a/b", "k", &kv, &error));
    REFUSES("tenant must not contain control",
            flowmesh_kv_open(client, "a\nb", "n", "k", &kv, &error));
    REFUSES("name must not contain control",
            flowmesh_kv_open(client, "t", "n", "\x7f", &kv, &error));
    REFUSES("name must not contain control",
            flowmesh_kv_open(client, "t", "n", "\xc2\x85", &kv, &error));
    REFUSES("tenant must not be only white", flowmesh_kv_open(client, "  ", "n", "k", &kv, &error));
    REFUSES("tenant must be UTF-8", flowmesh_kv_open(client, "\xff", "n", "k", &kv, &error));
    REFUSES("namespace must be UTF-8", flowmesh_kv_open(client, "t", "a\xc3(", "k", &kv, &error));
    REFUSES("name must be UTF-8", flowmesh_kv_open(client, "t", "n", "\xed\xa0\x80", &kv, &error));
    longest[255] = '\0';
    OK(flowmesh_kv_open(client, "t", "n", longest, &kv, &error));
    flowmesh_kv_free(kv);
    OK(flowmesh_kv_open(client, "t", "n", "a/b", &kv, &error));
    flowmesh_kv_free(kv);
}

static void bad_groups_keys_and_ids(void **state)
{
    struct house *house = (struct house *)*state;
    flowmesh_error_t *error = NULL;
    flowmesh_subscription_options_t *options = NULL;
    flowmesh_value_t *value = NULL;
    int64_t offset = -1;
    char longest[1026];
    flowmesh_view_t none = FLOWMESH_VIEW_INIT;
    memset(longest, 'x', 1025);
    longest[1025] = '\0';
    REFUSES("consumer_group must be 1 to 255",
            flowmesh_stream_commit_offset(house->stream, "", 0, NULL, &error));
    REFUSES("consumer_group must be 1 to 255",
            flowmesh_stream_get_offset(house->stream, longest, NULL, &offset, &error));
    REFUSES("consumer_group must not contain control",
            flowmesh_stream_get_offset(house->stream, "a\tb", NULL, &offset, &error));
    REFUSES("consumer_group must be UTF-8",
            flowmesh_stream_get_offset(house->stream, "\xff", NULL, &offset, &error));
    OK(flowmesh_subscription_options_new(&options, &error));
    REFUSES("consumer_group must be 1 to 255",
            flowmesh_subscription_options_set_consumer_group(options, "", &error));
    REFUSES("consumer_group must not contain control",
            flowmesh_subscription_options_set_consumer_group(options, "a\tb", &error));
    REFUSES("partition must be at least 0",
            flowmesh_subscription_options_set_partition(options, -7, &error));
    flowmesh_subscription_options_free(options);
    REFUSES("key must be 1 to 1024", flowmesh_kv_set(house->kv, none, X, NULL, &error));
    REFUSES("key must be 1 to 1024",
            flowmesh_kv_get(house->kv, flowmesh_view_str(longest), NULL, &value, &error));
    REFUSES("key must be UTF-8",
            flowmesh_kv_get(house->kv, flowmesh_view_str("\xff"), NULL, &value, &error));
    longest[1024] = '\0';
    OK(flowmesh_kv_set(house->kv, flowmesh_view_str(longest), X, NULL, &error));
    REFUSES("job_id must not be empty", flowmesh_queue_ack(house->queue, "", NULL, &error));
    REFUSES("job_id must not be empty", flowmesh_queue_nack(house->queue, "", NULL, NULL, &error));
    REFUSES("job_id must not be empty",
            flowmesh_queue_replay_dlq_job(house->queue, "", NULL, NULL, NULL, &error));
}

static void bad_payloads(void **state)
{
    enum { FIVE_MIB = 5 << 20 };
    struct house *house = (struct house *)*state;
    flowmesh_error_t *error = NULL;
    flowmesh_event_t events[2] = {FLOWMESH_EVENT_INIT, FLOWMESH_EVENT_INIT};
    flowmesh_header_t header = {FLOWMESH_VIEW_INIT, FLOWMESH_VIEW_INIT};
    flowmesh_enqueue_options_t enqueue = FLOWMESH_ENQUEUE_OPTIONS_INIT;
    flowmesh_view_t none = FLOWMESH_VIEW_INIT;
    flowmesh_view_t too_long = {(const uint8_t *)"x", SIZE_MAX};
    int64_t latest = -1;
    char *large = (char *)calloc(1, FIVE_MIB);
    write_numbers(house->stream, 0, 1);

    REFUSES("at least one event",
            flowmesh_stream_write(house->stream, events, 0, NULL, NULL, &error));
    events[0].payload = X;
    REFUSES("events[1].payload must not be empty",
            flowmesh_stream_write(house->stream, events, 2, NULL, NULL, &error));
    events[1].payload = too_long;
    REFUSES("events[1]", flowmesh_stream_write(house->stream, events, 2, NULL, NULL, &error));
    REFUSES("count", flowmesh_stream_write(house->stream, events, SIZE_MAX, NULL, NULL, &error));
    header.key = flowmesh_view_str("\xff");
    events[0].headers = &header;
    events[0].header_count = 1;
    REFUSES("events[0]: headers: key must be UTF-8",
            flowmesh_stream_write(house->stream, events, 1, NULL, NULL, &error));
    header.key = X;
    header.value = flowmesh_view_str("a\x80");
    REFUSES("value must be UTF-8, but is not at byte 1",
            flowmesh_stream_write(house->stream, events, 1, NULL, NULL, &error));
    events[0].headers = NULL;
    REFUSES("headers must not be NULL",
            flowmesh_stream_write(house->stream, events, 1, NULL, NULL, &error));
    events[0].headers = &header;
    events[0].header_count = SIZE_MAX;
    REFUSES("header_count", flowmesh_stream_write(house->stream, events, 1, NULL, NULL, &error));

    events[0].header_count = 0;
    events[0].payload = flowmesh_view_bytes(large, FIVE_MIB);
    FAILS(FLOWMESH_RESOURCE_EXHAUSTED, "write to acme/test/stream/",
          flowmesh_stream_write(house->stream, events, 1, NULL, NULL, &error));
    OK(flowmesh_stream_latest_offset(house->stream, NULL, &latest, &error));
    assert_int_equal(latest, 0);

    REFUSES("payload must not be empty",
            flowmesh_queue_enqueue(house->queue, none, NULL, NULL, NULL, &error));
    FAILS(FLOWMESH_RESOURCE_EXHAUSTED, "enqueue to acme/test/queue/",
          flowmesh_queue_enqueue(house->queue, events[0].payload, NULL, NULL, NULL, &error));
    enqueue.headers = &header;
    enqueue.header_count = 1;
    REFUSES("options->headers: value must be UTF-8",
            flowmesh_queue_enqueue(house->queue, X, &enqueue, NULL, NULL, &error));
    enqueue.headers = NULL;
    REFUSES("options->headers must not be NULL",
            flowmesh_queue_enqueue(house->queue, X, &enqueue, NULL, NULL, &error));
    REFUSES("value must not be empty", flowmesh_kv_set(house->kv, X, none, NULL, &error));
    FAILS(FLOWMESH_RESOURCE_EXHAUSTED, "set a key of acme/test/kv/",
          flowmesh_kv_set(house->kv, X, events[0].payload, NULL, &error));
    free(large);
}

/* ---- numbers ------------------------------------------------------------------------------- */

static void bad_times(void **state)
{
    const int64_t year_ms = 31536000000;
    struct house *house = (struct house *)*state;
    flowmesh_error_t *error = NULL;
    flowmesh_call_options_t call = FLOWMESH_CALL_OPTIONS_INIT;
    flowmesh_enqueue_options_t enqueue = FLOWMESH_ENQUEUE_OPTIONS_INIT;
    flowmesh_nack_options_t nack = FLOWMESH_NACK_OPTIONS_INIT;
    flowmesh_reserve_options_t reserve = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_set_options_t set = FLOWMESH_SET_OPTIONS_INIT;
    flowmesh_client_options_t *options = NULL;
    flowmesh_job_t *job = NULL;

    call.timeout_ms = -2;
    REFUSES("timeout_ms must be -1", flowmesh_client_health_check(house->client, &call, &error));
    call.timeout_ms = INT64_MIN;
    REFUSES("timeout_ms must be -1", flowmesh_kv_delete(house->kv, X, &call, &error));
    call.timeout_ms = INT64_MAX; /* as good as none */
    OK(flowmesh_client_health_check(house->client, &call, &error));
    REFUSES("timeout_ms must be -1", flowmesh_client_connect(house->client, -2, &error));
    REFUSES("timeout_ms must be -1", flowmesh_client_close(house->client, -2, &error));
    REFUSES("timeout_ms must be -1", flowmesh_shutdown(INT64_MIN, &error));
    OK(flowmesh_client_connect(house->client, INT64_MAX, &error));
    REFUSES("by_ms must not be negative", flowmesh_test_clock_advance(house->client, -1, &error));

    enqueue.delay_ms = -1;
    REFUSES("delay_ms must be 0 to",
            flowmesh_queue_enqueue(house->queue, X, &enqueue, NULL, NULL, &error));
    enqueue.delay_ms = year_ms + 1;
    REFUSES("(1 year)", flowmesh_queue_enqueue(house->queue, X, &enqueue, NULL, NULL, &error));
    enqueue.delay_ms = INT64_MAX;
    REFUSES("(1 year)", flowmesh_queue_enqueue(house->queue, X, &enqueue, NULL, NULL, &error));
    enqueue.delay_ms = year_ms;
    OK(flowmesh_queue_enqueue(house->queue, X, &enqueue, NULL, NULL, &error));
    nack.delay_ms = -1;
    REFUSES("delay_ms", flowmesh_queue_nack(house->queue, "id", &nack, NULL, &error));
    nack.delay_ms = INT64_MAX;
    REFUSES("delay_ms", flowmesh_queue_nack(house->queue, "id", &nack, NULL, &error));
    reserve.visibility_timeout_ms = -1;
    REFUSES("visibility_timeout_ms must be 0",
            flowmesh_queue_reserve(house->queue, &reserve, &job, &error));
    reserve.visibility_timeout_ms = 43200001;
    REFUSES("(12 hours)", flowmesh_queue_reserve(house->queue, &reserve, &job, &error));
    reserve.visibility_timeout_ms = 0;
    reserve.wait_ms = -2;
    REFUSES("wait_ms must be -1", flowmesh_queue_reserve(house->queue, &reserve, &job, &error));
    set.ttl_ms = -1;
    REFUSES("ttl_ms must be 0 to", flowmesh_kv_set(house->kv, X, X, &set, &error));
    set.ttl_ms = INT64_MAX;
    REFUSES("ttl_ms must be 0 to", flowmesh_kv_set(house->kv, X, X, &set, &error));

    OK(flowmesh_client_options_new(&options, &error));
    REFUSES("timeout_ms must not be 0", flowmesh_client_options_set_timeout_ms(options, 0, &error));
    REFUSES("timeout_ms", flowmesh_client_options_set_timeout_ms(options, -2, &error));
    REFUSES("timeout_ms must be at least 1",
            flowmesh_client_options_set_connect_timeout_ms(options, 0, &error));
    REFUSES("timeout_ms must be at least 1",
            flowmesh_client_options_set_connect_timeout_ms(options, -1, &error));
    flowmesh_client_options_free(options);
}

static void bad_numbers(void **state)
{
    struct house *house = (struct house *)*state;
    flowmesh_error_t *error = NULL;
    flowmesh_subscription_options_t *subscription = NULL;
    flowmesh_client_options_t *client = NULL;
    flowmesh_message_batch_t *batch = NULL;
    flowmesh_stream_reader_t *reader = NULL;
    flowmesh_retry_policy_t policy = FLOWMESH_RETRY_POLICY_INIT;
    REFUSES("offset must be at least 0",
            flowmesh_stream_read(house->stream, -1, NULL, &batch, &error));
    REFUSES("offset must be at least 0",
            flowmesh_stream_reader_open(house->stream, -1, NULL, &reader, &error));
    REFUSES("offset must be at least -1",
            flowmesh_stream_commit_offset(house->stream, "g", -2, NULL, &error));
    OK(flowmesh_subscription_options_new(&subscription, &error));
    REFUSES("start_offset",
            flowmesh_subscription_options_set_start_offset(subscription, -3, &error));
    REFUSES("max_messages must be at least 1",
            flowmesh_subscription_options_set_max_batch_messages(subscription, 0, &error));
    REFUSES("max_bytes must be at least 1",
            flowmesh_subscription_options_set_max_batch_bytes(subscription, 0, &error));
    flowmesh_subscription_options_free(subscription);
    OK(flowmesh_client_options_new(&client, &error));
    REFUSES("max_bytes must be at least 1024",
            flowmesh_client_options_set_max_message_bytes(client, 1023, &error));
    REFUSES("policy must be a FLOWMESH_FSYNC constant",
            flowmesh_client_options_set_fsync(client, 3, &error));
    REFUSES("policy must be a FLOWMESH_FSYNC constant",
            flowmesh_client_options_set_fsync(client, -1, &error));
    REFUSES("token must be printable",
            flowmesh_client_options_set_auth_token(client, "a\nb", &error));
    REFUSES("path must not be empty",
            flowmesh_client_options_set_auth_token_file(client, "", &error));
    REFUSES("path must not be empty", flowmesh_client_options_set_tls_ca_file(client, "", &error));
    flowmesh_view_t no_pem = FLOWMESH_VIEW_LITERAL("no certificate");
    flowmesh_view_t no_data = {NULL, 1};
    REFUSES("pem must hold a certificate",
            flowmesh_client_options_set_tls_ca_pem(client, no_pem, &error));
    REFUSES("pem must not have NULL data",
            flowmesh_client_options_set_tls_ca_pem(client, no_data, &error));
    REFUSES("certificate must hold a certificate",
            flowmesh_client_options_set_tls_certificate_pem(client, no_pem, no_pem, &error));
    REFUSES("key must not have NULL data",
            flowmesh_client_options_set_tls_certificate_pem(client, no_pem, no_data, &error));
    REFUSES("name must be a DNS name",
            flowmesh_client_options_set_tls_server_name(client, "a b", &error));
    flowmesh_client_options_free(client);

    policy.backoff_strategy = 0;
    REFUSES("policy->backoff_strategy must be",
            flowmesh_queue_set_retry_policy(house->queue, &policy, NULL, &error));
    policy.backoff_strategy = 4;
    REFUSES("policy->backoff_strategy must be",
            flowmesh_queue_set_retry_policy(house->queue, &policy, NULL, &error));
    policy.backoff_strategy = FLOWMESH_BACKOFF_FIXED;
    policy.max_attempts = -1;
    REFUSES("policy->max_attempts",
            flowmesh_queue_set_retry_policy(house->queue, &policy, NULL, &error));
    policy.max_attempts = 0;
    policy.initial_backoff_ms = 0;
    REFUSES("policy->initial_backoff_ms",
            flowmesh_queue_set_retry_policy(house->queue, &policy, NULL, &error));
    policy.initial_backoff_ms = 2000;
    policy.max_backoff_ms = 1999;
    REFUSES("policy->max_backoff_ms",
            flowmesh_queue_set_retry_policy(house->queue, &policy, NULL, &error));
    policy.max_backoff_ms = INT64_MAX;
    REFUSES("policy->max_backoff_ms",
            flowmesh_queue_set_retry_policy(house->queue, &policy, NULL, &error));
    policy.max_backoff_ms = 2000;
    policy.backoff_multiplier = 0;
    REFUSES("policy->backoff_multiplier",
            flowmesh_queue_set_retry_policy(house->queue, &policy, NULL, &error));
    policy.backoff_multiplier = -strtod("nan", NULL);
    REFUSES("policy->backoff_multiplier",
            flowmesh_queue_set_retry_policy(house->queue, &policy, NULL, &error));
}

/* ---- structs ------------------------------------------------------------------------------- */

static void bad_sizes(void **state)
{
    struct {
        flowmesh_call_options_t known;
        int64_t unknown;
    } longer = {FLOWMESH_CALL_OPTIONS_INIT, 0};
    struct house *house = (struct house *)*state;
    flowmesh_error_t *error = NULL;
    flowmesh_event_t events[2] = {FLOWMESH_EVENT_INIT, FLOWMESH_EVENT_INIT};
    flowmesh_queue_stats_t stats;
    flowmesh_read_options_t read = FLOWMESH_READ_OPTIONS_INIT;
    flowmesh_message_batch_t *batch = NULL;
    const flowmesh_client_t *client = house->client;

    longer.known.size = 0;
    REFUSES("options has a size field of 0",
            flowmesh_client_health_check(client, &longer.known, &error));
    longer.known.size = sizeof(longer.known) - 1;
    REFUSES("sizeof(flowmesh_call_options_t)",
            flowmesh_client_health_check(client, &longer.known, &error));
    longer.known.size = sizeof(longer);
    OK(flowmesh_client_health_check(client, &longer.known, &error)); /* the tail is zero */
    longer.unknown = 1;
    REFUSES("options sets byte", flowmesh_client_health_check(client, &longer.known, &error));
    longer.known.size = SIZE_MAX;
    REFUSES("size field", flowmesh_client_health_check(client, &longer.known, &error));

    memset(&stats, 0, sizeof(stats));
    REFUSES("stats has a size field of 0",
            flowmesh_queue_stats(house->queue, NULL, &stats, &error));
    read.size = 8;
    REFUSES("options has a size field of 8",
            flowmesh_stream_read(house->stream, 0, &read, &batch, &error));
    events[0].payload = events[1].payload = X;
    events[0].size = 0;
    REFUSES("events has a size field of 0",
            flowmesh_stream_write(house->stream, events, 2, NULL, NULL, &error));
    events[0].size = sizeof(events[0]);
    events[1].size = 48;
    REFUSES("events[1]", flowmesh_stream_write(house->stream, events, 2, NULL, NULL, &error));
}

/* ---- endpoints ----------------------------------------------------------------------------- */

static void malformed_endpoints(void **state)
{
    static const char *const endpoints[] = {
        "",          "nohost",       "host:",     "host:0x1", "host:65536", ":1",
        "ftp://h:1", "https://h",    "unix:",     "a b:1",    "h:1/path",   "http://",
        "[::1",      "embeded:/tmp", "http:/h:1", "\xff:1",
    };
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    (void)state;
    for (size_t i = 0; i < sizeof(endpoints) / sizeof(endpoints[0]); i++) {
        flowmesh_status_t status = flowmesh_client_open(endpoints[i], NULL, &client, &error);
        if (status == FLOWMESH_OK)
            print_error("endpoint \"%s\" is accepted\n", endpoints[i]);
        assert_int_equal(status, FLOWMESH_INVALID_ARGUMENT);
        assert_non_null(strstr(flowmesh_error_message(error), "endpoint"));
        flowmesh_error_free(error);
        error = NULL;
    }
    assert_null(client);
}

static void options_that_do_not_go_with_the_endpoint(void **state)
{
    flowmesh_client_options_t *options = NULL;
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    (void)state;
    OK(flowmesh_client_options_new(&options, &error));
    OK(flowmesh_client_options_set_test_clock(options, true, &error));
    REFUSES("test_clock", flowmesh_client_open("localhost:1", options, &client, &error));
    REFUSES("test_clock", flowmesh_client_open("embedded:/tmp/x", options, &client, &error));
    OK(flowmesh_client_options_set_test_clock(options, false, &error));
    OK(flowmesh_client_options_set_auth_token(options, "secret", &error));
    REFUSES("auth_token", flowmesh_client_open("embedded:", options, &client, &error));
    REFUSES("allow_plaintext_token", flowmesh_client_open("other:1", options, &client, &error));
    OK(flowmesh_client_options_set_allow_plaintext_token(options, true, &error));
    OK(flowmesh_client_open("other:1", options, &client, &error));
    flowmesh_client_free(client);
    OK(flowmesh_client_options_set_auth_token_file(options, "/none", &error));
    REFUSES("auth_token", flowmesh_client_open("embedded:", options, &client, &error));
    OK(flowmesh_client_options_set_auth_token(options, "", &error));
    OK(flowmesh_client_options_set_tls_ca_file(options, "/none", &error));
    REFUSES("https://", flowmesh_client_open("embedded:", options, &client, &error));
    REFUSES("https://", flowmesh_client_open("localhost:1", options, &client, &error));
    flowmesh_client_options_free(options);
}

/* The call fails within its time, and a write tells that it was not applied. */
static void cannot_reach(const char *endpoint, flowmesh_status_t expected)
{
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    flowmesh_call_options_t options = FLOWMESH_CALL_OPTIONS_INIT;
    OK(flowmesh_client_open(endpoint, NULL, &client, &error)); /* no I/O yet */
    options.timeout_ms = expected == FLOWMESH_DEADLINE_EXCEEDED ? 100 : PATIENCE_MS;
    FAILS(expected, "health check of", flowmesh_client_health_check(client, &options, &error));
    FAILS(expected, "connect to", flowmesh_client_connect(client, options.timeout_ms, &error));
    flowmesh_client_free(client);
}

static int listen_on_loopback(char endpoint[32])
{
    struct sockaddr_in address;
    socklen_t length = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    memset(&address, 0, sizeof(address));
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    snprintf(endpoint, 32, "127.0.0.1:%d", ntohs(address.sin_port));
    return listener;
}

static void nobody_there(void **state)
{
    char endpoint[32];
    (void)state;
    close(listen_on_loopback(endpoint));
    cannot_reach(endpoint, FLOWMESH_UNAVAILABLE);
    cannot_reach("unix:/nonexistent/socket", FLOWMESH_UNAVAILABLE);
    cannot_reach("no-such-host.invalid:1", FLOWMESH_UNAVAILABLE);
}

static void a_write_to_nobody_is_not_applied(void **state)
{
    char endpoint[32];
    flowmesh_client_t *client = NULL;
    flowmesh_queue_t *queue = NULL;
    flowmesh_error_t *error = NULL;
    (void)state;
    close(listen_on_loopback(endpoint));
    OK(flowmesh_client_open(endpoint, NULL, &client, &error));
    OK(flowmesh_queue_open(client, "t", "n", "q", &queue, &error));
    assert_int_equal(flowmesh_queue_enqueue(queue, X, NULL, NULL, NULL, &error),
                     FLOWMESH_UNAVAILABLE);
    assert_int_equal(flowmesh_error_outcome(error), FLOWMESH_OUTCOME_NOT_APPLIED);
    assert_true(flowmesh_error_retryable(error));
    flowmesh_error_free(error);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

/* Answers every connection as a web server of old would. */
static void *answer_http1(void *listener)
{
    static const char answer[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    int fd;
    while ((fd = accept(*(int *)listener, NULL, NULL)) >= 0) {
        char request[1024];
        if (read(fd, request, sizeof(request)) > 0 &&
            send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL) > 0)
            while (read(fd, request, sizeof(request)) > 0) {
            }
        close(fd);
    }
    return NULL;
}

static void not_a_flowmesh_server(void **state)
{
    char endpoint[32];
    pthread_t thread;
    int listener = listen_on_loopback(endpoint);
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, answer_http1, &listener), 0);
    cannot_reach(endpoint, FLOWMESH_UNAVAILABLE);
    shutdown(listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(listener);

    listener = listen_on_loopback(endpoint); /* takes connections and says nothing */
    cannot_reach(endpoint, FLOWMESH_DEADLINE_EXCEEDED);
    close(listener);
}

/* ---- data directories ---------------------------------------------------------------------- */

static flowmesh_status_t open_directory(const char *path, flowmesh_error_t **error)
{
    char endpoint[160];
    flowmesh_client_t *client = NULL;
    snprintf(endpoint, sizeof(endpoint), "embedded:%s", path);
    flowmesh_status_t status = flowmesh_client_open(endpoint, NULL, &client, error);
    if (status == FLOWMESH_OK)
        status = flowmesh_client_connect(client, PATIENCE_MS, error);
    flowmesh_client_free(client);
    return status;
}

static const char *program; /* the path of this one */

/* Starts this program again as `mode` on `directory`; it runs until its input is closed. */
static pid_t start_other(const char *mode, const char *directory, int *input, int *output)
{
    int in[2];
    int out[2];
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    pid_t other = fork();
    if (other == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        close(in[1]);
        close(out[0]);
        execl(program, program, mode, directory, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    *input = in[1];
    *output = out[0];
    return other;
}

/* What the other process does: opens the directory, reports, waits. */
static int be_other(const char *mode, const char *directory)
{
    flowmesh_error_t *error = NULL;
    flowmesh_client_t *client = NULL;
    char endpoint[160];
    char byte;
    if (strcmp(mode, "unprivileged") == 0 && setuid(65534) != 0)
        return 3;
    snprintf(endpoint, sizeof(endpoint), "embedded:%s", directory);
    flowmesh_status_t status = flowmesh_client_open(endpoint, NULL, &client, &error);
    if (status == FLOWMESH_OK)
        status = flowmesh_client_connect(client, PATIENCE_MS, &error);
    printf("%d %s\n", (int)status, flowmesh_error_message(error));
    fflush(stdout);
    if (read(STDIN_FILENO, &byte, 1) < 0)
        return 4;
    flowmesh_error_free(error);
    flowmesh_client_free(client);
    return 0;
}

static void end_other(pid_t other, int input, int output)
{
    int status = -1;
    close(input);
    close(output);
    waitpid(other, &status, 0);
    assert_int_equal(status, 0);
}

static void read_report(int output, char *report, size_t size)
{
    size_t length = 0;
    while (length < size - 1 && read(output, report + length, 1) == 1 && report[length] != '\n')
        length++;
    report[length] = '\0';
}

static void directories_that_cannot_be_used(void **state)
{
    char base[] = "/tmp/flowmesh-bad-XXXXXX";
    char path[128];
    char report[512];
    char command[64];
    int input;
    int output;
    flowmesh_error_t *error = NULL;
    (void)state;
    assert_non_null(mkdtemp(base));

    snprintf(path, sizeof(path), "%s/missing/data", base);
    FAILS(FLOWMESH_FAILED_PRECONDITION, path, open_directory(path, &error));

    snprintf(path, sizeof(path), "%s/file", base);
    fclose(fopen(path, "w"));
    FAILS(FLOWMESH_FAILED_PRECONDITION, path, open_directory(path, &error));

    /* In use by another process; and free again when that has ended. */
    snprintf(path, sizeof(path), "%s/data", base);
    pid_t other = start_other("hold", path, &input, &output);
    read_report(output, report, sizeof(report));
    assert_string_equal(report, "0 ");
    FAILS(FLOWMESH_FAILED_PRECONDITION, "in use by another process", open_directory(path, &error));
    end_other(other, input, output);
    OK(open_directory(path, &error));

    /* Of a format that only a future version knows. */
    snprintf(path, sizeof(path), "%s/data/FORMAT", base);
    FILE *format = fopen(path, "w");
    fputs("flowmesh 999\n", format);
    fclose(format);
    snprintf(path, sizeof(path), "%s/data", base);
    FAILS(FLOWMESH_FAILED_PRECONDITION, "flowmesh 999", open_directory(path, &error));

    /* Not writable, for whom permissions count: not for root. */
    snprintf(path, sizeof(path), "%s/read-only", base);
    assert_int_equal(mkdir(path, 0555), 0);
    assert_int_equal(chmod(base, 0755), 0);
    if (geteuid() == 0) {
        other = start_other("unprivileged", path, &input, &output);
        read_report(output, report, sizeof(report));
        assert_int_equal(strtol(report, NULL, 10), FLOWMESH_PERMISSION_DENIED);
        assert_non_null(strstr(report, path));
        end_other(other, input, output);
    } else {
        FAILS(FLOWMESH_PERMISSION_DENIED, path, open_directory(path, &error));
    }
    snprintf(command, sizeof(command), "rm -r %s", base);
    assert_int_equal(system(command), 0);
}

/* ---- nothing was lost ---------------------------------------------------------------------- */

static void what_was_there_is_still_there(void **state)
{
    struct house *house = (struct house *)*state;
    flowmesh_error_t *error = NULL;
    flowmesh_queue_stats_t stats = FLOWMESH_QUEUE_STATS_INIT;
    int64_t latest = -1;
    OK(flowmesh_stream_latest_offset(house->stream, NULL, &latest, &error));
    assert_int_equal(latest, 0);
    OK(flowmesh_queue_stats(house->queue, NULL, &stats, &error));
    assert_int_equal(stats.total_jobs, 1);
    assert_int_equal(stats.pending_jobs, 1);
}

static int end(void **state)
{
    return tear_down(state) + end_library(state);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_for_clients),
        cmocka_unit_test(null_for_streams),
        cmocka_unit_test(null_for_queues),
        cmocka_unit_test(null_for_kv),
        cmocka_unit_test(bad_names),
        cmocka_unit_test(bad_groups_keys_and_ids),
        cmocka_unit_test(bad_payloads),
        cmocka_unit_test(bad_times),
        cmocka_unit_test(bad_numbers),
        cmocka_unit_test(bad_sizes),
        cmocka_unit_test(malformed_endpoints),
        cmocka_unit_test(options_that_do_not_go_with_the_endpoint),
        cmocka_unit_test(nobody_there),
        cmocka_unit_test(a_write_to_nobody_is_not_applied),
        cmocka_unit_test(not_a_flowmesh_server),
        cmocka_unit_test(directories_that_cannot_be_used),
        cmocka_unit_test(what_was_there_is_still_there),
    };
    program = argv[0];
    if (argc == 3)
        return be_other(argv[1], argv[2]);
    return cmocka_run_group_tests(tests, build, end);
}
