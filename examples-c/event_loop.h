/* What the event loop examples have in common: work that never blocks. It sets a key, reads it, and
 * closes the client, each step in the callback of the one before. The programs differ in the loop
 * that runs the callbacks: event_loop_poll.c, _epoll.c, _uv.c, _glib.c.
 */
#ifndef EVENT_LOOP_H
#define EVENT_LOOP_H

#include <flowmesh.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

struct work {
    flowmesh_dispatcher_t *dispatcher;
    int fd; /* to be watched by the loop */
    flowmesh_client_t *client;
    flowmesh_kv_t *kv;
    bool done;
    bool failed;
};

static inline void work_failed(struct work *work, flowmesh_error_t *error)
{
    fprintf(stderr, "%s: %s\n", flowmesh_status_name(flowmesh_error_status(error)),
            flowmesh_error_message(error));
    flowmesh_error_free(error);
    work->done = work->failed = true;
}

static inline void on_closed(flowmesh_error_t *error, void *user_data)
{
    struct work *work = (struct work *)user_data;
    if (error != NULL) {
        work_failed(work, error);
        return;
    }
    printf("closed\n");
    work->done = true;
}

static inline void on_value(flowmesh_error_t *error, flowmesh_value_t *value, void *user_data)
{
    struct work *work = (struct work *)user_data;
    if (error == NULL)
        printf("colour = " FLOWMESH_VIEW_FMT "\n", FLOWMESH_VIEW_ARG(flowmesh_value_data(value)));
    flowmesh_value_free(value);
    if (error != NULL || flowmesh_client_close_async(work->client, -1, on_closed, work, NULL, NULL,
                                                     &error) != FLOWMESH_OK)
        work_failed(work, error);
}

static inline void on_set(flowmesh_error_t *error, void *user_data)
{
    struct work *work = (struct work *)user_data;
    if (error != NULL || flowmesh_kv_get_async(work->kv, FLOWMESH_VIEW_LITERAL("colour"), NULL,
                                               on_value, work, NULL, NULL, &error) != FLOWMESH_OK)
        work_failed(work, error);
}

/* Starts the work; false when it could not. */
static inline bool work_start(struct work *work, const char *endpoint)
{
    flowmesh_client_options_t *options = NULL;
    flowmesh_error_t *error = NULL;
    *work = (struct work){0};
    if (flowmesh_dispatcher_new(0, &work->dispatcher, &error) ||
        flowmesh_dispatcher_fd(work->dispatcher, &work->fd, &error) ||
        flowmesh_client_options_new(&options, &error) ||
        flowmesh_client_options_set_dispatcher(options, work->dispatcher, &error) ||
        flowmesh_client_open(endpoint, options, &work->client, &error) ||
        flowmesh_kv_open(work->client, "acme", "shop", "settings", &work->kv, &error) ||
        flowmesh_kv_set_async(work->kv, FLOWMESH_VIEW_LITERAL("colour"),
                              FLOWMESH_VIEW_LITERAL("red"), NULL, on_set, work, NULL, NULL, &error))
        work_failed(work, error);
    flowmesh_client_options_free(options);
    return !work->failed;
}

/* The loop says that the descriptor is readable: runs the callbacks that wait. */
static inline void work_run(struct work *work)
{
    flowmesh_error_t *error = NULL;
    if (flowmesh_dispatcher_run(work->dispatcher, 0, 0, NULL, &error) != FLOWMESH_OK)
        work_failed(work, error);
}

/* Frees everything; returns what main should. */
static inline int work_end(struct work *work)
{
    flowmesh_kv_free(work->kv);
    flowmesh_client_free(work->client);
    flowmesh_dispatcher_free(work->dispatcher);
    return work->failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
