/* flowmesh_worker.c: workers, and the loop that an application would write without them.
 *   flowmesh_worker ENDPOINT worker CONCURRENCY JOBS    a worker, its handlers do nothing but ack
 *   flowmesh_worker ENDPOINT loop THREADS JOBS          threads that reserve and ack
 * The queue is filled before the clock starts; it stops when the last ack is stored. */
#include <flowmesh.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "measure.h"

enum { MAX_THREADS = 256 };

static flowmesh_queue_t *queue;
static atomic_long left;
static sem_t done;

static void must(flowmesh_status_t status, const char *what, flowmesh_error_t *error)
{
    if (status != FLOWMESH_OK)
        die(what, flowmesh_error_message(error));
}

/* Through a producer, quickly. */
static void fill_queue(long jobs)
{
    static unsigned char payload[PAYLOAD];
    flowmesh_producer_t *producer = NULL;
    flowmesh_queue_stats_t stats = FLOWMESH_QUEUE_STATS_INIT;
    flowmesh_error_t *error = NULL;
    fill(payload, sizeof payload);
    must(flowmesh_queue_producer_open(queue, NULL, &producer, &error), "producer", error);
    for (long i = 0; i < jobs; i++) {
        flowmesh_event_t job = FLOWMESH_EVENT_INIT;
        job.payload = flowmesh_view_bytes(payload, sizeof payload);
        must(flowmesh_producer_send(producer, &job, NULL, -1, &error), "enqueue", error);
    }
    must(flowmesh_producer_close(producer, -1, NULL, &error), "producer", error);
    flowmesh_producer_free(producer);
    must(flowmesh_queue_stats(queue, NULL, &stats, &error), "stats", error);
    if (stats.total_jobs != jobs)
        die("fill", "a job is missing");
}

static flowmesh_verdict_t handle(flowmesh_job_t *job, int64_t *delay_ms, void *with)
{
    (void)job, (void)delay_ms, (void)with;
    if (atomic_fetch_sub(&left, 1) == 1)
        sem_post(&done);
    return FLOWMESH_VERDICT_ACK;
}

static void work(size_t concurrency)
{
    flowmesh_worker_options_t *options = NULL;
    flowmesh_worker_t *worker = NULL;
    flowmesh_error_t *error = NULL;
    must(flowmesh_worker_options_new(&options, &error), "options", error);
    must(flowmesh_worker_options_set_concurrency(options, concurrency, &error), "concurrency",
         error);
    must(flowmesh_worker_open(queue, options, handle, NULL, NULL, &worker, &error), "worker",
         error);
    sem_wait(&done);
    must(flowmesh_worker_close(worker, -1, NULL, &error), "close", error);
    flowmesh_worker_free(worker);
    flowmesh_worker_options_free(options);
}

static void *reserve_and_ack(void *with)
{
    flowmesh_error_t *error = NULL;
    (void)with;
    while (atomic_fetch_sub(&left, 1) > 0) {
        flowmesh_job_t *job = NULL;
        must(flowmesh_queue_reserve(queue, NULL, &job, &error), "reserve", error);
        if (job == NULL)
            die("reserve", "a job is missing");
        must(flowmesh_job_ack(job, NULL, &error), "ack", error);
        flowmesh_job_free(job);
    }
    return NULL;
}

static void loop(size_t count)
{
    pthread_t threads[MAX_THREADS];
    for (size_t i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, reserve_and_ack, NULL) != 0)
            die("loop", "no thread");
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

int main(int argc, char **argv)
{
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    flowmesh_queue_stats_t stats = FLOWMESH_QUEUE_STATS_INIT;
    char name[32];
    if (argc != 5 || atol(argv[3]) < 1 || atol(argv[3]) > MAX_THREADS || atol(argv[4]) < 1)
        die("usage", "flowmesh_worker ENDPOINT worker|loop 1..256 JOBS");
    size_t width = strtoul(argv[3], NULL, 10);
    long jobs = atol(argv[4]);
    snprintf(name, sizeof name, "jobs-%llu", (unsigned long long)now_ns());
    sem_init(&done, 0, 0);
    must(flowmesh_client_open(argv[1], NULL, &client, &error), argv[1], error);
    must(flowmesh_queue_open(client, TENANT, NAMESPACE, name, &queue, &error), name, error);
    fill_queue(jobs);
    atomic_store(&left, jobs);
    uint64_t cpu = cpu_ns(), started = now_ns();
    if (strcmp(argv[2], "worker") == 0)
        work(width);
    else
        loop(width);
    double seconds = (double)(now_ns() - started) / 1e9;
    double cpu_us = (double)(cpu_ns() - cpu) / 1e3 / (double)jobs;
    must(flowmesh_queue_stats(queue, NULL, &stats, &error), "stats", error);
    if (stats.completed_jobs != jobs)
        die(argv[2], "not every job is acknowledged");
    printf("{\"rate\": %.1f, \"cpu_us\": %.2f}\n", (double)jobs / seconds, cpu_us);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
    return 0;
}
