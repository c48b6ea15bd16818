/*
 * Between flowmesh.h and Python: starts asynchronous calls, gathers what has completed, and hands
 * it over as bytes, many completions at a time. No callback of the library enters Python: those
 * here only keep results, so that threads of the library never need the interpreter.
 *
 * Layouts are packed and in the machine's byte order; `_records.py` reads them:
 *   records    of fm_session_run: {uint64 id, int32 status, uint32 size} and `size` bytes each
 *   an error   {int32 outcome, uint32 retryable, uint32 message length} message, detail
 *   headers    per header {uint32 key length, uint32 value length} key, value
 *   messages   {uint32 count, uint32 path length} path, then per message {int64 offset,
 *              int64 created_at_ns, int32 partition, int32 schema_version, uint32 length of id, of
 *              headers, of payload}, then per message id, headers, payload
 *   jobs       {uint32 count, uint32 path length} path, then per job {int64 seq,
 *              int64 created_at_ns, int64 visible_at_ns, int64 reserve_until_ns, int32 attempts,
 *              uint32 length of id, of headers, of payload}, then per job id, headers, payload
 *   keys       per key {uint32 length} key
 *   events     (from Python) per event {uint32 payload length, uint32 header count} payload,
 *              headers
 *   told       by a producer or worker: pieces, each {uint64 number, int32 what, uint32 size} body
 *   a report   its number, its status; {int64 position} job id, or an error; number 0: there is
 *              room again
 *   a job      handed over by a worker: its number, 0; jobs
 *   an event   of a worker: 0, its kind; {int64 seq, int32 attempts, uint32 length of id, int32
 *              status of the reason} id, error
 *   log lines  per line {int32 level, uint32 length of target, of text, uint64 client} target, text
 */
#ifndef FLOWMESH_PYTHON_GLUE_H
#define FLOWMESH_PYTHON_GLUE_H

#include <flowmesh.h>

/* The calls of one client, and what of them has completed. */
typedef struct fm_session fm_session_t;

/* Takes over the dispatcher, which the application runs. NULL: no memory. */
fm_session_t *fm_session_new(flowmesh_dispatcher_t *dispatcher);

/* The last use by Python: what completes later is released unseen. */
void fm_session_end(fm_session_t *session);

/* Runs the dispatcher as flowmesh_dispatcher_run does, unless something has completed already, and
 * lays out what has; not while there are records of a former run that were not cleared. Length of
 * the records, or minus a status. One thread at a time. */
int64_t fm_session_run(fm_session_t *session, size_t max, int64_t timeout_ms);

/* The records of the last run. */
const uint8_t *fm_session_records(const fm_session_t *session);

/* The records have been read. */
void fm_session_clear(fm_session_t *session);

/* Has the one who is in fm_session_run return, or the next, and makes the descriptor readable. */
void fm_session_wake(fm_session_t *session);

/* Cancels a call; one that has completed already is left alone. Whether a record is still to come.
 */
bool fm_session_cancel(fm_session_t *session, int64_t id);

/* The id of the call that was started last, for one who lost it to a signal; 0 before the first. */
int64_t fm_session_last(fm_session_t *session);

/* Starts a subscription. Its id comes in a record, without a body, when messages can be taken, and
 * with an error when it has ended by itself. */
int64_t fm_subscribe(fm_session_t *session, const flowmesh_stream_t *stream,
                     const char *consumer_group, int32_t partition, int64_t start_offset);

/* The next messages that have arrived, valid until the next call; *length is 0 when there are none.
 */
const uint8_t *fm_subscription_take(fm_session_t *session, int64_t id, size_t *length);

/* Ends a subscription. */
void fm_subscription_close(fm_session_t *session, int64_t id);

/* Opens a producer for the stream, or the queue. Its id comes in a record, with what is told. 0: an
 * error, or no memory. */
int64_t fm_producer_open(fm_session_t *session, const flowmesh_stream_t *stream,
                         const flowmesh_queue_t *queue, const flowmesh_producer_options_t *options,
                         flowmesh_error_t **error);

/* Accepts a message, whose report has this number, from 1 on; does not wait. */
int32_t fm_producer_send(fm_session_t *session, int64_t id, const uint8_t *payload, size_t length,
                         const uint8_t *headers, size_t header_count, int64_t delay_ms,
                         uint64_t number, flowmesh_error_t **error);

/* Opens a worker, as a producer. What it hands over is Python's until it is settled. */
int64_t fm_worker_open(fm_session_t *session, const flowmesh_queue_t *queue,
                       const flowmesh_worker_options_t *options, flowmesh_error_t **error);

/* Gives the verdict on a job and frees it. FLOWMESH_INVALID_ARGUMENT: the delay cannot be, and none
 * was taken in its place. */
