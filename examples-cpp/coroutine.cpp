// Coroutines of C++20: asynchronous calls that read like blocking ones, a thousand at a time in one
// thread.
//
//     coroutine [ENDPOINT]
#include <flowmesh.hpp>

#include <iostream>

// What runs by itself, up to its end. Programs have such a type, or a library that does: everything
// here works with any.
struct task {
    struct promise_type {
        task get_return_object() { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }
    };
};

struct cafe {
    flowmesh::stream orders;
    flowmesh::queue work;
    flowmesh::kv served;
    int busy = 0;
};

// One guest: orders, and has it made. Each co_await leaves the thread to the others.
static task visit(cafe &cafe, std::string name)
{
    cafe.busy++;
    try {
        const std::int64_t offset = co_await cafe.orders.write_async("coffee for " + name);
        co_await cafe.work.enqueue_async(name);
        const auto job = co_await cafe.work.reserve_async({.wait = flowmesh::forever});
        co_await cafe.served.set_async(job->payload(), std::to_string(offset));
        co_await job->ack_async();
    } catch (const flowmesh::error &error) {
        std::cerr << name << ": " << error.what() << '\n';
    }
    cafe.busy--;
}

int main(int argc, char **argv)
try {
    // Coroutines go on where the program runs the dispatcher: below.
    const flowmesh::dispatcher loop;
    const flowmesh::client client(argc > 1 ? argv[1] : nullptr, {.dispatcher = &loop});
    cafe cafe{client.open_stream("demo", "cafe", "orders"),
              client.open_queue("demo", "cafe", "work"), client.open_kv("demo", "cafe", "served")};
    for (int i = 0; i < 1000; i++)
        visit(cafe, "guest " + std::to_string(i));
    while (cafe.busy > 0)
        loop.run();
    std::cout << cafe.served.list_keys().size() << " guests served, in one thread\n";
} catch (const flowmesh::error &error) {
    std::cerr << "coroutine: " << error.what() << '\n';
    return 1;
}
