// Asynchronous calls: what an ..._async function returns, and how completions get there.
//
// Every such function takes a completion as its last argument:
//   none      It returns a future<T>: wait for it, or co_await it in C++20.
//   a lambda  It is called once with a result<T> when the call has ended, on the dispatcher of the
//             client, perhaps before the function returns. The function returns an operation, or
//             throws when the call is refused at once; then the lambda is not called. A lambda must
//             not throw: there is nobody to catch, and the program ends by std::terminate.
#ifndef FLOWMESH_FUTURE_HPP
#define FLOWMESH_FUTURE_HPP

#include <flowmesh/options.hpp>

#include <atomic>
#include <condition_variable>
#include <mutex>

#if defined(__cpp_impl_coroutine) && defined(__has_include)
#if __has_include(<coroutine>)
#include <coroutine>
// Futures can be awaited with co_await.
#define FLOWMESH_COROUTINES 1
#endif
#endif

namespace flowmesh
{

// An asynchronous call that was accepted, for cancelling it. Dropping it changes nothing: the call
// goes on.
class operation : public handle<flowmesh_operation_t, flowmesh_operation_free>
{
  public:
    using handle::handle;

    // Ends the call with status::cancelled, unless it has ended already.
    result<void> try_cancel() const noexcept
    {
        return detail::done([&](auto **error) { return flowmesh_operation_cancel(c(), error); });
    }
    void cancel() const { try_cancel().value(); }
};

// In the place of a lambda: have the function return a future.
struct use_future {
};

namespace detail
{

// What a future and its call share. Each holds it once; who lets go last deletes it. Laid out the
// same in C++17 and C++20, so that parts of one program can be compiled differently.
template <class T> class future_state
{
    std::mutex mutex_;
    std::condition_variable changed_;
    std::optional<result<T>> result_;
    // The coroutine that waits, and how to go on with it.
    void (*resume_)(void *) = nullptr;
    void *frame_ = nullptr;
    bool forsaken_ = false;
    std::atomic<int> owners_{2};

  public:
    void complete(result<T> &&result) noexcept
    {
        void (*resume)(void *) = nullptr;
        void *frame = nullptr;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            if (forsaken_)
                return; // and the result is freed, by the caller
            result_.emplace(std::move(result));
            resume = resume_;
            frame = frame_;
            changed_.notify_all();
        }
        if (resume != nullptr)
            resume(frame);
    }

    // Lets go, for the future or for the call.
    static void drop(void *state) noexcept
    {
        auto *self = static_cast<future_state *>(state);
        if (self->owners_.fetch_sub(1, std::memory_order_acq_rel) == 1)
            delete self;
    }

    bool ready() noexcept
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        return result_.has_value();
    }

    result<T> wait_and_take()
    {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return result_.has_value(); });
        return std::move(*result_);
    }

    template <class Time> bool wait_until(const Time &until)
    {
        std::unique_lock<std::mutex> lock(mutex_);
        return changed_.wait_until(lock, until, [&] { return result_.has_value(); });
    }

    // Has the completion go on with a coroutine; false when it has come already.
    bool suspend(void (*resume)(void *), void *frame) noexcept
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (result_.has_value())
            return false;
        resume_ = resume;
        frame_ = frame;
        return true;
    }

    // Nobody waits any more: frees the result when it comes. Whether it has come.
    bool forsake() noexcept
    {
        std::optional<result<T>> unwanted; // freed when the mutex is not held any more
        const std::lock_guard<std::mutex> lock(mutex_);
        resume_ = nullptr;
        forsaken_ = true;
        unwanted.swap(result_);
        return unwanted.has_value();
    }
};

} // namespace detail

// The result of an asynchronous call, that of one, taken once. Unlike that of std::async it can be
// cancelled and awaited, and dropping it cancels the call: nobody is left to take its result, which
// is freed when it comes. A write that was cancelled may have happened. detach() drops it without.
//
// Completions come on the client's dispatcher: do not wait for a future where that one's only
// thread is what waits, in a callback or in the event loop that runs it. co_await there.
template <class T> class [[nodiscard]] future
{
    detail::future_state<T> *state_ = nullptr;
    operation operation_;

  public:
    using value_type = T;

    // One without a call: valid() is false.
    future() noexcept = default;
    future(detail::future_state<T> *state, operation operation) noexcept
        : state_(state), operation_(std::move(operation))
    {
    }
    future(future &&from) noexcept
        : state_(std::exchange(from.state_, nullptr)), operation_(std::move(from.operation_))
    {
    }
    future &operator=(future &&from) noexcept
    {
        if (this != &from) {
            abandon();
            state_ = std::exchange(from.state_, nullptr);
            operation_ = std::move(from.operation_);
        }
        return *this;
    }
    ~future() { abandon(); }

    // Whether there is a result to take, now or later: not after get(), a move or detach().
    bool valid() const noexcept { return state_ != nullptr; }
    // Whether get() would not wait.
    bool ready() const noexcept { return valid() && state_->ready(); }

    // Waits for the call to end and takes its result, or throws its error.
    T get() { return try_get().value(); }
    result<T> try_get() noexcept
    {
        if (!valid())
            return error(status::invalid_argument,
                         "a future has no result: taken, moved or detached");
        result<T> result = state_->wait_and_take();
        detach();
        return result;
    }

    // Waits up to so long; whether the call has ended.
    template <class Rep, class Period>
    bool wait_for(const std::chrono::duration<Rep, Period> &time) const
    {
        return wait_until(std::chrono::steady_clock::now() + time);
    }
    template <class Clock, class Duration>
    bool wait_until(const std::chrono::time_point<Clock, Duration> &until) const
    {
        return valid() && state_->wait_until(until);
    }

    // Ends the call with status::cancelled, unless it has ended already; get() tells.
    void cancel() const noexcept
    {
        if (operation_)
            (void)operation_.try_cancel();
    }

    // Lets the call go on by itself; its result is freed.
    void detach() noexcept
    {
        if (valid()) {
            (void)state_->forsake();
            detail::future_state<T>::drop(std::exchange(state_, nullptr));
        }
        operation_.reset();
    }

#ifdef FLOWMESH_COROUTINES
  private:
    // Waits in a coroutine, which goes on where completions come: on the dispatcher. The coroutine
    // may be destroyed while it waits, not while its completion is on the way on another thread.
    struct waiting {
        future of;

        bool await_ready() const noexcept { return !of.valid() || of.ready(); }
        bool await_suspend(std::coroutine_handle<> coroutine) noexcept
        {
            return of.state_->suspend(
                [](void *frame) { std::coroutine_handle<>::from_address(frame).resume(); },
                coroutine.address());
        }
    };
    struct awaiter : waiting {
        T await_resume() { return this->of.get(); }
    };
    struct result_awaiter : waiting {
        result<T> await_resume() noexcept { return this->of.try_get(); }
        result_awaiter operator co_await() &&noexcept { return std::move(*this); }
    };

  public:
    // co_await client.health_check_async(): the value; throws the error.
    awaiter operator co_await() &&noexcept
    {
        return awaiter{{std::move(*this)}};
    }
    // co_await client.health_check_async().as_result(): either.
    result_awaiter as_result() &&noexcept
    {
        return result_awaiter{{std::move(*this)}};
    }
#endif

  private:
    void abandon() noexcept
    {
        if (valid() && !state_->forsake())
            cancel();
        detach();
    }
};

