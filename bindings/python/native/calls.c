/* One function per call: starts its asynchronous form and keeps what its callback gets. */

#include "call.h"

/* Begins a call of the kind, `start`s it with `call`, `operation` and `error`, gives its id. */
#define START(kind, start)                                                                         \
    do {                                                                                           \
        struct fm_call *call = call_begin(session, (kind));                                        \
        if (call == NULL) {                                                                        \
            return 0;                                                                              \
        }                                                                                          \
        flowmesh_operation_t *operation = NULL;                                                    \
        flowmesh_error_t *error = NULL;                                                            \
        flowmesh_status_t status = (start);                                                        \
        return call_started(call, status, operation, error);                                       \
    } while (0)

/* What every asynchronous call ends with, after its callback. */
#define ENDING call, call_drop, &operation, &error

/* ---- Callbacks ---------------------------------------------------------------------------- */

static void on_done(flowmesh_error_t *error, void *user_data)
{
    call_complete(user_data, error);
}

static void on_flag(flowmesh_error_t *error, bool flag, void *user_data)
{
    struct fm_call *call = user_data;
    call->result.flag = flag;
    call_complete(call, error);
}

static void on_number(flowmesh_error_t *error, int64_t number, void *user_data)
{
    struct fm_call *call = user_data;
    call->result.number = number;
    call_complete(call, error);
}

static void on_value(flowmesh_error_t *error, flowmesh_value_t *value, void *user_data)
{
    struct fm_call *call = user_data;
    call->result.value = value;
    call_complete(call, error);
}

static void on_keys(flowmesh_error_t *error, flowmesh_key_list_t *keys, void *user_data)
{
    struct fm_call *call = user_data;
    call->result.keys = keys;
    call_complete(call, error);
}

static void on_batch(flowmesh_error_t *error, flowmesh_message_batch_t *messages, void *user_data)
{
    struct fm_call *call = user_data;
    call->result.messages = messages;
    call_complete(call, error);
}

static void on_offsets(flowmesh_error_t *error, const int64_t *offsets, size_t count,
                       void *user_data)
{
    struct fm_call *call = user_data;
    if (error == NULL && count > 0) {
        call->result.offsets.at = malloc(count * sizeof *offsets);
        if (call->result.offsets.at == NULL) {
            abort(); /* the events are stored: nothing else may be said of them */
        }
        memcpy(call->result.offsets.at, offsets, count * sizeof *offsets);
        call->result.offsets.count = count;
    }
    call_complete(call, error);
}

static void on_job(flowmesh_error_t *error, flowmesh_job_t *job, void *user_data)
{
    struct fm_call *call = user_data;
    call->result.job = job;
    call_complete(call, error);
}

static void on_jobs(flowmesh_error_t *error, flowmesh_job_batch_t *jobs, void *user_data)
{
    struct fm_call *call = user_data;
    call->result.jobs = jobs;
    call_complete(call, error);
}

static void on_enqueued(flowmesh_error_t *error, const char *job_id, int64_t seq, void *user_data)
{
    struct fm_call *call = user_data;
    if (error == NULL) {
        call->result.enqueued.seq = seq;
        memcpy(call->result.enqueued.job_id, job_id, strlen(job_id) + 1);
    }
    call_complete(call, error);
}

/* The library fills no more of these than it was built with: copy what both know. */
static void keep(void *kept, const void *lent, size_t known, size_t size)
{
    memcpy(kept, lent, size < known ? size : known);
}

static void on_stats(flowmesh_error_t *error, const flowmesh_queue_stats_t *stats, void *user_data)
{
    struct fm_call *call = user_data;
    if (error == NULL) {
        keep(&call->result.stats, stats, sizeof *stats, stats->size);
    }
    call_complete(call, error);
}

static void on_policy(flowmesh_error_t *error, const flowmesh_retry_policy_t *policy,
                      void *user_data)
{
    struct fm_call *call = user_data;
    if (error == NULL) {
        keep(&call->result.policy, policy, sizeof *policy, policy->size);
    }
    call_complete(call, error);
}

