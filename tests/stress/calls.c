/* Blocking calls: writes with their offsets, values, jobs; with deadlines and cancels. */
#include "stress.h"

struct canceller {
    struct dice dice;
    flowmesh_cancel_t *cancel;
};

/* Ends a call of another thread, some time. */
static void *cancel_later(void *argument)
{
    struct canceller *canceller = argument;
    dice_pause(&canceller->dice, 20);
    flowmesh_cancel_cancel(canceller->cancel, NULL);
    return NULL;
}

static void write_some(struct dice *dice, const struct visit *visit)
{
    enum { MOST = 5 };
    flowmesh_event_t events[MOST];
    int64_t offsets[MOST];
    flowmesh_error_t *error = NULL;
    flowmesh_write_options_t options = FLOWMESH_WRITE_OPTIONS_INIT;
    int count = 1 + dice_below(dice, MOST);
    for (int i = 0; i < count; i++) {
        flowmesh_event_t event = FLOWMESH_EVENT_INIT;
        event.payload = FLOWMESH_VIEW_LITERAL("an event");
        events[i] = event;
    }
    options.timeout_ms = dice_one_in(dice, 5) ? 1 : 0;
    if (allowed(
            flowmesh_stream_write(visit->stream, events, (size_t)count, &options, offsets, &error),
            &error) != FLOWMESH_OK)
        return;
    for (int i = 0; i < count; i++)
        MUST(offsets[i] == offsets[0] + i);
    flowmesh_message_batch_t *batch = NULL;
    if (allowed(flowmesh_stream_read(visit->stream, offsets[0], NULL, &batch, &error), &error) ==
        FLOWMESH_OK) {
        MUST(flowmesh_message_batch_count(batch) >= (size_t)count);
        for (int i = 0; i < count; i++)
            MUST(flowmesh_message_batch_at(batch, (size_t)i)->offset == offsets[i]);
        flowmesh_message_batch_free(batch);
    }
}

static void set_and_get(struct dice *dice, const struct visit *visit)
{
    char text[32];
    flowmesh_error_t *error = NULL;
    flowmesh_value_t *value = NULL;
    flowmesh_call_options_t options = FLOWMESH_CALL_OPTIONS_INIT;
    /* Nobody else has this key. */
    snprintf(text, sizeof(text), "%016llx", (unsigned long long)dice_next(dice));
    flowmesh_view_t key = flowmesh_view_str(text);
    if (allowed(flowmesh_kv_set(visit->kv, key, key, NULL, &error), &error) != FLOWMESH_OK)
        return;
    options.timeout_ms = dice_one_in(dice, 5) ? 1 : 0;
    flowmesh_status_t status =
        allowed(flowmesh_kv_get(visit->kv, key, &options, &value, &error), &error);
    MUST(status != FLOWMESH_NOT_FOUND);
    if (status == FLOWMESH_OK) {
        flowmesh_view_t data = flowmesh_value_data(value);
        MUST(data.len == key.len && memcmp(data.data, text, key.len) == 0);
        flowmesh_value_free(value);
    }
    allowed(flowmesh_kv_delete(visit->kv, key, NULL, &error), &error);
}

/* Waits for a job that may not come, until somebody says stop. */
static void wait_and_be_cancelled(struct dice *dice, const struct visit *visit)
{
    flowmesh_reserve_options_t options = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_cancel_t *cancel = NULL;
    flowmesh_error_t *error = NULL;
    flowmesh_job_t *job = NULL;
    pthread_t other;
    MUST(flowmesh_cancel_new(&cancel, &error) == FLOWMESH_OK);
    options.cancel = cancel;
    options.wait_ms = -1;
    options.visibility_timeout_ms = 1000;
    if (dice_one_in(dice, 8))
        flowmesh_cancel_cancel(cancel, NULL);
    struct canceller canceller = {{dice_next(dice)}, cancel};
    MUST(pthread_create(&other, NULL, cancel_later, &canceller) == 0);
    if (allowed(flowmesh_queue_reserve(visit->queue, &options, &job, &error), &error) ==
        FLOWMESH_OK) {
        MUST(job != NULL);
        allowed(flowmesh_job_ack(job, NULL, &error), &error);
        flowmesh_job_free(job);
    }
    pthread_join(other, NULL);
    flowmesh_cancel_free(cancel);
}

void live_calls(struct dice *dice)
{
    struct visit visit;
    visit_open(dice, &visit);
    for (int i = 1 + dice_below(dice, 8); i > 0; i--) {
        switch (dice_below(dice, 3)) {
        case 0:
            write_some(dice, &visit);
            break;
        case 1:
            set_and_get(dice, &visit);
            break;
        default:
            wait_and_be_cancelled(dice, &visit);
        }
    }
    visit_free(dice, &visit);
}

void live_jobs(struct dice *dice)
{
    struct visit visit;
    flowmesh_error_t *error = NULL;
    visit_open(dice, &visit);
    for (int i = dice_below(dice, 4); i > 0; i--)
        allowed(flowmesh_queue_enqueue(visit.queue, FLOWMESH_VIEW_LITERAL("a job"), NULL, NULL,
                                       NULL, &error),
                &error);
    flowmesh_reserve_options_t options = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_job_batch_t *batch = NULL;
    size_t acked = 0;
    options.visibility_timeout_ms = 1000;
    options.wait_ms = dice_below(dice, 30);
    if (allowed(
            flowmesh_queue_receive(visit.queue, 1 + dice_below(dice, 5), &options, &batch, &error),
            &error) == FLOWMESH_OK) {
        size_t count = flowmesh_job_batch_count(batch);
        MUST(count <= 5);
        if (dice_one_in(dice, 3))
            visit_free(dice, &visit); /* the jobs live on */
        if (dice_one_in(dice, 2)) {
            if (allowed(flowmesh_job_batch_ack(batch, NULL, &acked, &error), &error) == FLOWMESH_OK)
                MUST(acked == count);
        } else {
            for (size_t i = 0; i < count; i++)
                allowed(flowmesh_job_nack(flowmesh_job_batch_at(batch, i), NULL, NULL, &error),
                        &error);
        }
        flowmesh_job_batch_free(batch);
    }
    visit_free(dice, &visit);
}
