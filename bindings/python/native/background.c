/*
 * Producers and workers. What their callbacks are told is laid out at once, and goes to Python as
 * the next record of what was opened. A worker leaves its jobs to Python, which settles them by
 * number.
 */

#include "call.h"

/* A piece of what is told: its head, and room for the body that `end_piece` measures. */
static size_t begin_piece(struct buffer *out, uint64_t number, int32_t what)
{
    buffer_i64(out, (int64_t)number);
    buffer_i32(out, what);
    buffer_u32(out, 0);
    return out->length;
}

static void end_piece(struct buffer *out, size_t body)
{
    if (out->failed) {
        abort(); /* no memory; going on would lose a report or a job */
    }
    uint32_t size = (uint32_t)(out->length - body);
    memcpy(out->data + body - sizeof size, &size, sizeof size);
}

static void put_report(struct buffer *out, const flowmesh_report_t *report)
{
    size_t body = begin_piece(out, (uint64_t)(uintptr_t)report->message_data, report->status);
    if (report->status == FLOWMESH_OK) {
        buffer_i64(out, report->position);
        if (report->job_id != NULL) {
            buffer_put(out, report->job_id, strlen(report->job_id));
        }
    } else {
        layout_error(out, report->error);
    }
    end_piece(out, body);
}

static void on_reports(const flowmesh_report_batch_t *reports, void *user_data)
{
    struct fm_call *call = user_data;
    pthread_mutex_lock(&call->session->mutex);
    for (size_t i = 0; i < flowmesh_report_batch_count(reports); i++) {
        put_report(&call->result.background.told, flowmesh_report_batch_at(reports, i));
    }
    call_list(call);
    pthread_mutex_unlock(&call->session->mutex);
}

static void on_writable(void *user_data)
{
    struct fm_call *call = user_data;
    struct buffer *told = &call->result.background.told;
    pthread_mutex_lock(&call->session->mutex);
    end_piece(told, begin_piece(told, 0, 0));
    call_list(call);
    pthread_mutex_unlock(&call->session->mutex);
}

/* A number for the job, from 1 on. The mutex is held. */
static size_t job_put(struct background *background, flowmesh_job_t *job)
{
    size_t at = 0;
    while (at < background->room && background->jobs[at] != NULL) {
        at++;
    }
    if (at == background->room) {
        size_t room = background->room == 0 ? 16 : background->room * 2;
        flowmesh_job_t **jobs = realloc(background->jobs, room * sizeof(*jobs));
        if (jobs == NULL) {
            abort(); /* as in end_piece */
        }
        memset(jobs + at, 0, (room - at) * sizeof(*jobs));
        background->jobs = jobs;
        background->room = room;
    }
    background->jobs[at] = job;
    return at + 1;
}

static flowmesh_verdict_t on_job(flowmesh_job_t *job, int64_t *delay_ms, void *user_data)
{
    (void)delay_ms;
    struct fm_call *call = user_data;
    struct background *background = &call->result.background;
    pthread_mutex_lock(&call->session->mutex);
    bool closed = background->closed;
    if (!closed) {
        size_t body = begin_piece(&background->told, job_put(background, job), 0);
        layout_job(&background->told, job);
        end_piece(&background->told, body);
        call_list(call);
    }
    pthread_mutex_unlock(&call->session->mutex);
    if (closed) {
        flowmesh_job_free(job); /* it comes again at the end of its lease */
    }
    return FLOWMESH_VERDICT_LEAVE;
}

static void on_event(const flowmesh_worker_event_t *event, void *user_data)
{
    struct fm_call *call = user_data;
    struct buffer *told = &call->result.background.told;
    pthread_mutex_lock(&call->session->mutex);
    size_t body = begin_piece(told, 0, event->kind);
    buffer_i64(told, event->seq);
    buffer_i32(told, event->attempts);
    buffer_u32(told, strlen(event->job_id));
    buffer_i32(told, event->reason == NULL ? FLOWMESH_OK : flowmesh_error_status(event->reason));
    buffer_put(told, event->job_id, strlen(event->job_id));
    if (event->reason != NULL) {
        layout_error(told, event->reason);
    }
    end_piece(told, body);
    call_list(call);
    pthread_mutex_unlock(&call->session->mutex);
}

