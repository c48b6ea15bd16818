// Job queues.
#ifndef FLOWMESH_QUEUE_HPP
#define FLOWMESH_QUEUE_HPP

#include <flowmesh/client.hpp>
#include <flowmesh/producer.hpp>
#include <flowmesh/worker.hpp>

namespace flowmesh
{

// Options of queue::enqueue. In C++20: {.delay = 5min, .headers = {{"kind", "mail"}}}.
struct enqueue_options {
    milliseconds timeout = default_timeout;
    const cancel_token *cancel = nullptr;
    const char *traceparent = nullptr;
    const char *tracestate = nullptr;
    // How long until the job is due.
    milliseconds delay{0};
    // Their texts are borrowed.
    std::vector<header> headers{};

    flowmesh_enqueue_options_t c() const noexcept
    {
        auto c = detail::common(flowmesh_enqueue_options_t FLOWMESH_ENQUEUE_OPTIONS_INIT, *this);
        c.delay_ms = delay.count();
        c.headers = detail::to_c(headers.data());
        c.header_count = headers.size();
        return c;
    }
};

// Options of queue::reserve and queue::receive.
struct reserve_options {
    // The deadline, beyond `wait`.
    milliseconds timeout = default_timeout;
    const cancel_token *cancel = nullptr;
    const char *traceparent = nullptr;
    const char *tracestate = nullptr;
    // Length of the lease; 0: 30 s.
    milliseconds visibility_timeout{0};
    // How long to wait for a job; 0: not at all.
    milliseconds wait{0};

    flowmesh_reserve_options_t c() const noexcept
    {
        auto c = detail::common(flowmesh_reserve_options_t FLOWMESH_RESERVE_OPTIONS_INIT, *this);
        c.visibility_timeout_ms = visibility_timeout.count();
        c.wait_ms = wait.count();
        return c;
    }
};

// A job that was added: its id and its number in the queue.
struct enqueued {
    job_id id;
    std::int64_t seq = -1;
};

// Counters of a queue; see flowmesh_queue_stats_t.
struct queue_stats {
    std::int64_t total_jobs = 0;
    std::int64_t pending_jobs = 0;
    std::int64_t in_flight_jobs = 0;
    std::int64_t completed_jobs = 0;
    std::int64_t failed_jobs = 0;
    milliseconds oldest_job_age{0};
};

enum class backoff : flowmesh_backoff_t {
    fixed = FLOWMESH_BACKOFF_FIXED,
    linear = FLOWMESH_BACKOFF_LINEAR,
    exponential = FLOWMESH_BACKOFF_EXPONENTIAL,
};

// When a job that failed is tried again; as made, the default policy.
struct retry_policy {
    // Deliveries before a job is dead-lettered; 0: no limit.
    std::int32_t max_attempts = 3;
    backoff backoff_strategy = backoff::exponential;
    milliseconds initial_backoff{1000};
    milliseconds max_backoff{60000};
    double backoff_multiplier = 2.0;

    flowmesh_retry_policy_t c() const noexcept
    {
        flowmesh_retry_policy_t c = FLOWMESH_RETRY_POLICY_INIT;
        c.max_attempts = max_attempts;
        c.backoff_strategy = static_cast<flowmesh_backoff_t>(backoff_strategy);
        c.initial_backoff_ms = initial_backoff.count();
        c.max_backoff_ms = max_backoff.count();
        c.backoff_multiplier = backoff_multiplier;
        return c;
    }
};

namespace detail
{

template <> struct converted<enqueued> {
    static enqueued from(const char *id, std::int64_t seq) noexcept { return {job_id(id), seq}; }
};
template <> struct converted<std::optional<job>> {
    static std::optional<job> from(flowmesh_job_t *owned) noexcept
    {
        return owned == nullptr ? std::nullopt : std::optional(job(owned));
    }
};
template <> struct converted<queue_stats> {
    static queue_stats from(const flowmesh_queue_stats_t *c) noexcept
    {
        return {c->total_jobs,     c->pending_jobs, c->in_flight_jobs,
                c->completed_jobs, c->failed_jobs,  milliseconds(c->oldest_job_age_ms)};
    }
};
template <> struct converted<retry_policy> {
    static retry_policy from(const flowmesh_retry_policy_t *c) noexcept
    {
        return {c->max_attempts, static_cast<backoff>(c->backoff_strategy),
                milliseconds(c->initial_backoff_ms), milliseconds(c->max_backoff_ms),
                c->backoff_multiplier};
    }
};

// Makes a call that fills a struct of C, call(&c, &error), and gives the T that it stands for.
template <class T, class C, class Call> result<T> fill(C c, const Call &call)
{
    flowmesh_error_t *error = nullptr;
    if (call(&c, &error) != FLOWMESH_OK)
        return take(error);
    return converted<T>::from(&c);
}

} // namespace detail

// A job queue. It keeps its client alive.
//
//     flowmesh::queue mails = client.open_queue("acme", "shop", "mails");
//     mails.enqueue("to: bob");
//     if (std::optional<flowmesh::job> mail = mails.reserve())
//         mail->ack();
class queue : public handle<flowmesh_queue_t, flowmesh_queue_free>
{
  public:
    using handle::handle;

