// Queues and their jobs.
#include "test.hpp"

using flowmesh::job;

namespace
{

flowmesh::reserve_options waiting()
{
    flowmesh::reserve_options options;
    options.wait = patience;
    options.visibility_timeout = 12h; // nothing here depends on speed
    return options;
}

// A policy by which the first failure is the last.
flowmesh::retry_policy once()
{
    flowmesh::retry_policy policy;
    policy.max_attempts = 1;
    return policy;
}

TEST(queues, hand_out_jobs)
{
    const flowmesh::client client = open_client();
    const std::string name = unique_name();
    const flowmesh::queue queue = client.open_queue("acme", "test", name);
    EXPECT_FALSE(queue.reserve());
    flowmesh::enqueue_options options;
    options.headers = {{"kind", "mail"}};
    const flowmesh::enqueued added = queue.enqueue("to: bob", options);
    EXPECT_EQ(added.seq, 0);

    const std::optional<job> job = queue.reserve(waiting());
    ASSERT_TRUE(job);
    EXPECT_EQ(job->id(), added.id);
    EXPECT_EQ(job->seq(), 0);
    EXPECT_EQ(job->payload(), "to: bob");
    EXPECT_EQ(job->header("kind"), "mail");
    EXPECT_EQ(job->header("other"), std::nullopt);
    EXPECT_EQ(job->headers().size(), 1u);
    EXPECT_EQ(job->resource_path(), "acme/test/queue/" + name);
    EXPECT_EQ(job->attempts(), 1);
    EXPECT_GT(job->time_left(), 0ms);
    EXPECT_LE(job->time_left(), 12h);
    EXPECT_GE(job->visible_at(), job->created_at());
    EXPECT_GT(job->reserve_until(), job->visible_at());
    job->ack();
    EXPECT_EQ(queue.stats().completed_jobs, 1);
}

TEST(queues, jobs_are_moved)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    queue.enqueue("1");
    queue.enqueue("2");
    job first = *queue.reserve(waiting());
    job second = std::move(first);
    EXPECT_FALSE(first); // NOLINT: that is what is tested
    EXPECT_EQ(second.payload(), "1");
    second = *queue.reserve(waiting());
    EXPECT_EQ(second.payload(), "2");
    const flowmesh::job_view looked_at = second;
    EXPECT_EQ(looked_at.payload(), "2");
    looked_at.ack();
    EXPECT_FALSE(job());
    EXPECT_FAILS(invalid_argument, first.ack());
}

TEST(queues, take_failed_jobs_back)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    queue.set_retry_policy(once());
    queue.enqueue("hopeless");
    EXPECT_TRUE(queue.reserve(waiting())->nack());

    const flowmesh::job_batch dead = queue.list_dlq_jobs();
    ASSERT_EQ(dead.size(), 1u);
    EXPECT_EQ(dead[0].payload(), "hopeless");
    EXPECT_FAILS(failed_precondition, dead[0].ack());
    const flowmesh::enqueued replayed = queue.replay_dlq_job(dead[0].id());
    EXPECT_FAILS(not_found, queue.replay_dlq_job(dead[0].id()));
    const std::optional<job> again = queue.reserve(waiting());
    EXPECT_EQ(again->id(), replayed.id);
    EXPECT_NE(again->id(), dead[0].id());

    flowmesh::retry_policy patient;
    patient.max_attempts = 5;
    queue.set_retry_policy(patient);
    flowmesh::nack_options later;
    later.delay = 1h;
    EXPECT_FALSE(again->nack(later));
    EXPECT_FALSE(queue.reserve());
    EXPECT_EQ(queue.stats().pending_jobs, 1);
}

TEST(queues, settle_jobs_by_their_ids)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    queue.set_retry_policy(once());
    queue.enqueue("1");
    queue.enqueue("2");
    queue.ack(queue.reserve(waiting())->id());
    const std::string id(queue.reserve(waiting())->id().text());
    EXPECT_TRUE(queue.nack(id));
    EXPECT_FAILS(not_found, queue.nack(id));
    queue.ack("no such job");
}

TEST(queues, hand_out_batches)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    for (const char *text : {"a", "b", "c"})
        queue.enqueue(text);
    const flowmesh::job_batch batch = queue.receive(100, waiting());
    std::string seen;
    for (const flowmesh::job_view job : batch)
        seen += job.payload().text();
    EXPECT_EQ(seen, "abc");
    EXPECT_EQ(batch.ack(), 3u);
    EXPECT_TRUE(queue.receive(1).empty());
    EXPECT_EQ(queue.stats().completed_jobs, 3);
}

TEST(queues, tell_how_many_of_a_batch_were_acknowledged_when_some_were_not)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    queue.enqueue("a");
    const flowmesh::job_batch batch = queue.receive(1, waiting());
    const flowmesh::cancel_token cancel;
    cancel.cancel();
    flowmesh::call_options cancelled;
    cancelled.cancel = &cancel;
    const auto result = batch.try_ack(cancelled);
    EXPECT_EQ(result.status(), flowmesh::status::cancelled);
    EXPECT_EQ(result.error().count(), 0u);
    EXPECT_EQ(batch.ack_async().get(), 1u);
}

