/*
 * The operations of clients, stores, streams and queues. Each is made in its blocking form by a
 * caller that is alone, who saves two switches of threads, and with a completion otherwise.
 */
#include "shim_internal.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define COMMON(options)                                                                            \
    (options).timeout_ms = call->timeout_ms;                                                       \
    (options).cancel = call->cancellable ? call->cancel : NULL;                                    \
    (options).traceparent = call->traceparent;                                                     \
    (options).tracestate = call->tracestate

/* Ends a call that was made in its blocking form; it gave `error`. */
#define ENDED(callback, ...)                                                                       \
    callback(__VA_ARGS__, call);                                                                   \
    return true

static bool accepted(flowmesh_status_t status)
{
    return status == FLOWMESH_OK;
}

static flowmesh_view_t view(const void *data, size_t len)
{
    return flowmesh_view_bytes(data, len);
}

static void on_bool(flowmesh_error_t *error, bool result, void *user_data)
{
    fm_call_t *call = user_data;
    call->number[0] = result;
    fm_call_done(call, error);
}

static void free_value(void *value)
{
    flowmesh_value_free(value);
}

static void on_value(flowmesh_error_t *error, flowmesh_value_t *value, void *user_data)
{
    fm_call_t *call = user_data;
    if (value != NULL) {
        flowmesh_view_t data = flowmesh_value_data(value);
        call->object = value;
        call->free_object = free_value;
        call->data = data.data;
        call->len = data.len;
    }
    fm_call_done(call, error);
}

/* Keys are handed over as views behind each other. */
static void on_keys(flowmesh_error_t *error, flowmesh_key_list_t *keys, void *user_data)
{
    fm_call_t *call = user_data;
    size_t count = flowmesh_key_list_count(keys);
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += flowmesh_key_list_at(keys, i).len;
    }
    if (count > 0) {
        uint64_t *lengths = fm_alloc(count * sizeof *lengths + bytes, 1);
        uint8_t *text = (uint8_t *)(lengths + count);
        call->object = lengths;
        call->free_object = free;
        call->data = text;
        for (size_t i = 0; i < count; i++) {
            flowmesh_view_t key = flowmesh_key_list_at(keys, i);
            lengths[i] = key.len;
            memcpy(text, key.data, key.len);
            text += key.len;
        }
    }
    call->len = bytes;
    call->number[0] = (int64_t)count;
    flowmesh_key_list_free(keys);
    fm_call_done(call, error);
}

static void on_offsets(flowmesh_error_t *error, const int64_t *offsets, size_t count,
                       void *user_data)
{
    fm_call_t *call = user_data;
    /* A batch gets consecutive offsets. */
    call->number[0] = count > 0 ? offsets[0] : -1;
    fm_call_done(call, error);
}

static void on_offset(flowmesh_error_t *error, int64_t offset, void *user_data)
{
    fm_call_t *call = user_data;
    call->number[0] = offset;
    fm_call_done(call, error);
}

static void free_messages(void *batch)
{
    flowmesh_message_batch_free(batch);
}

static void on_batch(flowmesh_error_t *error, flowmesh_message_batch_t *batch, void *user_data)
{
    fm_call_t *call = user_data;
    call->object = batch;
    call->free_object = free_messages;
    fm_call_done(call, error);
}

static void on_group(flowmesh_error_t *error, const flowmesh_group_state_t *state, void *user_data)
{
    fm_call_t *call = user_data;
    if (state != NULL) {
        call->number[0] = state->committed_offset;
        call->number[1] = state->latest_offset;
        call->number[2] = state->lag;
    }
    fm_call_done(call, error);
}

static void on_enqueued(flowmesh_error_t *error, const char *job_id, int64_t seq, void *user_data)
{
    fm_call_t *call = user_data;
    if (job_id != NULL) {
        memcpy(call->text, job_id, FLOWMESH_JOB_ID_SIZE);
    }
    call->number[0] = seq;
    fm_call_done(call, error);
}

static void free_job(void *job)
{
    flowmesh_job_free(job);
}

static void on_job(flowmesh_error_t *error, flowmesh_job_t *job, void *user_data)
{
    fm_call_t *call = user_data;
    call->object = job;
    call->free_object = free_job;
    fm_call_done(call, error);
}

static void on_jobs(flowmesh_error_t *error, flowmesh_job_batch_t *batch, void *user_data)
{
    fm_call_t *call = user_data;
    call->object = batch;
    call->free_object = fm_free_jobs;
    fm_call_done(call, error);
}

