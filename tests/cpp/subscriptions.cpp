// Subscriptions: with a function, and pulled.
#include "test.hpp"

#include <future>

#if __cplusplus >= 202002L
#include <ranges>
#endif

using flowmesh::message;
using flowmesh::message_batch;

namespace
{

flowmesh::subscription_options from_start()
{
    flowmesh::subscription_options options;
    options.start_offset = 0;
    return options;
}

// The texts of messages, as other threads receive them.
class inbox
{
    std::mutex mutex_;
    std::string seen_;
    tally messages_;

  public:
    void operator()(const message_batch &batch)
    {
        for (const message message : batch) {
            {
                const std::lock_guard<std::mutex> lock(mutex_);
                seen_ += message.payload().str();
            }
            messages_.hit();
        }
    }
    bool receives(int count) { return messages_.reaches(count); }
    std::string seen()
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        return seen_;
    }
};

TEST(subscriptions, deliver_what_is_stored_and_what_is_written)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    inbox inbox;
    write_numbers(stream, 0, 3);
    const flowmesh::subscription subscription =
        stream.subscribe([&](const message_batch &batch) { inbox(batch); }, from_start());
    write_numbers(stream, 3, 3);
    EXPECT_TRUE(inbox.receives(6));
    EXPECT_EQ(inbox.seen(), "012345");
    EXPECT_EQ(subscription.position(), 6);
    subscription.close(patience);
    EXPECT_TRUE(subscription.try_close());
}

TEST(subscriptions, lend_batches_that_can_be_retained)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    std::promise<message_batch> kept;
    bool first = true;
    write_numbers(stream, 7, 1);
    const flowmesh::subscription subscription = stream.subscribe(
        [&](const message_batch &batch) {
            if (std::exchange(first, false))
                kept.set_value(batch.retain());
        },
        from_start());
    message_batch batch = kept.get_future().get();
    subscription.close(patience);
    EXPECT_EQ(batch[0].payload(), "7");
    EXPECT_EQ(batch.try_retain()->size(), batch.size());
}

TEST(subscriptions, can_be_held_moved_and_committed)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    inbox inbox;
    auto options = from_start();
    options.consumer_group = "readers";
    const flowmesh::subscription subscription =
        stream.subscribe([&](const message_batch &batch) { inbox(batch); }, options);
    write_numbers(stream, 0, 2);
    EXPECT_TRUE(inbox.receives(2));
    subscription.commit();
    EXPECT_EQ(stream.get_offset("readers"), 1);

    subscription.pause();
    write_numbers(stream, 2, 2);
    subscription.seek(0);
    EXPECT_EQ(subscription.position(), 0);
    subscription.resume();
    EXPECT_TRUE(inbox.receives(6));
    EXPECT_EQ(inbox.seen(), "010123");

    subscription.seek_async(3).get();
    EXPECT_TRUE(inbox.receives(7));
    subscription.commit_async().get();
    EXPECT_EQ(stream.get_offset("readers"), 3);
    subscription.close_async(patience).get();
    EXPECT_EQ(inbox.seen(), "0101233");
}

TEST(subscriptions, commit_what_was_handled_before_they_go)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    inbox inbox;
    auto options = from_start();
    options.consumer_group = "auto";
    options.commit = flowmesh::commit_mode::periodic;
    options.commit_interval = 1h;
    {
        const flowmesh::subscription subscription =
            stream.subscribe([&](const message_batch &batch) { inbox(batch); }, options);
        write_numbers(stream, 0, 3);
        EXPECT_TRUE(inbox.receives(3));
    }
    EXPECT_EQ(stream.get_offset("auto"), 2);
}

TEST(subscriptions, tell_their_state)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    tally connected, ended;
    bool with_reason = false;
    auto options = from_start();
    options.on_state = [&](flowmesh::subscription_state state, const flowmesh::error *reason) {
        if (state == flowmesh::subscription_state::connected)
            connected.hit();
        if (state == flowmesh::subscription_state::ended) {
            with_reason = reason != nullptr && reason->status() == flowmesh::status::closed;
            ended.hit();
        }
    };
    const flowmesh::subscription subscription =
        stream.subscribe([](const message_batch &) {}, options);
    EXPECT_TRUE(connected.reaches(1));
    EXPECT_EQ(subscription.state().state, flowmesh::subscription_state::connected);
    EXPECT_FALSE(subscription.state().reason);
    client.close(patience);
    EXPECT_TRUE(ended.reaches(1));
    EXPECT_TRUE(with_reason);
}