    // Adds a job.
    enqueued enqueue(view payload, const enqueue_options &options = {}) const
    {
        return try_enqueue(payload, options).value();
    }
    result<enqueued> try_enqueue(view payload, const enqueue_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::read(enqueued(), [&](enqueued *job, auto **error) {
            return flowmesh_queue_enqueue(c(), payload.c(), &c_options, job->id.room(), &job->seq,
                                          error);
        });
    }
    template <class Done = use_future>
    auto enqueue_async(view payload, const enqueue_options &options = {}, Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<enqueued, flowmesh_enqueued_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_queue_enqueue_async(c(), payload.c(), &c_options, completion...);
            });
    }

    // Leases the next due job; nothing when there was none.
    std::optional<job> reserve(const reserve_options &options = {}) const
    {
        return try_reserve(options).value();
    }
    result<std::optional<job>> try_reserve(const reserve_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        flowmesh_job_t *job = nullptr;
        flowmesh_error_t *error = nullptr;
        if (flowmesh_queue_reserve(c(), &c_options, &job, &error) != FLOWMESH_OK)
            return detail::take(error);
        return detail::converted<std::optional<flowmesh::job>>::from(job);
    }
    template <class Done = use_future>
    auto reserve_async(const reserve_options &options = {}, Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<std::optional<job>, flowmesh_job_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_queue_reserve_async(c(), &c_options, completion...);
            });
    }

    // Leases up to `max_jobs` due jobs, at most 100.
    job_batch receive(std::int32_t max_jobs, const reserve_options &options = {}) const
    {
        return try_receive(max_jobs, options).value();
    }
    result<job_batch> try_receive(std::int32_t max_jobs,
                                  const reserve_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::make<job_batch>([&](auto **out, auto **error) {
            return flowmesh_queue_receive(c(), max_jobs, &c_options, out, error);
        });
    }
    template <class Done = use_future>
    auto receive_async(std::int32_t max_jobs, const reserve_options &options = {},
                       Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<job_batch, flowmesh_job_batch_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_queue_receive_async(c(), max_jobs, &c_options, completion...);
            });
    }

    // Acknowledges a leased job by its id.
    void ack(const text &id, const call_options &options = {}) const
    {
        try_ack(id, options).value();
    }
    result<void> try_ack(const text &id, const call_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::done(
            [&](auto **error) { return flowmesh_queue_ack(c(), id.c(), &c_options, error); });
    }
    template <class Done = use_future>
    auto ack_async(const text &id, const call_options &options = {}, Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<void, flowmesh_done_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_queue_ack_async(c(), id.c(), &c_options, completion...);
            });
    }

    // Gives a leased job back by its id; whether it went to the dead-letter queue.
    bool nack(const text &id, const nack_options &options = {}) const
    {
        return try_nack(id, options).value();
    }
    result<bool> try_nack(const text &id, const nack_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::read(false, [&](bool *dead_lettered, auto **error) {
            return flowmesh_queue_nack(c(), id.c(), &c_options, dead_lettered, error);
        });
    }
    template <class Done = use_future>
    auto nack_async(const text &id, const nack_options &options = {}, Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<bool, flowmesh_bool_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_queue_nack_async(c(), id.c(), &c_options, completion...);
            });
    }

    // The counters.
    queue_stats stats(const call_options &options = {}) const { return try_stats(options).value(); }
    result<queue_stats> try_stats(const call_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::fill<queue_stats>(
            flowmesh_queue_stats_t FLOWMESH_QUEUE_STATS_INIT, [&](auto *stats, auto **error) {
                return flowmesh_queue_stats(c(), &c_options, stats, error);
            });
    }
    template <class Done = use_future>
    auto stats_async(const call_options &options = {}, Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<queue_stats, flowmesh_queue_stats_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_queue_stats_async(c(), &c_options, completion...);
            });
    }

    // How often and when jobs that failed are tried again.
    void set_retry_policy(const retry_policy &policy, const call_options &options = {}) const
    {
        try_set_retry_policy(policy, options).value();
    }
    result<void> try_set_retry_policy(const retry_policy &policy,
                                      const call_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        const auto c_policy = policy.c();
        return detail::done([&](auto **error) {
            return flowmesh_queue_set_retry_policy(c(), &c_policy, &c_options, error);
        });
    }
    template <class Done = use_future>
    auto set_retry_policy_async(const retry_policy &policy, const call_options &options = {},
                                Done &&done = {}) const
    {
        const auto c_options = options.c();
        const auto c_policy = policy.c();
        return detail::start<void, flowmesh_done_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_queue_set_retry_policy_async(c(), &c_policy, &c_options,
                                                             completion...);
            });
    }
    retry_policy get_retry_policy(const call_options &options = {}) const
    {
        return try_get_retry_policy(options).value();
    }
    result<retry_policy> try_get_retry_policy(const call_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::fill<retry_policy>(
            flowmesh_retry_policy_t FLOWMESH_RETRY_POLICY_INIT, [&](auto *policy, auto **error) {
                return flowmesh_queue_get_retry_policy(c(), &c_options, policy, error);
            });
    }
    template <class Done = use_future>
    auto get_retry_policy_async(const call_options &options = {}, Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<retry_policy, flowmesh_retry_policy_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_queue_get_retry_policy_async(c(), &c_options, completion...);
            });
    }

    // The dead letters of the queue: not leased, to be replayed by their id.
    job_batch list_dlq_jobs(std::int32_t max_jobs = 0, const call_options &options = {}) const
    {
        return try_list_dlq_jobs(max_jobs, options).value();
    }
    result<job_batch> try_list_dlq_jobs(std::int32_t max_jobs = 0,
                                        const call_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::make<job_batch>([&](auto **out, auto **error) {
            return flowmesh_queue_list_dlq_jobs(c(), max_jobs, &c_options, out, error);
        });
    }
    template <class Done = use_future>
    auto list_dlq_jobs_async(std::int32_t max_jobs = 0, const call_options &options = {},
                             Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<job_batch, flowmesh_job_batch_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_queue_list_dlq_jobs_async(c(), max_jobs, &c_options, completion...);
            });
    }

    // Puts a dead letter back to work, as a new job.
    enqueued replay_dlq_job(const text &id, const call_options &options = {}) const
    {
        return try_replay_dlq_job(id, options).value();
    }
    result<enqueued> try_replay_dlq_job(const text &id,
                                        const call_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::read(enqueued(), [&](enqueued *job, auto **error) {
            return flowmesh_queue_replay_dlq_job(c(), id.c(), &c_options, job->id.room(), &job->seq,
                                                 error);
        });
    }
    template <class Done = use_future>
    auto replay_dlq_job_async(const text &id, const call_options &options = {},
                              Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<enqueued, flowmesh_enqueued_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_queue_replay_dlq_job_async(c(), id.c(), &c_options, completion...);
            });
    }

    // Adds jobs without waiting for each; see producer.
    producer open_producer(const producer_options &options = {}) const
    {
        return try_open_producer(options).value();
    }
    result<producer> try_open_producer(const producer_options &options = {}) const noexcept
    {
        return detail::open_producer(flowmesh_queue_producer_open, c(), options);
    }

    // Has a function handle the jobs; see worker.
    template <class Handler>
    worker open_worker(Handler &&handler, const worker_options &options = {}) const
    {
        return try_open_worker(std::forward<Handler>(handler), options).value();
    }
    template <class Handler>
    result<worker> try_open_worker(Handler &&handler,
                                   const worker_options &options = {}) const noexcept
    {
        detail::worker_settings made(options);
        if (made.failed())
            return made.take();
        using box = detail::handler_box<std::decay_t<Handler>>;
        auto released = std::make_shared<detail::released>();
        auto *boxed = new box{std::forward<Handler>(handler), options.on_exception, released};
        flowmesh_worker_t *opened = nullptr;
        flowmesh_error_t *error = nullptr;
        if (flowmesh_worker_open(c(), made.c(), &box::call, boxed, &box::drop, &opened, &error) !=
            FLOWMESH_OK)
            return detail::take(error);
        return worker(opened, std::move(released));
    }
};

inline result<queue> client::try_open_queue(const text &tenant, const text &name_space,
                                            const text &name) const noexcept
{
    return detail::make<queue>([&](auto **out, auto **error) {
        return flowmesh_queue_open(c(), tenant.c(), name_space.c(), name.c(), out, error);
    });
}
inline queue client::open_queue(const text &tenant, const text &name_space, const text &name) const
{
    return try_open_queue(tenant, name_space, name).value();
}

} // namespace flowmesh

#endif