static void on_queue_stats(flowmesh_error_t *error, const flowmesh_queue_stats_t *stats,
                           void *user_data)
{
    fm_call_t *call = user_data;
    if (stats != NULL) {
        call->number[0] = stats->total_jobs;
        call->number[1] = stats->pending_jobs;
        call->number[2] = stats->in_flight_jobs;
        call->number[3] = stats->completed_jobs;
        call->number[4] = stats->failed_jobs;
        call->number[5] = stats->oldest_job_age_ms;
    }
    fm_call_done(call, error);
}

static void on_policy(flowmesh_error_t *error, const flowmesh_retry_policy_t *policy,
                      void *user_data)
{
    fm_call_t *call = user_data;
    if (policy != NULL) {
        call->number[0] = policy->max_attempts;
        call->number[1] = policy->backoff_strategy;
        call->number[2] = policy->initial_backoff_ms;
        call->number[3] = policy->max_backoff_ms;
        call->real = policy->backoff_multiplier;
    }
    fm_call_done(call, error);
}

bool fm_client_connect(fm_call_t *call, const flowmesh_client_t *client)
{
    return accepted(flowmesh_client_connect_async(client, call->timeout_ms, fm_on_done, call, NULL,
                                                  &call->operation, &call->refusal));
}

bool fm_client_close(fm_call_t *call, const flowmesh_client_t *client)
{
    return accepted(flowmesh_client_close_async(client, -1, fm_on_done, call, NULL,
                                                &call->operation, &call->refusal));
}

bool fm_client_health(fm_call_t *call, const flowmesh_client_t *client)
{
    flowmesh_call_options_t options = FLOWMESH_CALL_OPTIONS_INIT;
    COMMON(options);
    return accepted(flowmesh_client_health_check_async(client, &options, fm_on_done, call, NULL,
                                                       NULL, &call->refusal));
}

bool fm_client_ready(fm_call_t *call, const flowmesh_client_t *client)
{
    flowmesh_call_options_t options = FLOWMESH_CALL_OPTIONS_INIT;
    COMMON(options);
    return accepted(flowmesh_client_readiness_check_async(client, &options, on_bool, call, NULL,
                                                          NULL, &call->refusal));
}

bool fm_kv_set(fm_call_t *call, const flowmesh_kv_t *kv, const uint8_t *key, size_t key_len,
               const uint8_t *value, size_t value_len, int64_t ttl_ms)
{
    flowmesh_set_options_t options = FLOWMESH_SET_OPTIONS_INIT;
    COMMON(options);
    options.ttl_ms = ttl_ms;
    if (call->alone) {
        flowmesh_error_t *error = NULL;
        (void)!flowmesh_kv_set(kv, view(key, key_len), view(value, value_len), &options, &error);
        ENDED(fm_on_done, error);
    }
    return accepted(flowmesh_kv_set_async(kv, view(key, key_len), view(value, value_len), &options,
                                          fm_on_done, call, NULL, NULL, &call->refusal));
}

bool fm_kv_get(fm_call_t *call, const flowmesh_kv_t *kv, const uint8_t *key, size_t key_len)
{
    flowmesh_call_options_t options = FLOWMESH_CALL_OPTIONS_INIT;
    COMMON(options);
    if (call->alone) {
        flowmesh_error_t *error = NULL;
        flowmesh_value_t *value = NULL;
        (void)!flowmesh_kv_get(kv, view(key, key_len), &options, &value, &error);
        ENDED(on_value, error, value);
    }
    return accepted(flowmesh_kv_get_async(kv, view(key, key_len), &options, on_value, call, NULL,
                                          NULL, &call->refusal));
}

bool fm_kv_delete(fm_call_t *call, const flowmesh_kv_t *kv, const uint8_t *key, size_t key_len)
{
    flowmesh_call_options_t options = FLOWMESH_CALL_OPTIONS_INIT;
    COMMON(options);
    if (call->alone) {
        flowmesh_error_t *error = NULL;
        (void)!flowmesh_kv_delete(kv, view(key, key_len), &options, &error);
        ENDED(fm_on_done, error);
    }
    return accepted(flowmesh_kv_delete_async(kv, view(key, key_len), &options, fm_on_done, call,
                                             NULL, NULL, &call->refusal));
}

bool fm_kv_exists(fm_call_t *call, const flowmesh_kv_t *kv, const uint8_t *key, size_t key_len)
{
    flowmesh_call_options_t options = FLOWMESH_CALL_OPTIONS_INIT;
    COMMON(options);
    if (call->alone) {
        flowmesh_error_t *error = NULL;
        bool exists = false;
        (void)!flowmesh_kv_exists(kv, view(key, key_len), &options, &exists, &error);
        ENDED(on_bool, error, exists);
    }
    return accepted(flowmesh_kv_exists_async(kv, view(key, key_len), &options, on_bool, call, NULL,
                                             NULL, &call->refusal));
}

