// Futures and lambdas: what becomes of calls that are waited for, cancelled, dropped and let go.
#include "test.hpp"

#include <future>
#include <stdexcept>

namespace
{

flowmesh::reserve_options waiting()
{
    flowmesh::reserve_options options;
    options.wait = flowmesh::forever;
    options.visibility_timeout = 12h; // nothing here depends on speed
    return options;
}

TEST(futures, hold_a_result_once)
{
    const flowmesh::client client = open_client();
    flowmesh::future<void> future = client.health_check_async();
    EXPECT_TRUE(future.valid());
    EXPECT_TRUE(future.wait_for(patience));
    EXPECT_TRUE(future.ready());
    future.get();
    EXPECT_FALSE(future.valid());
    EXPECT_FALSE(future.ready());
    EXPECT_FALSE(future.wait_for(0ms));
    EXPECT_FAILS(invalid_argument, future.get());
    EXPECT_FALSE(flowmesh::future<int>().valid());
}

TEST(futures, are_moved)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    flowmesh::future<bool> one = client.readiness_check_async();
    flowmesh::future<bool> two = std::move(one);
    EXPECT_FALSE(one.valid()); // NOLINT: that is what is tested
    EXPECT_TRUE(two.get());
    auto waits = queue.reserve_async(waiting());
    auto &same = waits;
    waits = std::move(same);
    EXPECT_TRUE(waits.valid());
    waits = queue.reserve_async(); // drops the one that waits
    EXPECT_FALSE(waits.get());
}

TEST(futures, can_be_cancelled)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    auto future = queue.reserve_async(waiting());
    EXPECT_FALSE(future.wait_for(1ms));
    EXPECT_FALSE(future.ready());
    future.cancel();
    EXPECT_FAILS(cancelled, future.get());
    // Cancelling what is over changes nothing.
    flowmesh::future<void> over = client.health_check_async();
    EXPECT_TRUE(over.wait_for(patience));
    over.cancel();
    over.get();
}

TEST(futures, cancel_their_calls_when_dropped)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    {
        std::vector<flowmesh::future<std::optional<flowmesh::job>>> dropped;
        for (int i = 0; i < 10; i++)
            dropped.push_back(queue.reserve_async(waiting()));
        while (client.stats().calls_under_way < 10)
            std::this_thread::yield();
    }
    while (client.stats().calls_under_way > 0)
        std::this_thread::yield();
    EXPECT_EQ(client.stats().calls_cancelled, 10u);
    // None of them takes the job: they would have been served first.
    queue.enqueue("y");
    EXPECT_TRUE(queue.reserve(waiting()));
}

TEST(futures, can_be_let_go)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    queue.reserve_async(waiting()).detach();
    queue.enqueue("x");
    while (queue.stats().in_flight_jobs == 0)
        std::this_thread::yield();
    EXPECT_EQ(client.stats().calls_cancelled, 0u);
}

TEST(futures, end_when_their_client_is_closed)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    auto future = queue.reserve_async(waiting());
    client.close(patience);
    EXPECT_FAILS(closed, future.get());
    EXPECT_FAILS(closed, client.health_check_async().get());
}

TEST(futures, work_with_cancel_tokens)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    const flowmesh::cancel_token cancel;
    auto options = waiting();
    options.cancel = &cancel;
    auto one = queue.reserve_async(options);
    auto two = queue.reserve_async(options);
    std::thread other([&] { cancel.cancel(); });
    EXPECT_EQ(queue.try_reserve(options).status(), flowmesh::status::cancelled);
    other.join();
    EXPECT_FAILS(cancelled, one.get());
    EXPECT_FAILS(cancelled, two.get());
}

TEST(futures, come_by_the_ten_thousand)
{
    constexpr int many = 10000;
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    std::vector<flowmesh::future<std::optional<flowmesh::job>>> futures;
    for (int i = 0; i < many; i++)
        futures.push_back(queue.reserve_async(waiting()));
    EXPECT_FALSE(futures.front().ready());
    const flowmesh::producer producer = queue.open_producer();
    for (int i = 0; i < many; i++)
        producer.send("x");
    std::vector<bool> seen(many);
    for (auto &future : futures)
        seen[static_cast<std::size_t>(future.get()->seq())] = true;
    EXPECT_EQ(seen, std::vector<bool>(many, true));
}

TEST(lambdas, are_called_once_and_let_go)
{
    const flowmesh::client client = open_client();
    const flowmesh::kv kv = open_kv(client);
    tracer tracer;
    tally calls;
    kv.set_async("k", "v", {}, [&, kept = tracer.give()](flowmesh::result<void> result) {
        EXPECT_TRUE(result);
        calls.hit();
    });
    EXPECT_TRUE(tracer.goes());
    EXPECT_EQ(calls.count(), 1);
    std::promise<std::string> text;
    kv.get_async("k", {}, [&](flowmesh::result<flowmesh::value> value) {
        text.set_value(value.value().str());
    });
    EXPECT_EQ(text.get_future().get(), "v");
}

