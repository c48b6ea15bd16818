// Workers: what their functions return, throw and move away.
#include "test.hpp"

#include <future>
#include <map>
#include <stdexcept>

using flowmesh::job;
using flowmesh::verdict;

namespace
{

// Retries at once, or nearly: the server counts in seconds.
flowmesh::retry_policy quick(int attempts)
{
    flowmesh::retry_policy policy;
    policy.max_attempts = attempts;
    policy.backoff_strategy = flowmesh::backoff::fixed;
    policy.initial_backoff = 1s;
    return policy;
}

// Leases that last longer than anything here does.
flowmesh::worker_options patient()
{
    flowmesh::worker_options options;
    options.visibility_timeout = 12h;
    return options;
}

TEST(workers, acknowledge_what_returns)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    tally done;
    const flowmesh::worker worker = queue.open_worker(
        [&](job &job) {
            EXPECT_EQ(job.payload(), "work");
            EXPECT_GT(job.time_left(), 0ms);
            done.hit();
        },
        patient());
    for (int i = 0; i < 10; i++)
        queue.enqueue("work");
    EXPECT_TRUE(done.reaches(10));
    EXPECT_EQ(worker.close(patience), 0u);
    EXPECT_EQ(queue.stats().completed_jobs, 10);
}

TEST(workers, do_as_the_verdict_says)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    queue.set_retry_policy(quick(1));
    queue.enqueue("good");
    queue.enqueue("bad");
    tally dead;
    flowmesh::worker_options options = patient();
    options.on_event = [&](const flowmesh::worker_event &event) {
        if (event.kind == flowmesh::worker_event_kind::dead_lettered) {
            EXPECT_EQ(event.seq, 1);
            EXPECT_EQ(event.attempts, 1);
            EXPECT_FALSE(event.job_id.text().empty());
            EXPECT_FALSE(event.reason);
            dead.hit();
        }
    };
    const flowmesh::worker worker = queue.open_worker(
        [](const job &job) { return job.payload() == "good" ? verdict::ack() : verdict::nack(); },
        options);
    EXPECT_TRUE(dead.reaches(1));
    EXPECT_EQ(worker.close(patience), 0u);
    EXPECT_EQ(queue.stats().completed_jobs, 1);
    EXPECT_EQ(queue.stats().failed_jobs, 1);
}

TEST(workers, delay_what_the_verdict_delays)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    queue.enqueue("x");
    tally seen;
    const flowmesh::worker worker = queue.open_worker(
        [&](job &) {
            seen.hit();
            return verdict::nack(1h);
        },
        patient());
    EXPECT_TRUE(seen.reaches(1));
    EXPECT_EQ(worker.close(patience), 0u);
    EXPECT_EQ(queue.stats().pending_jobs, 1);
    EXPECT_FALSE(queue.reserve());
}

TEST(workers, give_back_what_throws)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    queue.set_retry_policy(quick(2));
    const flowmesh::enqueued added = queue.enqueue("x");
    tally calls, done;
    std::mutex mutex;
    std::string thrown;
    flowmesh::worker_options options = patient();
    options.on_exception = [&](std::exception_ptr exception, const flowmesh::job_id &id) {
        EXPECT_EQ(id, added.id);
        try {
            std::rethrow_exception(exception);
        } catch (const std::exception &what) {
            const std::lock_guard<std::mutex> lock(mutex);
            thrown += what.what();
        }
    };
    const flowmesh::worker worker = queue.open_worker(
        [&](job &job) {
            calls.hit();
            if (job.attempts() == 1)
                throw std::runtime_error("not today");
            done.hit();
        },
        options);
    EXPECT_TRUE(done.reaches(1));
    EXPECT_EQ(worker.close(patience), 0u);
    EXPECT_EQ(calls.count(), 2);
    EXPECT_EQ(thrown, "not today");
    EXPECT_EQ(queue.stats().completed_jobs, 1);
}

TEST(workers, leave_what_is_moved_away)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    queue.set_retry_policy(quick(1));
    std::mutex mutex;
    std::map<std::string, job> jobs;
    tally moved;
    flowmesh::worker_options options = patient();
    options.concurrency = 3;
    const flowmesh::worker worker = queue.open_worker(
        [&](job &job) {
            const std::lock_guard<std::mutex> lock(mutex);
            std::string name = job.payload().str();
            jobs.emplace(name, std::move(job));
            moved.hit();
            // Whatever it says: the job is not the worker's any more.
            if (name == "thrown")
                throw std::runtime_error("after all");
            return verdict::ack();
        },
        options);
    for (const char *name : {"good", "bad", "thrown"})
        queue.enqueue(name);
    EXPECT_TRUE(moved.reaches(3));
    EXPECT_EQ(queue.stats().completed_jobs, 0);
    flowmesh::settle(jobs["good"], verdict::ack());
    flowmesh::settle(jobs["bad"], verdict::nack());
    jobs["thrown"].ack();
    jobs.erase("thrown"); // without a settle(), it is under way until then
    EXPECT_FAILS(failed_precondition, flowmesh::settle(jobs["good"], verdict::ack()));
    EXPECT_EQ(flowmesh::try_settle(jobs["bad"], verdict::ack()).status(),
              flowmesh::status::failed_precondition);
    EXPECT_EQ(worker.close(patience), 0u);
    EXPECT_EQ(queue.stats().completed_jobs, 2);
    EXPECT_EQ(queue.stats().failed_jobs, 1);
}

