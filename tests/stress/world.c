/* The worlds, chance, and what is checked everywhere. */
#define _GNU_SOURCE
#include "stress.h"
#include <time.h>
#include <unistd.h>

enum { WORLDS = 3 };

static struct world {
    pthread_mutex_t lock;
    flowmesh_client_t *client;
    struct loop *loop;
    char name[48];
} worlds[WORLDS] = {{PTHREAD_MUTEX_INITIALIZER, NULL, NULL, ""},
                    {PTHREAD_MUTEX_INITIALIZER, NULL, NULL, ""},
                    {PTHREAD_MUTEX_INITIALIZER, NULL, NULL, ""}};

/* ---- chance ---------------------------------------------------------------------------------- */

uint64_t dice_next(struct dice *dice)
{
    uint64_t mixed = dice->state += 0x9e3779b97f4a7c15;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    return mixed ^ (mixed >> 31);
}

int dice_below(struct dice *dice, int below)
{
    return (int)(dice_next(dice) % (uint64_t)below);
}

bool dice_one_in(struct dice *dice, int times)
{
    return dice_below(dice, times) == 0;
}

void dice_pause(struct dice *dice, int most_ms)
{
    /* Small ones are the most likely, down to nothing: races are lost by microseconds. */
    long most_ns = most_ms * 1000000L >> dice_below(dice, 20);
    struct timespec time = {most_ns / 1000000000, most_ns % 1000000000};
    if (most_ns > 1000)
        nanosleep(&time, NULL);
}

/* ---- statuses -------------------------------------------------------------------------------- */

static atomic_int statuses[128];

void statuses_print(void)
{
    for (int i = 0; i < 128; i++)
        if (statuses[i] > 0)
            printf("%s %d  ", flowmesh_status_name(i), statuses[i]);
    printf("\n");
}

flowmesh_status_t allowed(flowmesh_status_t status, flowmesh_error_t **error)
{
    MUST((status == FLOWMESH_OK) == (*error == NULL));
    MUST(flowmesh_error_status(*error) == status);
    switch (status) {
    case FLOWMESH_OK:
    case FLOWMESH_CLOSED:
    case FLOWMESH_CANCELLED:
    case FLOWMESH_DEADLINE_EXCEEDED:
    case FLOWMESH_NOT_FOUND:
        break;
    case FLOWMESH_UNAVAILABLE: /* only the network can be */
        MUST(strncmp(endpoint, "embedded", 8) != 0);
        break;
    default:
        fprintf(stderr, "%s: %s\n", flowmesh_status_name(status), flowmesh_error_message(*error));
        MUST(!"a status that nothing here can lead to");
    }
    statuses[status]++;
    flowmesh_error_free(*error);
    *error = NULL;
    return status;
}

/* ---- worlds ---------------------------------------------------------------------------------- */

static void close_client(struct dice *dice, flowmesh_client_t *client)
{
    flowmesh_error_t *error = NULL;
    flowmesh_status_t status = FLOWMESH_OK;
    switch (dice_below(dice, 4)) {
    case 0: /* only freed: it lives on as long as what was opened from it */
        break;
    case 1:
        status = flowmesh_client_close(client, 0, &error);
        break;
    case 2:
        status = flowmesh_client_close(client, dice_below(dice, 50), &error);
        break;
    default:
        status = flowmesh_client_close(client, -1, &error);
        MUST(status == FLOWMESH_OK);
    }
    MUST(status == FLOWMESH_OK || status == FLOWMESH_DEADLINE_EXCEEDED);
    flowmesh_error_free(error);
    flowmesh_client_free(client);
}

/* Loops whose client is gone: nobody waits for a thread inside a callback, which may be its. */
static struct loop *left_over[64];
static int left_overs;
static pthread_mutex_t left_over_lock = PTHREAD_MUTEX_INITIALIZER;

static struct loop *take_left_over(void)
{
    pthread_mutex_lock(&left_over_lock);
    struct loop *loop = left_overs > 0 ? left_over[--left_overs] : NULL;
    pthread_mutex_unlock(&left_over_lock);
    return loop;
}

static bool leave_loop(struct loop *loop)
{
    pthread_mutex_lock(&left_over_lock);
    bool room = left_overs < (int)(sizeof(left_over) / sizeof(*left_over));
    if (room)
        left_over[left_overs++] = loop;
    pthread_mutex_unlock(&left_over_lock);
    return room;
}

void world_end_inside(struct dice *dice)
{
    struct world *world = &worlds[dice_below(dice, WORLDS)];
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    /* Whoever opens a world has the lock meanwhile. */
    if (pthread_mutex_trylock(&world->lock) != 0)
        return;
    if (world->client != NULL && leave_loop(world->loop)) {
        client = world->client;
        world->client = NULL;
    }
    pthread_mutex_unlock(&world->lock);
    if (client == NULL)
        return;
    flowmesh_status_t status = flowmesh_client_close(client, dice_below(dice, 20), &error);
    MUST(status == FLOWMESH_OK || status == FLOWMESH_DEADLINE_EXCEEDED);
    flowmesh_error_free(error);
    flowmesh_client_free(client);
}

static void end_world(struct dice *dice, flowmesh_client_t *client, struct loop *loop)
{
    if (client == NULL)
        return;
    if (dice_one_in(dice, 2)) {
        loop_end(loop);
        close_client(dice, client);
    } else {
        close_client(dice, client);
        loop_end(loop);
    }
}

