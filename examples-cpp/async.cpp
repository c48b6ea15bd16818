// Asynchronous calls: futures, lambdas, cancelling, and an event loop of the program's own.
//
//     async [ENDPOINT]
#include <flowmesh.hpp>

#include <iostream>
#include <vector>

using namespace std::chrono_literals;

// A hundred writes at once; then wait for each.
static void write_many(const flowmesh::kv &kv)
{
    std::vector<flowmesh::future<void>> writes;
    for (int i = 0; i < 100; i++)
        writes.push_back(kv.set_async("key/" + std::to_string(i), "value"));
    for (flowmesh::future<void> &write : writes)
        write.get(); // or throws
    std::cout << kv.list_keys("key/").size() << " keys written\n";
}

// A future can be cancelled, and dropping it cancels its call.
static void give_up(const flowmesh::queue &queue)
{
    flowmesh::reserve_options wait;
    wait.wait = flowmesh::forever;
    flowmesh::future<std::optional<flowmesh::job>> job = queue.reserve_async(wait);
    if (!job.wait_for(50ms))
        job.cancel();
    std::cout << "reserve: " << flowmesh::name(job.try_get().status()) << '\n';
}

// Lambdas run where the program runs its dispatcher: in this loop, and so in this thread. A loop
// that waits for other things too watches loop.fd().
static void run_a_loop(const char *endpoint)
{
    const flowmesh::dispatcher loop;
    flowmesh::client_options options;
    options.dispatcher = &loop;
    const flowmesh::client client(endpoint, options);
    const flowmesh::kv kv = client.open_kv("demo", "cafe", "prices");
    bool done = false;
    kv.set_async("price/milk", "1.10", {}, [&](flowmesh::result<void> stored) {
        stored.value();
        kv.get_async("price/milk", {}, [&](flowmesh::result<flowmesh::value> value) {
            std::cout << "milk costs " << value.value().text() << '\n';
            done = true;
        });
    });
    while (!done)
        loop.run();
}

int main(int argc, char **argv)
try {
    const char *endpoint = argc > 1 ? argv[1] : nullptr;
    const flowmesh::client client(endpoint);
    write_many(client.open_kv("demo", "cafe", "many"));
    give_up(client.open_queue("demo", "cafe", "empty"));
    run_a_loop(endpoint);
} catch (const flowmesh::error &error) {
    std::cerr << "async: " << error.what() << '\n';
    return 1;
}