TEST(subscriptions, can_be_closed_in_their_function)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    flowmesh::subscription subscription;
    std::promise<void> opened;
    std::shared_future<void> is_open = opened.get_future().share();
    tracer tracer;
    tally calls;
    subscription = stream.subscribe(
        [&, kept = tracer.give()](const message_batch &) {
            is_open.wait();
            calls.hit();
            subscription.close(0ms);
        },
        from_start());
    opened.set_value();
    write_numbers(stream, 0, 1);
    EXPECT_TRUE(tracer.goes());
    write_numbers(stream, 1, 1);
    EXPECT_EQ(calls.count(), 1);
}

TEST(subscriptions, can_be_destroyed_in_their_function)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    std::optional<flowmesh::subscription> subscription;
    std::promise<void> opened;
    std::shared_future<void> is_open = opened.get_future().share();
    tracer tracer;
    subscription = stream.subscribe(
        [&, kept = tracer.give()](const message_batch &batch) {
            is_open.wait();
            subscription.reset();
            EXPECT_EQ(batch[0].payload(), "0"); // still lent
        },
        from_start());
    opened.set_value();
    write_numbers(stream, 0, 1);
    EXPECT_TRUE(tracer.goes());
    EXPECT_FALSE(subscription);
}

TEST(subscriptions, go_when_their_function_has_returned)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    tally begun;
    std::atomic<bool> returned{false};
    tracer tracer;
    std::promise<void> go_on;
    std::thread other;
    {
        const flowmesh::subscription subscription = stream.subscribe(
            [&, kept = tracer.give()](const message_batch &) {
                begun.hit();
                go_on.get_future().wait();
                returned = true;
            },
            from_start());
        write_numbers(stream, 0, 1);
        EXPECT_TRUE(begun.reaches(1));
        other = std::thread([&] { go_on.set_value(); });
    }
    EXPECT_TRUE(returned);
    EXPECT_TRUE(tracer.is_gone());
    other.join();
}

TEST(subscriptions, start_without_blocking)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    inbox first, second;
    flowmesh::subscription one =
        stream.subscribe_async([&](const message_batch &batch) { first(batch); }, from_start())
            .get();

    std::promise<flowmesh::result<flowmesh::subscription>> subscribed;
    flowmesh::operation operation =
        stream.subscribe_async([&](const message_batch &batch) { second(batch); }, from_start(),
                               [&](flowmesh::result<flowmesh::subscription> result) {
                                   subscribed.set_value(std::move(result));
                               });
    const flowmesh::subscription two = subscribed.get_future().get().value();
    write_numbers(stream, 0, 3);
    EXPECT_TRUE(first.receives(3));
    EXPECT_TRUE(second.receives(3));
    one.close(patience);
    two.close(patience);
}

TEST(subscriptions, that_nobody_takes_end)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    tracer dropped, detached;
    {
        const auto future =
            stream.subscribe_async([kept = dropped.give()](const message_batch &) {}, from_start());
    }
    stream.subscribe_async([kept = detached.give()](const message_batch &) {}, from_start())
        .detach();
    EXPECT_TRUE(dropped.goes());
    EXPECT_TRUE(detached.goes());
}

TEST(subscriptions, refuse_wrong_options)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    const auto ignore = [](const message_batch &) {};
    auto options = from_start();
    options.first_backoff = 5s; // without the longest
    EXPECT_FAILS(invalid_argument, stream.subscribe(ignore, options));
    EXPECT_EQ(stream.try_open_subscription(options).status(), flowmesh::status::invalid_argument);
    EXPECT_FAILS(invalid_argument, stream.open_subscription_async(options).get());
    EXPECT_FAILS(invalid_argument, stream.subscribe_async(ignore, options).get());
    EXPECT_FAILS(
        invalid_argument,
        stream.subscribe_async(ignore, options, [](flowmesh::result<flowmesh::subscription>) {
            ADD_FAILURE() << "it was refused";
        }));
    options = from_start();
    options.on_state = [](flowmesh::subscription_state, const flowmesh::error *) {};
    EXPECT_FAILS(invalid_argument, stream.open_subscription(options));
}

