/* What the parts of the stress program share.
 *
 * Threads live many short lives. A life takes something of a world that others use and close at
 * the same time, does what an application would do with it, at random, and checks what the header
 * promises for itself: so every check is local, and every thread can go on when its world ends.
 */
#ifndef STRESS_H
#define STRESS_H

#include <flowmesh.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Says what does not hold, with the seed, and ends the program with a core. */
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            broken(__FILE__, __LINE__, #condition);                                                \
    } while (0)
_Noreturn void broken(const char *file, int line, const char *what);

/* ---- chance: the same numbers for the same seed and thread -------------------------------- */

struct dice {
    uint64_t state;
};
uint64_t dice_next(struct dice *dice);
/* One of 0 .. below-1. */
int dice_below(struct dice *dice, int below);
/* True once in `times`. */
bool dice_one_in(struct dice *dice, int times);
/* Sleeps for up to so many milliseconds, mostly much less. */
void dice_pause(struct dice *dice, int most_ms);

/* ---- what calls may return ------------------------------------------------------------------ */

/* Counts the status, frees the error, and fails for one that nothing here can lead to. */
flowmesh_status_t allowed(flowmesh_status_t status, flowmesh_error_t **error);

/* Prints how often each was returned. */
void statuses_print(void);

/* ---- worlds: a client with a stream, a queue and a store, for everybody, for a while ------- */

struct visit {
    flowmesh_stream_t *stream;
    flowmesh_queue_t *queue;
    flowmesh_kv_t *kv;
};
/* Handles of one's own in some world. Its client may be closed by others at any time. */
void visit_open(struct dice *dice, struct visit *visit);
/* Frees them in some order; a second time it does nothing. */
void visit_free(struct dice *dice, struct visit *visit);
/* Frees the clients that are left. */
void worlds_end(void);
/* Closes the client of some world, from inside a callback. */
void world_end_inside(struct dice *dice);

/* ---- handles that whoever is in a callback may end ------------------------------------------ */

enum kind { SUBSCRIPTION, PRODUCER, WORKER, STREAM, QUEUE, KV, OPERATION };
/* Lets others end the handle; its number, 0 when there are too many. Whoever offers it does not use
 * it any more, unless it gets it back. */
long offer(enum kind kind, void *handle);
/* The handle, when nobody has ended it; otherwise NULL. */
void *take_back(long number);
/* In a callback: closes and frees something, mostly not what the callback belongs to. */
void end_something(struct dice *dice);
/* Frees what is left. */
void offers_end(void);
/* Prints how many were ended in callbacks. */
void offers_print(void);

/* ---- user data: released once, after the last callback ------------------------------------- */

struct ticket {
    pthread_mutex_t lock;
    pthread_cond_t bell;
    int drops;
    int calls;   /* callbacks so far */
    int running; /* callbacks at this moment */
};
void ticket_init(struct ticket *ticket);
/* Around a callback. */
void ticket_enter(struct ticket *ticket);
void ticket_leave(struct ticket *ticket);
/* The drop of a user data that begins with a ticket. */
void ticket_drop(void *ticket);
/* Waits for the drop. */
void ticket_await_drop(struct ticket *ticket);
/* It has been dropped, once, and no callback runs. */
void ticket_must_be_over(struct ticket *ticket);

/* ---- dispatchers --------------------------------------------------------------------------- */

/* Gives the options some dispatcher, and runs it where that is the application's to do. */
struct loop *loop_start(struct dice *dice, const flowmesh_client_options_t *options);
void loop_end(struct loop *loop);
/* A dispatcher that nobody runs, or mostly none. */
flowmesh_dispatcher_t *unrun_dispatcher(struct dice *dice);

/* ---- lives ----------------------------------------------------------------------------------- */

void live_async(struct dice *dice);
void live_calls(struct dice *dice);
void live_jobs(struct dice *dice);
void live_subscription(struct dice *dice);
void live_producer(struct dice *dice);
void live_worker(struct dice *dice);
/* On a client whose dispatcher nobody runs. */
void live_unrun(struct dice *dice);
/* Shuts the library down while everybody uses it. */
void live_shutdown(struct dice *dice);

/* Between the client and the server, where there is a proxy. */
void weather_start(const char *endpoint, uint64_t seed, char *through, size_t size);
void weather_end(void);

extern const char *endpoint;
extern atomic_bool over;
enum { PATIENCE_S = 240 }; /* for what must happen: twice the delivery timeout of a producer */

#endif
