// Streams that are followed: by a callback, or pulled.
#ifndef FLOWMESH_SUBSCRIPTION_HPP
#define FLOWMESH_SUBSCRIPTION_HPP

#include <flowmesh/future.hpp>
#include <flowmesh/message.hpp>
#include <flowmesh/settings.hpp>

namespace flowmesh
{

// Where a subscription starts, beside the offsets from 0 on.
inline constexpr std::int64_t start_committed = FLOWMESH_START_COMMITTED;
inline constexpr std::int64_t start_new = FLOWMESH_START_NEW;

// What a subscription with a callback commits by itself.
enum class commit_mode : flowmesh_commit_mode_t {
    manual = FLOWMESH_COMMIT_MANUAL,
    after_callback = FLOWMESH_COMMIT_AFTER_CALLBACK,
    periodic = FLOWMESH_COMMIT_PERIODIC,
};

enum class subscription_state : flowmesh_subscription_state_t {
    connecting = FLOWMESH_SUBSCRIPTION_CONNECTING,
    connected = FLOWMESH_SUBSCRIPTION_CONNECTED,
    lost = FLOWMESH_SUBSCRIPTION_LOST,
    ended = FLOWMESH_SUBSCRIPTION_ENDED,
    commit_failed = FLOWMESH_SUBSCRIPTION_COMMIT_FAILED,
};

// How a subscription stands with the server; why, when it is lost or ended.
struct subscription_standing {
    subscription_state state;
    std::optional<error> reason;
};

// How to subscribe; what is not set has the default that the setters of
// flowmesh_subscription_options_t tell.
struct subscription_options {
    std::optional<std::string> consumer_group = std::nullopt;
    // An offset, start_committed or start_new.
    std::optional<std::int64_t> start_offset = std::nullopt;
    std::optional<std::int32_t> partition = std::nullopt;
    std::optional<std::size_t> max_batch_messages = std::nullopt;
    std::optional<std::size_t> max_batch_bytes = std::nullopt;
    std::optional<std::size_t> max_prefetch_bytes = std::nullopt;
    commit_mode commit = commit_mode::manual;
    // For commit_mode::periodic.
    milliseconds commit_interval{0};
    // How long to wait before connecting again: at first, at most. Both or none.
    std::optional<milliseconds> first_backoff = std::nullopt;
    std::optional<milliseconds> longest_backoff = std::nullopt;
    // nullptr: the client's.
    const flowmesh::dispatcher *dispatcher = nullptr;
    // Told when the state changes, and the reason if there is one; not for those that are pulled.
    // Must not throw: std::terminate.
    std::function<void(subscription_state, const error *)> on_state = nullptr;
};

namespace detail
{

inline void tell_state(flowmesh_subscription_state_t state, const flowmesh_error_t *reason,
                       void *function) noexcept
{
    using on_state = decltype(subscription_options::on_state);
    const auto why = reason == nullptr ? std::nullopt : std::optional<error>(reason);
    call_kept<on_state>(function, static_cast<subscription_state>(state), why ? &*why : nullptr);
}

struct subscription_settings
    : settings<flowmesh_subscription_options_t, flowmesh_subscription_options_new,
               flowmesh_subscription_options_free> {
    explicit subscription_settings(const subscription_options &from) noexcept
    {
        set_if(flowmesh_subscription_options_set_consumer_group, from.consumer_group);
        set_if(flowmesh_subscription_options_set_start_offset, from.start_offset);
        set_if(flowmesh_subscription_options_set_partition, from.partition);
        set_if(flowmesh_subscription_options_set_max_batch_messages, from.max_batch_messages);
        set_if(flowmesh_subscription_options_set_max_batch_bytes, from.max_batch_bytes);
        set_if(flowmesh_subscription_options_set_max_prefetch_bytes, from.max_prefetch_bytes);
        set(flowmesh_subscription_options_set_commit_mode,
            static_cast<flowmesh_commit_mode_t>(from.commit), from.commit_interval.count());
        if (from.first_backoff || from.longest_backoff)
            set(flowmesh_subscription_options_set_backoff,
                from.first_backoff.value_or(milliseconds(0)).count(),
                from.longest_backoff.value_or(milliseconds(0)).count());
        set_if(flowmesh_subscription_options_set_dispatcher, from.dispatcher);
        set_callback(flowmesh_subscription_options_set_state_callback, tell_state, from.on_state);
    }
};

// Ends a subscription and frees it, when the callback that may run has returned and what it handled
// is committed, if that is to be. Inside that callback it does not wait.
inline void end_subscription(flowmesh_subscription_t *subscription) noexcept
{
    (void)flowmesh_subscription_close(subscription, -1, nullptr);
    flowmesh_subscription_free(subscription);
}

// A function that is called with lent messages.
template <class Function> struct message_box {
    Function function;

    static void call(const flowmesh_message_batch_t *batch, void *box) noexcept
    {
        const lent<message_batch> lent(const_cast<flowmesh_message_batch_t *>(batch));
        static_cast<message_box *>(box)->function(lent.value);
    }
    static void drop(void *box) noexcept { delete static_cast<message_box *>(box); }

    static_assert(std::is_invocable_v<Function &, const message_batch &>,
                  "a subscription's function takes a const flowmesh::message_batch &");
};

} // namespace detail

// A stream that is followed. Destroying it ends it: the destructor waits for the callback that may
// run, and for the last automatic commit; then nothing of what the callback uses is needed any
// more. Inside the callback it does not wait. close() does the same, and says whether the commit
// failed.
class subscription : public handle<flowmesh_subscription_t, detail::end_subscription>
{
  public:
    using handle::handle;

