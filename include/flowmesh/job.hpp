// Jobs of a queue, one by one and in batches.
#ifndef FLOWMESH_JOB_HPP
#define FLOWMESH_JOB_HPP

#include <flowmesh/future.hpp>
#include <flowmesh/message.hpp>

namespace flowmesh
{

// The id of a job, held in place.
class job_id
{
    char text_[FLOWMESH_JOB_ID_SIZE] = "";

  public:
    job_id() noexcept = default;
    explicit job_id(const char *c) noexcept { std::strncpy(text_, c, sizeof(text_) - 1); }

    const char *c_str() const noexcept { return text_; }
    std::string_view text() const noexcept { return text_; }
    operator flowmesh::text() const noexcept { return {c_str()}; }
    // Where the library writes one: FLOWMESH_JOB_ID_SIZE bytes.
    char *room() noexcept { return text_; }

    friend bool operator==(const job_id &a, const job_id &b) noexcept
    {
        return a.text() == b.text();
    }
    friend bool operator!=(const job_id &a, const job_id &b) noexcept { return !(a == b); }
};

// Options of nack.
struct nack_options {
    milliseconds timeout = default_timeout;
    const cancel_token *cancel = nullptr;
    const char *traceparent = nullptr;
    const char *tracestate = nullptr;
    // How long until the job is due again; 0: what the retry policy says.
    milliseconds delay{0};

    flowmesh_nack_options_t c() const noexcept
    {
        auto c = detail::common(flowmesh_nack_options_t FLOWMESH_NACK_OPTIONS_INIT, *this);
        c.delay_ms = delay.count();
        return c;
    }
};

// A job that somebody else owns: a batch, a worker, or a `job`.
class job_view
{
  protected:
    const flowmesh_job_t *c_ = nullptr;

  public:
    job_view() noexcept = default;
    explicit job_view(const flowmesh_job_t *c) noexcept : c_(c) {}

    job_id id() const noexcept { return job_id(c_->id); }
    std::int64_t seq() const noexcept { return c_->seq; }
    view payload() const noexcept { return c_->payload; }
    array_view<const flowmesh::header> headers() const noexcept
    {
        return detail::from_c(c_->headers, c_->header_count);
    }
    // The value of a header, if there is one of that name.
    std::optional<std::string_view> header(const text &key) const noexcept
    {
        return detail::look_up(c_, key, flowmesh_job_get_header);
    }
    // "tenant/namespace/queue/name".
    std::string_view resource_path() const noexcept { return view(c_->resource_path).text(); }
    time_point created_at() const noexcept { return detail::instant(c_->created_at_ns); }
    time_point visible_at() const noexcept { return detail::instant(c_->visible_at_ns); }
    // The epoch when it is not leased.
    time_point reserve_until() const noexcept { return detail::instant(c_->reserve_until_ns); }
    // Deliveries, this one included.
    std::int32_t attempts() const noexcept { return c_->attempts; }
    // What is left of the lease.
    milliseconds time_left() const noexcept { return milliseconds(flowmesh_job_time_left_ms(c_)); }

    // Acknowledges it: it is done and gone.
    void ack(const call_options &options = {}) const { try_ack(options).value(); }
    result<void> try_ack(const call_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::done([&](auto **error) { return flowmesh_job_ack(c_, &c_options, error); });
    }
    // The job may go before the call ends.
    template <class Done = use_future>
    auto ack_async(const call_options &options = {}, Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<void, flowmesh_done_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_job_ack_async(c_, &c_options, completion...);
            });
    }

    // Gives it back as failed; whether it went to the dead-letter queue.
    bool nack(const nack_options &options = {}) const { return try_nack(options).value(); }
    result<bool> try_nack(const nack_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::read(false, [&](bool *dead_lettered, auto **error) {
            return flowmesh_job_nack(c_, &c_options, dead_lettered, error);
        });
    }
    template <class Done = use_future>
    auto nack_async(const nack_options &options = {}, Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<bool, flowmesh_bool_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_job_nack_async(c_, &c_options, completion...);
            });
    }

    const flowmesh_job_t *c() const noexcept { return c_; }
};

// A job that a call gave, or that a worker's function has moved to itself. Destroying it leaves its
// lease as it is: without an ack or nack it is handed out again when the lease ends.
class job : public job_view
{
  public:
    using c_type = flowmesh_job_t;

    job() noexcept = default;
    explicit job(flowmesh_job_t *owned) noexcept : job_view(owned) {}
    job(job &&from) noexcept : job_view(from.release()) {}
    job &operator=(job &&from) noexcept
    {
        flowmesh_job_t *owned = from.release();
        flowmesh_job_free(release());
        c_ = owned;
        return *this;
    }
    ~job() { flowmesh_job_free(release()); }

    explicit operator bool() const noexcept { return c_ != nullptr; }
    // Gives the object up to the caller.
    flowmesh_job_t *release() noexcept
    {
        return const_cast<flowmesh_job_t *>(std::exchange(c_, nullptr));
    }
};

// Jobs: a range of views into it. Destroying it leaves their leases as they are.
class job_batch : public handle<flowmesh_job_batch_t, flowmesh_job_batch_free>
{
  public:
    using handle::handle;
    using value_type = job_view;
    using iterator = detail::index_iterator<job_batch, job_view>;

    std::size_t size() const noexcept { return flowmesh_job_batch_count(c()); }
    bool empty() const noexcept { return size() == 0; }
    // The index must be below size().
    job_view operator[](std::size_t index) const noexcept
    {
        return job_view(flowmesh_job_batch_at(c(), index));
    }
    iterator begin() const noexcept { return {this, 0}; }
    iterator end() const noexcept { return {this, size()}; }

    // Acknowledges every job; how many. When some fail, the first error is thrown, and its count()
    // tells how many were acknowledged.
    std::size_t ack(const call_options &options = {}) const { return try_ack(options).value(); }
    result<std::size_t> try_ack(const call_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::count([&](std::size_t *acked, auto **error) {
            return flowmesh_job_batch_ack(c(), &c_options, acked, error);
        });
    }
    template <class Done = use_future>
    auto ack_async(const call_options &options = {}, Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<std::size_t, flowmesh_count_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_job_batch_ack_async(c(), &c_options, completion...);
            });
    }
};

} // namespace flowmesh

#endif
