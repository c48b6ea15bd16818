// co_await, where the compiler has it.
#include "test.hpp"

#ifdef FLOWMESH_COROUTINES

#include <future>

namespace
{

// A coroutine that runs by itself. What it throws ends the program, as no test here lets it.
struct task {
    struct promise_type {
        task get_return_object() { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }
    };
};

// One that its owner destroys.
struct owned_task {
    struct promise_type {
        owned_task get_return_object()
        {
            return {std::coroutine_handle<promise_type>::from_promise(*this)};
        }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }
    };
    std::coroutine_handle<promise_type> handle;
};

task use_everything(const flowmesh::client &client, tally &done)
{
    const flowmesh::stream stream = open_stream(client);
    const flowmesh::queue queue = open_queue(client);
    const flowmesh::kv kv = open_kv(client);
    co_await client.health_check_async();
    EXPECT_TRUE(co_await client.readiness_check_async());
    EXPECT_EQ(co_await stream.write_async("x"), 0);
    EXPECT_EQ((co_await stream.read_async(0))[0].payload(), "x");
    co_await queue.enqueue_async("y");
    const std::optional<flowmesh::job> job =
        co_await queue.reserve_async({.visibility_timeout = 12h, .wait = patience});
    co_await job->ack_async();
    co_await kv.set_async("k", "v");
    EXPECT_EQ((co_await kv.get_async("k")).text(), "v");
    auto future = kv.get_async("k");
    EXPECT_EQ((co_await std::move(future)).text(), "v");
    done.hit();
}

TEST(coroutines, await_calls)
{
    const flowmesh::client client = open_client();
    tally done;
    use_everything(client, done);
    EXPECT_TRUE(done.reaches(1));
}

task fail(const flowmesh::client &client, tally &done)
{
    const flowmesh::kv kv = open_kv(client);
    try {
        co_await kv.get_async("missing");
        ADD_FAILURE() << "there is no such key";
    } catch (const flowmesh::not_found_error &error) {
        EXPECT_STRNE(error.what(), "");
    }
    const flowmesh::result<flowmesh::value> result = co_await kv.get_async("missing").as_result();
    EXPECT_EQ(result.status(), flowmesh::status::not_found);
    EXPECT_EQ((co_await kv.get_async("").as_result()).status(), flowmesh::status::invalid_argument);
    try {
        co_await flowmesh::future<void>();
        ADD_FAILURE() << "it has no call";
    } catch (const flowmesh::invalid_argument_error &) {
    }
    done.hit();
}

TEST(coroutines, catch_what_calls_throw)
{
    const flowmesh::client client = open_client();
    tally done;
    fail(client, done);
    EXPECT_TRUE(done.reaches(1));
}

task take_one(const flowmesh::queue &queue, std::vector<bool> &seen, tally &done)
{
    const std::optional<flowmesh::job> job =
        co_await queue.reserve_async({.visibility_timeout = 12h, .wait = flowmesh::forever});
    seen[static_cast<std::size_t>(job->seq())] = true;
    done.hit();
}

TEST(coroutines, wait_by_the_ten_thousand_in_one_thread)
{
    constexpr int many = 10000;
    const flowmesh::dispatcher loop;
    const flowmesh::client client = open_client({.dispatcher = &loop});
    const flowmesh::queue queue = open_queue(client);
    std::vector<bool> seen(many);
    tally done;
    for (int i = 0; i < many; i++)
        take_one(queue, seen, done);
    EXPECT_EQ(done.count(), 0);
    const flowmesh::producer producer = queue.open_producer();
    for (int i = 0; i < many; i++)
        producer.send("x");
    while (done.count() < many)
        ASSERT_GT(loop.run(patience), 0u);
    EXPECT_EQ(seen, std::vector<bool>(many, true));
}

owned_task wait_for_ever(const flowmesh::queue &queue)
{
    co_await queue.reserve_async({.wait = flowmesh::forever});
    ADD_FAILURE() << "nobody enqueues anything";
}

TEST(coroutines, cancel_what_they_await_when_destroyed)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    const owned_task task = wait_for_ever(queue);
    EXPECT_FALSE(task.handle.done());
    while (client.stats().calls_under_way == 0)
        std::this_thread::yield();
    task.handle.destroy();
    while (client.stats().calls_under_way > 0)
        std::this_thread::yield();
    EXPECT_EQ(client.stats().calls_cancelled, 1u);
}

task reserve_until(const flowmesh::queue &queue, const flowmesh::cancel_token &cancel, tally &done)
{
    try {
        co_await queue.reserve_async({.cancel = &cancel, .wait = flowmesh::forever});
        ADD_FAILURE() << "nobody enqueues anything";
    } catch (const flowmesh::cancelled_error &) {
        done.hit();
    }
}

TEST(coroutines, can_be_cancelled)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    const flowmesh::cancel_token cancel;
    tally done;
    for (int i = 0; i < 100; i++)
        reserve_until(queue, cancel, done);
    cancel.cancel();
    EXPECT_TRUE(done.reaches(100));
}

task follow(const flowmesh::stream &stream, tally &messages, tally &done)
{
    const flowmesh::subscription subscription = co_await stream.subscribe_async(
        [&](const flowmesh::message_batch &batch) {
            for (std::size_t i = 0; i < batch.size(); i++)
                messages.hit();
        },
        {.start_offset = 0});
    // Not in the co_await itself, where g++ 12 has no room for an initializer list.
    const std::vector<flowmesh::event> events{{"a"}, {"b"}};
    co_await stream.write_async(events);
    done.hit();
    co_await subscription.close_async(patience);
    done.hit();
}

TEST(coroutines, follow_streams)
{
    const flowmesh::dispatcher threads(2);
    const flowmesh::client client = open_client({.dispatcher = &threads});
    const flowmesh::stream stream = open_stream(client);
    tally messages, done;
    follow(stream, messages, done);
    EXPECT_TRUE(done.reaches(2));
}

} // namespace

#endif