TEST(lambdas, may_hold_what_cannot_be_copied)
{
    const flowmesh::client client = open_client();
    std::promise<int> promise;
    std::future<int> future = promise.get_future();
    client.health_check_async({}, [owned = std::make_unique<int>(7), promise = std::move(promise)](
                                      flowmesh::result<void> result) mutable {
        result.value();
        promise.set_value(*owned);
    });
    EXPECT_EQ(future.get(), 7);
}

TEST(lambdas, learn_of_failures)
{
    const flowmesh::client client = open_client();
    const flowmesh::kv kv = open_kv(client);
    std::promise<flowmesh::result<flowmesh::value>> promise;
    kv.get_async("missing", {}, [&](flowmesh::result<flowmesh::value> value) {
        promise.set_value(std::move(value));
    });
    EXPECT_EQ(promise.get_future().get().status(), flowmesh::status::not_found);
}

TEST(lambdas, are_not_called_when_the_call_is_refused)
{
    const flowmesh::client client = open_client();
    client.close(patience);
    tracer tracer;
    EXPECT_FAILS(closed,
                 client.health_check_async({}, [kept = tracer.give()](flowmesh::result<void>) {
                     ADD_FAILURE() << "it was refused";
                 }));
    EXPECT_TRUE(tracer.is_gone());
}

TEST(lambdas, go_on_when_the_operation_is_dropped_and_end_when_it_is_cancelled)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    using reserved = flowmesh::result<std::optional<flowmesh::job>>;
    std::promise<reserved> one, two;
    {
        const flowmesh::operation dropped =
            queue.reserve_async(waiting(), [&](reserved job) { one.set_value(std::move(job)); });
    }
    queue.enqueue("x");
    EXPECT_TRUE(one.get_future().get().value());
    const flowmesh::operation operation =
        queue.reserve_async(waiting(), [&](reserved job) { two.set_value(std::move(job)); });
    operation.cancel();
    EXPECT_EQ(two.get_future().get().status(), flowmesh::status::cancelled);
    EXPECT_TRUE(operation.try_cancel());
}

TEST(lambdas, may_close_and_destroy_everything)
{
    std::optional<flowmesh::client> client = open_client();
    std::optional<flowmesh::kv> kv = open_kv(*client);
    tracer tracer;
    kv->set_async("k", "v", {}, [&, kept = tracer.give()](flowmesh::result<void>) {
        client->close(patience);
        kv.reset();
        client.reset();
    });
    EXPECT_TRUE(tracer.goes());
    EXPECT_FALSE(client);
}

// What holds a worker, a producer and a subscription may go in a completion on the thread that
// would run their callbacks.
TEST(lambdas, may_destroy_what_has_callbacks)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    const flowmesh::queue queue = open_queue(client);
    tally seen, gone;
    flowmesh::producer_options reporting;
    reporting.on_reports = [&](const flowmesh::report_batch &) { seen.hit(); };
    flowmesh::worker_options telling;
    telling.on_event = [](const flowmesh::worker_event &) {};
    std::optional producer = stream.open_producer(reporting);
    std::optional subscription =
        stream.subscribe([&](const flowmesh::message_batch &) { seen.hit(); });
    std::optional worker = queue.open_worker([&](flowmesh::job &) { seen.hit(); }, telling);
    producer->send("x");
    queue.enqueue("x");
    EXPECT_TRUE(seen.reaches(3));
    client.health_check_async({}, [&](flowmesh::result<void>) {
        producer->try_send("y", nullptr, 0ms).value();
        producer.reset();
        subscription.reset();
        worker.reset();
        gone.hit();
    });
    EXPECT_TRUE(gone.reaches(1));
}

TEST(lambdas_death, that_throw_end_the_program)
{
    EXPECT_EXIT(
        {
            const flowmesh::client client("embedded:");
            client.health_check_async(
                {}, [](flowmesh::result<void>) { throw std::runtime_error("out of here"); });
            std::this_thread::sleep_for(patience);
        },
        testing::KilledBySignal(SIGABRT), "out of here");
    EXPECT_EXIT(
        {
            const flowmesh::client client("embedded:");
            const flowmesh::stream stream = client.open_stream("a", "b", "c");
            stream.write("x");
            const flowmesh::subscription subscription = stream.subscribe(
                [](const flowmesh::message_batch &) { throw std::runtime_error("out of here"); });
            std::this_thread::sleep_for(patience);
        },
        testing::KilledBySignal(SIGABRT), "out of here");
}