namespace detail
{

// A lambda that waits for its completion.
template <class T, class Function> class function_box
{
    Function function_;

  public:
    explicit function_box(Function &&function) : function_(std::move(function)) {}
    explicit function_box(const Function &function) : function_(function) {}

    void complete(result<T> &&result) noexcept { function_(std::move(result)); }
    static void drop(void *box) noexcept { delete static_cast<function_box *>(box); }
};

// Makes a T of what a completion brings; objects are taken over.
template <class T> struct converted {
    template <class... C> static T from(C... c) { return T(c...); }
};
template <> struct converted<std::int64_t> {
    static std::int64_t from(std::int64_t value) noexcept { return value; }
    static std::int64_t from(const std::int64_t *first, std::size_t) noexcept { return *first; }
};
template <> struct converted<std::vector<std::int64_t>> {
    static std::vector<std::int64_t> from(const std::int64_t *first, std::size_t count)
    {
        return std::vector<std::int64_t>(first, first + count);
    }
};

// The callback that hands a completion over to its receiver, for each shape of callback there is.
template <class T, class Receiver, class Callback> struct completion;

template <class T, class Receiver>
struct completion<T, Receiver, void (*)(flowmesh_error_t *, void *)> {
    static void call(flowmesh_error_t *error, void *receiver) noexcept
    {
        static_cast<Receiver *>(receiver)->complete(error == nullptr ? result<T>() : take(error));
    }
};

template <class T, class Receiver, class A>
struct completion<T, Receiver, void (*)(flowmesh_error_t *, A, void *)> {
    static void call(flowmesh_error_t *error, A a, void *receiver) noexcept
    {
        static_cast<Receiver *>(receiver)->complete(
            error == nullptr ? result<T>(converted<T>::from(a)) : result<T>(failure(error, a)));
    }

  private:
    static flowmesh::error failure(flowmesh_error_t *error, A a)
    {
        if constexpr (std::is_same_v<A, std::size_t>)
            return take(error, a);
        else
            return take(error);
    }
};

template <class T, class Receiver, class A, class B>
struct completion<T, Receiver, void (*)(flowmesh_error_t *, A, B, void *)> {
    static void call(flowmesh_error_t *error, A a, B b, void *receiver) noexcept
    {
        static_cast<Receiver *>(receiver)->complete(
            error == nullptr ? result<T>(converted<T>::from(a, b)) : result<T>(take(error)));
    }
};

// In the place of start(), where a call is refused before it is made.
template <class T, class Done> auto refused(error why)
{
    if constexpr (std::is_same_v<std::decay_t<Done>, use_future>) {
        auto *shared = new future_state<T>;
        shared->complete(std::move(why));
        future_state<T>::drop(shared); // what a call would hold
        return future<T>(shared, operation(nullptr));
    } else {
        why.raise();
        return operation(nullptr);
    }
}

// Starts an asynchronous call, call(callback, user_data, drop_user_data, &operation, &error), that
// ends with a T; `done` is a lambda or use_future.
template <class T, class Callback, class Done, class Call> auto start(Done &&done, const Call &call)
{
    using function = std::decay_t<Done>;
    flowmesh_operation_t *started = nullptr;
    flowmesh_error_t *error = nullptr;
    if constexpr (std::is_same_v<function, use_future>) {
        using state = future_state<T>;
        auto *shared = new state;
        if (call(&completion<T, state, Callback>::call, static_cast<void *>(shared), &state::drop,
                 &started, &error) != FLOWMESH_OK)
            shared->complete(take(error)); // refused: the call let go, and does not complete
        return future<T>(shared, operation(started));
    } else {
        static_assert(std::is_invocable_v<function &, result<T>>,
                      "the completion of this call takes a flowmesh::result<T>");
        using box = function_box<T, function>;
        auto *boxed = new box(std::forward<Done>(done));
        if (call(&completion<T, box, Callback>::call, static_cast<void *>(boxed), &box::drop,
                 &started, &error) != FLOWMESH_OK)
            take(error).raise();
        return operation(started);
    }
}

} // namespace detail

} // namespace flowmesh

#endif
