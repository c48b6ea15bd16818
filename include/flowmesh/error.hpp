// How calls fail: the exception `error`, and `result`, which holds a value or an error.
#ifndef FLOWMESH_ERROR_HPP
#define FLOWMESH_ERROR_HPP

#include <flowmesh/view.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <variant>

namespace flowmesh
{

// How a call ended. Be ready for values that a later version adds.
enum class status : flowmesh_status_t {
    ok = FLOWMESH_OK,
    cancelled = FLOWMESH_CANCELLED,
    unknown = FLOWMESH_UNKNOWN,
    invalid_argument = FLOWMESH_INVALID_ARGUMENT,
    deadline_exceeded = FLOWMESH_DEADLINE_EXCEEDED,
    not_found = FLOWMESH_NOT_FOUND,
    already_exists = FLOWMESH_ALREADY_EXISTS,
    permission_denied = FLOWMESH_PERMISSION_DENIED,
    resource_exhausted = FLOWMESH_RESOURCE_EXHAUSTED,
    failed_precondition = FLOWMESH_FAILED_PRECONDITION,
    aborted = FLOWMESH_ABORTED,
    out_of_range = FLOWMESH_OUT_OF_RANGE,
    unimplemented = FLOWMESH_UNIMPLEMENTED,
    internal = FLOWMESH_INTERNAL,
    unavailable = FLOWMESH_UNAVAILABLE,
    data_loss = FLOWMESH_DATA_LOSS,
    unauthenticated = FLOWMESH_UNAUTHENTICATED,
    closed = FLOWMESH_CLOSED,
    forked = FLOWMESH_FORKED,
    queue_full = FLOWMESH_QUEUE_FULL,
};

// "NOT_FOUND"; "?" for one that the library does not know.
inline const char *name(status of) noexcept
{
    return flowmesh_status_name(static_cast<flowmesh_status_t>(of));
}

// Whether a failed call changed anything.
enum class outcome : flowmesh_outcome_t {
    unknown = FLOWMESH_OUTCOME_UNKNOWN,
    not_applied = FLOWMESH_OUTCOME_NOT_APPLIED,
    applied = FLOWMESH_OUTCOME_APPLIED,
};

// Why a call failed. Calls throw the class that belongs to the status, see below: catch one of
// those, or this for all. Immutable; copies share what they hold.
class error : public std::exception
{
    struct content {
        flowmesh::status status = flowmesh::status::internal;
        flowmesh::outcome outcome = flowmesh::outcome::unknown;
        bool retryable = false;
        std::size_t count = 0;
        std::string message;
        std::string detail;
    };
    std::shared_ptr<const content> content_;

  public:
    // An error of the program's own.
    error(flowmesh::status status, std::string message)
        : content_(std::make_shared<const content>(
              content{status, flowmesh::outcome::not_applied, false, 0, std::move(message), {}}))
    {
    }
    // Copies one that the library lent; `count`: see below.
    explicit error(const flowmesh_error_t *lent, std::size_t count = 0)
        : content_(std::make_shared<const content>(
              content{static_cast<flowmesh::status>(flowmesh_error_status(lent)),
                      static_cast<flowmesh::outcome>(flowmesh_error_outcome(lent)),
                      flowmesh_error_retryable(lent), count, flowmesh_error_message(lent),
                      flowmesh_error_detail(lent)}))
    {
    }

    flowmesh::status status() const noexcept { return content_->status; }
    // What was tried, on which resource, which rule or reason stopped it.
    const char *what() const noexcept override { return content_->message.c_str(); }
    std::string_view message() const noexcept { return content_->message; }
    // The server's own words; empty when it said nothing.
    std::string_view detail() const noexcept { return content_->detail; }
    // Whether the same call may succeed later. Look at the outcome before you repeat a write.
    bool retryable() const noexcept { return content_->retryable; }
    flowmesh::outcome outcome() const noexcept { return content_->outcome; }
    // For calls that count, and can fail in part: jobs acknowledged by job_batch::ack, messages
    // given up by producer::close, jobs unfinished at worker::close. Otherwise 0.
    std::size_t count() const noexcept { return content_->count; }