static void on_state(flowmesh_error_t *error, const flowmesh_group_state_t *state, void *user_data)
{
    struct fm_call *call = user_data;
    if (error == NULL) {
        keep(&call->result.state, state, sizeof *state, state->size);
    }
    call_complete(call, error);
}

/* ---- Client ------------------------------------------------------------------------------- */

int64_t fm_client_connect(fm_session_t *session, const flowmesh_client_t *client,
                          int64_t timeout_ms)
{
    START(DONE, flowmesh_client_connect_async(client, timeout_ms, on_done, ENDING));
}

int64_t fm_client_close(fm_session_t *session, const flowmesh_client_t *client, int64_t timeout_ms)
{
    START(DONE, flowmesh_client_close_async(client, timeout_ms, on_done, ENDING));
}

int64_t fm_client_health_check(fm_session_t *session, const flowmesh_client_t *client)
{
    START(DONE, flowmesh_client_health_check_async(client, NULL, on_done, ENDING));
}

int64_t fm_client_readiness_check(fm_session_t *session, const flowmesh_client_t *client)
{
    START(FLAG, flowmesh_client_readiness_check_async(client, NULL, on_flag, ENDING));
}

/* ---- Reading what Python has packed ------------------------------------------------------- */

static uint32_t read_u32(const uint8_t **at)
{
    uint32_t number;
    memcpy(&number, *at, sizeof number);
    *at += sizeof number;
    return number;
}

static flowmesh_view_t read_view(const uint8_t **at, uint32_t length)
{
    flowmesh_view_t view = flowmesh_view_bytes(*at, length);
    *at += length;
    return view;
}

void read_headers(const uint8_t **at, flowmesh_header_t *headers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t key_length = read_u32(at);
        uint32_t value_length = read_u32(at);
        headers[i].key = read_view(at, key_length);
        headers[i].value = read_view(at, value_length);
    }
}

/* ---- Streams ------------------------------------------------------------------------------ */

/* Events and their headers in one piece of memory, to be freed; NULL: no memory. */
static flowmesh_event_t *read_events(const uint8_t *packed, size_t count, size_t header_count)
{
    flowmesh_event_t *events =
        malloc((count + 1) * sizeof *events + header_count * sizeof(flowmesh_header_t));
    if (events == NULL) {
        return NULL;
    }
    flowmesh_header_t *headers = (flowmesh_header_t *)(events + count + 1);
    for (size_t i = 0; i < count; i++) {
        uint32_t length = read_u32(&packed);
        uint32_t of_event = read_u32(&packed);
        events[i] = (flowmesh_event_t)FLOWMESH_EVENT_INIT;
        events[i].payload = read_view(&packed, length);
        read_headers(&packed, headers, of_event);
        events[i].headers = headers;
        events[i].header_count = of_event;
        headers += of_event;
    }
    return events;
}

int64_t fm_stream_write(fm_session_t *session, const flowmesh_stream_t *stream,
                        const uint8_t *packed, size_t count, size_t header_count)
{
    flowmesh_event_t *events = read_events(packed, count, header_count);
    struct fm_call *call = events == NULL ? NULL : call_begin(session, OFFSETS);
    if (call == NULL) {
        free(events);
        return 0;
    }
    flowmesh_operation_t *operation = NULL;
    flowmesh_error_t *error = NULL;
    flowmesh_status_t status =
        flowmesh_stream_write_async(stream, events, count, NULL, on_offsets, ENDING);
    free(events);
    return call_started(call, status, operation, error);
}

int64_t fm_stream_read(fm_session_t *session, const flowmesh_stream_t *stream, int64_t offset,
                       int32_t partition, int32_t max_messages)
{
    flowmesh_read_options_t options = FLOWMESH_READ_OPTIONS_INIT;
    options.partition = partition;
    options.max_messages = max_messages;
    START(MESSAGES, flowmesh_stream_read_async(stream, offset, &options, on_batch, ENDING));
}

