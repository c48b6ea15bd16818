/* A worker: reserves jobs with long polling, acknowledges what worked, gives back what did not.
 * Ctrl-C ends it after the job in hand.
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

/* Waits for a signal in a thread of its own and ends the reserve that waits for a job. */
static void *cancel_on_signal(void *cancel)
{
    sigset_t signals;
    int signal = 0;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigwait(&signals, &signal);
    flowmesh_cancel_cancel((flowmesh_cancel_t *)cancel, NULL);
    return NULL;
}

static void block_signals(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
}

/* The work. Every third job fails at its first attempt. */
static bool handle(const flowmesh_job_t *job)
{
    bool ok = job->seq % 3 != 0 || job->attempts > 1;
    printf("job %lld, attempt %d, %lld ms of lease left: %s\n", (long long)job->seq,
           (int)job->attempts, (long long)flowmesh_job_time_left_ms(job), ok ? "done" : "failed");
    return ok;
}

/* Works until `todo` jobs are done (-1: for ever) or `cancel` ends it. */
static flowmesh_status_t work(flowmesh_queue_t *queue, flowmesh_cancel_t *cancel, long todo,
                              flowmesh_error_t **error)
{
    flowmesh_reserve_options_t wait = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_nack_options_t again = FLOWMESH_NACK_OPTIONS_INIT;
    flowmesh_status_t status = FLOWMESH_OK;
    wait.wait_ms = -1;
    wait.cancel = cancel;
    again.delay_ms = 1000;

    while (todo != 0 && status == FLOWMESH_OK) {
        flowmesh_job_t *job = NULL;
        bool dead_lettered = false;
        status = flowmesh_queue_reserve(queue, &wait, &job, error);
        if (status != FLOWMESH_OK)
            break;
        if (handle(job)) {
            status = flowmesh_job_ack(job, NULL, error);
            todo -= todo > 0;
        } else {
            status = flowmesh_job_nack(job, &again, &dead_lettered, error);
            if (dead_lettered)
                printf("job %lld is in the dead-letter queue now\n", (long long)job->seq);
        }
        flowmesh_job_free(job);
    }
    return status;
}

int main(int argc, char **argv)
{
    flowmesh_client_t *client = NULL;
    flowmesh_queue_t *queue = NULL;
    flowmesh_cancel_t *cancel = NULL;
    flowmesh_error_t *error = NULL;
    pthread_t waiter;
    long count = argc > 2 ? strtol(argv[2], NULL, 10) : -1;

    /* Before the library makes its threads, so that they inherit it. */
    block_signals();
    flowmesh_status_t status =
        flowmesh_client_open(argc > 1 ? argv[1] : NULL, NULL, &client, &error);
    if (status == FLOWMESH_OK)
        status = flowmesh_queue_open(client, "demo", "cafe", "dishes", &queue, &error);
    if (status == FLOWMESH_OK)
        status = flowmesh_cancel_new(&cancel, &error);
    for (long i = 0; i < count && status == FLOWMESH_OK; i++)
        status = flowmesh_queue_enqueue(queue, flowmesh_view_str("wash a cup"), NULL, NULL, NULL,
                                        &error);
    if (status == FLOWMESH_OK && pthread_create(&waiter, NULL, cancel_on_signal, cancel) == 0) {
        status = work(queue, cancel, count, &error);
        if (status == FLOWMESH_CANCELLED)
            status = FLOWMESH_OK;
        else
            pthread_kill(waiter, SIGTERM);
        pthread_join(waiter, NULL);
    }
    if (status != FLOWMESH_OK)
        fprintf(stderr, "worker: %s\n", flowmesh_error_message(error));
    flowmesh_error_free(error);
    flowmesh_cancel_free(cancel);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
    return status == FLOWMESH_OK ? 0 : 1;
}
