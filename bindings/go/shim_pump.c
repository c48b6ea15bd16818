/* The pump, its list, and the life of a call. What each operation does is in shim_calls.c. */
#include "shim_internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct fm_pump {
    flowmesh_dispatcher_t *dispatcher;
    /* A shutdown runs callbacks in threads of its own, also at the same time as the pump. */
    pthread_mutex_t lock;
    bool running;
    fm_node_t *first;
    fm_node_t *last;
};

void *fm_alloc(size_t count, size_t size)
{
    void *memory = calloc(count > 0 ? count : 1, size);
    if (memory == NULL) {
        abort();
    }
    return memory;
}

char *fm_copy_text(const char *text)
{
    size_t size = strlen(text) + 1;
    return memcpy(fm_alloc(size, 1), text, size);
}

fm_pump_t *fm_pump_new(flowmesh_error_t **error)
{
    flowmesh_dispatcher_t *dispatcher = NULL;
    if (flowmesh_dispatcher_new(0, &dispatcher, error) != FLOWMESH_OK) {
        return NULL;
    }
    fm_pump_t *pump = fm_alloc(1, sizeof *pump);
    pump->dispatcher = dispatcher;
    pthread_mutex_init(&pump->lock, NULL);
    return pump;
}

int32_t fm_pump_fd(const fm_pump_t *pump)
{
    int fd = -1;
    if (flowmesh_dispatcher_fd(pump->dispatcher, &fd, NULL) != FLOWMESH_OK) {
        return -1;
    }
    return fd;
}

const flowmesh_dispatcher_t *fm_pump_dispatcher(const fm_pump_t *pump)
{
    return pump->dispatcher;
}

fm_node_t *fm_pump_run(fm_pump_t *pump, bool *closed)
{
    pthread_mutex_lock(&pump->lock);
    pump->running = true;
    pthread_mutex_unlock(&pump->lock);
    *closed = flowmesh_dispatcher_run(pump->dispatcher, 0, 0, NULL, NULL) != FLOWMESH_OK;
    pthread_mutex_lock(&pump->lock);
    fm_node_t *first = pump->first;
    pump->first = NULL;
    pump->last = NULL;
    pump->running = false;
    pthread_mutex_unlock(&pump->lock);
    return first;
}

void fm_pump_free(fm_pump_t *pump)
{
    flowmesh_dispatcher_free(pump->dispatcher);
    pthread_mutex_destroy(&pump->lock);
    free(pump);
}

void fm_push(fm_pump_t *pump, fm_node_t *node)
{
    node->next = NULL;
    pthread_mutex_lock(&pump->lock);
    if (pump->last == NULL) {
        pump->first = node;
    } else {
        pump->last->next = node;
    }
    pump->last = node;
    bool running = pump->running;
    pthread_mutex_unlock(&pump->lock);
    if (!running) {
        flowmesh_dispatcher_wake(pump->dispatcher, NULL);
    }
}

void fm_calls_new(fm_pump_t *pump, fm_call_t **calls, size_t count, uint64_t first_id)
{
    for (size_t i = 0; i < count; i++) {
        calls[i] = fm_alloc(1, sizeof **calls);
        calls[i]->node.kind = FM_CALL;
        calls[i]->node.id = first_id + i;
        calls[i]->pump = pump;
    }
}

void fm_call_arm(fm_call_t *call)
{
    if (call->cancel == NULL && flowmesh_cancel_new(&call->cancel, NULL) != FLOWMESH_OK) {
        call->cancel = NULL; /* the call then ends at its deadline */
    }
}

void fm_call_cancel(fm_call_t *call)
{
    call->cancelled = true;
    if (call->cancel != NULL) {
        flowmesh_cancel_cancel(call->cancel, NULL);
    }
    if (call->operation != NULL) {
        flowmesh_operation_cancel(call->operation, NULL);
    }
}

void fm_call_clear(fm_call_t *call)
{
    if (call->cancelled) {
        flowmesh_cancel_free(call->cancel);
        call->cancel = NULL;
        call->cancelled = false;
    }
    flowmesh_operation_free(call->operation);
    call->operation = NULL;
    flowmesh_error_free(call->refusal);
    call->refusal = NULL;
    flowmesh_error_free(call->error);
    call->error = NULL;
    if (call->object != NULL) {
        call->free_object(call->object);
        call->object = NULL;
    }
    free(call->traceparent);
    call->traceparent = NULL;
    free(call->tracestate);
    call->tracestate = NULL;
    call->data = NULL;
    call->len = 0;
}

void fm_call_free(fm_call_t *call)
{
    fm_call_clear(call);
    flowmesh_cancel_free(call->cancel);
    free(call);
}

void fm_call_done(fm_call_t *call, flowmesh_error_t *error)
{
    call->error = error;
    if (!call->alone) {
        fm_push(call->pump, &call->node);
    }
}

