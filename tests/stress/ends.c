/* Handles that are ended in callbacks of something else. */
#include "stress.h"

/* Plain handles are offered all the time: they get some of the places only. */
enum { PLACES = 32, FOR_PLAIN = 8 };

static struct {
    long number; /* 0 for a free place */
    enum kind kind;
    void *handle;
} places[PLACES];
static long last_number;
static atomic_int ended[OPERATION + 1];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

long offer(enum kind kind, void *handle)
{
    long number = 0;
    if (handle == NULL)
        return 0;
    pthread_mutex_lock(&lock);
    int most = kind < STREAM ? PLACES : FOR_PLAIN;
    for (int i = 0; i < most && number == 0; i++) {
        if (places[i].number == 0) {
            number = places[i].number = ++last_number;
            places[i].kind = kind;
            places[i].handle = handle;
        }
    }
    pthread_mutex_unlock(&lock);
    return number;
}

/* Empties the place. */
static void *take(int place)
{
    places[place].number = 0;
    return places[place].handle;
}

void *take_back(long number)
{
    void *handle = NULL;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < PLACES && number != 0; i++)
        if (places[i].number == number)
            handle = take(i);
    pthread_mutex_unlock(&lock);
    return handle;
}

/* Closes it, where it can be closed, for up to `timeout_ms`, and frees it. */
static void end(enum kind kind, void *handle, int64_t timeout_ms)
{
    flowmesh_status_t status = FLOWMESH_OK;
    switch (kind) {
    case SUBSCRIPTION:
        status = flowmesh_subscription_close(handle, timeout_ms, NULL);
        flowmesh_subscription_free(handle);
        break;
    case PRODUCER:
        status = flowmesh_producer_close(handle, timeout_ms, NULL, NULL);
        flowmesh_producer_free(handle);
        break;
    case WORKER:
        status = flowmesh_worker_close(handle, timeout_ms, NULL, NULL);
        flowmesh_worker_free(handle);
        break;
    case STREAM:
        flowmesh_stream_free(handle);
        break;
    case QUEUE:
        flowmesh_queue_free(handle);
        break;
    case KV:
        flowmesh_kv_free(handle);
        break;
    case OPERATION:
        status = flowmesh_operation_cancel(handle, NULL);
        flowmesh_operation_free(handle);
        break;
    }
    MUST(status == FLOWMESH_OK || status == FLOWMESH_DEADLINE_EXCEEDED);
}

void end_something(struct dice *dice)
{
    enum kind kind = KV;
    void *handle = NULL;
    if (dice_one_in(dice, 200)) {
        flowmesh_status_t status = flowmesh_shutdown(dice_below(dice, 20), NULL);
        MUST(status == FLOWMESH_OK || status == FLOWMESH_DEADLINE_EXCEEDED);
        return;
    }
    if (dice_one_in(dice, 20)) {
        world_end_inside(dice);
        return;
    }
    int first = dice_below(dice, PLACES);
    pthread_mutex_lock(&lock);
    for (int i = 0; i < PLACES && handle == NULL; i++) {
        int place = (first + i) % PLACES;
        if (places[place].number != 0) {
            kind = places[place].kind;
            handle = take(place);
        }
    }
    pthread_mutex_unlock(&lock);
    /* Two callbacks that close each other's subscription must not wait for ever. */
    if (handle != NULL) {
        end(kind, handle, dice_below(dice, 20));
        ended[kind]++;
    }
}

void offers_print(void)
{
    printf("ended in callbacks: subscriptions %d, producers %d, workers %d, operations %d, others "
           "%d\n",
           ended[SUBSCRIPTION], ended[PRODUCER], ended[WORKER], ended[OPERATION],
           ended[STREAM] + ended[QUEUE] + ended[KV]);
}

void offers_end(void)
{
    for (int i = 0; i < PLACES; i++)
        if (places[i].number != 0)
            end(places[i].kind, take(i), -1);
}
