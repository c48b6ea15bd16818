/* Workers that are stopped, closed and freed from everywhere, while jobs are under way. */
#include "stress.h"

enum { MOST_LEFT = 8 };

struct work {
    struct ticket jobs; /* first: the user data of the handler begins with it */
    struct ticket events;
    /* Under the lock of the jobs' ticket: */
    struct dice dice;
    bool may_leave;
    flowmesh_job_t *left[MOST_LEFT];
    int left_count;
    flowmesh_dispatcher_t *unrun;
};

/* Settles, or only frees, one of the jobs that were left; false when there is none. */
static bool settle_one(struct work *work)
{
    flowmesh_error_t *error = NULL;
    pthread_mutex_lock(&work->jobs.lock);
    flowmesh_job_t *job = work->left_count > 0 ? work->left[--work->left_count] : NULL;
    int choice = dice_below(&work->dice, 4);
    pthread_mutex_unlock(&work->jobs.lock);
    if (job == NULL)
        return false;
    if (choice > 0) {
        flowmesh_verdict_t verdict = choice > 1 ? FLOWMESH_VERDICT_ACK : FLOWMESH_VERDICT_NACK;
        flowmesh_status_t status = allowed(flowmesh_job_settle(job, verdict, 0, &error), &error);
        MUST(status == FLOWMESH_OK || status == FLOWMESH_CLOSED);
    }
    flowmesh_job_free(job);
    return true;
}

static flowmesh_verdict_t on_job(flowmesh_job_t *job, int64_t *delay_ms, void *user_data)
{
    struct work *work = user_data;
    struct dice dice;
    flowmesh_verdict_t verdict = FLOWMESH_VERDICT_ACK;
    ticket_enter(&work->jobs);
    MUST(*delay_ms == 0);
    pthread_mutex_lock(&work->jobs.lock);
    dice.state = dice_next(&work->dice);
    pthread_mutex_unlock(&work->jobs.lock);
    if (dice_one_in(&dice, 8))
        end_something(&dice);
    if (dice_one_in(&dice, 8))
        settle_one(work);
    dice_pause(&dice, dice_one_in(&dice, 50) ? 1500 : 5); /* the lease is 1 s */
    if (dice_one_in(&dice, 4))
        verdict = FLOWMESH_VERDICT_NACK;
    pthread_mutex_lock(&work->jobs.lock);
    if (work->may_leave && work->left_count < MOST_LEFT && dice_one_in(&dice, 3)) {
        work->left[work->left_count++] = job;
        verdict = FLOWMESH_VERDICT_LEAVE;
    }
    pthread_mutex_unlock(&work->jobs.lock);
    ticket_leave(&work->jobs);
    return verdict;
}

static void on_event(const flowmesh_worker_event_t *event, void *user_data)
{
    struct ticket *events = user_data;
    ticket_enter(events);
    MUST(events->running == 1);
    MUST(event->kind >= FLOWMESH_WORKER_FETCH_FAILED && event->kind <= FLOWMESH_WORKER_ENDED);
    ticket_leave(events);
}

static flowmesh_worker_t *open_worker(struct dice *dice, const struct visit *visit,
                                      struct work *work)
{
    flowmesh_worker_options_t *options = NULL;
    flowmesh_worker_t *worker = NULL;
    flowmesh_error_t *error = NULL;
    MUST(flowmesh_worker_options_new(&options, NULL) == FLOWMESH_OK);
    MUST(flowmesh_worker_options_set_concurrency(options, 1 + (size_t)dice_below(dice, 4), NULL) ==
         FLOWMESH_OK);
    MUST(flowmesh_worker_options_set_visibility_timeout_ms(options, 1000, NULL) == FLOWMESH_OK);
    MUST(flowmesh_worker_options_set_dispatcher(options, work->unrun, NULL) == FLOWMESH_OK);
    MUST(flowmesh_worker_options_set_event_callback(options, on_event, &work->events, ticket_drop,
                                                    NULL) == FLOWMESH_OK);
    allowed(flowmesh_worker_open(visit->queue, options, on_job, work, ticket_drop, &worker, &error),
            &error);
    flowmesh_worker_options_free(options);
    return worker;
}

/* From now on no job is left; those that are get their verdict, or are freed. */
static void settle_all(struct work *work)
{
    pthread_mutex_lock(&work->jobs.lock);
    work->may_leave = false;
    pthread_mutex_unlock(&work->jobs.lock);
    while (settle_one(work))
        ;
}

static void end(struct dice *dice, struct work *work, flowmesh_worker_t *worker)
{
    flowmesh_error_t *error = NULL;
    bool stopped = worker != NULL && dice_one_in(dice, 4);
    if (stopped)
        MUST(flowmesh_worker_stop(worker, NULL) == FLOWMESH_OK);
    if (worker != NULL && !dice_one_in(dice, 3)) {
        int64_t timeout = dice_one_in(dice, 2) ? -1 : dice_below(dice, 20);
        if (timeout < 0 && !stopped)
            settle_all(work); /* a close waits for them, but after a stop it does not */
        flowmesh_status_t status = flowmesh_worker_close(worker, timeout, NULL, &error);
        MUST(status == FLOWMESH_OK || (status == FLOWMESH_DEADLINE_EXCEEDED && timeout >= 0));
        flowmesh_error_free(error);
        if (status == FLOWMESH_OK) {
            ticket_must_be_over(&work->jobs);
            ticket_must_be_over(&work->events);
        }
    }
    flowmesh_worker_free(worker);
}

void live_worker(struct dice *dice)
{
    struct visit visit;
    struct work *work = calloc(1, sizeof(*work));
    flowmesh_error_t *error = NULL;
    long offered = 0;
    visit_open(dice, &visit);
    ticket_init(&work->jobs);
    ticket_init(&work->events);
    work->dice.state = dice_next(dice);
    work->may_leave = true;
    work->unrun = unrun_dispatcher(dice);
    flowmesh_worker_t *worker = open_worker(dice, &visit, work);
    if (worker != NULL) {
        offered = dice_one_in(dice, 2) ? offer(WORKER, worker) : 0;
        for (int i = dice_below(dice, 10); i > 0; i--) {
            allowed(flowmesh_queue_enqueue(visit.queue, FLOWMESH_VIEW_LITERAL("a job"), NULL, NULL,
                                           NULL, &error),
                    &error);
            dice_pause(dice, 10);
            if (dice_one_in(dice, 2))
                settle_one(work);
        }
        dice_pause(dice, 100);
        end(dice, work, offered != 0 ? take_back(offered) : worker);
    }
    settle_all(work);
    flowmesh_dispatcher_free(work->unrun);
    ticket_await_drop(&work->jobs);
    ticket_await_drop(&work->events);
    settle_all(work); /* what the last handlers have left */
    visit_free(dice, &visit);
    free(work);
}
