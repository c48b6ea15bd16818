/* Queues: delays, leases, retries, dead letters and how to get them back.
 *
 *     queues [ENDPOINT]
 */
#include <flowmesh.h>
#include <stdio.h>

static flowmesh_status_t enqueue(flowmesh_queue_t *queue, const char *text, int64_t delay_ms,
                                 flowmesh_error_t **error)
{
    flowmesh_enqueue_options_t options = FLOWMESH_ENQUEUE_OPTIONS_INIT;
    char id[FLOWMESH_JOB_ID_SIZE];
    int64_t seq = -1;
    options.delay_ms = delay_ms;

    flowmesh_status_t status =
        flowmesh_queue_enqueue(queue, flowmesh_view_str(text), &options, id, &seq, error);
    if (status == FLOWMESH_OK)
        printf("enqueued %lld, \"%s\", due in %lld ms\n", (long long)seq, text,
               (long long)delay_ms);
    return status;
}

/* Waits up to 5 s for a job and gives it back as failed. */
static flowmesh_status_t fail_one(flowmesh_queue_t *queue, bool *dead_lettered,
                                  flowmesh_error_t **error)
{
    flowmesh_reserve_options_t wait = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_job_t *job = NULL;
    wait.wait_ms = 5000;

    flowmesh_status_t status = flowmesh_queue_reserve(queue, &wait, &job, error);
    if (status == FLOWMESH_OK && job != NULL) {
        printf("\"" FLOWMESH_VIEW_FMT "\" fails, attempt %d\n", FLOWMESH_VIEW_ARG(job->payload),
               (int)job->attempts);
        status = flowmesh_job_nack(job, NULL, dead_lettered, error);
    }
    flowmesh_job_free(job);
    return status;
}

/* Puts every dead letter back to work. */
static flowmesh_status_t replay(flowmesh_queue_t *queue, flowmesh_error_t **error)
{
    flowmesh_job_batch_t *dead = NULL;
    flowmesh_status_t status = flowmesh_queue_list_dlq_jobs(queue, 100, NULL, &dead, error);
    for (size_t i = 0; status == FLOWMESH_OK && i < flowmesh_job_batch_count(dead); i++) {
        const flowmesh_job_t *job = flowmesh_job_batch_at(dead, i);
        flowmesh_view_t attempts = FLOWMESH_VIEW_INIT;
        flowmesh_job_get_header(job, "x-flowmesh-attempts", &attempts);
        printf("dead after " FLOWMESH_VIEW_FMT " attempts, replayed\n",
               FLOWMESH_VIEW_ARG(attempts));
        status = flowmesh_queue_replay_dlq_job(queue, job->id, NULL, NULL, NULL, error);
    }
    flowmesh_job_batch_free(dead);
    return status;
}

/* Takes what is due, up to 100 jobs at a time, and acknowledges it together. */
static flowmesh_status_t drain(flowmesh_queue_t *queue, flowmesh_error_t **error)
{
    flowmesh_reserve_options_t wait = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_status_t status = FLOWMESH_OK;
    wait.wait_ms = 2000;
    wait.visibility_timeout_ms = 10000;

    for (size_t count = 1; status == FLOWMESH_OK && count > 0;) {
        flowmesh_job_batch_t *batch = NULL;
        size_t acked = 0;
        status = flowmesh_queue_receive(queue, 100, &wait, &batch, error);
        count = flowmesh_job_batch_count(batch);
        for (size_t i = 0; i < count; i++)
            printf("done: \"" FLOWMESH_VIEW_FMT "\"\n",
                   FLOWMESH_VIEW_ARG(flowmesh_job_batch_at(batch, i)->payload));
        if (status == FLOWMESH_OK && count > 0)
            status = flowmesh_job_batch_ack(batch, NULL, &acked, error);
        flowmesh_job_batch_free(batch);
    }
    return status;
}

int main(int argc, char **argv)
{
    flowmesh_client_t *client = NULL;
    flowmesh_queue_t *queue = NULL;
    flowmesh_error_t *error = NULL;
    flowmesh_retry_policy_t policy = FLOWMESH_RETRY_POLICY_INIT;
    flowmesh_queue_stats_t stats = FLOWMESH_QUEUE_STATS_INIT;
    bool dead_lettered = false;
    policy.max_attempts = 2;
    policy.backoff_strategy = FLOWMESH_BACKOFF_FIXED;

    flowmesh_status_t status =
        flowmesh_client_open(argc > 1 ? argv[1] : NULL, NULL, &client, &error);
    if (status == FLOWMESH_OK)
        status = flowmesh_queue_open(client, "demo", "cafe", "chores", &queue, &error);
    if (status == FLOWMESH_OK)
        status = flowmesh_queue_set_retry_policy(queue, &policy, NULL, &error);
    if (status == FLOWMESH_OK)
        status = enqueue(queue, "fix the grinder", 0, &error);
    while (status == FLOWMESH_OK && !dead_lettered)
        status = fail_one(queue, &dead_lettered, &error);
    if (status == FLOWMESH_OK)
        status = replay(queue, &error);
    if (status == FLOWMESH_OK)
        status = enqueue(queue, "sweep", 1000, &error);
    if (status == FLOWMESH_OK)
        status = drain(queue, &error);
    if (status == FLOWMESH_OK)
        status = flowmesh_queue_stats(queue, NULL, &stats, &error);
    if (status == FLOWMESH_OK)
        printf("%lld enqueued, %lld done, %lld dead-lettered\n", (long long)stats.total_jobs,
               (long long)stats.completed_jobs, (long long)stats.failed_jobs);
    else
        fprintf(stderr, "queues: %s\n", flowmesh_error_message(error));
    flowmesh_error_free(error);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
    return status == FLOWMESH_OK ? 0 : 1;
}