static flowmesh_offset_options_t of_partition(int32_t partition)
{
    flowmesh_offset_options_t options = FLOWMESH_OFFSET_OPTIONS_INIT;
    options.partition = partition;
    return options;
}

int64_t fm_stream_commit_offset(fm_session_t *session, const flowmesh_stream_t *stream,
                                const char *consumer_group, int32_t partition, int64_t offset)
{
    flowmesh_offset_options_t options = of_partition(partition);
    START(DONE, flowmesh_stream_commit_offset_async(stream, consumer_group, offset, &options,
                                                    on_done, ENDING));
}

int64_t fm_stream_get_offset(fm_session_t *session, const flowmesh_stream_t *stream,
                             const char *consumer_group, int32_t partition)
{
    flowmesh_offset_options_t options = of_partition(partition);
    START(NUMBER,
          flowmesh_stream_get_offset_async(stream, consumer_group, &options, on_number, ENDING));
}

int64_t fm_stream_latest_offset(fm_session_t *session, const flowmesh_stream_t *stream,
                                int32_t partition)
{
    flowmesh_offset_options_t options = of_partition(partition);
    START(NUMBER, flowmesh_stream_latest_offset_async(stream, &options, on_number, ENDING));
}

int64_t fm_stream_group_state(fm_session_t *session, const flowmesh_stream_t *stream,
                              const char *consumer_group, int32_t partition)
{
    flowmesh_offset_options_t options = of_partition(partition);
    START(GROUP_STATE,
          flowmesh_stream_group_state_async(stream, consumer_group, &options, on_state, ENDING));
}

/* ---- Queues ------------------------------------------------------------------------------- */

int64_t fm_queue_enqueue(fm_session_t *session, const flowmesh_queue_t *queue,
                         const uint8_t *payload, size_t length, int64_t delay_ms,
                         const uint8_t *packed, size_t header_count)
{
    flowmesh_enqueue_options_t options = FLOWMESH_ENQUEUE_OPTIONS_INIT;
    flowmesh_header_t *headers = malloc((header_count + 1) * sizeof *headers);
    struct fm_call *call = headers == NULL ? NULL : call_begin(session, ENQUEUED);
    if (call == NULL) {
        free(headers);
        return 0;
    }
    read_headers(&packed, headers, header_count);
    options.delay_ms = delay_ms;
    options.headers = headers;
    options.header_count = header_count;
    flowmesh_operation_t *operation = NULL;
    flowmesh_error_t *error = NULL;
    flowmesh_status_t status = flowmesh_queue_enqueue_async(
        queue, flowmesh_view_bytes(payload, length), &options, on_enqueued, ENDING);
    free(headers);
    return call_started(call, status, operation, error);
}

static flowmesh_reserve_options_t leasing(int64_t visibility_timeout_ms, int64_t wait_ms)
{
    flowmesh_reserve_options_t options = FLOWMESH_RESERVE_OPTIONS_INIT;
    options.visibility_timeout_ms = visibility_timeout_ms;
    options.wait_ms = wait_ms;
    return options;
}

int64_t fm_queue_reserve(fm_session_t *session, const flowmesh_queue_t *queue,
                         int64_t visibility_timeout_ms, int64_t wait_ms)
{
    flowmesh_reserve_options_t options = leasing(visibility_timeout_ms, wait_ms);
    START(JOB, flowmesh_queue_reserve_async(queue, &options, on_job, ENDING));
}

int64_t fm_queue_receive(fm_session_t *session, const flowmesh_queue_t *queue, int32_t max_jobs,
                         int64_t visibility_timeout_ms, int64_t wait_ms)
{
    flowmesh_reserve_options_t options = leasing(visibility_timeout_ms, wait_ms);
    START(JOBS, flowmesh_queue_receive_async(queue, max_jobs, &options, on_jobs, ENDING));
}

int64_t fm_queue_ack(fm_session_t *session, const flowmesh_queue_t *queue, const char *job_id)
{
    START(DONE, flowmesh_queue_ack_async(queue, job_id, NULL, on_done, ENDING));
}

