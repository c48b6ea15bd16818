// Streams: a batch with headers, a reader that pages, a subscription, a consumer group.
//
//     streams [ENDPOINT]
#include <flowmesh.hpp>

#include <future>
#include <iostream>

static void print(flowmesh::message message)
{
    std::cout << "  " << message.offset() << ": " << message.payload().text() << " ("
              << message.header("kind").value_or("?") << ")\n";
}

static std::int64_t write_some(const flowmesh::stream &stream)
{
    std::vector<flowmesh::event> events;
    for (const char *drink : {"espresso", "mate", "tea", "water", "milk"})
        events.push_back({drink, {{"kind", "drink"}}});
    return stream.write(events).back();
}

static void read_all(const flowmesh::stream &stream)
{
    flowmesh::read_options small;
    small.max_messages = 2;
    const flowmesh::stream_reader reader = stream.open_reader(0, small);
    for (const flowmesh::message message : reader.messages())
        print(message);
}

// The function runs on a thread of the library, one call at a time. What it refers to is safe: the
// subscription's destructor waits for it.
static void subscribe(const flowmesh::stream &stream, std::int64_t last)
{
    std::promise<void> done;
    flowmesh::subscription_options options;
    options.consumer_group = "printer";
    options.commit = flowmesh::commit_mode::after_callback;
    const flowmesh::subscription subscription = stream.subscribe(
        [&](const flowmesh::message_batch &batch) {
            for (const flowmesh::message message : batch)
                print(message);
            if (batch.back().offset() == last)
                done.set_value();
        },
        options);
    done.get_future().wait();
    subscription.close(); // the last commit is stored
}

// The same without a function: messages when the program asks for them.
static void pull(const flowmesh::stream &stream, std::int64_t last)
{
    flowmesh::subscription_options options;
    options.start_offset = last - 1;
    const flowmesh::pull_subscription subscription = stream.open_subscription(options);
    for (const flowmesh::message message : subscription.messages()) {
        print(message);
        if (message.offset() == last)
            break;
    }
}

int main(int argc, char **argv)
try {
    const flowmesh::client client(argc > 1 ? argv[1] : nullptr);
    const flowmesh::stream stream = client.open_stream("demo", "cafe", "drinks");
    const std::int64_t last = write_some(stream);
    std::cout << "everything, page by page:\n";
    read_all(stream);
    std::cout << "what the group \"printer\" has not seen:\n";
    subscribe(stream, last);
    std::cout << "the last two again, pulled:\n";
    pull(stream, last);
    const flowmesh::group_state group = stream.group_state("printer");
    std::cout << "committed " << group.committed_offset << " of " << group.latest_offset << ", "
              << group.lag << " to go\n";
} catch (const flowmesh::error &error) {
    std::cerr << "streams: " << error.what() << '\n';
    return 1;
}
