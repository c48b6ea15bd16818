/*
 * Subscriptions: the library's callback leaves its batches here, and Go takes them. Where Go is
 * slower, the subscription is paused, so that a bounded number of batches waits.
 */
#include "shim_internal.h"

#include <pthread.h>
#include <stdlib.h>

/* So many batches wait at most: enough that neither side waits for the other. */
enum { MOST_BATCHES = 4 };

typedef struct waiting {
    struct waiting *next;
    flowmesh_message_batch_t *batch;
} waiting_t;

struct fm_subscription {
    fm_pump_t *pump;
    uint64_t id;
    fm_call_t *opening;
    pthread_mutex_t lock;
    flowmesh_subscription_t *handle;
    waiting_t *first;
    waiting_t *last;
    size_t count;
    bool paused;
    /* What waits is from before the seek, and nothing is taken until its end is known. */
    bool seeking;
    /* The application has paused it: nothing is taken. */
    bool held;
    /* Go, and each callback of the library. */
    int users;
};

static void drop_batches(fm_subscription_t *sub)
{
    while (sub->first != NULL) {
        waiting_t *next = sub->first->next;
        flowmesh_message_batch_free(sub->first->batch);
        free(sub->first);
        sub->first = next;
    }
    sub->last = NULL;
    sub->count = 0;
}

static void on_drop(void *user_data)
{
    fm_subscription_t *sub = user_data;
    pthread_mutex_lock(&sub->lock);
    bool last = --sub->users == 0;
    pthread_mutex_unlock(&sub->lock);
    if (last) {
        drop_batches(sub);
        pthread_mutex_destroy(&sub->lock);
        free(sub);
    }
}

static void tell(fm_subscription_t *sub)
{
    fm_node_t *node = fm_alloc(1, sizeof *node);
    node->kind = FM_SUBSCRIPTION;
    node->id = sub->id;
    fm_push(sub->pump, node);
}

/* Pauses or resumes as it should be; with the lock. */
static void steer(fm_subscription_t *sub)
{
    bool full = sub->count >= (sub->paused ? MOST_BATCHES / 2 + 1 : MOST_BATCHES);
    bool pause = sub->held || sub->seeking || full;
    if (sub->handle == NULL || pause == sub->paused) {
        return;
    }
    flowmesh_status_t status = pause ? flowmesh_subscription_pause(sub->handle, NULL)
                                     : flowmesh_subscription_resume(sub->handle, NULL);
    if (status == FLOWMESH_OK) {
        sub->paused = pause;
    }
}

static void on_messages(const flowmesh_message_batch_t *batch, void *user_data)
{
    fm_subscription_t *sub = user_data;
    waiting_t *waiting = fm_alloc(1, sizeof *waiting);
    if (flowmesh_message_batch_retain(batch, &waiting->batch, NULL) != FLOWMESH_OK) {
        abort(); /* it fails for NULLs only; going on would lose messages */
    }
    pthread_mutex_lock(&sub->lock);
    if (sub->last == NULL) {
        sub->first = waiting;
    } else {
        sub->last->next = waiting;
    }
    sub->last = waiting;
    sub->count++;
    bool first = sub->count == 1;
    steer(sub);
    pthread_mutex_unlock(&sub->lock);
    if (first) {
        tell(sub);
    }
}

static void on_subscribed(flowmesh_error_t *error, flowmesh_subscription_t *subscription,
                          void *user_data)
{
    fm_subscription_t *sub = user_data;
    pthread_mutex_lock(&sub->lock);
    sub->handle = subscription;
    steer(sub);
    pthread_mutex_unlock(&sub->lock);
    fm_call_done(sub->opening, error);
}

static void on_state(flowmesh_subscription_state_t state, const flowmesh_error_t *reason,
                     void *user_data)
{
    fm_subscription_t *sub = user_data;
    fm_event_t *event = fm_alloc(1, sizeof *event);
    event->node.kind = FM_EVENT;
    event->node.id = sub->id;
    event->what = state;
    if (reason != NULL) {
        event->has_reason = true;
        fm_failure_copy(&event->reason, reason);
    }
    fm_push(sub->pump, &event->node);
}

