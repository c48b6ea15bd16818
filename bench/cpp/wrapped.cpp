// The work through flowmesh.hpp.
#include "measure.h"

#include <flowmesh.hpp>

#include <cstdio>
#include <future>

namespace
{

constexpr std::size_t size = 100;
constexpr std::size_t per_write = 1000;

template <class Work> double reported(const char *what, const Work &work)
try {
    return work();
} catch (const flowmesh::error &error) {
    std::fprintf(stderr, "%s: %s\n", what, error.what());
    return -1;
}

} // namespace

double cpp_gets(long count)
{
    return reported("c++ gets", [&] {
        const flowmesh::client client("embedded:");
        const flowmesh::kv kv = client.open_kv("bench", "cpp", "kv");
        std::size_t bytes = 0;
        kv.set("key", "value");
        const double from = seconds_now();
        for (long i = 0; i < count; i++)
            bytes += kv.get("key").bytes().size();
        const double rate = static_cast<double>(count) / (seconds_now() - from);
        return bytes == static_cast<std::size_t>(count) * 5 ? rate : -1;
    });
}

double cpp_messages(long count)
{
    return reported("c++ messages", [&] {
        const flowmesh::client client("embedded:");
        const flowmesh::stream stream = client.open_stream("bench", "cpp", "stream");
        const std::string payload(size, 'x');
        const std::vector<flowmesh::event> events(per_write, flowmesh::event{payload});
        for (long i = 0; i < count; i += static_cast<long>(per_write))
            stream.write(events);
        std::promise<void> done;
        long left = count;
        std::size_t bytes = 0;
        flowmesh::subscription_options options;
        options.start_offset = 0;
        const double from = seconds_now();
        const flowmesh::subscription subscription = stream.subscribe(
            [&](const flowmesh::message_batch &batch) {
                for (const flowmesh::message message : batch)
                    bytes += message.payload().size();
                left -= static_cast<long>(batch.size());
                if (left == 0)
                    done.set_value();
            },
            options);
        done.get_future().wait();
        const double rate = static_cast<double>(count) / (seconds_now() - from);
        subscription.close();
        return bytes == static_cast<std::size_t>(count) * size ? rate : -1;
    });
}
