// What runs callbacks: threads of the library, or the program's own event loop.
#ifndef FLOWMESH_DISPATCHER_HPP
#define FLOWMESH_DISPATCHER_HPP

#include <flowmesh/options.hpp>

namespace flowmesh
{

// Runs the callbacks of the clients, subscriptions, producers and workers that name it in their
// options. It must be there when they are opened, and may go before them.
//
//     flowmesh::dispatcher loop;
//     flowmesh::client_options options;
//     options.dispatcher = &loop;
//     ...
//     for (;;)
//         loop.run(); // or watch loop.fd(), and call loop.run(0ms) when it is readable
class dispatcher : public handle<flowmesh_dispatcher_t, flowmesh_dispatcher_free>
{
  public:
    // With so many threads of the library; 0: the program runs it.
    explicit dispatcher(std::size_t threads = 0) : dispatcher(try_make(threads).value()) {}
    explicit dispatcher(flowmesh_dispatcher_t *owned) noexcept : handle(owned) {}
    static result<dispatcher> try_make(std::size_t threads = 0) noexcept
    {
        return detail::make<dispatcher>(
            [&](auto **out, auto **error) { return flowmesh_dispatcher_new(threads, out, error); });
    }

    // Readable exactly while callbacks wait; only to be watched.
    int fd() const { return try_fd().value(); }
    result<int> try_fd() const noexcept
    {
        return detail::read(
            -1, [&](int *fd, auto **error) { return flowmesh_dispatcher_fd(c(), fd, error); });
    }

    // Runs the callbacks that wait, at most `max` (0: all); waits up to `timeout` for one when
    // there are none. How many ran.
    std::size_t run(milliseconds timeout = forever, std::size_t max = 0) const
    {
        return try_run(timeout, max).value();
    }
    result<std::size_t> try_run(milliseconds timeout = forever, std::size_t max = 0) const noexcept
    {
        return detail::count([&](std::size_t *count, auto **error) {
            return flowmesh_dispatcher_run(c(), max, timeout.count(), count, error);
        });
    }

    // Has one run() return although no callback waits.
    void wake() const { try_wake().value(); }
    result<void> try_wake() const noexcept
    {
        return detail::done([&](auto **error) { return flowmesh_dispatcher_wake(c(), error); });
    }
};

} // namespace flowmesh

#endif