void fm_on_done(flowmesh_error_t *error, void *user_data)
{
    fm_call_done(user_data, error);
}

void fm_on_count(flowmesh_error_t *error, size_t count, void *user_data)
{
    fm_call_t *call = user_data;
    call->number[0] = (int64_t)count;
    fm_call_done(call, error);
}

void fm_error_read(const flowmesh_error_t *error, fm_failure_t *failure)
{
    failure->status = flowmesh_error_status(error);
    failure->outcome = flowmesh_error_outcome(error);
    failure->retryable = flowmesh_error_retryable(error);
    failure->message = flowmesh_error_message(error);
    failure->detail = flowmesh_error_detail(error);
}

void fm_failure_copy(fm_failure_t *failure, const flowmesh_error_t *error)
{
    fm_error_read(error, failure);
    failure->message = fm_copy_text(failure->message);
    failure->detail = fm_copy_text(failure->detail);
}

void fm_failure_free(fm_failure_t *failure)
{
    free((char *)failure->message);
    free((char *)failure->detail);
}

void fm_event_free(fm_event_t *event)
{
    fm_failure_free(&event->reason);
    free(event);
}

static size_t headers_bytes(const flowmesh_header_t *headers, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += headers[i].key.len + headers[i].value.len;
    }
    return bytes;
}

fm_messages_t *fm_messages_of(flowmesh_message_batch_t *batch)
{
    size_t count = flowmesh_message_batch_count(batch);
    fm_messages_t *messages = fm_alloc(1, sizeof *messages + count * sizeof(void *));
    messages->batch = batch;
    messages->count = count;
    messages->items = (const flowmesh_message_t **)(messages + 1);
    for (size_t i = 0; i < count; i++) {
        const flowmesh_message_t *m = flowmesh_message_batch_at(batch, i);
        messages->items[i] = m;
        messages->bytes += m->payload.len + m->id.len + headers_bytes(m->headers, m->header_count);
    }
    return messages;
}

fm_messages_t *fm_messages_take(fm_call_t *call)
{
    flowmesh_message_batch_t *batch = call->object;
    call->object = NULL;
    return fm_messages_of(batch);
}

void fm_messages_free(fm_messages_t *messages)
{
    flowmesh_message_batch_free(messages->batch);
    free(messages);
}

static fm_jobs_t *jobs_new(size_t count)
{
    fm_jobs_t *jobs = fm_alloc(1, sizeof *jobs + count * (sizeof(void *) + sizeof(int64_t)));
    jobs->count = count;
    jobs->items = (const flowmesh_job_t **)(jobs + 1);
    jobs->left_ms = (int64_t *)(jobs->items + count);
    return jobs;
}

static void jobs_fill(fm_jobs_t *jobs, size_t i, const flowmesh_job_t *job)
{
    jobs->items[i] = job;
    jobs->left_ms[i] = flowmesh_job_time_left_ms(job);
    jobs->bytes += job->payload.len + headers_bytes(job->headers, job->header_count);
}

fm_jobs_t *fm_jobs_of(flowmesh_job_t *job)
{
    fm_jobs_t *jobs = jobs_new(1);
    jobs_fill(jobs, 0, job);
    return jobs;
}

void fm_free_jobs(void *batch)
{
    flowmesh_job_batch_free(batch);
}

fm_jobs_t *fm_jobs_take(fm_call_t *call)
{
    fm_jobs_t *jobs;
    if (call->free_object == fm_free_jobs) {
        flowmesh_job_batch_t *batch = call->object;
        size_t count = flowmesh_job_batch_count(batch);
        jobs = jobs_new(count);
        jobs->batch = batch;
        for (size_t i = 0; i < count; i++) {
            jobs_fill(jobs, i, flowmesh_job_batch_at(batch, i));
        }
    } else {
        flowmesh_job_t *job = call->object;
        jobs = fm_jobs_of(job);
        jobs->job = job;
    }
    call->object = NULL;
    return jobs;
}

void fm_jobs_free(fm_jobs_t *jobs)
{
    flowmesh_job_batch_free(jobs->batch);
    flowmesh_job_free(jobs->job);
    free(jobs);
}

void fm_event_unpack(flowmesh_event_t *event, flowmesh_header_t *headers, const uint8_t **bytes,
                     const uint64_t **lengths)
{
    event->size = sizeof *event;
    event->payload.data = *bytes;
    event->payload.len = (size_t) * (*lengths)++;
    *bytes += event->payload.len;
    event->header_count = (size_t) * (*lengths)++;
    event->headers = headers;
    for (size_t i = 0; i < 2 * event->header_count; i++) {
        flowmesh_view_t *view = i % 2 == 0 ? &headers[i / 2].key : &headers[i / 2].value;
        view->data = *bytes;
        view->len = (size_t) * (*lengths)++;
        *bytes += view->len;
    }
}
