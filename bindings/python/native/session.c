/* Sessions: the slots of calls that are under way, and the list of those that have completed. */

#include "call.h"

#define NO_SLOT UINT32_MAX
/* Ids stay positive: 31 bits of generation above 32 of the slot. */
#define GENERATIONS 0x7fffffffu
/* What a record takes before its body: id, status, size. */
#define RECORD_HEAD 16

fm_session_t *fm_session_new(flowmesh_dispatcher_t *dispatcher)
{
    fm_session_t *session = calloc(1, sizeof *session);
    if (session == NULL) {
        return NULL;
    }
    pthread_mutex_init(&session->mutex, NULL);
    session->dispatcher = dispatcher;
    session->first_free = NO_SLOT;
    session->references = 1;
    return session;
}

/* The mutex is held, and is not any more. */
static void session_release(fm_session_t *session)
{
    bool last = --session->references == 0;
    pthread_mutex_unlock(&session->mutex);
    if (last) {
        pthread_mutex_destroy(&session->mutex);
        buffer_free(&session->records);
        free(session->slots);
        free(session);
    }
}

static void call_release(struct fm_call *call)
{
    fm_session_t *session = call->session;
    pthread_mutex_lock(&session->mutex);
    if (--call->references > 0) {
        pthread_mutex_unlock(&session->mutex);
        return;
    }
    pthread_mutex_unlock(&session->mutex);
    flowmesh_operation_free(call->operation);
    flowmesh_error_free(call->error);
    call_release_result(call);
    free(call);
    pthread_mutex_lock(&session->mutex);
    session_release(session);
}

void call_drop(void *call)
{
    call_release(call);
}

void call_retain(struct fm_call *call)
{
    pthread_mutex_lock(&call->session->mutex);
    call->references++;
    pthread_mutex_unlock(&call->session->mutex);
}

static struct slot *slot_of(fm_session_t *session, int64_t id)
{
    uint32_t index = (uint32_t)id;
    if (index >= session->slot_count || session->slots[index].call == NULL ||
        session->slots[index].generation != (uint32_t)(id >> 32)) {
        return NULL;
    }
    return &session->slots[index];
}

/* Puts the call into a slot; the mutex is held. */
static bool slot_take(fm_session_t *session, struct fm_call *call)
{
    if (session->first_free == NO_SLOT) {
        uint32_t count = session->slot_count == 0 ? 64 : session->slot_count * 2;
        struct slot *slots =
            count < session->slot_count ? NULL : realloc(session->slots, count * sizeof *slots);
        if (slots == NULL) {
            return false;
        }
        for (uint32_t i = session->slot_count; i < count; i++) {
            slots[i] = (struct slot){NULL, 0, i + 1 < count ? i + 1 : NO_SLOT};
        }
        session->first_free = session->slot_count;
        session->slots = slots;
        session->slot_count = count;
    }
    uint32_t index = session->first_free;
    struct slot *slot = &session->slots[index];
    session->first_free = slot->next_free;
    slot->generation = slot->generation % GENERATIONS + 1; /* so that no id is 0 */
    slot->call = call;
    call->id = ((int64_t)slot->generation << 32) | index;
    session->last_id = call->id;
    return true;
}

struct fm_call *call_begin(fm_session_t *session, enum kind kind)
{
    struct fm_call *call = calloc(1, sizeof *call);
    if (call == NULL) {
        return NULL;
    }
    call->session = session;
    call->kind = kind;
    call->references = 3;
    pthread_mutex_lock(&session->mutex);
    bool taken = !session->ended && slot_take(session, call);
    session->references += taken;
    pthread_mutex_unlock(&session->mutex);
    if (!taken) {
        free(call);
        return NULL;
    }
    return call;
}

int64_t call_started(struct fm_call *call, flowmesh_status_t status,
                     flowmesh_operation_t *operation, flowmesh_error_t *error)
{
    fm_session_t *session = call->session;
    int64_t id = call->id;
    pthread_mutex_lock(&session->mutex);
    call->operation = operation;
    pthread_mutex_unlock(&session->mutex);
    if (status != FLOWMESH_OK) {
        call_complete(call, error);
        fm_session_wake(session);
    }
    call_release(call);
    return id;
}

struct fm_call *call_find(fm_session_t *session, int64_t id)
{
    pthread_mutex_lock(&session->mutex);
    struct slot *slot = slot_of(session, id);
    struct fm_call *call = slot == NULL ? NULL : slot->call;
    if (call != NULL) {
        call->references++;
    }
    pthread_mutex_unlock(&session->mutex);
    return call;
}

void call_forget(struct fm_call *call)
{
    fm_session_t *session = call->session;
    pthread_mutex_lock(&session->mutex);
    struct slot *slot = slot_of(session, call->id);
    if (slot != NULL) {
        slot->call = NULL;
        slot->next_free = session->first_free;
        session->first_free = (uint32_t)(slot - session->slots);
    }
    pthread_mutex_unlock(&session->mutex);
    if (slot != NULL) {
        call_release(call);
    }
}

