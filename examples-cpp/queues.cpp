// Queues: delays, retries, dead letters and how to get them back, and a worker.
//
//     queues [ENDPOINT]
#include <flowmesh.hpp>

#include <atomic>
#include <future>
#include <iostream>
#include <stdexcept>

using namespace std::chrono_literals;

// Waits up to 5 s for a job and gives it back as failed; whether it is a dead letter now.
static bool fail_one(const flowmesh::queue &queue)
{
    flowmesh::reserve_options wait;
    wait.wait = 5s;
    const std::optional<flowmesh::job> job = queue.reserve(wait);
    if (!job)
        return false;
    std::cout << '"' << job->payload().text() << "\" fails, attempt " << job->attempts() << '\n';
    return job->nack();
}

// Puts every dead letter back to work.
static void replay(const flowmesh::queue &queue)
{
    const flowmesh::job_batch dead = queue.list_dlq_jobs();
    for (const flowmesh::job_view job : dead) {
        std::cout << "dead after " << job.header("x-flowmesh-attempts").value_or("?")
                  << " attempts, replayed\n";
        queue.replay_dlq_job(job.id());
    }
}

// Handles jobs until two are done. A function that throws gives its job back.
static void work(const flowmesh::queue &queue)
{
    std::atomic<int> todo{2};
    std::promise<void> done;
    flowmesh::worker_options options;
    options.on_exception = [](std::exception_ptr thrown, const flowmesh::job_id &) {
        try {
            std::rethrow_exception(thrown);
        } catch (const std::exception &exception) {
            std::cout << "not done: " << exception.what() << '\n';
        }
    };
    const flowmesh::worker worker = queue.open_worker(
        [&](flowmesh::job &job) {
            if (job.payload() == "sweep" && job.attempts() == 1)
                throw std::runtime_error("where is the broom?");
            std::cout << "done: \"" << job.payload().text() << "\"\n";
            if (--todo == 0)
                done.set_value();
        },
        options);
    done.get_future().wait();
    worker.close(30s);
}

int main(int argc, char **argv)
try {
    const flowmesh::client client(argc > 1 ? argv[1] : nullptr);
    const flowmesh::queue queue = client.open_queue("demo", "cafe", "chores");
    flowmesh::retry_policy policy;
    policy.max_attempts = 2;
    policy.backoff_strategy = flowmesh::backoff::fixed;
    queue.set_retry_policy(policy);

    queue.enqueue("fix the grinder");
    while (!fail_one(queue))
        continue;
    replay(queue);
    flowmesh::enqueue_options later;
    later.delay = 1s;
    queue.enqueue("sweep", later);
    work(queue);

    const flowmesh::queue_stats stats = queue.stats();
    std::cout << stats.total_jobs << " enqueued, " << stats.completed_jobs << " done, "
              << stats.failed_jobs << " dead-lettered\n";
} catch (const flowmesh::error &error) {
    std::cerr << "queues: " << error.what() << '\n';
    return 1;
}