/* Ends what call_begin began: the id, or 0 when opening failed. */
static int64_t opened(struct fm_call *call, flowmesh_status_t status)
{
    int64_t id = call->id;
    if (status != FLOWMESH_OK) {
        call_forget(call);
        id = 0;
    }
    call_drop(call);
    return id;
}

int64_t fm_producer_open(fm_session_t *session, const flowmesh_stream_t *stream,
                         const flowmesh_queue_t *queue, const flowmesh_producer_options_t *options,
                         flowmesh_error_t **error)
{
    struct fm_call *call = call_begin(session, PRODUCER);
    if (call == NULL) {
        return 0;
    }
    flowmesh_producer_t **producer = &call->result.background.producer;
    flowmesh_status_t status =
        flowmesh_producer_options_set_report_callback(options, on_reports, call, call_drop, error);
    if (status == FLOWMESH_OK) {
        call_retain(call);
        status = flowmesh_producer_options_set_writable_callback(options, on_writable, call,
                                                                 call_drop, error);
    }
    if (status == FLOWMESH_OK) {
        status = stream != NULL ? flowmesh_stream_producer_open(stream, options, producer, error)
                                : flowmesh_queue_producer_open(queue, options, producer, error);
    }
    return opened(call, status);
}

/* What was opened under an id, with one more reference. NULL: nothing, or it was closed. */
static struct fm_call *background_find(fm_session_t *session, int64_t id)
{
    struct fm_call *call = call_find(session, id);
    if (call != NULL && call->kind != PRODUCER && call->kind != WORKER) {
        call_drop(call);
        return NULL;
    }
    return call;
}

int32_t fm_producer_send(fm_session_t *session, int64_t id, const uint8_t *payload, size_t length,
                         const uint8_t *packed, size_t header_count, int64_t delay_ms,
                         uint64_t number, flowmesh_error_t **error)
{
    struct fm_call *call = background_find(session, id);
    flowmesh_header_t few[8];
    flowmesh_header_t *headers = header_count <= 8 ? few : malloc(header_count * sizeof *headers);
    if (call == NULL || headers == NULL) {
        if (call != NULL) {
            call_drop(call);
        }
        return call == NULL ? FLOWMESH_CLOSED : FLOWMESH_RESOURCE_EXHAUSTED;
    }
    read_headers(&packed, headers, header_count);
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    event.payload = flowmesh_view_bytes(payload, length);
    event.headers = headers;
    event.header_count = header_count;
    const flowmesh_producer_t *producer = call->result.background.producer;
    void *data = (void *)(uintptr_t)number;
    flowmesh_status_t status =
        delay_ms == 0 ? flowmesh_producer_send(producer, &event, data, 0, error)
                      : flowmesh_producer_send_delayed(producer, &event, delay_ms, data, 0, error);
    if (headers != few) {
        free(headers);
    }
    call_drop(call);
    return status;
}

static void on_flushed(flowmesh_error_t *error, void *user_data)
{
    call_complete(user_data, error);
}

static void on_closed(flowmesh_error_t *error, size_t count, void *user_data)
{
    struct fm_call *call = user_data;
    call->result.number = (int64_t)count;
    call_complete(call, error);
}

int64_t fm_producer_flush(fm_session_t *session, int64_t id)
{
    struct fm_call *of = background_find(session, id);
    struct fm_call *call = of == NULL ? NULL : call_begin(session, DONE);
    int64_t started = 0;
    if (call != NULL) {
        flowmesh_operation_t *operation = NULL;
        flowmesh_error_t *error = NULL;
        flowmesh_status_t status = flowmesh_producer_flush_async(
            of->result.background.producer, -1, on_flushed, call, call_drop, &operation, &error);
        started = call_started(call, status, operation, error);
    }
    if (of != NULL) {
        call_drop(of);
    }
    return started;
}

