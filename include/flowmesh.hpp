// flowmesh.hpp - flowmesh.h for C++17: objects that free themselves, exceptions, ranges, futures,
// lambdas, and co_await in C++20. Header only, over the C functions and nothing else; Apache-2.0.
//
//     #include <flowmesh.hpp>
//
//     flowmesh::client client("embedded:./data"); // or "localhost:50051"
//     flowmesh::stream orders = client.open_stream("acme", "shop", "orders");
//     orders.write("one coffee");
//     for (flowmesh::message order : orders.read(0))
//         std::cout << order.offset() << ": " << order.payload().text() << '\n';
//
// The manual is flowmesh.h: what a call does, its order, repeats and errors stand there at the
// function of the same name (flowmesh::kv::get is flowmesh_kv_get, get_async is
// flowmesh_kv_get_async). Here stands what C++ adds.
//
// Objects. client, stream, queue, kv and whatever they give own one object of the library: they are
// moved, not copied, and freed by their destructors, in any order. They hold nothing else, and any
// number of threads may use one at once. c() is the pointer for the functions of flowmesh.h.
// Destructors of a subscription, producer and worker end it and wait for its callback that may run,
// as that of std::jthread waits for its function: what the lambda refers to may go afterwards.
// Inside that callback they do not wait. No destructor waits for what an asynchronous call's lambda
// refers to: keep that until it has been called, or take a future.
//
// Calls. Each comes in three forms:
//     value v = kv.get("key");                        throws flowmesh::error, see error.hpp
//     result<value> r = kv.try_get("key");            does not throw; if (r) use(*r);
//     future<value> f = kv.get_async("key");          does not block, see future.hpp
//     operation o = kv.get_async("key", {}, [](result<value> r) { ... });
//     value v = co_await kv.get_async("key");         in a coroutine of C++20
// Options are plain structs, also those for opening things: set what you need; in C++20 by name,
// kv.set("key", "value", {.ttl = 1h}). Memory that cannot be had ends the program, as it does
// below.
//
// Exceptions never reach the C code. What a worker's function throws gives its job back, to be
// tried again. Any other lambda that throws (messages, completions, reports, states, events, log)
// ends the program by std::terminate, as a thread's function would: nobody could go on without
// losing something, such as messages that a commit would skip.
//
// Dropping a future cancels its call; dropping an operation does not.
//
// Borrowed memory. A view, and a message, job_view or report from a batch, is good as long as what
// it came from. What is given to a call is copied before it returns, also by asynchronous ones.
#ifndef FLOWMESH_HPP
#define FLOWMESH_HPP

#if !defined(_MSVC_LANG) && __cplusplus < 201703L
#error "flowmesh.hpp needs C++17; flowmesh.h serves older programs"
#endif

#include <flowmesh/client.hpp>
#include <flowmesh/dispatcher.hpp>
#include <flowmesh/error.hpp>
#include <flowmesh/event.hpp>
#include <flowmesh/future.hpp>
#include <flowmesh/handle.hpp>
#include <flowmesh/job.hpp>
#include <flowmesh/kv.hpp>
#include <flowmesh/message.hpp>
#include <flowmesh/options.hpp>
#include <flowmesh/process.hpp>
#include <flowmesh/producer.hpp>
#include <flowmesh/queue.hpp>
#include <flowmesh/range.hpp>
#include <flowmesh/settings.hpp>
#include <flowmesh/stream.hpp>
#include <flowmesh/subscription.hpp>
#include <flowmesh/view.hpp>
#include <flowmesh/worker.hpp>

#endif
