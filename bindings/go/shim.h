/*
 * Between Go and flowmesh.h: what Go cannot do itself, or only with a crossing per item.
 *
 * Completions, messages and jobs gather here, in C, while the pump runs a dispatcher, and Go takes
 * the whole list with the same call. Go's memory is never kept: user data is memory of this
 * file, found again by the number that Go gave it. Nothing here calls into Go.
 */
#ifndef FLOWMESH_GO_SHIM_H
#define FLOWMESH_GO_SHIM_H

#include <flowmesh.h>

/* What a node of the pump's list is. */
enum { FM_CALL, FM_SUBSCRIPTION, FM_EVENT, FM_REPORTS, FM_JOB };

typedef struct fm_node {
    struct fm_node *next;
    int32_t kind;
    uint64_t id; /* of the call's slot, or of the Go object that is told */
} fm_node_t;

typedef struct fm_pump fm_pump_t;

/* An error in plain C. The texts are borrowed from the error, or owned where a comment says so. */
typedef struct {
    int32_t status;
    int32_t outcome;
    bool retryable;
    const char *message;
    const char *detail;
} fm_failure_t;

/* One call under way; used again and again. */
typedef struct {
    fm_node_t node;
    fm_pump_t *pump;
    /* Set by Go before the call. */
    int64_t timeout_ms;
    bool cancellable;
    bool alone; /* to be made in the blocking form, as nothing else is under way */
    char *traceparent;
    char *tracestate;
    flowmesh_cancel_t *cancel; /* kept until it is used */
    bool cancelled;
    /* The result. */
    flowmesh_operation_t *operation;
    flowmesh_error_t *refusal; /* of a call that was not accepted */
    flowmesh_error_t *error;
    void *object;
    void (*free_object)(void *);
    const uint8_t *data;
    size_t len;
    int64_t number[6];
    double real;
    char text[FLOWMESH_JOB_ID_SIZE];
} fm_call_t;

/* Messages of one batch, for reading them from Go without a crossing for each. */
typedef struct {
    flowmesh_message_batch_t *batch;
    size_t count;
    size_t bytes; /* of all payloads, ids and headers */
    const flowmesh_message_t **items;
} fm_messages_t;

/* The same for jobs: of a batch, or a single one. */
typedef struct {
    flowmesh_job_batch_t *batch;
    flowmesh_job_t *job;
    size_t count;
    size_t bytes;
    const flowmesh_job_t **items;
    int64_t *left_ms;
} fm_jobs_t;

typedef struct fm_subscription fm_subscription_t;

/* A state of a subscription, an event of a worker, or that a producer can be written to. */
typedef struct {
    fm_node_t node;
    int32_t what;
    int32_t attempts;
    int64_t seq;
    bool has_reason;
    fm_failure_t reason; /* texts owned */
    char job_id[FLOWMESH_JOB_ID_SIZE];
} fm_event_t;

typedef struct {
    uint64_t tag;
    int64_t position;
    int32_t attempts;
    fm_failure_t failure; /* texts owned; none on success */
    char job_id[FLOWMESH_JOB_ID_SIZE];
} fm_report_t;

typedef struct {
    fm_node_t node;
    size_t count;
    fm_report_t *items;
} fm_reports_t;

/* A job that a worker hands over. */
typedef struct {
    fm_node_t node;
    flowmesh_job_t *job;
} fm_handed_t;

typedef struct fm_log_line {
    struct fm_log_line *next;
    int32_t level;
    uint64_t client_id;
    char *target;
    char *text;
} fm_log_line_t;

/* The pump. */
fm_pump_t *fm_pump_new(flowmesh_error_t **error);
int32_t fm_pump_fd(const fm_pump_t *pump);
const flowmesh_dispatcher_t *fm_pump_dispatcher(const fm_pump_t *pump);
/* Runs the callbacks that wait and gives what they gathered; *closed after a shutdown. */
fm_node_t *fm_pump_run(fm_pump_t *pump, bool *closed);
void fm_pump_free(fm_pump_t *pump);
void fm_event_free(fm_event_t *event);
void fm_reports_free(fm_reports_t *reports);
void fm_handed_free(fm_handed_t *handed);

