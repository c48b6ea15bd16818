/*
 * What the files of the glue share: a call with its result, and the session it belongs to.
 *
 * A call has up to four references: its slot in the session, while its completion was not laid out;
 * the function that starts it; the library, for each user_data it has. All of them, the list of
 * what has completed and the slots are guarded by the session's mutex, under which nothing of the
 * library is called but what reads.
 */
#ifndef FLOWMESH_PYTHON_CALL_H
#define FLOWMESH_PYTHON_CALL_H

#include <pthread.h>

#include "buffer.h"
#include "glue.h"

enum kind {
    DONE,
    FLAG,
    NUMBER,
    VALUE,
    KEYS,
    MESSAGES,
    OFFSETS,
    JOB,
    JOBS,
    ENQUEUED,
    STATS,
    POLICY,
    GROUP_STATE,
    SUBSCRIPTION,
    PRODUCER,
    WORKER
};

/* So many batches are kept for Python before a subscription is paused. */
#define BATCHES 2

struct following {
    flowmesh_subscription_t *handle;
    /* A ring: callbacks that had begun before the pause may bring more than BATCHES. */
    flowmesh_message_batch_t **batches;
    size_t first;
    size_t count;
    size_t room;
    bool paused;
    bool closed;
    /* Why it has ended by itself: a status, and an error laid out. */
    flowmesh_status_t ended;
    struct buffer failure;
    struct buffer messages;
};

/* A producer, or a worker. */
struct background {
    flowmesh_producer_t *producer;
    flowmesh_worker_t *worker;
    /* Since the last record. */
    struct buffer told;
    /* Those that Python has, by number. */
    flowmesh_job_t **jobs;
    size_t room;
    bool closed;
};

struct fm_call {
    fm_session_t *session;
    struct fm_call *next;
    unsigned references;
    bool listed;
    int64_t id;
    flowmesh_operation_t *operation;
    flowmesh_error_t *error;
    enum kind kind;
    union {
        bool flag;
        int64_t number;
        flowmesh_value_t *value;
        flowmesh_key_list_t *keys;
        flowmesh_message_batch_t *messages;
        flowmesh_job_t *job;
        flowmesh_job_batch_t *jobs;
        struct {
            int64_t *at;
            size_t count;
        } offsets;
        struct {
            int64_t seq;
            char job_id[FLOWMESH_JOB_ID_SIZE];
        } enqueued;
        flowmesh_queue_stats_t stats;
        flowmesh_retry_policy_t policy;
        flowmesh_group_state_t state;
        struct following following;
        struct background background;
    } result;
};

struct slot {
    struct fm_call *call;
    uint32_t generation;
    uint32_t next_free;
};

struct fm_session {
    pthread_mutex_t mutex;
    flowmesh_dispatcher_t *dispatcher;
    struct fm_call *first;
    struct fm_call *last;
    struct slot *slots;
    uint32_t slot_count;
    uint32_t first_free;
    /* Python, and every call that exists. */
    size_t references;
    int64_t last_id;
    bool ended;
    struct buffer records;
};

/* A call with the references of its slot, of who starts it and of the library; NULL: no memory. */
struct fm_call *call_begin(fm_session_t *session, enum kind kind);

/* Whether it lives on when it has been told of: until Python closes it. */
static inline bool lives_on(enum kind kind)
{
    return kind == SUBSCRIPTION || kind == PRODUCER || kind == WORKER;
}

/* The last step of starting: keeps the operation; what was refused has completed. Gives the id. */
int64_t call_started(struct fm_call *call, flowmesh_status_t status,
                     flowmesh_operation_t *operation, flowmesh_error_t *error);

/* For flowmesh_drop_t. */
void call_drop(void *call);

/* One more reference; the mutex is not held. */
void call_retain(struct fm_call *call);

/* The call under an id with one more reference, or NULL. */
struct fm_call *call_find(fm_session_t *session, int64_t id);

/* Takes the call out of its slot, once. */
void call_forget(struct fm_call *call);

/* Puts the call into the list of what has completed. The mutex is held. */
void call_list(struct fm_call *call);

/* Completes with what was put into the result, or with the error. */
void call_complete(struct fm_call *call, flowmesh_error_t *error);

/* Lay out. */
void layout_error(struct buffer *out, const flowmesh_error_t *error);
void layout_messages(struct buffer *out, const flowmesh_message_batch_t *batch);
void layout_result(struct buffer *out, const struct fm_call *call);

void layout_job(struct buffer *out, const flowmesh_job_t *job);

/* Reads headers that Python has packed. */
void read_headers(const uint8_t **at, flowmesh_header_t *headers, size_t count);

/* Releases the result of a call that is going. */
void call_release_result(struct fm_call *call);
void following_release(struct following *following);
void background_release(struct background *background);

#endif