    // Holds back what arrives, until resume().
    void pause() const { try_pause().value(); }
    result<void> try_pause() const noexcept
    {
        return detail::done([&](auto **error) { return flowmesh_subscription_pause(c(), error); });
    }
    void resume() const { try_resume().value(); }
    result<void> try_resume() const noexcept
    {
        return detail::done([&](auto **error) { return flowmesh_subscription_resume(c(), error); });
    }

    // Goes on at an offset, start_committed or start_new.
    void seek(std::int64_t offset, const call_options &options = {}) const
    {
        try_seek(offset, options).value();
    }
    result<void> try_seek(std::int64_t offset, const call_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::done([&](auto **error) {
            return flowmesh_subscription_seek(c(), offset, &c_options, error);
        });
    }
    template <class Done = use_future>
    auto seek_async(std::int64_t offset, const call_options &options = {}, Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<void, flowmesh_done_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_subscription_seek_async(c(), offset, &c_options, completion...);
            });
    }

    // The offset of the next message that will be handed out.
    std::int64_t position() const { return try_position().value(); }
    result<std::int64_t> try_position() const noexcept
    {
        return detail::read(std::int64_t{-1}, [&](std::int64_t *offset, auto **error) {
            return flowmesh_subscription_get_position(c(), offset, error);
        });
    }

    // How it stands with the server.
    subscription_standing state() const { return try_state().value(); }
    result<subscription_standing> try_state() const noexcept
    {
        flowmesh_subscription_state_t state = 0;
        flowmesh_error_t *reason = nullptr;
        flowmesh_error_t *error = nullptr;
        if (flowmesh_subscription_get_state(c(), &state, &reason, &error) != FLOWMESH_OK)
            return detail::take(error);
        subscription_standing standing{static_cast<subscription_state>(state), std::nullopt};
        if (reason != nullptr)
            standing.reason = detail::take(reason);
        return standing;
    }

    // Commits, for the consumer group, everything that was handed out.
    void commit(const call_options &options = {}) const { try_commit(options).value(); }
    result<void> try_commit(const call_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::done(
            [&](auto **error) { return flowmesh_subscription_commit(c(), &c_options, error); });
    }
    template <class Done = use_future>
    auto commit_async(const call_options &options = {}, Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<void, flowmesh_done_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_subscription_commit_async(c(), &c_options, completion...);
            });
    }

    // Ends it. After success no callback runs, and what was handled is committed if it is to be.
    void close(milliseconds timeout = forever) const { try_close(timeout).value(); }
    result<void> try_close(milliseconds timeout = forever) const noexcept
    {
        return detail::done(
            [&](auto **error) { return flowmesh_subscription_close(c(), timeout.count(), error); });
    }
    // It cannot be cancelled: dropping the future changes nothing.
    template <class Done = use_future>
    auto close_async(milliseconds timeout = forever, Done &&done = {}) const
    {
        return detail::start<void, flowmesh_done_callback_t>(
            std::forward<Done>(done),
            [&](auto callback, void *user_data, auto drop, auto **, auto **error) {
                return flowmesh_subscription_close_async(c(), timeout.count(), callback, user_data,
                                                         drop, error);
            });
    }
};

