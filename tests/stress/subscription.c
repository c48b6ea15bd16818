/* Subscriptions that are closed and freed from everywhere, while messages come. */
#include "stress.h"

struct sub {
    struct ticket messages; /* first: the user data of the message callback begins with it */
    struct dice dice;
    int64_t next; /* the offset that must come; -1 before the first message */
    bool ends_inside;
    bool calls_inside;
    const struct visit *visit;
    /* Who takes it out closes and frees it. */
    flowmesh_subscription_t *handle;
    long offered; /* or anybody who is in a callback does; then `handle` is NULL */
    flowmesh_dispatcher_t *unrun;
    struct ticket states;
};

static flowmesh_subscription_t *take_handle(struct sub *sub)
{
    pthread_mutex_lock(&sub->messages.lock);
    flowmesh_subscription_t *handle = sub->handle;
    sub->handle = NULL;
    pthread_mutex_unlock(&sub->messages.lock);
    return handle;
}

static void on_messages(const flowmesh_message_batch_t *batch, void *user_data)
{
    struct sub *sub = user_data;
    size_t count = flowmesh_message_batch_count(batch);
    flowmesh_error_t *error = NULL;
    ticket_enter(&sub->messages);
    MUST(sub->messages.running == 1);
    MUST(count > 0);
    for (size_t i = 0; i < count; i++) {
        int64_t offset = flowmesh_message_batch_at(batch, i)->offset;
        MUST(sub->next == -1 || sub->next == offset);
        sub->next = offset + 1;
    }
    if (sub->calls_inside && dice_one_in(&sub->dice, 4))
        allowed(flowmesh_stream_commit_offset(sub->visit->stream, "g", sub->next - 1, NULL, &error),
                &error);
    if (sub->ends_inside && dice_one_in(&sub->dice, 3)) {
        flowmesh_subscription_t *handle = take_handle(sub);
        if (handle != NULL && dice_one_in(&sub->dice, 2))
            MUST(flowmesh_subscription_close(handle, -1, NULL) == FLOWMESH_OK);
        flowmesh_subscription_free(handle);
    }
    if (dice_one_in(&sub->dice, 8))
        end_something(&sub->dice);
    dice_pause(&sub->dice, 5);
    ticket_leave(&sub->messages);
}

static void on_state(flowmesh_subscription_state_t state, const flowmesh_error_t *reason,
                     void *user_data)
{
    struct ticket *states = user_data;
    ticket_enter(states);
    MUST(states->running == 1);
    MUST((state == FLOWMESH_SUBSCRIPTION_CONNECTED) == (reason == NULL));
    if (state == FLOWMESH_SUBSCRIPTION_ENDED)
        MUST(flowmesh_error_status(reason) == FLOWMESH_CLOSED);
    ticket_leave(states);
}

static flowmesh_subscription_options_t *some_options(struct sub *sub)
{
    flowmesh_subscription_options_t *options = NULL;
    MUST(flowmesh_subscription_options_new(&options, NULL) == FLOWMESH_OK);
    if (dice_one_in(&sub->dice, 2)) {
        sub->next = 0;
        MUST(flowmesh_subscription_options_set_start_offset(options, 0, NULL) == FLOWMESH_OK);
    } else if (dice_one_in(&sub->dice, 2)) {
        MUST(flowmesh_subscription_options_set_start_offset(options, FLOWMESH_START_NEW, NULL) ==
             FLOWMESH_OK);
    }
    sub->unrun = unrun_dispatcher(&sub->dice);
    MUST(flowmesh_subscription_options_set_dispatcher(options, sub->unrun, NULL) == FLOWMESH_OK);
    size_t most = 1 + (size_t)dice_below(&sub->dice, 20);
    MUST(flowmesh_subscription_options_set_max_batch_messages(options, most, NULL) == FLOWMESH_OK);
    MUST(flowmesh_subscription_options_set_state_callback(options, on_state, &sub->states,
                                                          ticket_drop, NULL) == FLOWMESH_OK);
    return options;
}

/* Ends it from outside, in one of the ways there are. */
static void end(struct dice *dice, struct sub *sub)
{
    flowmesh_subscription_t *handle =
        sub->offered != 0 ? take_back(sub->offered) : take_handle(sub);
    flowmesh_error_t *error = NULL;
    if (dice_one_in(dice, 4)) { /* from now on the library runs it */
        flowmesh_dispatcher_free(sub->unrun);
        sub->unrun = NULL;
    }
    if (handle != NULL && !dice_one_in(dice, 3)) {
        int64_t timeout = dice_one_in(dice, 2) ? -1 : dice_below(dice, 10);
        flowmesh_status_t status = flowmesh_subscription_close(handle, timeout, &error);
        MUST(status == FLOWMESH_OK || (status == FLOWMESH_DEADLINE_EXCEEDED && timeout >= 0));
        flowmesh_error_free(error);
        if (status == FLOWMESH_OK) {
            ticket_must_be_over(&sub->messages);
            ticket_must_be_over(&sub->states);
        }
    }
    flowmesh_subscription_free(handle);
}

void live_subscription(struct dice *dice)
{
    struct visit visit;
    flowmesh_error_t *error = NULL;
    flowmesh_subscription_t *handle = NULL;
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    struct sub *sub = calloc(1, sizeof(*sub));
    visit_open(dice, &visit);
    ticket_init(&sub->messages);
    ticket_init(&sub->states);
    sub->dice.state = dice_next(dice);
    sub->next = -1;
    sub->visit = &visit;
    sub->ends_inside = dice_one_in(dice, 3);
    sub->calls_inside = dice_one_in(dice, 3);
    flowmesh_subscription_options_t *options = some_options(sub);
    flowmesh_status_t status = allowed(flowmesh_stream_subscribe(visit.stream, options, on_messages,
                                                                 sub, ticket_drop, &handle, &error),
                                       &error);
    if (status != FLOWMESH_OK)
        ticket_must_be_over(&sub->messages);
    flowmesh_subscription_options_free(options);
    if (status == FLOWMESH_OK) {
        sub->offered = dice_one_in(dice, 2) ? offer(SUBSCRIPTION, handle) : 0;
        if (sub->offered == 0) {
            pthread_mutex_lock(&sub->messages.lock);
            sub->handle = handle;
            pthread_mutex_unlock(&sub->messages.lock);
        }
        event.payload = FLOWMESH_VIEW_LITERAL("an event");
        for (int i = dice_below(dice, 6); i > 0; i--) {
            allowed(flowmesh_stream_write(visit.stream, &event, 1, NULL, NULL, &error), &error);
            dice_pause(dice, 10);
        }
        dice_pause(dice, 100);
        end(dice, sub);
    }
    ticket_await_drop(&sub->messages);
    ticket_await_drop(&sub->states);
    flowmesh_dispatcher_free(sub->unrun);
    visit_free(dice, &visit);
    free(sub);
}
