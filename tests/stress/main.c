/* The stress program: many threads that use, cancel, close and free at random.
 *
 * usage: stress [--seed N] [--seconds N] [--threads N]
 *
 * FLOWMESH_TEST_ENDPOINT is what it works against, without it the engine in memory. With
 * FLOWMESH_PROXY and a server on TCP, a proxy in between breaks the connections all the time.
 * What the threads decide depends on the seed alone; how their decisions meet, on the scheduler.
 */
#define _GNU_SOURCE
#include "stress.h"
#include <time.h>
#include <unistd.h>

enum { MOST_THREADS = 64 };

static const struct {
    const char *name;
    void (*live)(struct dice *dice);
} lives[] = {
    {"async", live_async},       {"calls", live_calls},
    {"jobs", live_jobs},         {"subscription", live_subscription},
    {"producer", live_producer}, {"worker", live_worker},
    {"unrun", live_unrun},       {"shutdown", live_shutdown},
};
enum { LIVES = sizeof(lives) / sizeof(*lives) };

const char *endpoint;
atomic_bool over;

static unsigned long long seed;
static atomic_int lived[LIVES];
/* Which life each thread lives, and since when: for whoever looks why it does not end. */
static struct {
    _Atomic(const char *) life;
    atomic_long since;
} threads_now[MOST_THREADS];

_Noreturn void broken(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: does not hold: %s\nrun again with --seed %llu\n", file, line, what,
            seed);
    abort();
}

static long now_s(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec;
}

static void *live(void *argument)
{
    int number = (int)(intptr_t)argument;
    struct dice dice = {seed * MOST_THREADS + (uint64_t)number};
    while (!over) {
        int which = dice_below(&dice, LIVES);
        threads_now[number].since = now_s();
        threads_now[number].life = lives[which].name;
        lives[which].live(&dice);
        lived[which]++;
        threads_now[number].life = NULL;
    }
    return NULL;
}

/* Ends the program when a thread does not come to an end. */
static void *watch(void *threads)
{
    for (;;) {
        sleep(1);
        for (int i = 0; i < (int)(intptr_t)threads; i++) {
            const char *life = threads_now[i].life;
            if (life != NULL && now_s() - threads_now[i].since > 2 * PATIENCE_S) {
                fprintf(stderr, "thread %d hangs in \"%s\"\n", i, life);
                MUST(!"everything comes to an end");
            }
        }
    }
    return NULL;
}

static long option(int count, char **arguments, const char *name, long otherwise)
{
    for (int i = 1; i + 1 < count; i += 2)
        if (strcmp(arguments[i], name) == 0)
            return strtol(arguments[i + 1], NULL, 10);
    return otherwise;
}

int main(int count, char **arguments)
{
    pthread_t threads[MOST_THREADS];
    pthread_t watching;
    char through[64];
    seed = (unsigned long long)option(count, arguments, "--seed", (long)time(NULL) ^ getpid());
    long seconds = option(count, arguments, "--seconds", 60);
    long number = option(count, arguments, "--threads", 8);
    MUST(number >= 1 && number <= MOST_THREADS);

    endpoint = getenv("FLOWMESH_TEST_ENDPOINT");
    if (endpoint == NULL) {
        endpoint = "embedded:";
    } else if (getenv("FLOWMESH_PROXY") != NULL && strncmp(endpoint, "unix", 4) != 0) {
        weather_start(endpoint, seed, through, sizeof(through));
        endpoint = through;
    }
    printf("seed %llu, %ld s, %ld threads, %s\n", seed, seconds, number, endpoint);
    fflush(stdout);

    for (long i = 0; i < number; i++)
        MUST(pthread_create(&threads[i], NULL, live, (void *)(intptr_t)i) == 0);
    MUST(pthread_create(&watching, NULL, watch, (void *)(intptr_t)number) == 0);
    sleep((unsigned)seconds);
    over = true;
    for (long i = 0; i < number; i++)
        pthread_join(threads[i], NULL);
    worlds_end();
    /* Not before: a producer that is being closed looks for the server for two minutes. */
    weather_end();
    MUST(flowmesh_shutdown(PATIENCE_S * 1000, NULL) == FLOWMESH_OK);
    pthread_cancel(watching);
    pthread_join(watching, NULL);
    for (int i = 0; i < LIVES; i++)
        printf("%s%s %d", i == 0 ? "" : ", ", lives[i].name, lived[i]);
    printf("\n");
    offers_print();
    statuses_print();
    return 0;
}
