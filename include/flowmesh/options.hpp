// Time, cancellation and the options that every call takes.
#ifndef FLOWMESH_OPTIONS_HPP
#define FLOWMESH_OPTIONS_HPP

#include <flowmesh/handle.hpp>

#include <chrono>
#include <vector>

namespace flowmesh
{

// Durations. Coarser ones (std::chrono::seconds, 5s) convert by themselves, finer ones do not: what
// is cut to 0 would mean a default.
using milliseconds = std::chrono::milliseconds;
// Instants, by the server's clock.
using time_point = std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds>;

// The timeout of a call that takes the client's default.
inline constexpr milliseconds default_timeout{0};
// Without end, as a timeout of a call and of a wait.
inline constexpr milliseconds forever{-1};

// Ends calls from another thread: put its address into the options of any number of them.
class cancel_token : public handle<flowmesh_cancel_t, flowmesh_cancel_free>
{
  public:
    cancel_token() : cancel_token(try_make().value()) {}
    explicit cancel_token(flowmesh_cancel_t *owned) noexcept : handle(owned) {}
    static result<cancel_token> try_make() noexcept
    {
        return detail::make<cancel_token>(flowmesh_cancel_new);
    }

    // Ends every call that has the token, now or later, with status::cancelled.
    result<void> try_cancel() const noexcept
    {
        return detail::done([&](auto **error) { return flowmesh_cancel_cancel(c(), error); });
    }
    void cancel() const { try_cancel().value(); }
};

namespace detail
{

// What the options of all calls have in common.
template <class C, class Options> C common(C c, const Options &options) noexcept
{
    c.timeout_ms = options.timeout.count();
    c.cancel = options.cancel == nullptr ? nullptr : options.cancel->c();
    c.traceparent = options.traceparent;
    c.tracestate = options.tracestate;
    return c;
}

} // namespace detail

// Options of a single call. In C++20: {.timeout = 5s}.
struct call_options {
    // default_timeout or forever, otherwise how long the call may take.
    milliseconds timeout = default_timeout;
    const cancel_token *cancel = nullptr;
    // The trace that the call belongs to (W3C Trace Context).
    const char *traceparent = nullptr;
    const char *tracestate = nullptr;

    flowmesh_call_options_t c() const noexcept
    {
        return detail::common(flowmesh_call_options_t FLOWMESH_CALL_OPTIONS_INIT, *this);
    }
};

} // namespace flowmesh

#endif