bool fm_kv_keys(fm_call_t *call, const flowmesh_kv_t *kv, const uint8_t *prefix, size_t prefix_len)
{
    flowmesh_call_options_t options = FLOWMESH_CALL_OPTIONS_INIT;
    COMMON(options);
    return accepted(flowmesh_kv_list_keys_async(kv, view(prefix, prefix_len), &options, on_keys,
                                                call, NULL, NULL, &call->refusal));
}

/* How many headers `count` events have. */
static size_t count_headers(const uint64_t *lengths, size_t count)
{
    size_t headers = 0;
    for (size_t i = 0; i < count; i++) {
        headers += (size_t)lengths[1];
        lengths += 2 + 2 * lengths[1];
    }
    return headers;
}

bool fm_stream_write(fm_call_t *call, const flowmesh_stream_t *stream, const uint8_t *bytes,
                     const uint64_t *lengths, size_t count)
{
    flowmesh_write_options_t options = FLOWMESH_WRITE_OPTIONS_INIT;
    COMMON(options);
    size_t header_count = count_headers(lengths, count);
    flowmesh_event_t one = FLOWMESH_EVENT_INIT;
    flowmesh_event_t *events = &one;
    flowmesh_header_t *headers = NULL;
    void *memory = NULL;
    if (count > 1 || header_count > 0) {
        memory = fm_alloc(count * sizeof *events + header_count * sizeof *headers, 1);
        events = memory;
        headers = (flowmesh_header_t *)(events + count);
    }
    const uint8_t *next = bytes;
    for (size_t i = 0; i < count; i++) {
        fm_event_unpack(&events[i], headers, &next, &lengths);
        headers += events[i].header_count;
    }
    bool ok = true;
    if (call->alone) {
        flowmesh_error_t *error = NULL;
        int64_t few[16];
        int64_t *offsets = count <= 16 ? few : fm_alloc(count, sizeof *offsets);
        flowmesh_status_t status =
            flowmesh_stream_write(stream, events, count, &options, offsets, &error);
        on_offsets(error, offsets, status == FLOWMESH_OK ? count : 0, call);
        if (offsets != few) {
            free(offsets);
        }
    } else {
        ok = accepted(flowmesh_stream_write_async(stream, events, count, &options, on_offsets, call,
                                                  NULL, NULL, &call->refusal));
    }
    free(memory);
    return ok;
}

bool fm_stream_read(fm_call_t *call, const flowmesh_stream_t *stream, int64_t offset, int32_t max)
{
    flowmesh_read_options_t options = FLOWMESH_READ_OPTIONS_INIT;
    COMMON(options);
    options.max_messages = max;
    if (call->alone) {
        flowmesh_error_t *error = NULL;
        flowmesh_message_batch_t *batch = NULL;
        (void)!flowmesh_stream_read(stream, offset, &options, &batch, &error);
        ENDED(on_batch, error, batch);
    }
    return accepted(flowmesh_stream_read_async(stream, offset, &options, on_batch, call, NULL, NULL,
                                               &call->refusal));
}

bool fm_reader_next(fm_call_t *call, const flowmesh_stream_reader_t *reader)
{
    flowmesh_call_options_t options = FLOWMESH_CALL_OPTIONS_INIT;
    COMMON(options);
    if (call->alone) {
        flowmesh_error_t *error = NULL;
        flowmesh_message_batch_t *batch = NULL;
        (void)!flowmesh_stream_reader_next(reader, &options, &batch, &error);
        ENDED(on_batch, error, batch);
    }
    return accepted(flowmesh_stream_reader_next_async(reader, &options, on_batch, call, NULL, NULL,
                                                      &call->refusal));
}

bool fm_stream_commit(fm_call_t *call, const flowmesh_stream_t *stream, const char *group,
                      int64_t offset)
{
    flowmesh_offset_options_t options = FLOWMESH_OFFSET_OPTIONS_INIT;
    COMMON(options);
    if (call->alone) {
        flowmesh_error_t *error = NULL;
        (void)!flowmesh_stream_commit_offset(stream, group, offset, &options, &error);
        ENDED(fm_on_done, error);
    }
    return accepted(flowmesh_stream_commit_offset_async(stream, group, offset, &options, fm_on_done,
                                                        call, NULL, NULL, &call->refusal));
}