void call_list(struct fm_call *call)
{
    fm_session_t *session = call->session;
    if (session->ended || call->listed) {
        return;
    }
    call->listed = true;
    call->references++;
    call->next = NULL;
    if (session->last == NULL) {
        session->first = call;
    } else {
        session->last->next = call;
    }
    session->last = call;
}

void call_complete(struct fm_call *call, flowmesh_error_t *error)
{
    pthread_mutex_lock(&call->session->mutex);
    call->error = error;
    call_list(call);
    pthread_mutex_unlock(&call->session->mutex);
}

/* The first in the list, whose reference passes on; NULL when it is empty. */
static struct fm_call *session_pop(fm_session_t *session)
{
    pthread_mutex_lock(&session->mutex);
    struct fm_call *call = session->first;
    if (call != NULL) {
        call->listed = false;
        session->first = call->next;
        if (session->first == NULL) {
            session->last = NULL;
        }
    }
    pthread_mutex_unlock(&session->mutex);
    return call;
}

static void record(struct buffer *out, struct fm_call *call)
{
    size_t head = out->length;
    if (!buffer_reserve(out, RECORD_HEAD)) {
        abort(); /* not even 16 bytes: the process is lost */
    }
    out->length += RECORD_HEAD;
    flowmesh_status_t status = flowmesh_error_status(call->error);
    if (call->error != NULL) {
        layout_error(out, call->error);
    } else if (call->kind == SUBSCRIPTION) {
        struct following *following = &call->result.following;
        status = following->ended;
        buffer_put(out, following->failure.data, following->failure.length);
    } else if (lives_on(call->kind)) {
        struct buffer *told = &call->result.background.told;
        pthread_mutex_lock(&call->session->mutex);
        buffer_put(out, told->data, told->length);
        buffer_clear(told);
        pthread_mutex_unlock(&call->session->mutex);
        if (out->failed) {
            abort(); /* it would be lost */
        }
    } else {
        layout_result(out, call);
    }
    if (out->failed) { /* the result does not fit into memory */
        out->failed = false;
        out->length = head + RECORD_HEAD;
        status = FLOWMESH_RESOURCE_EXHAUSTED;
    }
    uint32_t size = (uint32_t)(out->length - head - RECORD_HEAD);
    memcpy(out->data + head, &call->id, 8);
    memcpy(out->data + head + 8, &status, 4);
    memcpy(out->data + head + 12, &size, 4);
}

int64_t fm_session_run(fm_session_t *session, size_t max, int64_t timeout_ms)
{
    if (session->records.length > 0) {
        return (int64_t)session->records.length;
    }
    pthread_mutex_lock(&session->mutex);
    bool waiting = session->first != NULL;
    pthread_mutex_unlock(&session->mutex);
    flowmesh_status_t status =
        flowmesh_dispatcher_run(session->dispatcher, max, waiting ? 0 : timeout_ms, NULL, NULL);
    struct fm_call *call;
    while ((call = session_pop(session)) != NULL) {
        record(&session->records, call);
        if (!lives_on(call->kind)) {
            call_forget(call);
        }
        call_release(call);
    }
    if (session->records.length == 0 && status != FLOWMESH_OK) {
        return -(int64_t)status;
    }
    return (int64_t)session->records.length;
}

const uint8_t *fm_session_records(const fm_session_t *session)
{
    return session->records.data;
}

void fm_session_wake(fm_session_t *session)
{
    flowmesh_dispatcher_wake(session->dispatcher, NULL);
}

void fm_session_clear(fm_session_t *session)
{
    buffer_clear(&session->records);
}

bool fm_session_cancel(fm_session_t *session, int64_t id)
{
    struct fm_call *call = call_find(session, id);
    if (call == NULL) {
        return false;
    }
    if (call->operation != NULL) {
        flowmesh_operation_cancel(call->operation, NULL);
    }
    call_release(call);
    return true;
}

int64_t fm_session_last(fm_session_t *session)
{
    pthread_mutex_lock(&session->mutex);
    int64_t id = session->last_id;
    pthread_mutex_unlock(&session->mutex);
    return id;
}

void fm_session_end(fm_session_t *session)
{
    pthread_mutex_lock(&session->mutex);
    session->ended = true;
    uint32_t count = session->slot_count;
    pthread_mutex_unlock(&session->mutex);
    struct fm_call *call;
    while ((call = session_pop(session)) != NULL) {
        call_release(call);
    }
    for (uint32_t i = 0; i < count; i++) {
        call = session->slots[i].call; /* nobody else takes or empties a slot any more */
        if (call != NULL && call->kind == SUBSCRIPTION) {
            fm_subscription_close(session, call->id);
        } else if (call != NULL && lives_on(call->kind)) {
            fm_background_free(session, call->id);
        } else if (call != NULL) {
            fm_session_cancel(session, call->id);
            call_forget(call);
        }
    }
    flowmesh_dispatcher_free(session->dispatcher);
    pthread_mutex_lock(&session->mutex);
    session_release(session);
}
