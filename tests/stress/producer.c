/* Producers that are closed and freed from everywhere, while messages wait: each that was accepted
 * is reported once, in its turn. */
#include "stress.h"

struct production {
    struct ticket reports; /* first: the user data of the report callback begins with it */
    struct dice dice;
    long accepted;
    long reported;
    long stored; /* as reported */
    flowmesh_dispatcher_t *unrun;
};

static void on_reports(const flowmesh_report_batch_t *batch, void *user_data)
{
    struct production *production = user_data;
    size_t count = flowmesh_report_batch_count(batch);
    ticket_enter(&production->reports);
    MUST(production->reports.running == 1);
    MUST(count > 0);
    for (size_t i = 0; i < count; i++) {
        const flowmesh_report_t *report = flowmesh_report_batch_at(batch, i);
        MUST((long)(intptr_t)report->message_data == production->reported++);
        MUST((report->status == FLOWMESH_OK) == (report->error == NULL));
        MUST((report->status == FLOWMESH_OK) == (report->position >= 0));
        production->stored += report->status == FLOWMESH_OK;
    }
    if (dice_one_in(&production->dice, 8))
        end_something(&production->dice);
    dice_pause(&production->dice, 5);
    ticket_leave(&production->reports);
}

/* Sends some; what is accepted is counted. */
static void send_some(struct dice *dice, struct production *production,
                      const flowmesh_producer_t *producer)
{
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    flowmesh_error_t *error = NULL;
    event.payload = FLOWMESH_VIEW_LITERAL("an event");
    for (int i = dice_below(dice, 200); i > 0; i--) {
        int64_t timeout = dice_one_in(dice, 2) ? 0 : dice_below(dice, 20);
        void *number = (void *)(intptr_t)production->accepted;
        flowmesh_status_t status =
            flowmesh_producer_send(producer, &event, number, timeout, &error);
        MUST(status == FLOWMESH_OK || status == FLOWMESH_QUEUE_FULL || status == FLOWMESH_CLOSED);
        production->accepted += status == FLOWMESH_OK;
        flowmesh_error_free(error);
        error = NULL;
        if (status == FLOWMESH_CLOSED)
            break;
        dice_pause(dice, 1);
    }
}

static flowmesh_producer_t *open_producer(struct dice *dice, const struct visit *visit,
                                          struct production *production)
{
    flowmesh_producer_options_t *options = NULL;
    flowmesh_producer_t *producer = NULL;
    flowmesh_error_t *error = NULL;
    MUST(flowmesh_producer_options_new(&options, NULL) == FLOWMESH_OK);
    MUST(flowmesh_producer_options_set_report_callback(options, on_reports, production, ticket_drop,
                                                       NULL) == FLOWMESH_OK);
    MUST(flowmesh_producer_options_set_dispatcher(options, production->unrun, NULL) == FLOWMESH_OK);
    if (dice_one_in(dice, 2))
        MUST(flowmesh_producer_options_set_max_buffered_messages(
                 options, 1 + (size_t)dice_below(dice, 100), NULL) == FLOWMESH_OK);
    if (dice_one_in(dice, 2))
        MUST(flowmesh_producer_options_set_delivery_timeout_ms(options, 1 + dice_below(dice, 2000),
                                                               NULL) == FLOWMESH_OK);
    flowmesh_status_t status =
        dice_one_in(dice, 2)
            ? flowmesh_stream_producer_open(visit->stream, options, &producer, &error)
            : flowmesh_queue_producer_open(visit->queue, options, &producer, &error);
    allowed(status, &error);
    flowmesh_producer_options_free(options);
    return producer;
}

static void end(struct dice *dice, struct production *production, flowmesh_producer_t *producer)
{
    flowmesh_error_t *error = NULL;
    if (producer != NULL && dice_one_in(dice, 3)) {
        int64_t timeout = dice_below(dice, 20);
        flowmesh_status_t status = flowmesh_producer_flush(producer, timeout, &error);
        if (allowed(status, &error) == FLOWMESH_OK)
            MUST(production->reported == production->accepted);
    }
    if (producer != NULL && !dice_one_in(dice, 3)) {
        size_t unsent = 0;
        int64_t timeout = dice_one_in(dice, 2) ? -1 : dice_below(dice, 20);
        flowmesh_status_t status = flowmesh_producer_close(producer, timeout, &unsent, &error);
        MUST(status == FLOWMESH_OK || (status == FLOWMESH_DEADLINE_EXCEEDED && timeout >= 0));
        MUST((long)unsent <= production->accepted);
        flowmesh_error_free(error);
        if (status == FLOWMESH_OK)
            ticket_must_be_over(&production->reports);
    }
    flowmesh_producer_free(producer);
}

void live_producer(struct dice *dice)
{
    struct visit visit;
    struct production *production = calloc(1, sizeof(*production));
    long offered = 0;
    visit_open(dice, &visit);
    ticket_init(&production->reports);
    production->dice.state = dice_next(dice);
    production->unrun = unrun_dispatcher(dice);
    flowmesh_producer_t *producer = open_producer(dice, &visit, production);
    if (producer != NULL) {
        send_some(dice, production, producer);
        offered = dice_one_in(dice, 2) ? offer(PRODUCER, producer) : 0;
        dice_pause(dice, 100);
        end(dice, production, offered != 0 ? take_back(offered) : producer);
    }
    /* Where nobody waited for the reports, they are still to come, and now the library runs them.
     */
    flowmesh_dispatcher_free(production->unrun);
    ticket_await_drop(&production->reports);
    MUST(production->reported == production->accepted);
    visit_free(dice, &visit);
    free(production);
}
