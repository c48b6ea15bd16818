// Workers: hand the jobs of a queue to a function.
#ifndef FLOWMESH_WORKER_HPP
#define FLOWMESH_WORKER_HPP

#include <flowmesh/job.hpp>
#include <flowmesh/settings.hpp>

#include <condition_variable>
#include <mutex>

namespace flowmesh
{

// How a worker asks for jobs.
enum class poll_mode : flowmesh_poll_mode_t {
    automatic = FLOWMESH_POLL_AUTO,
    long_poll = FLOWMESH_POLL_LONG,
    safe = FLOWMESH_POLL_SAFE,
};

// What becomes of a job.
class verdict
{
    flowmesh_verdict_t c_;
    milliseconds delay_;

    constexpr verdict(flowmesh_verdict_t c, milliseconds delay) noexcept : c_(c), delay_(delay) {}

  public:
    // It is done.
    static constexpr verdict ack() noexcept { return {FLOWMESH_VERDICT_ACK, milliseconds(0)}; }
    // It is to be tried again, after so long; 0: when the retry policy says.
    static constexpr verdict nack(milliseconds delay = milliseconds(0)) noexcept
    {
        return {FLOWMESH_VERDICT_NACK, delay};
    }

    flowmesh_verdict_t c() const noexcept { return c_; }
    milliseconds delay() const noexcept { return delay_; }
};

enum class worker_event_kind : flowmesh_worker_event_kind_t {
    fetch_failed = FLOWMESH_WORKER_FETCH_FAILED,
    fetch_resumed = FLOWMESH_WORKER_FETCH_RESUMED,
    lease_lost = FLOWMESH_WORKER_LEASE_LOST,
    dead_lettered = FLOWMESH_WORKER_DEAD_LETTERED,
    not_settled = FLOWMESH_WORKER_NOT_SETTLED,
    ended = FLOWMESH_WORKER_ENDED,
};

// Something that happened to a worker.
struct worker_event {
    worker_event_kind kind;
    // The job that it is about; -1, 0 and empty where it is about none.
    flowmesh::job_id job_id;
    std::int64_t seq;
    std::int32_t attempts;
    // Why, where there is a reason.
    std::optional<error> reason;
};

// How a worker works; what is not set has the default that the setters of flowmesh_worker_options_t
// tell. The functions are copied, and must not throw: std::terminate.
struct worker_options {
    std::optional<std::size_t> concurrency = std::nullopt;
    std::optional<std::size_t> prefetch = std::nullopt;
    std::optional<milliseconds> visibility_timeout = std::nullopt;
    poll_mode poll = poll_mode::automatic;
    // nullptr: threads of the worker's own.
    const flowmesh::dispatcher *dispatcher = nullptr;
    // Told what happens beside the jobs.
    std::function<void(const worker_event &)> on_event = nullptr;
    // Told what a handler threw, and for which job, which is given back; on the handler's thread.
    std::function<void(std::exception_ptr, const job_id &)> on_exception = nullptr;
};

namespace detail
{

inline void tell_event(const flowmesh_worker_event_t *event, void *function) noexcept
{
    worker_event told{static_cast<worker_event_kind>(event->kind), job_id(event->job_id),
                      event->seq, event->attempts, std::nullopt};
    if (event->reason != nullptr)
        told.reason = error(event->reason);
    call_kept<decltype(worker_options::on_event)>(function, std::as_const(told));
}

struct worker_settings : settings<flowmesh_worker_options_t, flowmesh_worker_options_new,
                                  flowmesh_worker_options_free> {
    explicit worker_settings(const worker_options &from) noexcept
    {
        set_if(flowmesh_worker_options_set_concurrency, from.concurrency);
        set_if(flowmesh_worker_options_set_prefetch, from.prefetch);
        set_if(flowmesh_worker_options_set_visibility_timeout_ms, from.visibility_timeout);
        set(flowmesh_worker_options_set_poll_mode, static_cast<flowmesh_poll_mode_t>(from.poll));
        set_if(flowmesh_worker_options_set_dispatcher, from.dispatcher);
        set_callback(flowmesh_worker_options_set_event_callback, tell_event, from.on_event);
    }
};

// Tells that the library has let go of a worker's functions: none runs any more.
class released
{
    std::mutex mutex_;
    std::condition_variable changed_;
    bool yes_ = false;

  public:
    void tell() noexcept
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        yes_ = true;
        changed_.notify_all();
    }
    void wait() noexcept
    {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return yes_; });
    }
};