/* Calls. */
void fm_calls_new(fm_pump_t *pump, fm_call_t **calls, size_t count, uint64_t first_id);
void fm_call_free(fm_call_t *call);
void fm_call_arm(fm_call_t *call);
void fm_call_cancel(fm_call_t *call);
void fm_call_clear(fm_call_t *call);
void fm_error_read(const flowmesh_error_t *error, fm_failure_t *failure);

/*
 * The operations: true when the call was accepted, so that the pump will hand it over, or when it
 * has ended, where it was alone; false with a refusal. Names (char *) end in NUL.
 */
bool fm_client_connect(fm_call_t *call, const flowmesh_client_t *client);
bool fm_client_close(fm_call_t *call, const flowmesh_client_t *client);
bool fm_client_health(fm_call_t *call, const flowmesh_client_t *client);
bool fm_client_ready(fm_call_t *call, const flowmesh_client_t *client);

bool fm_kv_set(fm_call_t *call, const flowmesh_kv_t *kv, const uint8_t *key, size_t key_len,
               const uint8_t *value, size_t value_len, int64_t ttl_ms);
bool fm_kv_get(fm_call_t *call, const flowmesh_kv_t *kv, const uint8_t *key, size_t key_len);
bool fm_kv_delete(fm_call_t *call, const flowmesh_kv_t *kv, const uint8_t *key, size_t key_len);
bool fm_kv_exists(fm_call_t *call, const flowmesh_kv_t *kv, const uint8_t *key, size_t key_len);
bool fm_kv_keys(fm_call_t *call, const flowmesh_kv_t *kv, const uint8_t *prefix, size_t prefix_len);

/* Events lie behind each other in `bytes`: payload, then keys and values in turn. `lengths` has for
 * each event that of its payload, its number of headers, and two for each header. */
bool fm_stream_write(fm_call_t *call, const flowmesh_stream_t *stream, const uint8_t *bytes,
                     const uint64_t *lengths, size_t count);
bool fm_stream_read(fm_call_t *call, const flowmesh_stream_t *stream, int64_t offset, int32_t max);
bool fm_reader_next(fm_call_t *call, const flowmesh_stream_reader_t *reader);
bool fm_stream_commit(fm_call_t *call, const flowmesh_stream_t *stream, const char *group,
                      int64_t offset);
bool fm_stream_committed(fm_call_t *call, const flowmesh_stream_t *stream, const char *group);
bool fm_stream_latest(fm_call_t *call, const flowmesh_stream_t *stream);
bool fm_stream_group(fm_call_t *call, const flowmesh_stream_t *stream, const char *group);

bool fm_queue_enqueue(fm_call_t *call, const flowmesh_queue_t *queue, const uint8_t *bytes,
                      const uint64_t *lengths, int64_t delay_ms);
bool fm_queue_reserve(fm_call_t *call, const flowmesh_queue_t *queue, int64_t lease_ms,
                      int64_t wait_ms);
bool fm_queue_receive(fm_call_t *call, const flowmesh_queue_t *queue, int32_t max, int64_t lease_ms,
                      int64_t wait_ms);
bool fm_queue_ack(fm_call_t *call, const flowmesh_queue_t *queue, const char *job_id);
/* `ids` has so many behind each other, each with its NUL; number[0] becomes how many succeeded. */
bool fm_queue_ack_all(fm_call_t *call, const flowmesh_queue_t *queue, const char *ids,
                      size_t count);
bool fm_queue_nack(fm_call_t *call, const flowmesh_queue_t *queue, const char *job_id,
                   int64_t delay_ms);