fm_subscription_t *fm_subscription_new(fm_pump_t *pump, uint64_t id)
{
    fm_subscription_t *sub = fm_alloc(1, sizeof *sub);
    sub->pump = pump;
    sub->id = id;
    sub->users = 1;
    pthread_mutex_init(&sub->lock, NULL);
    return sub;
}

int32_t fm_subscription_watch(fm_subscription_t *sub,
                              const flowmesh_subscription_options_t *options,
                              flowmesh_error_t **error)
{
    sub->users++;
    return flowmesh_subscription_options_set_state_callback(options, on_state, sub, on_drop, error);
}

bool fm_subscription_open(fm_call_t *call, fm_subscription_t *sub, const flowmesh_stream_t *stream,
                          const flowmesh_subscription_options_t *options)
{
    sub->opening = call;
    pthread_mutex_lock(&sub->lock);
    sub->users++;
    pthread_mutex_unlock(&sub->lock);
    return flowmesh_stream_subscribe_async(stream, options, on_messages, on_subscribed, sub,
                                           on_drop, &call->operation,
                                           &call->refusal) == FLOWMESH_OK;
}

fm_messages_t *fm_subscription_take(fm_subscription_t *sub, bool *more)
{
    pthread_mutex_lock(&sub->lock);
    waiting_t *waiting = sub->seeking || sub->held ? NULL : sub->first;
    if (waiting != NULL) {
        sub->first = waiting->next;
        if (sub->first == NULL) {
            sub->last = NULL;
        }
        sub->count--;
        steer(sub);
    }
    *more = sub->count > 0 && !sub->seeking && !sub->held;
    pthread_mutex_unlock(&sub->lock);
    if (waiting == NULL) {
        return NULL;
    }
    fm_messages_t *messages = fm_messages_of(waiting->batch);
    free(waiting);
    return messages;
}

bool fm_subscription_seek(fm_call_t *call, fm_subscription_t *sub, int64_t offset)
{
    flowmesh_call_options_t options = FLOWMESH_CALL_OPTIONS_INIT;
    options.timeout_ms = call->timeout_ms;
    options.cancel = call->cancellable ? call->cancel : NULL;
    pthread_mutex_lock(&sub->lock);
    sub->seeking = true;
    steer(sub);
    pthread_mutex_unlock(&sub->lock);
    return flowmesh_subscription_seek_async(sub->handle, offset, &options, fm_on_done, call, NULL,
                                            NULL, &call->refusal) == FLOWMESH_OK;
}

void fm_subscription_sought(fm_subscription_t *sub, bool moved)
{
    pthread_mutex_lock(&sub->lock);
    sub->seeking = false;
    if (moved) {
        drop_batches(sub);
    }
    steer(sub);
    pthread_mutex_unlock(&sub->lock);
}

void fm_subscription_hold(fm_subscription_t *sub, bool held)
{
    pthread_mutex_lock(&sub->lock);
    sub->held = held;
    steer(sub);
    pthread_mutex_unlock(&sub->lock);
}

int32_t fm_subscription_position(fm_subscription_t *sub, int64_t *offset, flowmesh_error_t **error)
{
    flowmesh_status_t status = FLOWMESH_OK;
    pthread_mutex_lock(&sub->lock);
    if (sub->first != NULL) {
        *offset = flowmesh_message_batch_at(sub->first->batch, 0)->offset;
    } else {
        status = flowmesh_subscription_get_position(sub->handle, offset, error);
    }
    pthread_mutex_unlock(&sub->lock);
    return status;
}

int32_t fm_subscription_state(const fm_subscription_t *sub, int32_t *state,
                              flowmesh_error_t **reason, flowmesh_error_t **error)
{
    return flowmesh_subscription_get_state(sub->handle, state, reason, error);
}

bool fm_subscription_close(fm_call_t *call, fm_subscription_t *sub)
{
    return flowmesh_subscription_close_async(sub->handle, -1, fm_on_done, call, NULL,
                                             &call->refusal) == FLOWMESH_OK;
}

void fm_subscription_release(fm_subscription_t *sub)
{
    flowmesh_subscription_free(sub->handle);
    on_drop(sub);
}
