// Streams: ordered, durable logs.
#ifndef FLOWMESH_STREAM_HPP
#define FLOWMESH_STREAM_HPP

#include <flowmesh/client.hpp>
#include <flowmesh/producer.hpp>
#include <flowmesh/subscription.hpp>

namespace flowmesh
{

// The options of a write are those of any call.
struct write_options {
    milliseconds timeout = default_timeout;
    const cancel_token *cancel = nullptr;
    const char *traceparent = nullptr;
    const char *tracestate = nullptr;

    flowmesh_write_options_t c() const noexcept
    {
        return detail::common(flowmesh_write_options_t FLOWMESH_WRITE_OPTIONS_INIT, *this);
    }
};

// Options of stream::read and stream::open_reader.
struct read_options {
    milliseconds timeout = default_timeout;
    const cancel_token *cancel = nullptr;
    const char *traceparent = nullptr;
    const char *tracestate = nullptr;
    // 1 to 1000 messages; 0: 100.
    std::int32_t max_messages = 0;
    std::int32_t partition = 0;

    flowmesh_read_options_t c() const noexcept
    {
        auto c = detail::common(flowmesh_read_options_t FLOWMESH_READ_OPTIONS_INIT, *this);
        c.max_messages = max_messages;
        c.partition = partition;
        return c;
    }
};

// Options of calls about offsets.
struct offset_options {
    milliseconds timeout = default_timeout;
    const cancel_token *cancel = nullptr;
    const char *traceparent = nullptr;
    const char *tracestate = nullptr;
    std::int32_t partition = 0;

    flowmesh_offset_options_t c() const noexcept
    {
        auto c = detail::common(flowmesh_offset_options_t FLOWMESH_OFFSET_OPTIONS_INIT, *this);
        c.partition = partition;
        return c;
    }
};

// Where a consumer group stands; -1 where there is nothing yet.
struct group_state {
    std::int64_t committed_offset = -1;
    std::int64_t latest_offset = -1;
    std::int64_t lag = -1;
};

namespace detail
{

template <> struct converted<group_state> {
    static group_state from(const flowmesh_group_state_t *c) noexcept
    {
        return {c->committed_offset, c->latest_offset, c->lag};
    }
};

} // namespace detail

// Pages through a stream, remembering where it is. Each page goes to one caller. It keeps the
// stream alive.
//
//     flowmesh::stream_reader reader = orders.open_reader();
//     for (flowmesh::message order : reader.messages())
//         std::cout << order.payload().text() << '\n';
class stream_reader : public handle<flowmesh_stream_reader_t, flowmesh_stream_reader_free>
{
    struct next_page {
        const stream_reader *reader;
        call_options options;

        std::optional<message_batch> operator()() const
        {
            message_batch page = reader->next(options);
            return page.empty() ? std::nullopt : std::optional(std::move(page));
        }
    };

  public:
    using handle::handle;

    // The next page; an empty one: the end is reached for now.
    message_batch next(const call_options &options = {}) const { return try_next(options).value(); }
    result<message_batch> try_next(const call_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::make<message_batch>([&](auto **out, auto **error) {
            return flowmesh_stream_reader_next(c(), &c_options, out, error);
        });
    }
    template <class Done = use_future>
    auto next_async(const call_options &options = {}, Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<message_batch, flowmesh_batch_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_stream_reader_next_async(c(), &c_options, completion...);
            });
    }

    // What is left to read, page by page or message by message, up to the end for now. A range
    // takes the reader's address: it must not be moved meanwhile.
    batch_range<message_batch, next_page> pages(const call_options &options = {}) const
    {
        return batch_range<message_batch, next_page>({this, options});
    }
    element_range<message_batch, next_page> messages(const call_options &options = {}) const
    {
        return element_range<message_batch, next_page>({this, options});
    }
};

// A stream. It keeps its client alive.
//
//     flowmesh::stream orders = client.open_stream("acme", "shop", "orders");
//     std::int64_t offset = orders.write("one coffee");
//     for (flowmesh::message order : orders.read(0))
//         std::cout << order.offset() << ": " << order.payload().text() << '\n';
class stream : public handle<flowmesh_stream_t, flowmesh_stream_free>
{
  public:
    using handle::handle;

    // Appends one event; its offset.
    std::int64_t write(view payload, const write_options &options = {}) const
    {
        return try_write(payload, options).value();
    }
    std::int64_t write(const event &event, const write_options &options = {}) const
    {
        return try_write(event, options).value();
    }
    result<std::int64_t> try_write(view payload, const write_options &options = {}) const noexcept
    {
        return try_write_one(detail::to_c(payload), options);
    }
    result<std::int64_t> try_write(const event &event,
                                   const write_options &options = {}) const noexcept
    {
        return try_write_one(detail::to_c(event), options);
    }
    template <class Done = use_future>
    auto write_async(view payload, const write_options &options = {}, Done &&done = {}) const
    {
        return write_one_async(detail::to_c(payload), options, std::forward<Done>(done));
    }
    template <class Done = use_future>
    auto write_async(const event &event, const write_options &options = {}, Done &&done = {}) const
    {
        return write_one_async(detail::to_c(event), options, std::forward<Done>(done));
    }

