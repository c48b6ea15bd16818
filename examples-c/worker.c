/* A worker: handles jobs as they come, four at a time, and gives back what did not work. Ctrl-C
 * ends it when the jobs in hand are done.
 *
 *     worker [ENDPOINT]          works on the queue demo/cafe/dishes until interrupted
 *     worker ENDPOINT COUNT      enqueues COUNT jobs, works until they are done
 */
#define _POSIX_C_SOURCE 200809L
#include <flowmesh.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* What the handlers share: how many jobs are still to be done, -1 for no end. */
struct kitchen {
    pthread_mutex_t lock;
    long todo;
};

/* The work, on one of the worker's threads. Every third job fails at its first attempt. */
static flowmesh_verdict_t wash(flowmesh_job_t *job, int64_t *delay_ms, void *user_data)
{
    struct kitchen *kitchen = (struct kitchen *)user_data;
    bool clean = job->seq % 3 != 0 || job->attempts > 1;
    bool last;
    printf("job %lld, attempt %d, %lld ms of lease left: %s\n", (long long)job->seq,
           (int)job->attempts, (long long)flowmesh_job_time_left_ms(job),
           clean ? "done" : "failed");
    if (!clean) {
        *delay_ms = 1000;
        return FLOWMESH_VERDICT_NACK;
    }
    pthread_mutex_lock(&kitchen->lock);
    last = kitchen->todo > 0 && --kitchen->todo == 0;
    pthread_mutex_unlock(&kitchen->lock);
    if (last)
        kill(getpid(), SIGTERM); /* the end for main, which waits for a signal */
    return FLOWMESH_VERDICT_ACK;
}

/* What happens beside the jobs. */
static void tell(const flowmesh_worker_event_t *event, void *user_data)
{
    (void)user_data;
    switch (event->kind) {
    case FLOWMESH_WORKER_LEASE_LOST:
        printf("job %lld took too long; it will come again\n", (long long)event->seq);
        break;
    case FLOWMESH_WORKER_DEAD_LETTERED:
        printf("job %lld is in the dead-letter queue now\n", (long long)event->seq);
        break;
    case FLOWMESH_WORKER_FETCH_RESUMED:
        printf("the server is back\n");
        break;
    default:
        fprintf(stderr, "worker: %s\n", flowmesh_error_message(event->reason));
    }
}

static flowmesh_status_t start(const flowmesh_queue_t *queue, struct kitchen *kitchen,
                               flowmesh_worker_t **worker, flowmesh_error_t **error)
{
    flowmesh_worker_options_t *options = NULL;
    flowmesh_status_t status = flowmesh_worker_options_new(&options, error);
    if (status == FLOWMESH_OK)
        status = flowmesh_worker_options_set_concurrency(options, 4, error);
    if (status == FLOWMESH_OK)
        status = flowmesh_worker_options_set_event_callback(options, tell, NULL, NULL, error);
    if (status == FLOWMESH_OK)
        status = flowmesh_worker_open(queue, options, wash, kitchen, NULL, worker, error);
    flowmesh_worker_options_free(options);
    return status;
}

int main(int argc, char **argv)
{
    flowmesh_client_t *client = NULL;
    flowmesh_queue_t *queue = NULL;
    flowmesh_worker_t *worker = NULL;
    flowmesh_error_t *error = NULL;
    struct kitchen kitchen = {PTHREAD_MUTEX_INITIALIZER, -1};
    long count = argc > 2 ? strtol(argv[2], NULL, 10) : -1;
    sigset_t signals;
    int signal = 0;

    /* Before the library makes its threads; sigwait below takes them. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    kitchen.todo = count;
    flowmesh_status_t status =
        flowmesh_client_open(argc > 1 ? argv[1] : NULL, NULL, &client, &error);
    if (status == FLOWMESH_OK)
        status = flowmesh_queue_open(client, "demo", "cafe", "dishes", &queue, &error);
    for (long i = 0; i < count && status == FLOWMESH_OK; i++)
        status = flowmesh_queue_enqueue(queue, flowmesh_view_str("wash a cup"), NULL, NULL, NULL,
                                        &error);
    if (status == FLOWMESH_OK)
        status = start(queue, &kitchen, &worker, &error);
    if (status == FLOWMESH_OK && count != 0) {
        size_t unfinished = 0;
        sigwait(&signals, &signal);
        status = flowmesh_worker_close(worker, 30000, &unfinished, &error);
        if (status == FLOWMESH_DEADLINE_EXCEEDED)
            fprintf(stderr, "worker: %zu jobs will come again\n", unfinished);
    }
    if (status != FLOWMESH_OK)
        fprintf(stderr, "worker: %s\n", flowmesh_error_message(error));
    flowmesh_error_free(error);
    flowmesh_worker_free(worker);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
    return status == FLOWMESH_OK ? 0 : 1;
}