bool fm_stream_committed(fm_call_t *call, const flowmesh_stream_t *stream, const char *group)
{
    flowmesh_offset_options_t options = FLOWMESH_OFFSET_OPTIONS_INIT;
    COMMON(options);
    return accepted(flowmesh_stream_get_offset_async(stream, group, &options, on_offset, call, NULL,
                                                     NULL, &call->refusal));
}

bool fm_stream_latest(fm_call_t *call, const flowmesh_stream_t *stream)
{
    flowmesh_offset_options_t options = FLOWMESH_OFFSET_OPTIONS_INIT;
    COMMON(options);
    return accepted(flowmesh_stream_latest_offset_async(stream, &options, on_offset, call, NULL,
                                                        NULL, &call->refusal));
}

bool fm_stream_group(fm_call_t *call, const flowmesh_stream_t *stream, const char *group)
{
    flowmesh_offset_options_t options = FLOWMESH_OFFSET_OPTIONS_INIT;
    COMMON(options);
    return accepted(flowmesh_stream_group_state_async(stream, group, &options, on_group, call, NULL,
                                                      NULL, &call->refusal));
}

bool fm_queue_enqueue(fm_call_t *call, const flowmesh_queue_t *queue, const uint8_t *bytes,
                      const uint64_t *lengths, int64_t delay_ms)
{
    flowmesh_enqueue_options_t options = FLOWMESH_ENQUEUE_OPTIONS_INIT;
    COMMON(options);
    options.delay_ms = delay_ms;
    size_t header_count = count_headers(lengths, 1);
    flowmesh_header_t *headers = header_count > 0 ? fm_alloc(header_count, sizeof *headers) : NULL;
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    const uint8_t *next = bytes;
    fm_event_unpack(&event, headers, &next, &lengths);
    options.headers = headers;
    options.header_count = header_count;
    bool ok = true;
    if (call->alone) {
        flowmesh_error_t *error = NULL;
        char id[FLOWMESH_JOB_ID_SIZE] = "";
        int64_t seq = -1;
        (void)!flowmesh_queue_enqueue(queue, event.payload, &options, id, &seq, &error);
        on_enqueued(error, id, seq, call);
    } else {
        ok = accepted(flowmesh_queue_enqueue_async(queue, event.payload, &options, on_enqueued,
                                                   call, NULL, NULL, &call->refusal));
    }
    free(headers);
    return ok;
}

bool fm_queue_reserve(fm_call_t *call, const flowmesh_queue_t *queue, int64_t lease_ms,
                      int64_t wait_ms)
{
    flowmesh_reserve_options_t options = FLOWMESH_RESERVE_OPTIONS_INIT;
    COMMON(options);
    options.visibility_timeout_ms = lease_ms;
    options.wait_ms = wait_ms;
    if (call->alone) {
        flowmesh_error_t *error = NULL;
        flowmesh_job_t *job = NULL;
        (void)!flowmesh_queue_reserve(queue, &options, &job, &error);
        ENDED(on_job, error, job);
    }
    return accepted(
        flowmesh_queue_reserve_async(queue, &options, on_job, call, NULL, NULL, &call->refusal));
}

bool fm_queue_receive(fm_call_t *call, const flowmesh_queue_t *queue, int32_t max, int64_t lease_ms,
                      int64_t wait_ms)
{
    flowmesh_reserve_options_t options = FLOWMESH_RESERVE_OPTIONS_INIT;
    COMMON(options);
    options.visibility_timeout_ms = lease_ms;
    options.wait_ms = wait_ms;
    if (call->alone) {
        flowmesh_error_t *error = NULL;
        flowmesh_job_batch_t *batch = NULL;
        (void)!flowmesh_queue_receive(queue, max, &options, &batch, &error);
        ENDED(on_jobs, error, batch);
    }
    return accepted(flowmesh_queue_receive_async(queue, max, &options, on_jobs, call, NULL, NULL,
                                                 &call->refusal));
}

bool fm_queue_ack(fm_call_t *call, const flowmesh_queue_t *queue, const char *job_id)
{
    flowmesh_call_options_t options = FLOWMESH_CALL_OPTIONS_INIT;
    COMMON(options);
    if (call->alone) {
        flowmesh_error_t *error = NULL;
        (void)!flowmesh_queue_ack(queue, job_id, &options, &error);
        ENDED(fm_on_done, error);
    }
    return accepted(flowmesh_queue_ack_async(queue, job_id, &options, fm_on_done, call, NULL, NULL,
                                             &call->refusal));
}

/* Acks of many jobs that are one call for Go. */
typedef struct {
    fm_call_t *call;
    atomic_size_t running;
    atomic_size_t acked;
    _Atomic(flowmesh_error_t *) first;
} acks_t;