TEST(pulled_subscriptions, give_batches_when_asked)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    const flowmesh::pull_subscription subscription = stream.open_subscription(from_start());
    EXPECT_FALSE(subscription.next(0ms));
    write_numbers(stream, 0, 1);
    const std::optional<message_batch> batch = subscription.next(patience);
    ASSERT_TRUE(batch);
    EXPECT_EQ((*batch)[0].payload(), "0");
    subscription.commit();
    EXPECT_EQ(stream.get_offset("default"), 0);
    subscription.close();
    EXPECT_FAILS(closed, subscription.next());
    EXPECT_EQ(subscription.try_next().status(), flowmesh::status::closed);
}

TEST(pulled_subscriptions, know_why_they_are_over)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    const flowmesh::pull_subscription subscription = stream.open_subscription(from_start());
    client.close(patience);
    EXPECT_FAILS(closed, subscription.next(patience));
    const flowmesh::subscription_standing standing = subscription.state();
    EXPECT_EQ(standing.state, flowmesh::subscription_state::ended);
    ASSERT_TRUE(standing.reason);
    EXPECT_EQ(standing.reason->status(), flowmesh::status::closed);
}

TEST(pulled_subscriptions, are_ranges_of_messages)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    const flowmesh::pull_subscription subscription = stream.open_subscription(from_start());
    write_numbers(stream, 0, 3);
    std::string seen;
    for (const message message : subscription.messages()) {
        seen += message.payload().str();
        if (message.offset() == 2)
            break;
    }
    EXPECT_EQ(seen, "012");
}

TEST(pulled_subscriptions, are_ranges_of_batches)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    auto options = from_start();
    options.max_batch_messages = 1;
    const flowmesh::pull_subscription subscription = stream.open_subscription(options);
    write_numbers(stream, 0, 3);
    std::vector<message_batch> kept;
    for (message_batch &batch : subscription.batches()) {
        kept.push_back(std::move(batch));
        if (kept.size() == 3)
            break;
    }
    EXPECT_EQ(kept[2][0].payload(), "2");
}

TEST(pulled_subscriptions, end_their_loop_when_closed_cancelled_or_quiet)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    const flowmesh::pull_subscription subscription = stream.open_subscription(from_start());
    write_numbers(stream, 0, 1);
    // The first may take a moment to come; that nothing more comes, is seen at once.
    std::optional<message_batch> first = subscription.next(patience);
    ASSERT_TRUE(first);
    for (const message message : subscription.messages(0ms))
        ADD_FAILURE() << message.offset();

    const flowmesh::cancel_token cancel;
    cancel.cancel();
    for (const message message : subscription.messages(flowmesh::forever, &cancel))
        ADD_FAILURE() << message.offset();

    write_numbers(stream, 1, 1);
    int seen = 0;
    for (const message message : subscription.messages()) {
        EXPECT_EQ(message.payload(), "1");
        seen++;
        subscription.close();
    }
    EXPECT_EQ(seen, 1);
}

TEST(pulled_subscriptions, open_without_blocking)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    const flowmesh::pull_subscription subscription =
        stream.open_subscription_async(from_start()).get();
    write_numbers(stream, 0, 1);
    EXPECT_TRUE(subscription.next(patience));
}

#if __cplusplus >= 202002L
TEST(pulled_subscriptions, are_input_ranges_of_the_standard)
{
    using messages = decltype(std::declval<flowmesh::pull_subscription>().messages());
    using batches = decltype(std::declval<flowmesh::pull_subscription>().batches());
    static_assert(std::ranges::input_range<messages>);
    static_assert(std::ranges::input_range<batches>);
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    write_numbers(stream, 0, 5);
    const flowmesh::pull_subscription subscription = stream.open_subscription(from_start());
    auto all = subscription.messages();
    std::string seen;
    for (const message message : all | std::views::take(3))
        seen += message.payload().str();
    EXPECT_EQ(seen, "012");
}
#endif

} // namespace
