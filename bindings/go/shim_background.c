/* Producers and workers: what their callbacks are told goes through the pump to Go. */
#include "shim_internal.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Whom callbacks are for. Each is released by the library once. */
typedef struct {
    fm_pump_t *pump;
    uint64_t id;
    atomic_int users;
} target_t;

static target_t *target_new(fm_pump_t *pump, uint64_t id, int users)
{
    target_t *target = fm_alloc(1, sizeof *target);
    target->pump = pump;
    target->id = id;
    atomic_init(&target->users, users);
    return target;
}

static void on_drop(void *user_data)
{
    target_t *target = user_data;
    if (atomic_fetch_sub(&target->users, 1) == 1) {
        free(target);
    }
}

static void on_reports(const flowmesh_report_batch_t *batch, void *user_data)
{
    target_t *target = user_data;
    fm_reports_t *reports = fm_alloc(1, sizeof *reports);
    reports->node.kind = FM_REPORTS;
    reports->node.id = target->id;
    reports->count = flowmesh_report_batch_count(batch);
    reports->items = fm_alloc(reports->count, sizeof *reports->items);
    for (size_t i = 0; i < reports->count; i++) {
        const flowmesh_report_t *from = flowmesh_report_batch_at(batch, i);
        fm_report_t *to = &reports->items[i];
        to->tag = (uint64_t)(uintptr_t)from->message_data;
        to->position = from->position;
        to->attempts = from->attempts;
        if (from->status != FLOWMESH_OK) {
            fm_failure_copy(&to->failure, from->error);
            to->failure.status = from->status;
            to->failure.outcome = from->outcome;
        }
        if (from->job_id != NULL) {
            memcpy(to->job_id, from->job_id, FLOWMESH_JOB_ID_SIZE);
        }
    }
    fm_push(target->pump, &reports->node);
}

void fm_reports_free(fm_reports_t *reports)
{
    for (size_t i = 0; i < reports->count; i++) {
        fm_failure_free(&reports->items[i].failure);
    }
    free(reports->items);
    free(reports);
}

static fm_event_t *event_new(const target_t *target)
{
    fm_event_t *event = fm_alloc(1, sizeof *event);
    event->node.kind = FM_EVENT;
    event->node.id = target->id;
    return event;
}

static void on_writable(void *user_data)
{
    target_t *target = user_data;
    fm_push(target->pump, &event_new(target)->node);
}

int32_t fm_producer_open(const flowmesh_stream_t *stream, const flowmesh_queue_t *queue,
                         const flowmesh_producer_options_t *options, bool reports, fm_pump_t *pump,
                         uint64_t id, flowmesh_producer_t **producer, flowmesh_error_t **error)
{
    target_t *target = target_new(pump, id, reports ? 2 : 1);
    flowmesh_status_t status = flowmesh_producer_options_set_writable_callback(
        options, on_writable, target, on_drop, error);
    if (status == FLOWMESH_OK && reports) {
        status = flowmesh_producer_options_set_report_callback(options, on_reports, target, on_drop,
                                                               error);
    } else if (reports) {
        on_drop(target);
    }
    if (status != FLOWMESH_OK) {
        return status;
    }
    return stream != NULL ? flowmesh_stream_producer_open(stream, options, producer, error)
                          : flowmesh_queue_producer_open(queue, options, producer, error);
}

int32_t fm_producer_send(const flowmesh_producer_t *producer, const uint8_t *bytes,
                         const uint64_t *lengths, int64_t delay_ms, uint64_t tag,
                         flowmesh_error_t **error)
{
    flowmesh_header_t few[8];
    flowmesh_header_t *headers = lengths[1] <= 8 ? few : fm_alloc(lengths[1], sizeof *headers);
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    const uint8_t *next = bytes;
    fm_event_unpack(&event, headers, &next, &lengths);
    void *data = (void *)(uintptr_t)tag;
    flowmesh_status_t status =
        delay_ms == 0 ? flowmesh_producer_send(producer, &event, data, 0, error)
                      : flowmesh_producer_send_delayed(producer, &event, delay_ms, data, 0, error);
    if (headers != few) {
        free(headers);
    }
    return status;
}

bool fm_producer_flush(fm_call_t *call, const flowmesh_producer_t *producer)
{
    return flowmesh_producer_flush_async(producer, -1, fm_on_done, call, NULL, &call->operation,
                                         &call->refusal) == FLOWMESH_OK;
}

bool fm_producer_close(fm_call_t *call, const flowmesh_producer_t *producer, int64_t timeout_ms)
{
    return flowmesh_producer_close_async(producer, timeout_ms, fm_on_count, call, NULL,
                                         &call->operation, &call->refusal) == FLOWMESH_OK;
}

static flowmesh_verdict_t on_job(flowmesh_job_t *job, int64_t *delay_ms, void *user_data)
{
    (void)delay_ms;
    target_t *target = user_data;
    fm_handed_t *handed = fm_alloc(1, sizeof *handed);
    handed->node.kind = FM_JOB;
    handed->node.id = target->id;
    handed->job = job;
    fm_push(target->pump, &handed->node);
    return FLOWMESH_VERDICT_LEAVE;
}

void fm_handed_free(fm_handed_t *handed)
{
    flowmesh_job_free(handed->job);
    free(handed);
}

static void on_event(const flowmesh_worker_event_t *from, void *user_data)
{
    fm_event_t *event = event_new(user_data);
    event->what = from->kind;
    event->attempts = from->attempts;
    event->seq = from->seq;
    memcpy(event->job_id, from->job_id, FLOWMESH_JOB_ID_SIZE);
    if (from->reason != NULL) {
        event->has_reason = true;
        fm_failure_copy(&event->reason, from->reason);
    }
    fm_push(((target_t *)user_data)->pump, &event->node);
}

int32_t fm_worker_open(const flowmesh_queue_t *queue, const flowmesh_worker_options_t *options,
                       fm_pump_t *pump, uint64_t id, flowmesh_worker_t **worker,
                       flowmesh_error_t **error)
{
    flowmesh_status_t status =
        flowmesh_worker_options_set_dispatcher(options, fm_pump_dispatcher(pump), error);
    if (status != FLOWMESH_OK) {
        return status;
    }
    target_t *target = target_new(pump, id, 2);
    status = flowmesh_worker_options_set_event_callback(options, on_event, target, on_drop, error);
    if (status != FLOWMESH_OK) {
        on_drop(target);
        return status;
    }
    return flowmesh_worker_open(queue, options, on_job, target, on_drop, worker, error);
}

int32_t fm_worker_settle(fm_handed_t *handed, int32_t verdict, int64_t delay_ms,
                         flowmesh_error_t **error)
{
    return flowmesh_job_settle(handed->job, verdict, delay_ms, error);
}

bool fm_worker_close(fm_call_t *call, const flowmesh_worker_t *worker, int64_t timeout_ms)
{
    return flowmesh_worker_close_async(worker, timeout_ms, fm_on_count, call, NULL,
                                       &call->operation, &call->refusal) == FLOWMESH_OK;
}