int32_t fm_worker_settle(fm_session_t *session, int64_t id, uint64_t number, int32_t verdict,
                         int64_t delay_ms, flowmesh_error_t **error);
int32_t fm_worker_stop(fm_session_t *session, int64_t id, flowmesh_error_t **error);

/* Frees a producer or worker, closed or not. */
void fm_background_free(fm_session_t *session, int64_t id);

/* Log lines from the level up are kept until they are taken. */
int32_t fm_log_start(int32_t level, flowmesh_error_t **error);
int32_t fm_log_stop(flowmesh_error_t **error);

/* Waits for lines; none, and none missing: it was stopped, and they are all taken. For one thread;
 * they are valid until its next call. */
const uint8_t *fm_log_take(size_t *length, uint64_t *missing);

/* In the child of a fork, which has no log callback. */
void fm_log_after_fork(void);

/* Calls. Each gives the id under which its completion comes, a refusal too; 0: no memory. */
int64_t fm_client_connect(fm_session_t *session, const flowmesh_client_t *client,
                          int64_t timeout_ms);
int64_t fm_client_close(fm_session_t *session, const flowmesh_client_t *client, int64_t timeout_ms);
int64_t fm_client_health_check(fm_session_t *session, const flowmesh_client_t *client);
int64_t fm_client_readiness_check(fm_session_t *session, const flowmesh_client_t *client);

int64_t fm_producer_flush(fm_session_t *session, int64_t id);
int64_t fm_background_close(fm_session_t *session, int64_t id, int64_t timeout_ms);

int64_t fm_stream_write(fm_session_t *session, const flowmesh_stream_t *stream,
                        const uint8_t *events, size_t count, size_t header_count);
int64_t fm_stream_read(fm_session_t *session, const flowmesh_stream_t *stream, int64_t offset,
                       int32_t partition, int32_t max_messages);
int64_t fm_stream_commit_offset(fm_session_t *session, const flowmesh_stream_t *stream,
                                const char *consumer_group, int32_t partition, int64_t offset);
int64_t fm_stream_get_offset(fm_session_t *session, const flowmesh_stream_t *stream,
                             const char *consumer_group, int32_t partition);
int64_t fm_stream_latest_offset(fm_session_t *session, const flowmesh_stream_t *stream,
                                int32_t partition);
int64_t fm_stream_group_state(fm_session_t *session, const flowmesh_stream_t *stream,
                              const char *consumer_group, int32_t partition);

int64_t fm_queue_enqueue(fm_session_t *session, const flowmesh_queue_t *queue,
                         const uint8_t *payload, size_t length, int64_t delay_ms,
                         const uint8_t *headers, size_t header_count);
int64_t fm_queue_reserve(fm_session_t *session, const flowmesh_queue_t *queue,
                         int64_t visibility_timeout_ms, int64_t wait_ms);
int64_t fm_queue_receive(fm_session_t *session, const flowmesh_queue_t *queue, int32_t max_jobs,
                         int64_t visibility_timeout_ms, int64_t wait_ms);
int64_t fm_queue_ack(fm_session_t *session, const flowmesh_queue_t *queue, const char *job_id);
int64_t fm_queue_nack(fm_session_t *session, const flowmesh_queue_t *queue, const char *job_id,
                      int64_t delay_ms);
int64_t fm_queue_stats(fm_session_t *session, const flowmesh_queue_t *queue);
int64_t fm_queue_set_retry_policy(fm_session_t *session, const flowmesh_queue_t *queue,
                                  int32_t max_attempts, int32_t backoff_strategy,
                                  int64_t initial_backoff_ms, int64_t max_backoff_ms,
                                  double backoff_multiplier);
int64_t fm_queue_get_retry_policy(fm_session_t *session, const flowmesh_queue_t *queue);
int64_t fm_queue_list_dlq_jobs(fm_session_t *session, const flowmesh_queue_t *queue,
                               int32_t max_jobs);
int64_t fm_queue_replay_dlq_job(fm_session_t *session, const flowmesh_queue_t *queue,
                                const char *job_id);

int64_t fm_kv_set(fm_session_t *session, const flowmesh_kv_t *kv, const uint8_t *key,
                  size_t key_length, const uint8_t *value, size_t value_length, int64_t ttl_ms);
int64_t fm_kv_get(fm_session_t *session, const flowmesh_kv_t *kv, const uint8_t *key,
                  size_t key_length);
int64_t fm_kv_delete(fm_session_t *session, const flowmesh_kv_t *kv, const uint8_t *key,
                     size_t key_length);
int64_t fm_kv_exists(fm_session_t *session, const flowmesh_kv_t *kv, const uint8_t *key,
                     size_t key_length);
int64_t fm_kv_list_keys(fm_session_t *session, const flowmesh_kv_t *kv, const uint8_t *prefix,
                        size_t prefix_length);

#endif