TEST(workers, may_settle_elsewhere_before_their_function_returns)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    for (int i = 0; i < 50; i++)
        queue.enqueue("x");
    tally done;
    flowmesh::worker_options options = patient();
    options.concurrency = 4;
    const flowmesh::worker worker = queue.open_worker(
        [&](job &job) {
            std::thread([&, taken = std::move(job)]() mutable {
                flowmesh::settle(taken, verdict::ack());
                const flowmesh::job freed = std::move(taken);
                done.hit();
            }).join();
        },
        options);
    EXPECT_TRUE(done.reaches(50));
    EXPECT_EQ(worker.close(patience), 0u);
    EXPECT_EQ(queue.stats().completed_jobs, 50);
}

TEST(workers, can_be_closed_and_destroyed_in_their_function)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    std::optional<flowmesh::worker> worker;
    std::promise<void> opened;
    std::shared_future<void> is_open = opened.get_future().share();
    tracer tracer;
    worker = queue.open_worker(
        [&, is_open, kept = tracer.give()](job &) {
            is_open.wait();
            worker->close(patience);
            worker.reset();
        },
        patient());
    opened.set_value();
    queue.enqueue("x");
    EXPECT_TRUE(tracer.goes());
    EXPECT_FALSE(worker);
    client.close(patience);
}

TEST(workers, go_when_their_function_has_returned_and_its_verdict_is_stored)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    tally begun;
    std::atomic<bool> returned{false};
    tracer tracer;
    std::promise<void> go_on;
    std::thread other;
    queue.enqueue("x");
    {
        const flowmesh::worker worker = queue.open_worker(
            [&, kept = tracer.give()](job &) {
                begun.hit();
                go_on.get_future().wait();
                returned = true;
            },
            patient());
        EXPECT_TRUE(begun.reaches(1));
        other = std::thread([&] { go_on.set_value(); });
    }
    EXPECT_TRUE(returned);
    EXPECT_TRUE(tracer.is_gone());
    EXPECT_EQ(queue.stats().completed_jobs, 1);
    other.join();
}

TEST(workers, do_not_wait_for_ever_for_jobs_that_were_moved_away)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    std::promise<job> moved;
    job taken;
    queue.enqueue("x");
    {
        const flowmesh::worker worker =
            queue.open_worker([&](job &job) { moved.set_value(std::move(job)); }, patient());
        taken = moved.get_future().get();
        EXPECT_EQ(worker.try_close(0ms).status(), flowmesh::status::deadline_exceeded);
        EXPECT_EQ(worker.try_close(0ms).error().count(), 1u);
    }
    // Its verdict is sent all the same.
    flowmesh::settle(taken, verdict::ack());
    while (queue.stats().completed_jobs == 0)
        std::this_thread::yield();
}

TEST(workers, stop_at_once)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    tally seen;
    const flowmesh::worker worker = queue.open_worker([&](job &) { seen.hit(); }, patient());
    queue.enqueue("x");
    EXPECT_TRUE(seen.reaches(1));
    worker.stop();
    EXPECT_TRUE(worker.try_stop());
    worker.close(patience);
    queue.enqueue("y");
    EXPECT_EQ(seen.count(), 1);
}

TEST(workers, close_without_blocking)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    const flowmesh::worker worker = queue.open_worker([](job &) {}, patient());
    EXPECT_EQ(worker.close_async(patience).get(), 0u);
}

TEST(workers, refuse_wrong_options)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    flowmesh::worker_options options = patient();
    options.concurrency = 0;
    EXPECT_FAILS(invalid_argument, queue.open_worker([](job &) {}, options));
    EXPECT_EQ(queue.try_open_worker([](job &) {}, options).status(),
              flowmesh::status::invalid_argument);
}

TEST(workers, tell_that_they_ended)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    tally ended;
    flowmesh::worker_options options = patient();
    options.on_event = [&](const flowmesh::worker_event &event) {
        if (event.kind == flowmesh::worker_event_kind::ended) {
            EXPECT_TRUE(event.reason);
            EXPECT_EQ(event.seq, -1);
            ended.hit();
        }
    };
    const flowmesh::worker worker = queue.open_worker([](job &) {}, options);
    client.close(patience);
    EXPECT_TRUE(ended.reaches(1));
}

} // namespace