int64_t fm_background_close(fm_session_t *session, int64_t id, int64_t timeout_ms)
{
    struct fm_call *of = background_find(session, id);
    struct fm_call *call = of == NULL ? NULL : call_begin(session, NUMBER);
    int64_t started = 0;
    if (call != NULL) {
        flowmesh_operation_t *operation = NULL;
        flowmesh_error_t *error = NULL;
        const struct background *background = &of->result.background;
        flowmesh_status_t status =
            of->kind == PRODUCER
                ? flowmesh_producer_close_async(background->producer, timeout_ms, on_closed, call,
                                                call_drop, &operation, &error)
                : flowmesh_worker_close_async(background->worker, timeout_ms, on_closed, call,
                                              call_drop, &operation, &error);
        started = call_started(call, status, operation, error);
    }
    if (of != NULL) {
        call_drop(of);
    }
    return started;
}

int64_t fm_worker_open(fm_session_t *session, const flowmesh_queue_t *queue,
                       const flowmesh_worker_options_t *options, flowmesh_error_t **error)
{
    struct fm_call *call = call_begin(session, WORKER);
    if (call == NULL) {
        return 0;
    }
    call_retain(call);
    flowmesh_status_t status =
        flowmesh_worker_options_set_event_callback(options, on_event, call, call_drop, error);
    if (status == FLOWMESH_OK) {
        status = flowmesh_worker_options_set_dispatcher(options, session->dispatcher, error);
    }
    if (status == FLOWMESH_OK) {
        status = flowmesh_worker_open(queue, options, on_job, call, call_drop,
                                      &call->result.background.worker, error);
    } else {
        call_drop(call); /* the handler's reference, which the library did not get */
    }
    return opened(call, status);
}

int32_t fm_worker_settle(fm_session_t *session, int64_t id, uint64_t number, int32_t verdict,
                         int64_t delay_ms, flowmesh_error_t **error)
{
    struct fm_call *call = background_find(session, id);
    if (call == NULL) {
        return FLOWMESH_CLOSED;
    }
    struct background *background = &call->result.background;
    flowmesh_job_t *job = NULL;
    pthread_mutex_lock(&session->mutex);
    if (number >= 1 && number <= background->room) {
        job = background->jobs[number - 1];
        background->jobs[number - 1] = NULL;
    }
    pthread_mutex_unlock(&session->mutex);
    flowmesh_status_t status =
        job == NULL ? FLOWMESH_CLOSED : flowmesh_job_settle(job, verdict, delay_ms, error);
    if (status == FLOWMESH_INVALID_ARGUMENT &&
        flowmesh_job_settle(job, verdict, 0, NULL) != FLOWMESH_OK) {
        status = FLOWMESH_CLOSED; /* a delay that cannot be, of a job that is lost anyway */
    }
    flowmesh_job_free(job);
    call_drop(call);
    return status;
}

int32_t fm_worker_stop(fm_session_t *session, int64_t id, flowmesh_error_t **error)
{
    struct fm_call *call = background_find(session, id);
    if (call == NULL) {
        return FLOWMESH_CLOSED;
    }
    flowmesh_status_t status = flowmesh_worker_stop(call->result.background.worker, error);
    call_drop(call);
    return status;
}

static void free_jobs(flowmesh_job_t **jobs, size_t room)
{
    for (size_t i = 0; i < room; i++) {
        flowmesh_job_free(jobs[i]);
    }
    free(jobs);
}

void fm_background_free(fm_session_t *session, int64_t id)
{
    struct fm_call *call = background_find(session, id);
    if (call == NULL) {
        return;
    }
    struct background *background = &call->result.background;
    pthread_mutex_lock(&session->mutex);
    background->closed = true;
    flowmesh_producer_t *producer = background->producer;
    flowmesh_worker_t *worker = background->worker;
    background->producer = NULL;
    background->worker = NULL;
    flowmesh_job_t **jobs = background->jobs;
    size_t room = background->room;
    background->jobs = NULL;
    background->room = 0;
    pthread_mutex_unlock(&session->mutex);
    flowmesh_producer_free(producer);
    flowmesh_worker_free(worker);
    free_jobs(jobs, room);
    call_forget(call);
    call_drop(call);
}

void background_release(struct background *background)
{
    free_jobs(background->jobs, background->room);
    flowmesh_producer_free(background->producer);
    flowmesh_worker_free(background->worker);
    buffer_free(&background->told);
}