    // Throws the class that belongs to the status.
    [[noreturn]] void raise() const;
};

// The class of errors with one status.
template <flowmesh::status S> class error_of : public error
{
  public:
    explicit error_of(const error &of) : error(of) {}
};

using cancelled_error = error_of<status::cancelled>;
using unknown_error = error_of<status::unknown>;
using invalid_argument_error = error_of<status::invalid_argument>;
using deadline_exceeded_error = error_of<status::deadline_exceeded>;
using not_found_error = error_of<status::not_found>;
using already_exists_error = error_of<status::already_exists>;
using permission_denied_error = error_of<status::permission_denied>;
using resource_exhausted_error = error_of<status::resource_exhausted>;
using failed_precondition_error = error_of<status::failed_precondition>;
using aborted_error = error_of<status::aborted>;
using out_of_range_error = error_of<status::out_of_range>;
using unimplemented_error = error_of<status::unimplemented>;
using internal_error = error_of<status::internal>;
using unavailable_error = error_of<status::unavailable>;
using data_loss_error = error_of<status::data_loss>;
using unauthenticated_error = error_of<status::unauthenticated>;
using closed_error = error_of<status::closed>;
using forked_error = error_of<status::forked>;
using queue_full_error = error_of<status::queue_full>;

[[noreturn]] inline void error::raise() const
{
    switch (status()) {
    case flowmesh::status::cancelled:
        throw cancelled_error(*this);
    case flowmesh::status::unknown:
        throw unknown_error(*this);
    case flowmesh::status::invalid_argument:
        throw invalid_argument_error(*this);
    case flowmesh::status::deadline_exceeded:
        throw deadline_exceeded_error(*this);
    case flowmesh::status::not_found:
        throw not_found_error(*this);
    case flowmesh::status::already_exists:
        throw already_exists_error(*this);
    case flowmesh::status::permission_denied:
        throw permission_denied_error(*this);
    case flowmesh::status::resource_exhausted:
        throw resource_exhausted_error(*this);
    case flowmesh::status::failed_precondition:
        throw failed_precondition_error(*this);
    case flowmesh::status::aborted:
        throw aborted_error(*this);
    case flowmesh::status::out_of_range:
        throw out_of_range_error(*this);
    case flowmesh::status::unimplemented:
        throw unimplemented_error(*this);
    case flowmesh::status::internal:
        throw internal_error(*this);
    case flowmesh::status::unavailable:
        throw unavailable_error(*this);
    case flowmesh::status::data_loss:
        throw data_loss_error(*this);
    case flowmesh::status::unauthenticated:
        throw unauthenticated_error(*this);
    case flowmesh::status::closed:
        throw closed_error(*this);
    case flowmesh::status::forked:
        throw forked_error(*this);
    case flowmesh::status::queue_full:
        throw queue_full_error(*this);
    case flowmesh::status::ok:
        break;
    }
    throw *this;
}

// What a call gave: a T, or the error for which there is none. What try_ calls return and
// completions receive; close to std::expected<T, error> of C++23.
template <class T> class [[nodiscard]] result
{
    std::variant<T, flowmesh::error> state_;

  public:
    using value_type = T;

    result(T value) noexcept(std::is_nothrow_move_constructible_v<T>)
        : state_(std::in_place_index<0>, std::move(value))
    {
    }
    result(flowmesh::error error) noexcept : state_(std::in_place_index<1>, std::move(error)) {}

    bool has_value() const noexcept { return state_.index() == 0; }
    explicit operator bool() const noexcept { return has_value(); }
    flowmesh::status status() const noexcept
    {
        return has_value() ? flowmesh::status::ok : error().status();
    }

    // The value; where there is none, throws the error.
    T &value() & { return *checked(); }
    const T &value() const & { return *const_cast<result *>(this)->checked(); }
    T value() && { return std::move(*checked()); }
    // The value, or what is given.
    template <class U> T value_or(U &&other) &&
    {
        return has_value() ? std::move(**this) : static_cast<T>(std::forward<U>(other));
    }

    // The value, which must be there.
    T &operator*() &noexcept { return *std::get_if<0>(&state_); }
    const T &operator*() const &noexcept { return *std::get_if<0>(&state_); }
    T &&operator*() &&noexcept { return std::move(*std::get_if<0>(&state_)); }
    T *operator->() noexcept { return std::get_if<0>(&state_); }
    const T *operator->() const noexcept { return std::get_if<0>(&state_); }
    // The error, which must be there.
    const flowmesh::error &error() const noexcept { return *std::get_if<1>(&state_); }

  private:
    T *checked()
    {
        if (!has_value())
            error().raise();
        return std::get_if<0>(&state_);
    }
};

// That a call succeeded, or the error.
template <> class [[nodiscard]] result<void>
{
    std::optional<flowmesh::error> error_;

  public:
    using value_type = void;

    result() noexcept = default;
    result(flowmesh::error error) noexcept : error_(std::move(error)) {}

    bool has_value() const noexcept { return !error_; }
    explicit operator bool() const noexcept { return has_value(); }
    flowmesh::status status() const noexcept
    {
        return error_ ? error_->status() : flowmesh::status::ok;
    }

    // Throws the error, if there is one.
    void value() const
    {
        if (error_)
            error_->raise();
    }
    // The error, which must be there.
    const flowmesh::error &error() const noexcept { return *error_; }
};

namespace detail
{

// The error that a call gave, which is freed.
inline error take(flowmesh_error_t *owned, std::size_t count = 0)
{
    const std::unique_ptr<flowmesh_error_t, void (*)(flowmesh_error_t *)> freed(
        owned, flowmesh_error_free);
    return error(owned, count);
}

// Makes a call without an output: call(&error).
template <class Call> result<void> done(const Call &call)
{
    flowmesh_error_t *error = nullptr;
    if (call(&error) != FLOWMESH_OK)
        return take(error);
    return {};
}

// Makes a call that writes a plain value: call(&value, &error).
template <class T, class Call> result<T> read(T value, const Call &call)
{
    flowmesh_error_t *error = nullptr;
    if (call(&value, &error) != FLOWMESH_OK)
        return take(error);
    return value;
}

// Makes a call that counts, on failure too: call(&count, &error).
template <class Call> result<std::size_t> count(const Call &call)
{
    std::size_t count = 0;
    flowmesh_error_t *error = nullptr;
    if (call(&count, &error) != FLOWMESH_OK)
        return take(error, count);
    return count;
}

// Makes a call that gives an object, which a T takes: call(&object, &error).
template <class T, class Call> result<T> make(const Call &call)
{
    typename T::c_type *object = nullptr;
    flowmesh_error_t *error = nullptr;
    if (call(&object, &error) != FLOWMESH_OK)
        return take(error);
    return T(object);
}

} // namespace detail

} // namespace flowmesh

#endif