bool fm_queue_stats(fm_call_t *call, const flowmesh_queue_t *queue);
bool fm_queue_set_policy(fm_call_t *call, const flowmesh_queue_t *queue, int32_t max_attempts,
                         int32_t strategy, int64_t initial_ms, int64_t max_ms, double multiplier);
bool fm_queue_get_policy(fm_call_t *call, const flowmesh_queue_t *queue);
bool fm_queue_dead_letters(fm_call_t *call, const flowmesh_queue_t *queue, int32_t max);
bool fm_queue_replay(fm_call_t *call, const flowmesh_queue_t *queue, const char *job_id);

/* Results that Go reads in place. */
fm_messages_t *fm_messages_take(fm_call_t *call);
void fm_messages_free(fm_messages_t *messages);
fm_jobs_t *fm_jobs_take(fm_call_t *call);
fm_jobs_t *fm_jobs_of(flowmesh_job_t *job);
void fm_jobs_free(fm_jobs_t *jobs);

/* Subscriptions. Batches wait here, a few of them; then the subscription is paused. */
fm_subscription_t *fm_subscription_new(fm_pump_t *pump, uint64_t id);
bool fm_subscription_open(fm_call_t *call, fm_subscription_t *sub, const flowmesh_stream_t *stream,
                          const flowmesh_subscription_options_t *options);
int32_t fm_subscription_watch(fm_subscription_t *sub,
                              const flowmesh_subscription_options_t *options,
                              flowmesh_error_t **error);
fm_messages_t *fm_subscription_take(fm_subscription_t *sub, bool *more);
bool fm_subscription_seek(fm_call_t *call, fm_subscription_t *sub, int64_t offset);
void fm_subscription_sought(fm_subscription_t *sub, bool moved);
/* Has nothing taken, and the server held up, until it is false again. */
void fm_subscription_hold(fm_subscription_t *sub, bool held);
/* Of what will be taken next. No callback may run meanwhile. */
int32_t fm_subscription_position(fm_subscription_t *sub, int64_t *offset, flowmesh_error_t **error);
int32_t fm_subscription_state(const fm_subscription_t *sub, int32_t *state,
                              flowmesh_error_t **reason, flowmesh_error_t **error);
bool fm_subscription_close(fm_call_t *call, fm_subscription_t *sub);
void fm_subscription_release(fm_subscription_t *sub);

/* Producers and workers: their callbacks put nodes with this id into the pump's list. */
int32_t fm_producer_open(const flowmesh_stream_t *stream, const flowmesh_queue_t *queue,
                         const flowmesh_producer_options_t *options, bool reports, fm_pump_t *pump,
                         uint64_t id, flowmesh_producer_t **producer, flowmesh_error_t **error);
int32_t fm_producer_send(const flowmesh_producer_t *producer, const uint8_t *bytes,
                         const uint64_t *lengths, int64_t delay_ms, uint64_t tag,
                         flowmesh_error_t **error);
bool fm_producer_flush(fm_call_t *call, const flowmesh_producer_t *producer);
bool fm_producer_close(fm_call_t *call, const flowmesh_producer_t *producer, int64_t timeout_ms);

int32_t fm_worker_open(const flowmesh_queue_t *queue, const flowmesh_worker_options_t *options,
                       fm_pump_t *pump, uint64_t id, flowmesh_worker_t **worker,
                       flowmesh_error_t **error);
int32_t fm_worker_settle(fm_handed_t *handed, int32_t verdict, int64_t delay_ms,
                         flowmesh_error_t **error);
bool fm_worker_close(fm_call_t *call, const flowmesh_worker_t *worker, int64_t timeout_ms);

/* Log lines, in the order of their arrival; fm_log_fd, an eventfd, becomes readable with the first.
 */
int32_t fm_log_fd(void);
int32_t fm_log_start(int32_t level, flowmesh_error_t **error);
int32_t fm_log_stop(flowmesh_error_t **error);
fm_log_line_t *fm_log_take(uint64_t *lost);
void fm_log_line_free(fm_log_line_t *line);

#endif
