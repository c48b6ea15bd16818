/* Asynchronous calls as tests see them: what the callback got, how often and where, and when the
 * user data was released.
 */
#ifndef COMPLETION_H
#define COMPLETION_H

#include "test.h"

#include <pthread.h>

/* One call. The callback and the release run on other threads: everything is under the mutex. */
struct call {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int completions;
    int drops;
    bool late; /* a callback after the release */
    pthread_t thread;
    flowmesh_status_t status;
    flowmesh_outcome_t outcome;
    char message[400];
    /* Results, as far as the call has them. */
    bool yes;
    size_t count;
    int64_t number; /* offset or seq */
    char id[FLOWMESH_JOB_ID_SIZE];
    flowmesh_group_state_t state;
    flowmesh_queue_stats_t stats;
    flowmesh_retry_policy_t policy;
    flowmesh_message_batch_t *batch;
    flowmesh_job_t *job;
    flowmesh_job_batch_t *jobs;
    flowmesh_value_t *value;
    flowmesh_key_list_t *keys;
};

static inline struct call *call_new(void)
{
    struct call *call = (struct call *)calloc(1, sizeof(*call));
    assert_non_null(call);
    pthread_mutex_init(&call->mutex, NULL);
    pthread_cond_init(&call->changed, NULL);
    return call;
}

static inline void on_drop(void *user_data)
{
    struct call *call = (struct call *)user_data;
    pthread_mutex_lock(&call->mutex);
    call->drops++;
    pthread_cond_broadcast(&call->changed);
    pthread_mutex_unlock(&call->mutex);
}

/* Begins to note a completion, and takes the error. */
static inline struct call *call_noted(flowmesh_error_t *error, void *user_data)
{
    struct call *call = (struct call *)user_data;
    pthread_mutex_lock(&call->mutex);
    call->completions++;
    call->late = call->late || call->drops > 0;
    call->thread = pthread_self();
    call->status = flowmesh_error_status(error);
    call->outcome = flowmesh_error_outcome(error);
    snprintf(call->message, sizeof(call->message), "%s", flowmesh_error_message(error));
    flowmesh_error_free(error);
    return call;
}

static inline void call_done(struct call *call)
{
    pthread_cond_broadcast(&call->changed);
    pthread_mutex_unlock(&call->mutex);
}

static inline void on_done(flowmesh_error_t *error, void *user_data)
{
    call_done(call_noted(error, user_data));
}

static inline void on_bool(flowmesh_error_t *error, bool result, void *user_data)
{
    struct call *call = call_noted(error, user_data);
    call->yes = result;
    call_done(call);
}

static inline void on_count(flowmesh_error_t *error, size_t count, void *user_data)
{
    struct call *call = call_noted(error, user_data);
    call->count = count;
    call_done(call);
}

static inline void on_offset(flowmesh_error_t *error, int64_t offset, void *user_data)
{
    struct call *call = call_noted(error, user_data);
    call->number = offset;
    call_done(call);
}

static inline void on_offsets(flowmesh_error_t *error, const int64_t *offsets, size_t count,
                              void *user_data)
{
    struct call *call = call_noted(error, user_data);
    call->count = count;
    call->number = count > 0 ? offsets[count - 1] : -1;
    call_done(call);
}

static inline void on_batch(flowmesh_error_t *error, flowmesh_message_batch_t *batch,
                            void *user_data)
{
    struct call *call = call_noted(error, user_data);
    call->batch = batch;
    call_done(call);
}

static inline void on_state(flowmesh_error_t *error, const flowmesh_group_state_t *state,
                            void *user_data)
{
    struct call *call = call_noted(error, user_data);
    if (state != NULL)
        call->state = *state;
    call_done(call);
}

static inline void on_enqueued(flowmesh_error_t *error, const char *job_id, int64_t seq,
                               void *user_data)
{
    struct call *call = call_noted(error, user_data);
    snprintf(call->id, sizeof(call->id), "%s", job_id != NULL ? job_id : "");
    call->number = seq;
    call_done(call);
}

static inline void on_job(flowmesh_error_t *error, flowmesh_job_t *job, void *user_data)
{
    struct call *call = call_noted(error, user_data);
    call->job = job;
    call_done(call);
}

static inline void on_jobs(flowmesh_error_t *error, flowmesh_job_batch_t *jobs, void *user_data)
{
    struct call *call = call_noted(error, user_data);
    call->jobs = jobs;
    call_done(call);
}

static inline void on_stats(flowmesh_error_t *error, const flowmesh_queue_stats_t *stats,
                            void *user_data)
{
    struct call *call = call_noted(error, user_data);
    if (stats != NULL)
        call->stats = *stats;
    call_done(call);
}

static inline void on_policy(flowmesh_error_t *error, const flowmesh_retry_policy_t *policy,
                             void *user_data)
{
    struct call *call = call_noted(error, user_data);
    if (policy != NULL)
        call->policy = *policy;
    call_done(call);
}

static inline void on_value(flowmesh_error_t *error, flowmesh_value_t *value, void *user_data)
{
    struct call *call = call_noted(error, user_data);
    call->value = value;
    call_done(call);
}

static inline void on_keys(flowmesh_error_t *error, flowmesh_key_list_t *keys, void *user_data)
{
    struct call *call = call_noted(error, user_data);
    call->keys = keys;
    call_done(call);
}

/* Waits until the user data was released, which comes last; true when it was in time. */
static inline bool call_wait(struct call *call)
{
    struct timespec until;
    int result = 0;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_MS / 1000;
    pthread_mutex_lock(&call->mutex);
    while (call->drops == 0 && result == 0)
        result = pthread_cond_timedwait(&call->changed, &call->mutex, &until);
    pthread_mutex_unlock(&call->mutex);
    return result == 0;
}

static inline bool call_is_over(struct call *call)
{
    pthread_mutex_lock(&call->mutex);
    bool over = call->drops > 0;
    pthread_mutex_unlock(&call->mutex);
    return over;
}

static inline void call_free(struct call *call)
{
    flowmesh_message_batch_free(call->batch);
    flowmesh_job_free(call->job);
    flowmesh_job_batch_free(call->jobs);
    flowmesh_value_free(call->value);
    flowmesh_key_list_free(call->keys);
    pthread_cond_destroy(&call->changed);
    pthread_mutex_destroy(&call->mutex);
    free(call);
}

/* The call ends with exactly one completion, of that status, and then one release. */
#define ENDS(expected, call) call_ends((call), (expected), #call, __FILE__, __LINE__)

static inline void call_ends(struct call *call, flowmesh_status_t expected, const char *text,
                             const char *file, int line)
{
    bool in_time = call_wait(call);
    if (!in_time || call->completions != 1 || call->drops != 1 || call->late ||
        call->status != expected) {
        print_error("%s:%d: %s: %d completions, %d releases, %s: %s\n  but should end with %s\n",
                    file, line, text, call->completions, call->drops,
                    flowmesh_status_name(call->status), call->message,
                    flowmesh_status_name(expected));
        _fail(file, line);
    }
}

/* The call was not accepted: no completion, one release. */
static inline void call_refused(struct call *call)
{
    assert_int_equal(call->completions, 0);
    assert_int_equal(call->drops, 1);
    call_free(call);
}

#endif