/* Fills an empty world; false when the library is being shut down. */
static bool begin_world(struct dice *dice, struct world *world)
{
    static atomic_int number;
    flowmesh_client_options_t *options = NULL;
    flowmesh_error_t *error = NULL;
    snprintf(world->name, sizeof(world->name), "stress-%ld-%ld-%d", (long)time(NULL),
             (long)getpid(), ++number);
    MUST(flowmesh_client_options_new(&options, NULL) == FLOWMESH_OK);
    world->loop = loop_start(dice, options);
    flowmesh_status_t status =
        allowed(flowmesh_client_open(endpoint, options, &world->client, &error), &error);
    MUST(status == FLOWMESH_OK || status == FLOWMESH_CLOSED);
    flowmesh_client_options_free(options);
    if (status != FLOWMESH_OK)
        loop_end(world->loop);
    return status == FLOWMESH_OK;
}

void visit_open(struct dice *dice, struct visit *visit)
{
    struct world *world = &worlds[dice_below(dice, WORLDS)];
    flowmesh_client_t *ended = NULL;
    struct loop *loop = NULL;

    memset(visit, 0, sizeof(*visit));
    pthread_mutex_lock(&world->lock);
    if (world->client != NULL && dice_one_in(dice, 40)) {
        ended = world->client;
        loop = world->loop;
        world->client = NULL;
    }
    while (world->client == NULL)
        (void)begin_world(dice, world);
    MUST(flowmesh_stream_open(world->client, "t", "n", world->name, &visit->stream, NULL) ==
         FLOWMESH_OK);
    MUST(flowmesh_queue_open(world->client, "t", "n", world->name, &visit->queue, NULL) ==
         FLOWMESH_OK);
    MUST(flowmesh_kv_open(world->client, "t", "n", world->name, &visit->kv, NULL) == FLOWMESH_OK);
    pthread_mutex_unlock(&world->lock);
    end_world(dice, ended, loop);
    while ((loop = take_left_over()) != NULL)
        loop_end(loop);
}

void visit_free(struct dice *dice, struct visit *visit)
{
    if (dice_one_in(dice, 2)) {
        if (offer(STREAM, visit->stream) == 0)
            flowmesh_stream_free(visit->stream);
        if (offer(QUEUE, visit->queue) == 0)
            flowmesh_queue_free(visit->queue);
        if (offer(KV, visit->kv) == 0)
            flowmesh_kv_free(visit->kv);
    } else {
        flowmesh_kv_free(visit->kv);
        flowmesh_queue_free(visit->queue);
        flowmesh_stream_free(visit->stream);
    }
    memset(visit, 0, sizeof(*visit));
}

void worlds_end(void)
{
    struct dice dice = {0};
    struct loop *loop;
    offers_end();
    for (int i = 0; i < WORLDS; i++)
        end_world(&dice, worlds[i].client, worlds[i].loop);
    while ((loop = take_left_over()) != NULL)
        loop_end(loop);
}

void live_shutdown(struct dice *dice)
{
    flowmesh_error_t *error = NULL;
    if (!dice_one_in(dice, 50))
        return;
    int64_t timeout = dice_one_in(dice, 2) ? PATIENCE_S * 1000 : dice_below(dice, 100);
    flowmesh_status_t status = flowmesh_shutdown(timeout, &error);
    MUST(status == FLOWMESH_OK ||
         (status == FLOWMESH_DEADLINE_EXCEEDED && timeout < PATIENCE_S * 1000));
    flowmesh_error_free(error);
}

/* ---- tickets --------------------------------------------------------------------------------- */

void ticket_init(struct ticket *ticket)
{
    pthread_mutex_init(&ticket->lock, NULL);
    pthread_cond_init(&ticket->bell, NULL);
    ticket->drops = ticket->calls = ticket->running = 0;
}

void ticket_enter(struct ticket *ticket)
{
    pthread_mutex_lock(&ticket->lock);
    MUST(ticket->drops == 0);
    ticket->calls++;
    ticket->running++;
    pthread_mutex_unlock(&ticket->lock);
}

void ticket_leave(struct ticket *ticket)
{
    pthread_mutex_lock(&ticket->lock);
    MUST(ticket->drops == 0);
    ticket->running--;
    pthread_mutex_unlock(&ticket->lock);
}

void ticket_drop(void *user_data)
{
    struct ticket *ticket = user_data;
    pthread_mutex_lock(&ticket->lock);
    MUST(ticket->drops++ == 0);
    MUST(ticket->running == 0);
    pthread_cond_broadcast(&ticket->bell);
    pthread_mutex_unlock(&ticket->lock);
}

void ticket_await_drop(struct ticket *ticket)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&ticket->lock);
    while (ticket->drops == 0)
        MUST(pthread_cond_timedwait(&ticket->bell, &ticket->lock, &until) == 0);
    pthread_mutex_unlock(&ticket->lock);
}

void ticket_must_be_over(struct ticket *ticket)
{
    pthread_mutex_lock(&ticket->lock);
    MUST(ticket->drops == 1);
    MUST(ticket->running == 0);
    pthread_mutex_unlock(&ticket->lock);
}