int64_t fm_queue_nack(fm_session_t *session, const flowmesh_queue_t *queue, const char *job_id,
                      int64_t delay_ms)
{
    flowmesh_nack_options_t options = FLOWMESH_NACK_OPTIONS_INIT;
    options.delay_ms = delay_ms;
    START(FLAG, flowmesh_queue_nack_async(queue, job_id, &options, on_flag, ENDING));
}

int64_t fm_queue_stats(fm_session_t *session, const flowmesh_queue_t *queue)
{
    START(STATS, flowmesh_queue_stats_async(queue, NULL, on_stats, ENDING));
}

int64_t fm_queue_set_retry_policy(fm_session_t *session, const flowmesh_queue_t *queue,
                                  int32_t max_attempts, int32_t backoff_strategy,
                                  int64_t initial_backoff_ms, int64_t max_backoff_ms,
                                  double backoff_multiplier)
{
    flowmesh_retry_policy_t policy = FLOWMESH_RETRY_POLICY_INIT;
    policy.max_attempts = max_attempts;
    policy.backoff_strategy = backoff_strategy;
    policy.initial_backoff_ms = initial_backoff_ms;
    policy.max_backoff_ms = max_backoff_ms;
    policy.backoff_multiplier = backoff_multiplier;
    START(DONE, flowmesh_queue_set_retry_policy_async(queue, &policy, NULL, on_done, ENDING));
}

int64_t fm_queue_get_retry_policy(fm_session_t *session, const flowmesh_queue_t *queue)
{
    START(POLICY, flowmesh_queue_get_retry_policy_async(queue, NULL, on_policy, ENDING));
}

int64_t fm_queue_list_dlq_jobs(fm_session_t *session, const flowmesh_queue_t *queue,
                               int32_t max_jobs)
{
    START(JOBS, flowmesh_queue_list_dlq_jobs_async(queue, max_jobs, NULL, on_jobs, ENDING));
}

int64_t fm_queue_replay_dlq_job(fm_session_t *session, const flowmesh_queue_t *queue,
                                const char *job_id)
{
    START(ENQUEUED, flowmesh_queue_replay_dlq_job_async(queue, job_id, NULL, on_enqueued, ENDING));
}

/* ---- Key-value stores --------------------------------------------------------------------- */

int64_t fm_kv_set(fm_session_t *session, const flowmesh_kv_t *kv, const uint8_t *key,
                  size_t key_length, const uint8_t *value, size_t value_length, int64_t ttl_ms)
{
    flowmesh_set_options_t options = FLOWMESH_SET_OPTIONS_INIT;
    options.ttl_ms = ttl_ms;
    START(DONE, flowmesh_kv_set_async(kv, flowmesh_view_bytes(key, key_length),
                                      flowmesh_view_bytes(value, value_length), &options, on_done,
                                      ENDING));
}

int64_t fm_kv_get(fm_session_t *session, const flowmesh_kv_t *kv, const uint8_t *key,
                  size_t key_length)
{
    START(VALUE,
          flowmesh_kv_get_async(kv, flowmesh_view_bytes(key, key_length), NULL, on_value, ENDING));
}

int64_t fm_kv_delete(fm_session_t *session, const flowmesh_kv_t *kv, const uint8_t *key,
                     size_t key_length)
{
    START(DONE, flowmesh_kv_delete_async(kv, flowmesh_view_bytes(key, key_length), NULL, on_done,
                                         ENDING));
}

int64_t fm_kv_exists(fm_session_t *session, const flowmesh_kv_t *kv, const uint8_t *key,
                     size_t key_length)
{
    START(FLAG, flowmesh_kv_exists_async(kv, flowmesh_view_bytes(key, key_length), NULL, on_flag,
                                         ENDING));
}

int64_t fm_kv_list_keys(fm_session_t *session, const flowmesh_kv_t *kv, const uint8_t *prefix,
                        size_t prefix_length)
{
    START(KEYS, flowmesh_kv_list_keys_async(kv, flowmesh_view_bytes(prefix, prefix_length), NULL,
                                            on_keys, ENDING));
}