// A subscription that gives messages when it is asked for them.
//
//     flowmesh::pull_subscription orders = stream.open_subscription();
//     for (flowmesh::message order : orders.messages())
//         handle(order);
class pull_subscription : public subscription
{
    struct next_batch {
        const pull_subscription *subscription;
        milliseconds patience;
        const cancel_token *cancel;

        // A loop ends when it is told to; what else happens, it throws.
        std::optional<message_batch> operator()() const
        {
            auto next = subscription->try_next(patience, cancel);
            if (next.status() == status::closed || next.status() == status::cancelled)
                return std::nullopt;
            return std::move(next).value();
        }
    };

  public:
    using subscription::subscription;

    // The next messages, one at least; nothing when there were none for so long.
    std::optional<message_batch> next(milliseconds timeout = forever,
                                      const cancel_token *cancel = nullptr) const
    {
        return try_next(timeout, cancel).value();
    }
    result<std::optional<message_batch>>
    try_next(milliseconds timeout = forever, const cancel_token *cancel = nullptr) const noexcept
    {
        flowmesh_message_batch_t *batch = nullptr;
        flowmesh_error_t *error = nullptr;
        if (flowmesh_subscription_next(c(), timeout.count(),
                                       cancel == nullptr ? nullptr : cancel->c(), &batch,
                                       &error) != FLOWMESH_OK)
            return detail::take(error);
        return batch == nullptr ? std::nullopt : std::optional(message_batch(batch));
    }

    // Everything from here on, message by message or batch by batch, as an input range. It ends
    // when the subscription or its client is closed, when `cancel` is cancelled, or when nothing
    // came for as long as `patience`. What was handed out and not handled is not lost by leaving
    // the loop as long as it is not committed. A range takes the subscription's address, which must
    // not be moved.
    element_range<message_batch, next_batch> messages(milliseconds patience = forever,
                                                      const cancel_token *cancel = nullptr) const
    {
        return element_range<message_batch, next_batch>({this, patience, cancel});
    }
    batch_range<message_batch, next_batch> batches(milliseconds patience = forever,
                                                   const cancel_token *cancel = nullptr) const
    {
        return batch_range<message_batch, next_batch>({this, patience, cancel});
    }
};

namespace detail
{

// A function for messages, and the completion that its subscription comes with: the library has one
// user data for both.
template <class Function> struct subscribing_box {
    message_box<Function> messages;
    flowmesh_subscription_callback_t subscribed;
    void *receiver;
    flowmesh_drop_t drop_receiver;

    static void on_messages(const flowmesh_message_batch_t *batch, void *box) noexcept
    {
        message_box<Function>::call(batch, &static_cast<subscribing_box *>(box)->messages);
    }
    static void on_subscribed(flowmesh_error_t *error, flowmesh_subscription_t *subscription,
                              void *box) noexcept
    {
        auto *self = static_cast<subscribing_box *>(box);
        self->subscribed(error, subscription, self->receiver);
    }
    static void drop(void *box) noexcept
    {
        auto *self = static_cast<subscribing_box *>(box);
        self->drop_receiver(self->receiver);
        delete self;
    }
};

} // namespace detail

} // namespace flowmesh

#endif
