// What a program writes to a stream, or has a producer send.
#ifndef FLOWMESH_EVENT_HPP
#define FLOWMESH_EVENT_HPP

#include <flowmesh/view.hpp>

#include <vector>

namespace flowmesh
{

// An event, or a job of a producer. Its texts and bytes are borrowed, so they must live until the
// call that takes it returns. In C++20: {.payload = "hello", .headers = {{"kind", "greeting"}}}.
struct event {
    // At least 1 byte.
    view payload{};
    std::vector<header> headers{};
    // The trace that it belongs to, in place of that of the call.
    const char *traceparent = nullptr;
    const char *tracestate = nullptr;
};

namespace detail
{

inline flowmesh_event_t to_c(view payload) noexcept
{
    flowmesh_event_t c = FLOWMESH_EVENT_INIT;
    c.payload = payload.c();
    return c;
}

inline flowmesh_event_t to_c(const event &event) noexcept
{
    flowmesh_event_t c = to_c(event.payload);
    c.headers = to_c(event.headers.data());
    c.header_count = event.headers.size();
    c.traceparent = event.traceparent;
    c.tracestate = event.tracestate;
    return c;
}

inline std::vector<flowmesh_event_t> to_c(array_view<const event> events)
{
    std::vector<flowmesh_event_t> c;
    c.reserve(events.size());
    for (const event &event : events)
        c.push_back(to_c(event));
    return c;
}

} // namespace detail

} // namespace flowmesh

#endif