TEST(queues, have_policies_and_counters)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    EXPECT_FAILS(not_found, queue.stats());
    flowmesh::retry_policy policy;
    policy.max_attempts = 7;
    policy.backoff_strategy = flowmesh::backoff::linear;
    policy.initial_backoff = 2s;
    policy.max_backoff = 1min;
    policy.backoff_multiplier = 3.5;
    queue.set_retry_policy(policy);
    const flowmesh::retry_policy read = queue.get_retry_policy();
    EXPECT_EQ(read.max_attempts, 7);
    EXPECT_EQ(read.backoff_strategy, flowmesh::backoff::linear);
    EXPECT_EQ(read.initial_backoff, 2s);
    EXPECT_EQ(read.max_backoff, 1min);
    EXPECT_EQ(read.backoff_multiplier, 3.5);
    policy.initial_backoff = 0ms;
    EXPECT_FAILS(invalid_argument, queue.set_retry_policy(policy));

    // As made, it is the library's default.
    const flowmesh_retry_policy_t expected = FLOWMESH_RETRY_POLICY_INIT;
    const flowmesh_retry_policy_t made = flowmesh::retry_policy().c();
    EXPECT_EQ(made.max_attempts, expected.max_attempts);
    EXPECT_EQ(made.backoff_strategy, expected.backoff_strategy);
    EXPECT_EQ(made.initial_backoff_ms, expected.initial_backoff_ms);
    EXPECT_EQ(made.max_backoff_ms, expected.max_backoff_ms);
    EXPECT_EQ(made.backoff_multiplier, expected.backoff_multiplier);

    queue.enqueue("x");
    queue.enqueue("y");
    const std::optional<job> job = queue.reserve(waiting());
    const flowmesh::queue_stats stats = queue.stats();
    EXPECT_EQ(stats.total_jobs, 2);
    EXPECT_EQ(stats.pending_jobs, 1);
    EXPECT_EQ(stats.in_flight_jobs, 1);
    EXPECT_EQ(stats.completed_jobs, 0);
    EXPECT_EQ(stats.failed_jobs, 0);
}

TEST(queues, hand_jobs_out_again_when_their_lease_is_over)
{
    if (!is_embedded())
        GTEST_SKIP() << "needs the test clock";
    flowmesh::client_options options;
    options.test_clock = true;
    const flowmesh::client client = open_client(options);
    const flowmesh::queue queue = open_queue(client);
    flowmesh::enqueue_options later;
    later.delay = 1min;
    queue.enqueue("x", later);
    EXPECT_FALSE(queue.reserve());
    client.advance_test_clock(61s);
    flowmesh::reserve_options lease;
    lease.visibility_timeout = 10s;
    EXPECT_TRUE(queue.reserve(lease)); // and is destroyed
    EXPECT_FALSE(queue.reserve());
    EXPECT_GE(queue.stats().oldest_job_age, 0ms);
    client.advance_test_clock(20s);
    EXPECT_EQ(queue.reserve()->attempts(), 2);
}

TEST(queues, have_forms_that_do_not_throw)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = client.try_open_queue("acme", "test", unique_name()).value();
    EXPECT_EQ(queue.try_stats().status(), flowmesh::status::not_found);
    EXPECT_TRUE(queue.try_set_retry_policy(once()));
    EXPECT_EQ(queue.try_get_retry_policy()->max_attempts, 1);
    EXPECT_EQ(queue.try_enqueue("x")->seq, 0);
    EXPECT_EQ(queue.try_enqueue("").status(), flowmesh::status::invalid_argument);
    auto reserved = queue.try_reserve(waiting());
    EXPECT_TRUE((*reserved)->try_nack().value());
    EXPECT_FALSE(queue.try_reserve()->has_value());
    const auto dead = queue.try_list_dlq_jobs();
    EXPECT_EQ(queue.try_replay_dlq_job((*dead)[0].id())->seq, 1);
    const auto batch = queue.try_receive(2, waiting());
    ASSERT_EQ(batch->size(), 1u);
    EXPECT_TRUE((*batch)[0].try_ack());
    EXPECT_TRUE(queue.try_ack((*batch)[0].id()));
    EXPECT_EQ(queue.try_nack((*batch)[0].id()).status(), flowmesh::status::not_found);
    EXPECT_EQ(queue.try_stats()->failed_jobs, 1);
}

TEST(queues, have_asynchronous_forms)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    queue.set_retry_policy_async(once()).get();
    EXPECT_EQ(queue.get_retry_policy_async().get().max_attempts, 1);
    const flowmesh::enqueued added = queue.enqueue_async("x").get();
    EXPECT_EQ(added.seq, 0);
    std::optional<job> job = queue.reserve_async(waiting()).get();
    EXPECT_EQ(job->id(), added.id);
    EXPECT_TRUE(job->nack_async().get());
    EXPECT_FALSE(queue.reserve_async().get());
    const flowmesh::job_batch dead = queue.list_dlq_jobs_async().get();
    const flowmesh::enqueued again = queue.replay_dlq_job_async(dead[0].id()).get();
    EXPECT_EQ(again.seq, 1);
    EXPECT_FALSE(again.id.text().empty());
    flowmesh::job_batch batch = queue.receive_async(5, waiting()).get();
    batch[0].ack_async().get();
    EXPECT_FAILS(not_found, queue.nack_async(batch[0].id()).get());
    queue.ack_async(batch[0].id()).get();
    EXPECT_EQ(queue.stats_async().get().completed_jobs, 1);
}

} // namespace