static void on_one_acked(flowmesh_error_t *error, void *user_data)
{
    acks_t *acks = user_data;
    flowmesh_error_t *none = NULL;
    if (error == NULL) {
        atomic_fetch_add(&acks->acked, 1);
    } else if (!atomic_compare_exchange_strong(&acks->first, &none, error)) {
        flowmesh_error_free(error);
    }
    if (atomic_fetch_sub(&acks->running, 1) == 1) {
        acks->call->number[0] = (int64_t)atomic_load(&acks->acked);
        fm_call_done(acks->call, atomic_load(&acks->first));
        free(acks);
    }
}

bool fm_queue_ack_all(fm_call_t *call, const flowmesh_queue_t *queue, const char *ids, size_t count)
{
    flowmesh_call_options_t options = FLOWMESH_CALL_OPTIONS_INIT;
    COMMON(options);
    acks_t *acks = fm_alloc(1, sizeof *acks);
    acks->call = call;
    /* The last one is begun before the call can end. */
    atomic_init(&acks->running, count);
    for (size_t i = 0; i < count; i++) {
        flowmesh_error_t *refusal = NULL;
        flowmesh_status_t status = flowmesh_queue_ack_async(queue, ids, &options, on_one_acked,
                                                            acks, NULL, NULL, &refusal);
        ids += strlen(ids) + 1;
        if (status != FLOWMESH_OK) {
            on_one_acked(refusal, acks);
        }
    }
    return true;
}

bool fm_queue_nack(fm_call_t *call, const flowmesh_queue_t *queue, const char *job_id,
                   int64_t delay_ms)
{
    flowmesh_nack_options_t options = FLOWMESH_NACK_OPTIONS_INIT;
    COMMON(options);
    options.delay_ms = delay_ms;
    if (call->alone) {
        flowmesh_error_t *error = NULL;
        bool dead_lettered = false;
        (void)!flowmesh_queue_nack(queue, job_id, &options, &dead_lettered, &error);
        ENDED(on_bool, error, dead_lettered);
    }
    return accepted(flowmesh_queue_nack_async(queue, job_id, &options, on_bool, call, NULL, NULL,
                                              &call->refusal));
}

bool fm_queue_stats(fm_call_t *call, const flowmesh_queue_t *queue)
{
    flowmesh_call_options_t options = FLOWMESH_CALL_OPTIONS_INIT;
    COMMON(options);
    return accepted(flowmesh_queue_stats_async(queue, &options, on_queue_stats, call, NULL, NULL,
                                               &call->refusal));
}

bool fm_queue_set_policy(fm_call_t *call, const flowmesh_queue_t *queue, int32_t max_attempts,
                         int32_t strategy, int64_t initial_ms, int64_t max_ms, double multiplier)
{
    flowmesh_call_options_t options = FLOWMESH_CALL_OPTIONS_INIT;
    COMMON(options);
    flowmesh_retry_policy_t policy = FLOWMESH_RETRY_POLICY_INIT;
    policy.max_attempts = max_attempts;
    policy.backoff_strategy = strategy;
    policy.initial_backoff_ms = initial_ms;
    policy.max_backoff_ms = max_ms;
    policy.backoff_multiplier = multiplier;
    return accepted(flowmesh_queue_set_retry_policy_async(queue, &policy, &options, fm_on_done,
                                                          call, NULL, NULL, &call->refusal));
}

bool fm_queue_get_policy(fm_call_t *call, const flowmesh_queue_t *queue)
{
    flowmesh_call_options_t options = FLOWMESH_CALL_OPTIONS_INIT;
    COMMON(options);
    return accepted(flowmesh_queue_get_retry_policy_async(queue, &options, on_policy, call, NULL,
                                                          NULL, &call->refusal));
}

bool fm_queue_dead_letters(fm_call_t *call, const flowmesh_queue_t *queue, int32_t max)
{
    flowmesh_call_options_t options = FLOWMESH_CALL_OPTIONS_INIT;
    COMMON(options);
    return accepted(flowmesh_queue_list_dlq_jobs_async(queue, max, &options, on_jobs, call, NULL,
                                                       NULL, &call->refusal));
}

bool fm_queue_replay(fm_call_t *call, const flowmesh_queue_t *queue, const char *job_id)
{
    flowmesh_call_options_t options = FLOWMESH_CALL_OPTIONS_INIT;
    COMMON(options);
    return accepted(flowmesh_queue_replay_dlq_job_async(queue, job_id, &options, on_enqueued, call,
                                                        NULL, NULL, &call->refusal));
}
