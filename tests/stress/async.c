/* Asynchronous calls: each that was accepted completes once, then its user data is released. */
#include "stress.h"

struct flight {
    struct ticket ticket; /* first: the user data begins with it */
    struct dice dice;
    flowmesh_kv_t *kv; /* of one's own; NULL in a flight that starts no other */
    bool nested;       /* another one was started inside */
    struct ticket next;
};

/* What every completion of a flight does, once. */
static void land(void *user_data, flowmesh_error_t *error)
{
    struct flight *flight = user_data;
    flowmesh_status_t status = flowmesh_error_status(error);
    ticket_enter(&flight->ticket);
    MUST(flight->ticket.calls == 1);
    allowed(status, &error);
    if (dice_one_in(&flight->dice, 8))
        end_something(&flight->dice);
    dice_pause(&flight->dice, 2);
    ticket_leave(&flight->ticket);
}

static void on_found(flowmesh_error_t *error, bool found, void *user_data)
{
    struct ticket *ticket = user_data;
    ticket_enter(ticket);
    MUST(ticket->calls == 1);
    MUST(error == NULL || !found);
    allowed(flowmesh_error_status(error), &error);
    ticket_leave(ticket);
}

static void on_value(flowmesh_error_t *error, flowmesh_value_t *value, void *user_data)
{
    struct flight *flight = user_data;
    flowmesh_error_t *inner = NULL;
    MUST((error == NULL) == (value != NULL));
    flowmesh_value_free(value);
    switch (dice_below(&flight->dice, 4)) {
    case 0: /* a call from inside the callback of another */
        ticket_init(&flight->next);
        flight->nested = true;
        if (allowed(flowmesh_kv_exists_async(flight->kv, FLOWMESH_VIEW_LITERAL("k"), NULL, on_found,
                                             &flight->next, ticket_drop, NULL, &inner),
                    &inner) != FLOWMESH_OK)
            ticket_must_be_over(&flight->next);
        break;
    case 1: { /* one that blocks */
        bool found = false;
        allowed(flowmesh_kv_exists(flight->kv, FLOWMESH_VIEW_LITERAL("k"), NULL, &found, &inner),
                &inner);
        break;
    }
    default:
        break;
    }
    land(user_data, error);
}

static void on_done(flowmesh_error_t *error, void *user_data)
{
    land(user_data, error);
}

static void on_offsets(flowmesh_error_t *error, const int64_t *offsets, size_t count,
                       void *user_data)
{
    MUST(error != NULL || count == 2);
    MUST(error != NULL || offsets[1] == offsets[0] + 1);
    land(user_data, error);
}

static void on_enqueued(flowmesh_error_t *error, const char *job_id, int64_t seq, void *user_data)
{
    MUST((error == NULL) == (job_id != NULL));
    MUST(error != NULL || (strlen(job_id) == FLOWMESH_JOB_ID_SIZE - 1 && seq >= 0));
    land(user_data, error);
}

static void on_job(flowmesh_error_t *error, flowmesh_job_t *job, void *user_data)
{
    MUST(error == NULL || job == NULL);
    flowmesh_job_free(job);
    land(user_data, error);
}

static flowmesh_status_t take_off(struct dice *dice, const struct visit *visit,
                                  struct flight *flight, const flowmesh_cancel_t *cancel,
                                  flowmesh_operation_t **operation, flowmesh_error_t **error)
{
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    flowmesh_view_t key = FLOWMESH_VIEW_LITERAL("k");
    flowmesh_call_options_t plain = FLOWMESH_CALL_OPTIONS_INIT;
    plain.cancel = cancel;
    plain.timeout_ms = dice_one_in(dice, 5) ? 1 : 0;
    switch (dice_below(dice, 5)) {
    case 0: {
        flowmesh_set_options_t options = FLOWMESH_SET_OPTIONS_INIT;
        options.cancel = cancel;
        return flowmesh_kv_set_async(visit->kv, key, key, &options, on_done, flight, ticket_drop,
                                     operation, error);
    }
    case 1:
        return flowmesh_kv_get_async(visit->kv, key, &plain, on_value, flight, ticket_drop,
                                     operation, error);
    case 2: {
        event.payload = FLOWMESH_VIEW_LITERAL("an event");
        flowmesh_event_t events[2] = {event, event};
        return flowmesh_stream_write_async(visit->stream, events, 2, NULL, on_offsets, flight,
                                           ticket_drop, operation, error);
    }
    case 3:
        return flowmesh_queue_enqueue_async(visit->queue, FLOWMESH_VIEW_LITERAL("a job"), NULL,
                                            on_enqueued, flight, ticket_drop, operation, error);
    default: {
        flowmesh_reserve_options_t options = FLOWMESH_RESERVE_OPTIONS_INIT;
        options.cancel = cancel;
        options.wait_ms = dice_below(dice, 100);
        options.visibility_timeout_ms = 1000;
        return flowmesh_queue_reserve_async(visit->queue, &options, on_job, flight, ticket_drop,
                                            operation, error);
    }
    }
}

