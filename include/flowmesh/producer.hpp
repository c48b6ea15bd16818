// Producers: messages that are accepted at memory speed, and reported when they are stored.
#ifndef FLOWMESH_PRODUCER_HPP
#define FLOWMESH_PRODUCER_HPP

#include <flowmesh/event.hpp>
#include <flowmesh/future.hpp>
#include <flowmesh/range.hpp>
#include <flowmesh/settings.hpp>

namespace flowmesh
{

// What became of one message. Lent, like its batch.
class report
{
    const flowmesh_report_t *c_;

  public:
    explicit report(const flowmesh_report_t *c) noexcept : c_(c) {}

    // Whether it is stored.
    explicit operator bool() const noexcept { return c_->status == FLOWMESH_OK; }
    flowmesh::status status() const noexcept { return static_cast<flowmesh::status>(c_->status); }
    flowmesh::outcome outcome() const noexcept
    {
        return static_cast<flowmesh::outcome>(c_->outcome);
    }
    // As given to producer::send.
    void *message_data() const noexcept { return c_->message_data; }
    // Its offset in the stream or number in the queue; -1 after a failure.
    std::int64_t position() const noexcept { return c_->position; }
    // Empty from a stream and after a failure.
    std::string_view job_id() const noexcept { return c_->job_id == nullptr ? "" : c_->job_id; }
    // Why it failed, a copy; nothing when it did not.
    std::optional<flowmesh::error> error() const
    {
        return c_->error == nullptr ? std::nullopt : std::optional<flowmesh::error>(c_->error);
    }
    std::int32_t attempts() const noexcept { return c_->attempts; }

    const flowmesh_report_t *c() const noexcept { return c_; }
};

// Reports in the order of the sends: a range of them, lent for the call that gets it.
class report_batch
{
    const flowmesh_report_batch_t *c_;

  public:
    using value_type = report;
    using iterator = detail::index_iterator<report_batch, report>;

    explicit report_batch(const flowmesh_report_batch_t *c) noexcept : c_(c) {}
    report_batch(const report_batch &) = delete;
    report_batch &operator=(const report_batch &) = delete;

    std::size_t size() const noexcept { return flowmesh_report_batch_count(c_); }
    report operator[](std::size_t index) const noexcept
    {
        return report(flowmesh_report_batch_at(c_, index));
    }
    iterator begin() const noexcept { return {this, 0}; }
    iterator end() const noexcept { return {this, size()}; }

    const flowmesh_report_batch_t *c() const noexcept { return c_; }
};

// How to produce; what is not set has the default that the setters of flowmesh_producer_options_t
// tell. The functions are copied, and must not throw: std::terminate.
struct producer_options {
    std::optional<std::size_t> max_buffered_messages = std::nullopt;
    std::optional<std::size_t> max_buffered_bytes = std::nullopt;
    // Streams.
    std::optional<std::size_t> max_batch_messages = std::nullopt;
    std::optional<std::size_t> max_batch_bytes = std::nullopt;
    // Queues.
    std::optional<std::size_t> max_in_flight = std::nullopt;
    std::optional<milliseconds> delivery_timeout = std::nullopt;
    bool retry_unknown = false;
    bool stop_on_error = false;
    // nullptr: the client's.
    const flowmesh::dispatcher *dispatcher = nullptr;
    // Receives the delivery reports. Without it, flush() and close() tell that messages failed.
    std::function<void(const report_batch &)> on_reports = nullptr;
    // Told that there is room again after status::queue_full.
    std::function<void()> on_writable = nullptr;
};

namespace detail
{

inline void tell_reports(const flowmesh_report_batch_t *reports, void *function) noexcept
{
    call_kept<decltype(producer_options::on_reports)>(function, report_batch(reports));
}

inline void tell_writable(void *function) noexcept
{
    call_kept<decltype(producer_options::on_writable)>(function);
}

struct producer_settings : settings<flowmesh_producer_options_t, flowmesh_producer_options_new,
                                    flowmesh_producer_options_free> {
    explicit producer_settings(const producer_options &from) noexcept
    {
        set_if(flowmesh_producer_options_set_max_buffered_messages, from.max_buffered_messages);
        set_if(flowmesh_producer_options_set_max_buffered_bytes, from.max_buffered_bytes);
        set_if(flowmesh_producer_options_set_max_batch_messages, from.max_batch_messages);
        set_if(flowmesh_producer_options_set_max_batch_bytes, from.max_batch_bytes);
        set_if(flowmesh_producer_options_set_max_in_flight, from.max_in_flight);
        set_if(flowmesh_producer_options_set_delivery_timeout_ms, from.delivery_timeout);
        set(flowmesh_producer_options_set_retry_unknown, from.retry_unknown);
        set(flowmesh_producer_options_set_stop_on_error, from.stop_on_error);
        set_if(flowmesh_producer_options_set_dispatcher, from.dispatcher);
        set_callback(flowmesh_producer_options_set_report_callback, tell_reports, from.on_reports);
        set_callback(flowmesh_producer_options_set_writable_callback, tell_writable,
                     from.on_writable);
    }
};

// Ends a producer and frees it, when the reports that are still to come have been delivered. Inside
// one of its callbacks it does not wait.
inline void end_producer(flowmesh_producer_t *producer) noexcept
{
    if (flowmesh_producer_close(producer, 0, nullptr, nullptr) == FLOWMESH_DEADLINE_EXCEEDED)
        (void)flowmesh_producer_close(producer, -1, nullptr, nullptr);
    flowmesh_producer_free(producer);
}

} // namespace detail

// Sends messages to one stream or queue without waiting for each; one report follows for each that
// was accepted. What order and failures mean: flowmesh_producer_t.
//
// Destroying it gives up what is not stored yet, which is reported, and waits only for those
// reports: close() first, so that everything is sent.
//
//     flowmesh::producer_options options;
//     options.on_reports = [](const flowmesh::report_batch &reports) { ... };
//     flowmesh::producer orders = stream.open_producer(options);
//     orders.send("one coffee");
//     orders.close(10s);
class producer : public handle<flowmesh_producer_t, detail::end_producer>
{
  public:
    using handle::handle;