TEST(clients, have_asynchronous_and_other_forms)
{
    const flowmesh::client client = open_client();
    client.connect(patience);
    EXPECT_TRUE(client.try_connect(patience));
    client.connect_async(patience).get();
    client.health_check();
    EXPECT_TRUE(client.readiness_check());
    EXPECT_TRUE(client.try_readiness_check().value());
    EXPECT_NE(client.id(), 0u);
    EXPECT_GE(client.stats().calls_succeeded, 3u);
    EXPECT_GT(client.try_stats()->latency_max_ns, 0u);
    client.close_async(patience).get();
    EXPECT_TRUE(client.try_close(patience));
    EXPECT_FAILS(closed, client.health_check());
}

TEST(clients, take_their_endpoint_from_the_environment)
{
    ASSERT_EQ(setenv("FLOWMESH_ENDPOINT", endpoint().c_str(), 1), 0);
    const flowmesh::client client = flowmesh::client::from_environment();
    ASSERT_EQ(unsetenv("FLOWMESH_ENDPOINT"), 0);
    client.connect(patience);
}

TEST(clients, take_every_option)
{
    flowmesh::dispatcher dispatcher(1);
    flowmesh::client_options options;
    options.timeout = patience;
    options.connect_timeout = patience;
    options.max_message_bytes = 1 << 20;
    options.fsync = flowmesh::fsync::none;
    options.create = true;
    options.dispatcher = &dispatcher;
    if (!is_embedded())
        options.auth_token = "token";
    const flowmesh::client client = open_client(options);
    dispatcher.reset();
    client.connect(patience);
    options.auth_token = "not\nprintable";
    EXPECT_FAILS(invalid_argument, open_client(options));
}

TEST(clients, take_options_for_tls)
{
    flowmesh::client_options options;
    options.allow_plaintext_token = true;
    options.tls.ca_file = "ca.pem"; // read when a connection is made
    options.tls.certificate_file = "client.pem";
    options.tls.key_file = "client.key";
    options.tls.server_name = "flowmesh.example";
    EXPECT_TRUE(flowmesh::client::try_open("https://localhost:1", options));
    options.tls.key_file.reset();
    EXPECT_FAILS(invalid_argument, flowmesh::client("https://localhost:1", options));
    options.tls.certificate_file.reset();
    options.tls.ca_pem = "no certificate";
    EXPECT_FAILS(invalid_argument, flowmesh::client("https://localhost:1", options));
    options.tls.ca_pem.reset();
    options.tls.certificate_pem = "no certificate";
    EXPECT_FAILS(invalid_argument, flowmesh::client("https://localhost:1", options));
    options.tls.certificate_pem.reset();
    options.auth_token_file = "token";
    EXPECT_TRUE(flowmesh::client::try_open("https://localhost:1", options));
}

TEST(dispatchers, run_callbacks_where_the_program_runs_them)
{
    const flowmesh::dispatcher loop;
    flowmesh::client_options options;
    options.dispatcher = &loop;
    const flowmesh::client client = open_client(options);
    EXPECT_GE(loop.fd(), 0);
    std::thread::id where;
    client.health_check_async({},
                              [&](flowmesh::result<void>) { where = std::this_thread::get_id(); });
    EXPECT_EQ(loop.run(patience), 1u);
    EXPECT_EQ(where, std::this_thread::get_id());
    loop.wake();
    EXPECT_EQ(loop.run(), 0u);
    EXPECT_EQ(loop.try_run(0ms, 1).value(), 0u);

    flowmesh::future<void> future = client.health_check_async();
    while (!future.ready())
        loop.run();
    future.get();

    const flowmesh::dispatcher threads(2);
    EXPECT_FAILS(failed_precondition, threads.fd());
    EXPECT_FAILS(failed_precondition, threads.run(0ms));
    EXPECT_EQ(threads.try_wake().status(), flowmesh::status::failed_precondition);
    EXPECT_FAILS(invalid_argument, flowmesh::dispatcher(1000000));
}

TEST(dispatchers, wait_for_nobody_who_runs_them_when_things_go)
{
    const flowmesh::dispatcher loop;
    flowmesh::client_options options;
    options.dispatcher = &loop;
    const flowmesh::client client = open_client(options);
    const flowmesh::stream stream = open_stream(client);
    const flowmesh::queue queue = open_queue(client);
    int reports = 0;
    {
        flowmesh::producer_options reporting;
        reporting.on_reports = [&](const flowmesh::report_batch &batch) {
            reports += static_cast<int>(batch.size());
        };
        const flowmesh::producer producer = stream.open_producer(reporting);
        const flowmesh::subscription subscription =
            stream.subscribe([](const flowmesh::message_batch &) {});
        flowmesh::worker_options working;
        working.dispatcher = &loop;
        const flowmesh::worker worker = queue.open_worker([](flowmesh::job &) {}, working);
        producer.send("x");
        queue.enqueue("x");
    }
    EXPECT_EQ(reports, 1);
}

} // namespace
