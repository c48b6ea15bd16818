/* Results as bytes, in the layouts of glue.h, and their release. */

#include "call.h"

void layout_error(struct buffer *out, const flowmesh_error_t *error)
{
    const char *message = flowmesh_error_message(error);
    const char *detail = flowmesh_error_detail(error);
    buffer_i32(out, flowmesh_error_outcome(error));
    buffer_u32(out, flowmesh_error_retryable(error));
    buffer_u32(out, strlen(message));
    buffer_put(out, message, strlen(message));
    buffer_put(out, detail, strlen(detail));
}

static void put_view(struct buffer *out, flowmesh_view_t view)
{
    buffer_put(out, view.data, view.len);
}

static size_t headers_size(const flowmesh_header_t *headers, size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        size += 2 * sizeof(uint32_t) + headers[i].key.len + headers[i].value.len;
    }
    return size;
}

static void put_headers(struct buffer *out, const flowmesh_header_t *headers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        buffer_u32(out, headers[i].key.len);
        buffer_u32(out, headers[i].value.len);
        put_view(out, headers[i].key);
        put_view(out, headers[i].value);
    }
}

/* Everything in a batch is of one stream or queue. */
static void put_head(struct buffer *out, size_t count, flowmesh_view_t path)
{
    buffer_u32(out, count);
    buffer_u32(out, path.len);
    put_view(out, path);
}

void layout_messages(struct buffer *out, const flowmesh_message_batch_t *batch)
{
    const flowmesh_view_t nowhere = FLOWMESH_VIEW_INIT;
    size_t count = flowmesh_message_batch_count(batch);
    put_head(out, count, count > 0 ? flowmesh_message_batch_at(batch, 0)->resource_path : nowhere);
    for (size_t i = 0; i < count; i++) {
        const flowmesh_message_t *message = flowmesh_message_batch_at(batch, i);
        buffer_i64(out, message->offset);
        buffer_i64(out, message->created_at_ns);
        buffer_i32(out, message->partition);
        buffer_i32(out, message->schema_version);
        buffer_u32(out, message->id.len);
        buffer_u32(out, headers_size(message->headers, message->header_count));
        buffer_u32(out, message->payload.len);
    }
    for (size_t i = 0; i < count; i++) {
        const flowmesh_message_t *message = flowmesh_message_batch_at(batch, i);
        put_view(out, message->id);
        put_headers(out, message->headers, message->header_count);
        put_view(out, message->payload);
    }
}

static void put_job_head(struct buffer *out, const flowmesh_job_t *job)
{
    buffer_i64(out, job->seq);
    buffer_i64(out, job->created_at_ns);
    buffer_i64(out, job->visible_at_ns);
    buffer_i64(out, job->reserve_until_ns);
    buffer_i32(out, job->attempts);
    buffer_u32(out, strlen(job->id));
    buffer_u32(out, headers_size(job->headers, job->header_count));
    buffer_u32(out, job->payload.len);
}

static void put_job_body(struct buffer *out, const flowmesh_job_t *job)
{
    buffer_put(out, job->id, strlen(job->id));
    put_headers(out, job->headers, job->header_count);
    put_view(out, job->payload);
}

void layout_job(struct buffer *out, const flowmesh_job_t *job)
{
    const flowmesh_view_t nowhere = FLOWMESH_VIEW_INIT;
    put_head(out, job != NULL, job != NULL ? job->resource_path : nowhere);
    if (job != NULL) {
        put_job_head(out, job);
        put_job_body(out, job);
    }
}

static void layout_jobs(struct buffer *out, const flowmesh_job_batch_t *batch)
{
    const flowmesh_view_t nowhere = FLOWMESH_VIEW_INIT;
    size_t count = flowmesh_job_batch_count(batch);
    put_head(out, count, count > 0 ? flowmesh_job_batch_at(batch, 0)->resource_path : nowhere);
    for (size_t i = 0; i < count; i++) {
        put_job_head(out, flowmesh_job_batch_at(batch, i));
    }
    for (size_t i = 0; i < count; i++) {
        put_job_body(out, flowmesh_job_batch_at(batch, i));
    }
}

static void layout_keys(struct buffer *out, const flowmesh_key_list_t *keys)
{
    size_t count = flowmesh_key_list_count(keys);
    for (size_t i = 0; i < count; i++) {
        flowmesh_view_t key = flowmesh_key_list_at(keys, i);
        buffer_u32(out, key.len);
        put_view(out, key);
    }
}

void layout_result(struct buffer *out, const struct fm_call *call)
{
    switch (call->kind) {
    case DONE:
    case SUBSCRIPTION:
    case PRODUCER:
    case WORKER:
        break;
    case FLAG:
        buffer_i64(out, call->result.flag);
        break;
    case NUMBER:
        buffer_i64(out, call->result.number);
        break;
    case VALUE:
        put_view(out, flowmesh_value_data(call->result.value));
        break;
    case KEYS:
        layout_keys(out, call->result.keys);
        break;
    case MESSAGES:
        layout_messages(out, call->result.messages);
        break;
    case OFFSETS:
        buffer_put(out, call->result.offsets.at, call->result.offsets.count * sizeof(int64_t));
        break;
    case JOB:
        layout_job(out, call->result.job);
        break;
    case JOBS:
        layout_jobs(out, call->result.jobs);
        break;
    case ENQUEUED:
        buffer_i64(out, call->result.enqueued.seq);
        buffer_put(out, call->result.enqueued.job_id, strlen(call->result.enqueued.job_id));
        break;
    case STATS:
        buffer_i64(out, call->result.stats.total_jobs);
        buffer_i64(out, call->result.stats.pending_jobs);
        buffer_i64(out, call->result.stats.in_flight_jobs);
        buffer_i64(out, call->result.stats.completed_jobs);
        buffer_i64(out, call->result.stats.failed_jobs);
        buffer_i64(out, call->result.stats.oldest_job_age_ms);
        break;
    case POLICY:
        buffer_i32(out, call->result.policy.max_attempts);
        buffer_i32(out, call->result.policy.backoff_strategy);
        buffer_i64(out, call->result.policy.initial_backoff_ms);
        buffer_i64(out, call->result.policy.max_backoff_ms);
        buffer_put(out, &call->result.policy.backoff_multiplier, sizeof(double));
        break;
    case GROUP_STATE:
        buffer_i64(out, call->result.state.committed_offset);
        buffer_i64(out, call->result.state.latest_offset);
        buffer_i64(out, call->result.state.lag);
        break;
    }
}

void call_release_result(struct fm_call *call)
{
    switch (call->kind) {
    case VALUE:
        flowmesh_value_free(call->result.value);
        break;
    case KEYS:
        flowmesh_key_list_free(call->result.keys);
        break;
    case MESSAGES:
        flowmesh_message_batch_free(call->result.messages);
        break;
    case OFFSETS:
        free(call->result.offsets.at);
        break;
    case JOB:
        flowmesh_job_free(call->result.job);
        break;
    case JOBS:
        flowmesh_job_batch_free(call->result.jobs);
        break;
    case SUBSCRIPTION:
        following_release(&call->result.following);
        break;
    case PRODUCER:
    case WORKER:
        background_release(&call->result.background);
        break;
    case DONE:
    case FLAG:
    case NUMBER:
    case ENQUEUED:
    case STATS:
    case POLICY:
    case GROUP_STATE:
        break;
    }
}