    // Accepts a message, which is copied; `message_data` comes back in its report. Waits up to
    // `timeout` for room.
    void send(view payload, void *message_data = nullptr, milliseconds timeout = forever) const
    {
        try_send(payload, message_data, timeout).value();
    }
    void send(const event &event, void *message_data = nullptr,
              milliseconds timeout = forever) const
    {
        try_send(event, message_data, timeout).value();
    }
    result<void> try_send(view payload, void *message_data = nullptr,
                          milliseconds timeout = forever) const noexcept
    {
        return try_send_c(detail::to_c(payload), message_data, timeout);
    }
    result<void> try_send(const event &event, void *message_data = nullptr,
                          milliseconds timeout = forever) const noexcept
    {
        return try_send_c(detail::to_c(event), message_data, timeout);
    }

    // As send(), of a job that is due after `delay`. Queues only.
    void send_delayed(const event &job, milliseconds delay, void *message_data = nullptr,
                      milliseconds timeout = forever) const
    {
        try_send_delayed(job, delay, message_data, timeout).value();
    }
    result<void> try_send_delayed(const event &job, milliseconds delay,
                                  void *message_data = nullptr,
                                  milliseconds timeout = forever) const noexcept
    {
        const flowmesh_event_t c_job = detail::to_c(job);
        return detail::done([&](auto **error) {
            return flowmesh_producer_send_delayed(c(), &c_job, delay.count(), message_data,
                                                  timeout.count(), error);
        });
    }

    // Waits until everything accepted before has been reported.
    void flush(milliseconds timeout = forever) const { try_flush(timeout).value(); }
    result<void> try_flush(milliseconds timeout = forever) const noexcept
    {
        return detail::done(
            [&](auto **error) { return flowmesh_producer_flush(c(), timeout.count(), error); });
    }
    template <class Done = use_future>
    auto flush_async(milliseconds timeout = forever, Done &&done = {}) const
    {
        return detail::start<void, flowmesh_done_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_producer_flush_async(c(), timeout.count(), completion...);
            });
    }

    // Accepts nothing more, sends what was accepted, and ends. How many messages were given up;
    // after a failure, error::count() tells.
    std::size_t close(milliseconds timeout = forever) const { return try_close(timeout).value(); }
    result<std::size_t> try_close(milliseconds timeout = forever) const noexcept
    {
        return detail::count([&](std::size_t *unsent, auto **error) {
            return flowmesh_producer_close(c(), timeout.count(), unsent, error);
        });
    }
    // Dropping the future ends the wait, not the closing.
    template <class Done = use_future>
    auto close_async(milliseconds timeout = forever, Done &&done = {}) const
    {
        return detail::start<std::size_t, flowmesh_count_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_producer_close_async(c(), timeout.count(), completion...);
            });
    }

  private:
    result<void> try_send_c(const flowmesh_event_t &event, void *message_data,
                            milliseconds timeout) const noexcept
    {
        return detail::done([&](auto **error) {
            return flowmesh_producer_send(c(), &event, message_data, timeout.count(), error);
        });
    }
};

namespace detail
{

// Opens a producer by flowmesh_stream_producer_open or flowmesh_queue_producer_open.
template <class Open, class Target>
result<producer> open_producer(const Open &open, const Target *target,
                               const producer_options &options) noexcept
{
    producer_settings made(options);
    if (made.failed())
        return made.take();
    return make<producer>(
        [&](auto **out, auto **error) { return open(target, made.c(), out, error); });
}

} // namespace detail

} // namespace flowmesh

#endif