// A function that handles jobs.
template <class Function> struct handler_box {
    Function function;
    decltype(worker_options::on_exception) on_exception;
    std::shared_ptr<released> gone;

    static flowmesh_verdict_t call(flowmesh_job_t *handed, std::int64_t *delay_ms,
                                   void *box) noexcept
    {
        auto *self = static_cast<handler_box *>(box);
        const job_id id = self->on_exception ? job_id(handed->id) : job_id();
        lent<job> lent(handed);
        verdict given = verdict::nack();
        try {
            given = self->handle(lent.value);
        } catch (...) {
            if (self->on_exception)
                self->on_exception(std::current_exception(), id);
        }
        // Moved away, it is not the worker's any more, and may be gone already.
        if (!lent.value)
            return FLOWMESH_VERDICT_LEAVE;
        *delay_ms = given.delay().count();
        return given.c();
    }
    static void drop(void *box) noexcept
    {
        const std::shared_ptr<released> gone = static_cast<handler_box *>(box)->gone;
        delete static_cast<handler_box *>(box);
        gone->tell();
    }

  private:
    verdict handle(job &job)
    {
        static_assert(std::is_invocable_v<Function &, flowmesh::job &>,
                      "a worker's function takes a flowmesh::job &");
        using returned = std::invoke_result_t<Function &, flowmesh::job &>;
        if constexpr (std::is_void_v<returned>) {
            function(job);
            return verdict::ack();
        } else {
            static_assert(std::is_convertible_v<returned, verdict>,
                          "a worker's function returns a flowmesh::verdict, or nothing");
            return function(job);
        }
    }
};

} // namespace detail

// Hands the jobs of a queue to a function, as many at a time as its concurrency says, and settles
// them:
//
//     flowmesh::worker worker = mails.open_worker([](flowmesh::job &mail) {
//     deliver(mail.payload()); });
//     ...
//     worker.close(30s);
//
// The function takes a job & and returns
//   nothing     the job is done, it is acknowledged;
//   a verdict   verdict::ack(), or verdict::nack(delay): to be tried again.
// When it throws, the job is given back, as with verdict::nack(): it is tried again as the queue's
// retry policy says, and in the end it is a dead letter. worker_options::on_exception is told.
// When it has moved the job away (std::move(job) into a container, say), that is the verdict: the
// job is the program's, which settles it later with settle(). Until then it counts as under way.
//
// Destroying the worker begins no job any more, and waits for the functions that run; inside one of
// them it does not wait. Their verdicts are sent, and have 5 s to be stored while the destructor
// waits. Jobs leased ahead come again at the end of their lease: close() has them handled.
class worker : public handle<flowmesh_worker_t, flowmesh_worker_free>
{
    // The library's close also waits for jobs that were moved away, perhaps by the thread that
    // would settle them. The destructor must not, so it waits for this.
    std::shared_ptr<detail::released> released_;

  public:
    worker() noexcept = default;
    worker(flowmesh_worker_t *owned, std::shared_ptr<detail::released> released) noexcept
        : handle(owned), released_(std::move(released))
    {
    }
    worker(worker &&) noexcept = default;
    worker &operator=(worker &&from) noexcept
    {
        if (this != &from) {
            reset();
            handle::operator=(std::move(from));
            released_ = std::move(from.released_);
        }
        return *this;
    }
    ~worker() { reset(); }

    // Ends the worker, as destroying it does.
    void reset() noexcept
    {
        constexpr std::int64_t verdicts_ms = 5000;
        const std::shared_ptr<detail::released> released = std::move(released_);
        const handle<flowmesh_worker_t, flowmesh_worker_free> ended(release());
        if (ended &&
            flowmesh_worker_close(ended.c(), 0, nullptr, nullptr) == FLOWMESH_DEADLINE_EXCEEDED &&
            flowmesh_worker_close(ended.c(), verdicts_ms, nullptr, nullptr) ==
                FLOWMESH_DEADLINE_EXCEEDED)
            released->wait();
    }

    // Drains: fetches nothing more, handles what is leased, and waits until the verdicts are
    // stored. How many leased jobs have none; after a failure, error::count() tells.
    std::size_t close(milliseconds timeout = forever) const { return try_close(timeout).value(); }
    result<std::size_t> try_close(milliseconds timeout = forever) const noexcept
    {
        return detail::count([&](std::size_t *unfinished, auto **error) {
            return flowmesh_worker_close(c(), timeout.count(), unfinished, error);
        });
    }
    // Dropping the future ends the wait, not the closing.
    template <class Done = use_future>
    auto close_async(milliseconds timeout = forever, Done &&done = {}) const
    {
        return detail::start<std::size_t, flowmesh_count_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_worker_close_async(c(), timeout.count(), completion...);
            });
    }

    // Stops at once: nothing more is fetched, handed out, sent or told.
    void stop() const { try_stop().value(); }
    result<void> try_stop() const noexcept
    {
        return detail::done([&](auto **error) { return flowmesh_worker_stop(c(), error); });
    }
};

// Gives the verdict on a job that a worker's function has moved away. It is sent in the background.
inline result<void> try_settle(const job_view &job, verdict verdict) noexcept
{
    return detail::done([&](auto **error) {
        return flowmesh_job_settle(job.c(), verdict.c(), verdict.delay().count(), error);
    });
}
inline void settle(const job_view &job, verdict verdict)
{
    try_settle(job, verdict).value();
}

} // namespace flowmesh

#endif