    // Appends events as one batch, whole or not at all; the offset of each.
    std::vector<std::int64_t> write(array_view<const event> events,
                                    const write_options &options = {}) const
    {
        return try_write(events, options).value();
    }
    result<std::vector<std::int64_t>> try_write(array_view<const event> events,
                                                const write_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        const auto c_events = detail::to_c(events);
        std::vector<std::int64_t> offsets(events.size());
        flowmesh_error_t *error = nullptr;
        if (flowmesh_stream_write(c(), c_events.data(), c_events.size(), &c_options, offsets.data(),
                                  &error) != FLOWMESH_OK)
            return detail::take(error);
        return offsets;
    }
    template <class Done = use_future>
    auto write_async(array_view<const event> events, const write_options &options = {},
                     Done &&done = {}) const
    {
        const auto c_options = options.c();
        const auto c_events = detail::to_c(events);
        return detail::start<std::vector<std::int64_t>, flowmesh_offsets_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_stream_write_async(c(), c_events.data(), c_events.size(),
                                                   &c_options, completion...);
            });
    }

    // Reads messages from `offset` on; never waits for new ones.
    message_batch read(std::int64_t offset, const read_options &options = {}) const
    {
        return try_read(offset, options).value();
    }
    result<message_batch> try_read(std::int64_t offset,
                                   const read_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::make<message_batch>([&](auto **out, auto **error) {
            return flowmesh_stream_read(c(), offset, &c_options, out, error);
        });
    }
    template <class Done = use_future>
    auto read_async(std::int64_t offset, const read_options &options = {}, Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<message_batch, flowmesh_batch_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_stream_read_async(c(), offset, &c_options, completion...);
            });
    }

    // Pages through the stream from `offset` on.
    stream_reader open_reader(std::int64_t offset = 0, const read_options &options = {}) const
    {
        return try_open_reader(offset, options).value();
    }
    result<stream_reader> try_open_reader(std::int64_t offset = 0,
                                          const read_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::make<stream_reader>([&](auto **out, auto **error) {
            return flowmesh_stream_reader_open(c(), offset, &c_options, out, error);
        });
    }

    // Records `offset` as the last one that a consumer group has processed.
    void commit_offset(const text &group, std::int64_t offset,
                       const offset_options &options = {}) const
    {
        try_commit_offset(group, offset, options).value();
    }
    result<void> try_commit_offset(const text &group, std::int64_t offset,
                                   const offset_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::done([&](auto **error) {
            return flowmesh_stream_commit_offset(c(), group.c(), offset, &c_options, error);
        });
    }
    template <class Done = use_future>
    auto commit_offset_async(const text &group, std::int64_t offset,
                             const offset_options &options = {}, Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<void, flowmesh_done_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_stream_commit_offset_async(c(), group.c(), offset, &c_options,
                                                           completion...);
            });
    }

    // The last offset that a consumer group committed, -1 when none.
    std::int64_t get_offset(const text &group, const offset_options &options = {}) const
    {
        return try_get_offset(group, options).value();
    }
    result<std::int64_t> try_get_offset(const text &group,
                                        const offset_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::read(std::int64_t{-1}, [&](std::int64_t *offset, auto **error) {
            return flowmesh_stream_get_offset(c(), group.c(), &c_options, offset, error);
        });
    }
    template <class Done = use_future>
    auto get_offset_async(const text &group, const offset_options &options = {},
                          Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<std::int64_t, flowmesh_offset_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_stream_get_offset_async(c(), group.c(), &c_options, completion...);
            });
    }

    // The last offset written, -1 when the stream is empty.
    std::int64_t latest_offset(const offset_options &options = {}) const
    {
        return try_latest_offset(options).value();
    }
    result<std::int64_t> try_latest_offset(const offset_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::read(std::int64_t{-1}, [&](std::int64_t *offset, auto **error) {
            return flowmesh_stream_latest_offset(c(), &c_options, offset, error);
        });
    }
    template <class Done = use_future>
    auto latest_offset_async(const offset_options &options = {}, Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<std::int64_t, flowmesh_offset_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_stream_latest_offset_async(c(), &c_options, completion...);
            });
    }

    // Where a consumer group stands.
    flowmesh::group_state group_state(const text &group, const offset_options &options = {}) const
    {
        return try_group_state(group, options).value();
    }
    result<flowmesh::group_state> try_group_state(const text &group,
                                                  const offset_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        flowmesh_group_state_t state = FLOWMESH_GROUP_STATE_INIT;
        flowmesh_error_t *error = nullptr;
        if (flowmesh_stream_group_state(c(), group.c(), &c_options, &state, &error) != FLOWMESH_OK)
            return detail::take(error);
        return detail::converted<flowmesh::group_state>::from(&state);
    }
    template <class Done = use_future>
    auto group_state_async(const text &group, const offset_options &options = {},
                           Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<flowmesh::group_state, flowmesh_group_state_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_stream_group_state_async(c(), group.c(), &c_options, completion...);
            });
    }

    // Sends events without waiting for each; see producer.
    producer open_producer(const producer_options &options = {}) const
    {
        return try_open_producer(options).value();
    }
    result<producer> try_open_producer(const producer_options &options = {}) const noexcept
    {
        return detail::open_producer(flowmesh_stream_producer_open, c(), options);
    }

    // Follows the stream: `on_messages` is called with a const message_batch & for what is stored
    // and then what is written, one call at a time, on the dispatcher. The batch is lent for the
    // call. The function must not throw: as nobody can say whether its messages are handled,
    // std::terminate ends the program before any of them is committed.
    template <class OnMessages>
    subscription subscribe(OnMessages &&on_messages, const subscription_options &options = {}) const
    {
        return try_subscribe(std::forward<OnMessages>(on_messages), options).value();
    }
    template <class OnMessages>
    result<subscription> try_subscribe(OnMessages &&on_messages,
                                       const subscription_options &options = {}) const noexcept
    {
        detail::subscription_settings made(options);
        if (made.failed())
            return made.take();
        using box = detail::message_box<std::decay_t<OnMessages>>;
        auto *boxed = new box{std::forward<OnMessages>(on_messages)};
        return detail::make<subscription>([&](auto **out, auto **error) {
            return flowmesh_stream_subscribe(c(), made.c(), &box::call, boxed, &box::drop, out,
                                             error);
        });
    }
    // Messages may come before the future is ready, or `done` is called.
    template <class OnMessages, class Done = use_future>
    auto subscribe_async(OnMessages &&on_messages, const subscription_options &options = {},
                         Done &&done = {}) const
    {
        detail::subscription_settings made(options);
        using box = detail::subscribing_box<std::decay_t<OnMessages>>;
        return detail::start<subscription, flowmesh_subscription_callback_t>(
            std::forward<Done>(done),
            [&](auto subscribed, void *receiver, auto drop, auto **operation, auto **error) {
                if (made.failed())
                    return made.refuse(receiver, drop, error);
                auto *boxed =
                    new box{{std::forward<OnMessages>(on_messages)}, subscribed, receiver, drop};
                return flowmesh_stream_subscribe_async(c(), made.c(), &box::on_messages,
                                                       &box::on_subscribed, boxed, &box::drop,
                                                       operation, error);
            });
    }

    // Follows the stream without a callback: ask for messages when you want them.
    pull_subscription open_subscription(const subscription_options &options = {}) const
    {
        return try_open_subscription(options).value();
    }
    result<pull_subscription>
    try_open_subscription(const subscription_options &options = {}) const noexcept
    {
        detail::subscription_settings made(options);
        if (made.failed())
            return made.take();
        return detail::make<pull_subscription>([&](auto **out, auto **error) {
            return flowmesh_subscription_open(c(), made.c(), out, error);
        });
    }
    template <class Done = use_future>
    auto open_subscription_async(const subscription_options &options = {}, Done &&done = {}) const
    {
        detail::subscription_settings made(options);
        return detail::start<pull_subscription, flowmesh_subscription_callback_t>(
            std::forward<Done>(done),
            [&](auto callback, void *user_data, auto drop, auto **operation, auto **error) {
                if (made.failed())
                    return made.refuse(user_data, drop, error);
                return flowmesh_subscription_open_async(c(), made.c(), callback, user_data, drop,
                                                        operation, error);
            });
    }

  private:
    result<std::int64_t> try_write_one(const flowmesh_event_t &event,
                                       const write_options &options) const noexcept
    {
        const auto c_options = options.c();
        return detail::read(std::int64_t{-1}, [&](std::int64_t *offset, auto **error) {
            return flowmesh_stream_write(c(), &event, 1, &c_options, offset, error);
        });
    }
    template <class Done>
    auto write_one_async(const flowmesh_event_t &event, const write_options &options,
                         Done &&done) const
    {
        const auto c_options = options.c();
        return detail::start<std::int64_t, flowmesh_offsets_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_stream_write_async(c(), &event, 1, &c_options, completion...);
            });
    }
};

inline result<stream> client::try_open_stream(const text &tenant, const text &name_space,
                                              const text &name) const noexcept
{
    return detail::make<stream>([&](auto **out, auto **error) {
        return flowmesh_stream_open(c(), tenant.c(), name_space.c(), name.c(), out, error);
    });
}
inline stream client::open_stream(const text &tenant, const text &name_space,
                                  const text &name) const
{
    return try_open_stream(tenant, name_space, name).value();
}

} // namespace flowmesh

#endif
