// Producers of events and of jobs.
#include "test.hpp"

#include <future>

namespace
{

// What reports told, by other threads.
struct log_book {
    std::mutex mutex;
    std::vector<std::int64_t> positions;
    std::vector<std::string> failures;
    tally reports;

    void operator()(const flowmesh::report_batch &batch)
    {
        const std::lock_guard<std::mutex> lock(mutex);
        for (const flowmesh::report report : batch) {
            if (report)
                positions.push_back(report.position());
            else
                failures.push_back(report.error()->what());
            reports.hit();
        }
    }
};

TEST(producers, report_every_event)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    log_book book;
    std::vector<int> tags(100);
    flowmesh::producer_options options;
    options.on_reports = [&](const flowmesh::report_batch &batch) {
        EXPECT_EQ(batch.size(),
                  static_cast<std::size_t>(std::distance(batch.begin(), batch.end())));
        for (const flowmesh::report report : batch) {
            ++*static_cast<int *>(report.message_data());
            EXPECT_EQ(report.status(), flowmesh::status::ok);
            EXPECT_EQ(report.outcome(), flowmesh::outcome::applied);
            EXPECT_EQ(report.attempts(), 1);
            EXPECT_EQ(report.job_id(), "");
            EXPECT_FALSE(report.error());
        }
        book(batch);
    };
    const flowmesh::producer producer = stream.open_producer(options);
    for (int &tag : tags)
        producer.send(flowmesh::event{"x", {{"a", "b"}}}, &tag);
    producer.flush(patience);
    EXPECT_EQ(book.positions.size(), tags.size());
    EXPECT_EQ(tags, std::vector<int>(100, 1));
    producer.send("last", &tags[0]);
    EXPECT_EQ(producer.close(patience), 0u);
    EXPECT_EQ(book.positions.back(), 100);
    EXPECT_EQ(stream.read(0)[0].header("a"), "b");
    EXPECT_FAILS(closed, producer.send("x"));
}

TEST(producers, report_jobs_with_their_ids)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    std::promise<std::string> id;
    flowmesh::producer_options options;
    options.on_reports = [&](const flowmesh::report_batch &batch) {
        id.set_value(std::string(batch[0].job_id()));
    };
    const flowmesh::producer producer = queue.open_producer(options);
    producer.send("job");
    flowmesh::reserve_options wait;
    wait.wait = patience;
    EXPECT_EQ(queue.reserve(wait)->id().text(), id.get_future().get());
    producer.close(patience);
}

TEST(producers, delay_jobs)
{
    if (!is_embedded())
        GTEST_SKIP() << "needs the test clock";
    flowmesh::client_options options;
    options.test_clock = true;
    const flowmesh::client client = open_client(options);
    const flowmesh::queue queue = open_queue(client);
    const flowmesh::producer producer = queue.open_producer();
    producer.send_delayed(flowmesh::event{"job"}, 1h);
    producer.flush(patience);
    EXPECT_FALSE(queue.reserve());
    client.advance_test_clock(61min);
    EXPECT_TRUE(queue.reserve());
    EXPECT_FAILS(invalid_argument,
                 open_stream(client).open_producer().send_delayed(flowmesh::event{"x"}, 1h));
}

TEST(producers, say_when_they_are_full_and_when_there_is_room)
{
    const flowmesh::client client("unix:/nowhere/at/all");
    tally writable;
    flowmesh::producer_options options;
    options.max_buffered_messages = 1;
    options.on_writable = [&] { writable.hit(); };
    const flowmesh::producer producer = client.open_stream("a", "b", "c").open_producer(options);
    producer.send("first"); // keeps the room, as nobody takes it
    EXPECT_EQ(producer.try_send("second", nullptr, 0ms).status(), flowmesh::status::queue_full);
    EXPECT_FAILS(queue_full, producer.send(flowmesh::event{"second"}, nullptr, 0ms));
    EXPECT_EQ(producer.try_close(0ms).status(), flowmesh::status::deadline_exceeded);
    EXPECT_TRUE(writable.reaches(1)); // its end is told too
}

TEST(producers, count_what_they_give_up)
{
    const flowmesh::client client("unix:/nowhere/at/all");
    log_book book;
    flowmesh::producer_options options;
    options.on_reports = [&](const flowmesh::report_batch &batch) { book(batch); };
    const flowmesh::producer producer = client.open_stream("a", "b", "c").open_producer(options);
    producer.send("one");
    producer.send("two");
    EXPECT_EQ(producer.try_flush(0ms).status(), flowmesh::status::deadline_exceeded);
    try {
        producer.close(0ms);
        FAIL() << "nobody could have taken them";
    } catch (const flowmesh::deadline_exceeded_error &error) {
        EXPECT_EQ(error.count(), 2u);
    }
    EXPECT_EQ(producer.close(patience), 2u);
    EXPECT_EQ(book.failures.size(), 2u);
}

TEST(producers, report_before_they_are_gone)
{
    const flowmesh::client client("unix:/nowhere/at/all");
    tracer tracer;
    int failures = 0;
    {
        flowmesh::producer_options options;
        options.on_reports = [&failures,
                              kept = tracer.give()](const flowmesh::report_batch &batch) {
            for (const flowmesh::report report : batch)
                failures += report.status() == flowmesh::status::closed ? 1 : 0;
        };
        const flowmesh::producer producer =
            client.open_stream("a", "b", "c").open_producer(options);
        options = {};
        for (int i = 0; i < 10; i++)
            producer.send("x");
    }
    EXPECT_EQ(failures, 10);
    EXPECT_TRUE(tracer.is_gone());
}

TEST(producers, can_be_closed_and_destroyed_in_their_function)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    std::optional<flowmesh::producer> producer;
    std::promise<void> opened;
    std::shared_future<void> is_open = opened.get_future().share();
    tracer tracer;
    {
        flowmesh::producer_options options;
        options.on_reports = [&, is_open, kept = tracer.give()](const flowmesh::report_batch &) {
            is_open.wait();
            EXPECT_EQ(producer->try_flush(patience).status(),
                      flowmesh::status::failed_precondition);
            producer->close(patience);
            producer.reset();
        };
        producer = stream.open_producer(options);
    }
    producer->send("x");
    opened.set_value();
    EXPECT_TRUE(tracer.goes());
    EXPECT_FALSE(producer);
}

TEST(producers, have_asynchronous_and_other_forms)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    const flowmesh::producer producer = stream.try_open_producer().value();
    EXPECT_TRUE(producer.try_send("x"));
    EXPECT_TRUE(producer.try_send(flowmesh::event{"x"}));
    EXPECT_EQ(producer.try_send("").status(), flowmesh::status::invalid_argument);
    producer.flush_async(patience).get();
    EXPECT_TRUE(producer.try_flush(patience));
    EXPECT_EQ(producer.close_async(patience).get(), 0u);
    EXPECT_EQ(producer.try_close(patience).value(), 0u);
    EXPECT_EQ(stream.latest_offset(), 1);

    flowmesh::producer_options wrong;
    wrong.max_batch_bytes = 0;
    EXPECT_FAILS(invalid_argument, stream.open_producer(wrong));
    EXPECT_EQ(open_queue(client).try_open_producer(wrong).status(),
              flowmesh::status::invalid_argument);
}

} // namespace
