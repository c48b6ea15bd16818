/* Dispatchers, and the event loops of an application that runs its own. */
#include "stress.h"
#include <poll.h>

struct loop {
    flowmesh_dispatcher_t *dispatcher;
    pthread_t threads[2];
    int count;
    struct dice dice[2];
    atomic_bool stopping;
    atomic_int next;
};

static void *run(void *argument)
{
    struct loop *loop = argument;
    struct dice *dice = &loop->dice[loop->next++];
    struct pollfd watch = {-1, POLLIN, 0};
    flowmesh_error_t *error = NULL;
    MUST(flowmesh_dispatcher_fd(loop->dispatcher, &watch.fd, NULL) == FLOWMESH_OK);
    while (!loop->stopping) {
        size_t ran = 0;
        if (dice_one_in(dice, 2))
            poll(&watch, 1, 20);
        flowmesh_status_t status =
            flowmesh_dispatcher_run(loop->dispatcher, (size_t)dice_below(dice, 4),
                                    dice_one_in(dice, 2) ? 0 : dice_below(dice, 30), &ran, &error);
        if (allowed(status, &error) == FLOWMESH_CLOSED)
            break; /* shut down */
        MUST(status == FLOWMESH_OK);
    }
    return NULL;
}

struct loop *loop_start(struct dice *dice, const flowmesh_client_options_t *options)
{
    int threads = dice_below(dice, 4);
    struct loop *loop = calloc(1, sizeof(*loop));
    flowmesh_error_t *error = NULL;
    if (threads == 3)
        return loop; /* the default dispatcher */
    if (allowed(flowmesh_dispatcher_new((size_t)threads, &loop->dispatcher, &error), &error) !=
        FLOWMESH_OK)
        return loop;
    MUST(flowmesh_client_options_set_dispatcher(options, loop->dispatcher, NULL) == FLOWMESH_OK);
    if (threads == 0) {
        loop->count = 1 + dice_below(dice, 2);
        for (int i = 0; i < loop->count; i++)
            loop->dice[i].state = dice_next(dice);
        for (int i = 0; i < loop->count; i++)
            MUST(pthread_create(&loop->threads[i], NULL, run, loop) == 0);
    } else if (dice_one_in(dice, 2)) {
        flowmesh_dispatcher_free(loop->dispatcher);
        loop->dispatcher = NULL;
    }
    return loop;
}

void loop_end(struct loop *loop)
{
    loop->stopping = true;
    for (int i = 0; i < loop->count; i++) {
        flowmesh_dispatcher_wake(loop->dispatcher, NULL);
        pthread_join(loop->threads[i], NULL);
    }
    flowmesh_dispatcher_free(loop->dispatcher);
    free(loop);
}

flowmesh_dispatcher_t *unrun_dispatcher(struct dice *dice)
{
    flowmesh_dispatcher_t *dispatcher = NULL;
    flowmesh_error_t *error = NULL;
    if (dice_one_in(dice, 4))
        allowed(flowmesh_dispatcher_new(0, &dispatcher, &error), &error);
    return dispatcher;
}