void live_async(struct dice *dice)
{
    enum { MOST = 40 };
    struct visit visit;
    flowmesh_error_t *error = NULL;
    flowmesh_cancel_t *cancel = NULL;
    flowmesh_operation_t *operations[MOST] = {NULL};
    struct flight *flights = calloc(MOST, sizeof(*flights));
    int count = 1 + dice_below(dice, MOST);
    visit_open(dice, &visit);
    MUST(flowmesh_cancel_new(&cancel, NULL) == FLOWMESH_OK);
    for (int i = 0; i < count; i++) {
        struct flight *flight = &flights[i];
        ticket_init(&flight->ticket);
        flight->dice.state = dice_next(dice);
        flight->kv = visit.kv;
        const flowmesh_cancel_t *given = dice_one_in(dice, 3) ? cancel : NULL;
        flowmesh_operation_t **operation = dice_one_in(dice, 2) ? &operations[i] : NULL;
        if (allowed(take_off(dice, &visit, flight, given, operation, &error), &error) !=
            FLOWMESH_OK) {
            ticket_must_be_over(&flight->ticket);
            MUST(flight->ticket.calls == 0);
        }
        if (dice_one_in(dice, 10))
            dice_pause(dice, 5);
    }
    if (dice_one_in(dice, 3))
        flowmesh_cancel_cancel(cancel, NULL);
    for (int i = 0; i < count; i++) {
        if (operations[i] != NULL && dice_one_in(dice, 2))
            MUST(flowmesh_operation_cancel(operations[i], NULL) == FLOWMESH_OK);
        if (dice_one_in(dice, 2) || offer(OPERATION, operations[i]) == 0)
            flowmesh_operation_free(operations[i]);
    }
    flowmesh_cancel_free(cancel);
    /* An argument that is refused: not accepted, so no completion. */
    struct flight refused;
    ticket_init(&refused.ticket);
    MUST(flowmesh_kv_get_async(NULL, FLOWMESH_VIEW_LITERAL("k"), NULL, on_value, &refused,
                               ticket_drop, NULL, NULL) == FLOWMESH_INVALID_ARGUMENT);
    ticket_must_be_over(&refused.ticket);
    for (int i = 0; i < count; i++) {
        ticket_await_drop(&flights[i].ticket);
        if (flights[i].nested)
            ticket_await_drop(&flights[i].next);
    }
    visit_free(dice, &visit);
    free(flights);
}

/* Opens a client whose dispatcher nobody runs; false when the library is being shut down. */
static bool open_unrun(flowmesh_dispatcher_t *dispatcher, flowmesh_client_t **client,
                       struct visit *visit)
{
    flowmesh_client_options_t *options = NULL;
    flowmesh_error_t *error = NULL;
    MUST(flowmesh_client_options_new(&options, NULL) == FLOWMESH_OK);
    MUST(flowmesh_client_options_set_dispatcher(options, dispatcher, NULL) == FLOWMESH_OK);
    flowmesh_status_t status =
        allowed(flowmesh_client_open(endpoint, options, client, &error), &error);
    flowmesh_client_options_free(options);
    if (status != FLOWMESH_OK)
        return false;
    memset(visit, 0, sizeof(*visit));
    MUST(flowmesh_stream_open(*client, "t", "n", "unrun", &visit->stream, NULL) == FLOWMESH_OK);
    MUST(flowmesh_queue_open(*client, "t", "n", "unrun", &visit->queue, NULL) == FLOWMESH_OK);
    MUST(flowmesh_kv_open(*client, "t", "n", "unrun", &visit->kv, NULL) == FLOWMESH_OK);
    return true;
}

void live_unrun(struct dice *dice)
{
    enum { MOST = 10 };
    struct visit visit;
    flowmesh_client_t *client = NULL;
    flowmesh_dispatcher_t *dispatcher = NULL;
    flowmesh_error_t *error = NULL;
    struct flight *flights = calloc(MOST, sizeof(*flights));
    int count = 1 + dice_below(dice, MOST);
    allowed(flowmesh_dispatcher_new(0, &dispatcher, &error), &error);
    if (dispatcher == NULL || !open_unrun(dispatcher, &client, &visit)) {
        flowmesh_dispatcher_free(dispatcher);
        free(flights);
        return;
    }
    for (int i = 0; i < count; i++) {
        struct flight *flight = &flights[i];
        ticket_init(&flight->ticket);
        flight->dice.state = dice_next(dice);
        flight->kv = visit.kv;
        allowed(take_off(dice, &visit, flight, NULL, NULL, &error), &error);
    }
    dice_pause(dice, 100);
    /* Nobody runs it; but freed, it is run by the library. */
    if (dice_one_in(dice, 4)) {
        flowmesh_dispatcher_free(dispatcher);
        dispatcher = NULL;
    }
    if (!dice_one_in(dice, 4)) {
        int64_t timeout = dice_one_in(dice, 2) ? -1 : dice_below(dice, 10);
        flowmesh_status_t status = flowmesh_client_close(client, timeout, &error);
        MUST(status == FLOWMESH_OK || (status == FLOWMESH_DEADLINE_EXCEEDED && timeout >= 0));
        flowmesh_error_free(error);
        /* Whoever closed made the calls. */
        for (int i = 0; i < count && status == FLOWMESH_OK; i++)
            ticket_must_be_over(&flights[i].ticket);
    }
    flowmesh_client_free(client);
    flowmesh_dispatcher_free(dispatcher);
    for (int i = 0; i < count; i++) {
        ticket_await_drop(&flights[i].ticket);
        if (flights[i].nested)
            ticket_await_drop(&flights[i].next);
    }
    visit_free(dice, &visit);
    free(flights);
}
