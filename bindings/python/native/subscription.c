/*
 * Subscriptions. The callback keeps the batches it is lent, without copying them, and holds the
 * subscription back while BATCHES of them wait for Python: so a slow consumer is felt by the
 * server, and memory stays bounded.
 */

#include "call.h"

/* The mutex is held. */
static bool batch_push(struct following *following, flowmesh_message_batch_t *batch)
{
    if (following->count == following->room) {
        size_t room = following->room == 0 ? BATCHES : following->room * 2;
        flowmesh_message_batch_t **batches = malloc(room * sizeof(*batches));
        if (batches == NULL) {
            return false;
        }
        for (size_t i = 0; i < following->count; i++) {
            batches[i] = following->batches[(following->first + i) % following->room];
        }
        free(following->batches);
        following->batches = batches;
        following->first = 0;
        following->room = room;
    }
    following->batches[(following->first + following->count++) % following->room] = batch;
    return true;
}

/* The mutex is held. */
static flowmesh_message_batch_t *batch_pop(struct following *following)
{
    if (following->count == 0) {
        return NULL;
    }
    flowmesh_message_batch_t *batch = following->batches[following->first];
    following->first = (following->first + 1) % following->room;
    following->count--;
    return batch;
}

/* The handle when it is time to pause it. The mutex is held. */
static flowmesh_subscription_t *to_pause(struct following *following)
{
    if (following->count < BATCHES || following->paused || following->handle == NULL) {
        return NULL;
    }
    following->paused = true;
    return following->handle;
}

static void on_messages(const flowmesh_message_batch_t *batch, void *user_data)
{
    struct fm_call *call = user_data;
    struct following *following = &call->result.following;
    flowmesh_message_batch_t *kept = NULL;
    if (flowmesh_message_batch_retain(batch, &kept, NULL) != FLOWMESH_OK) {
        abort(); /* no memory for a pointer; going on would leave a gap */
    }
    pthread_mutex_lock(&call->session->mutex);
    bool closed = following->closed;
    if (!closed && !batch_push(following, kept)) {
        abort();
    }
    flowmesh_subscription_t *pause = closed ? NULL : to_pause(following);
    if (!closed) {
        call_list(call);
    }
    pthread_mutex_unlock(&call->session->mutex);
    if (closed) {
        flowmesh_message_batch_free(kept);
    } else if (pause != NULL) {
        flowmesh_subscription_pause(pause, NULL);
    }
}

static void on_subscribed(flowmesh_error_t *error, flowmesh_subscription_t *subscription,
                          void *user_data)
{
    struct fm_call *call = user_data;
    struct following *following = &call->result.following;
    if (error != NULL) {
        call_complete(call, error);
        return;
    }
    pthread_mutex_lock(&call->session->mutex);
    bool closed = following->closed;
    if (!closed) {
        following->handle = subscription;
    }
    flowmesh_subscription_t *pause = closed ? NULL : to_pause(following);
    pthread_mutex_unlock(&call->session->mutex);
    if (closed) {
        flowmesh_subscription_free(subscription);
    } else if (pause != NULL) {
        flowmesh_subscription_pause(pause, NULL);
    }
}

static void on_state(flowmesh_subscription_state_t state, const flowmesh_error_t *reason,
                     void *user_data)
{
    struct fm_call *call = user_data;
    struct following *following = &call->result.following;
    if (state != FLOWMESH_SUBSCRIPTION_ENDED) {
        return;
    }
    struct buffer failure = {NULL, 0, 0, false};
    layout_error(&failure, reason);
    pthread_mutex_lock(&call->session->mutex);
    following->ended = reason == NULL ? FLOWMESH_CLOSED : flowmesh_error_status(reason);
    following->failure = failure;
    call_list(call);
    pthread_mutex_unlock(&call->session->mutex);
}

int64_t fm_subscribe(fm_session_t *session, const flowmesh_stream_t *stream,
                     const char *consumer_group, int32_t partition, int64_t start_offset)
{
    struct fm_call *call = call_begin(session, SUBSCRIPTION);
    if (call == NULL) {
        return 0;
    }
    flowmesh_error_t *error = NULL;
    flowmesh_operation_t *operation = NULL;
    flowmesh_subscription_options_t *options = NULL;
    flowmesh_status_t status = flowmesh_subscription_options_new(&options, &error);
    if (status == FLOWMESH_OK) {
        status = flowmesh_subscription_options_set_consumer_group(options, consumer_group, &error);
    }
    if (status == FLOWMESH_OK) {
        status = flowmesh_subscription_options_set_partition(options, partition, &error);
    }
    if (status == FLOWMESH_OK) {
        status = flowmesh_subscription_options_set_start_offset(options, start_offset, &error);
    }
    if (status == FLOWMESH_OK) {
        call_retain(call);
        status = flowmesh_subscription_options_set_state_callback(options, on_state, call,
                                                                  call_drop, &error);
    }
    if (status == FLOWMESH_OK) {
        status = flowmesh_stream_subscribe_async(stream, options, on_messages, on_subscribed, call,
                                                 call_drop, &operation, &error);
    } else {
        call_drop(call); /* the library's reference, which it did not get */
    }
    flowmesh_subscription_options_free(options);
    return call_started(call, status, operation, error);
}

const uint8_t *fm_subscription_take(fm_session_t *session, int64_t id, size_t *length)
{
    *length = 0;
    struct fm_call *call = call_find(session, id);
    if (call == NULL) {
        return NULL;
    }
    struct following *following = &call->result.following;
    pthread_mutex_lock(&session->mutex);
    flowmesh_message_batch_t *batch = batch_pop(following);
    flowmesh_subscription_t *resume = NULL;
    if (following->paused && following->count < BATCHES) {
        following->paused = false;
        resume = following->handle;
    }
    pthread_mutex_unlock(&session->mutex);
    if (resume != NULL) {
        flowmesh_subscription_resume(resume, NULL);
    }
    if (batch != NULL) {
        buffer_clear(&following->messages);
        layout_messages(&following->messages, batch);
        flowmesh_message_batch_free(batch);
        if (following->messages.failed) {
            abort(); /* as in on_messages */
        }
        *length = following->messages.length;
    }
    const uint8_t *messages = following->messages.data;
    call_drop(call);
    return messages;
}

void fm_subscription_close(fm_session_t *session, int64_t id)
{
    struct fm_call *call = call_find(session, id);
    if (call == NULL) {
        return;
    }
    struct following *following = &call->result.following;
    pthread_mutex_lock(&session->mutex);
    following->closed = true;
    flowmesh_subscription_t *handle = following->handle;
    following->handle = NULL;
    flowmesh_message_batch_t *batch;
    struct following left = *following;
    following->count = 0;
    pthread_mutex_unlock(&session->mutex);
    while ((batch = batch_pop(&left)) != NULL) {
        flowmesh_message_batch_free(batch);
    }
    if (handle != NULL) {
        flowmesh_subscription_free(handle);
    } else if (call->operation != NULL) {
        flowmesh_operation_cancel(call->operation, NULL);
    }
    call_forget(call);
    call_drop(call);
}

void following_release(struct following *following)
{
    flowmesh_message_batch_t *batch;
    while ((batch = batch_pop(following)) != NULL) {
        flowmesh_message_batch_free(batch);
    }
    flowmesh_subscription_free(following->handle);
    free(following->batches);
    buffer_free(&following->failure);
    buffer_free(&following->messages);
}
