// Streams, readers and offsets.
#include "test.hpp"

#if __cplusplus >= 202002L
#include <ranges>
#endif

using flowmesh::event;

namespace
{

std::vector<event> drinks()
{
    return {event{"tea", {{"kind", "hot"}, {"cup", "small"}}}, event{"water"}};
}

TEST(streams, keep_events_in_order)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    EXPECT_EQ(stream.write("first"), 0);
    EXPECT_EQ(stream.write(event{"second"}), 1);
    EXPECT_EQ(stream.write(drinks()), (std::vector<std::int64_t>{2, 3}));

    const flowmesh::message_batch batch = stream.read(1);
    ASSERT_EQ(batch.size(), 3u);
    EXPECT_EQ(batch.front().payload(), "second");
    EXPECT_EQ(batch.back().payload(), "water");
    std::string seen;
    for (const flowmesh::message message : batch)
        seen += std::to_string(message.offset()) + message.payload().str() + " ";
    EXPECT_EQ(seen, "1second 2tea 3water ");
}

TEST(streams, give_messages_with_all_they_have)
{
    const flowmesh::client client = open_client();
    const std::string name = unique_name();
    const flowmesh::stream stream = client.open_stream("acme", "test", name);
    const auto before = std::chrono::system_clock::now() - 1h;
    stream.write(drinks());
    const flowmesh::message_batch batch = stream.read(0);
    const flowmesh::message tea = batch[0];
    EXPECT_EQ(tea.header("kind"), "hot");
    EXPECT_EQ(tea.header(std::string("cup")), "small");
    EXPECT_EQ(tea.header("saucer"), std::nullopt);
    ASSERT_EQ(tea.headers().size(), 2u);
    std::size_t texts = 0;
    for (const flowmesh::header &header : tea.headers())
        texts += header.key.size() + header.value.size();
    EXPECT_EQ(texts, 4u + 3u + 3u + 5u);
    EXPECT_TRUE(batch[1].headers().empty());
    EXPECT_EQ(tea.resource_path(), "acme/test/stream/" + name);
    EXPECT_FALSE(tea.id().empty());
    EXPECT_EQ(tea.partition(), 0);
    EXPECT_EQ(tea.schema_version(), 0);
    EXPECT_GT(tea.created_at(), before);
}

TEST(streams, put_the_trace_of_a_call_into_the_event)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    const char *trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    flowmesh::write_options options;
    options.traceparent = trace;
    stream.write("x", options);
    EXPECT_EQ(stream.read(0)[0].header("traceparent"), trace);
    options.traceparent = "nonsense";
    EXPECT_FAILS(invalid_argument, stream.write("x", options));
}

TEST(streams, are_read_page_by_page)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    write_numbers(stream, 0, 5);
    flowmesh::read_options two;
    two.max_messages = 2;
    const flowmesh::stream_reader reader = stream.open_reader(0, two);

    std::vector<std::size_t> sizes;
    std::vector<flowmesh::message_batch> kept;
    for (flowmesh::message_batch &page : reader.pages()) {
        sizes.push_back(page.size());
        kept.push_back(std::move(page));
    }
    EXPECT_EQ(sizes, (std::vector<std::size_t>{2, 2, 1}));
    EXPECT_EQ(kept[2][0].payload(), "4");

    EXPECT_TRUE(reader.next().empty());
    write_numbers(stream, 5, 3);
    std::string seen;
    for (const flowmesh::message message : reader.messages())
        seen += message.payload().str();
    EXPECT_EQ(seen, "567");
    EXPECT_TRUE(reader.try_next()->empty());
}

TEST(streams, readers_can_be_left_and_gone_on_with)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    write_numbers(stream, 0, 4);
    flowmesh::read_options one;
    one.max_messages = 1;
    const flowmesh::stream_reader reader = stream.open_reader(1, one);
    for (const flowmesh::message message : reader.messages()) {
        EXPECT_EQ(message.payload(), "1");
        break;
    }
    EXPECT_EQ(reader.next()[0].payload(), "2");
}

TEST(streams, what_a_reader_cannot_read_comes_out_of_the_loop)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream_reader reader = open_stream(client).open_reader();
    EXPECT_FAILS(not_found, {
        for (const flowmesh::message message : reader.messages())
            ADD_FAILURE() << message.offset();
    });
}

TEST(streams, know_where_groups_stand)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    EXPECT_FAILS(not_found, stream.latest_offset());
    write_numbers(stream, 0, 5);
    EXPECT_EQ(stream.latest_offset(), 4);
    EXPECT_EQ(stream.get_offset("g"), -1);
    stream.commit_offset("g", 2);
    EXPECT_EQ(stream.get_offset(std::string("g")), 2);
    const flowmesh::group_state state = stream.group_state("g");
    EXPECT_EQ(state.committed_offset, 2);
    EXPECT_EQ(state.latest_offset, 4);
    EXPECT_EQ(state.lag, 2);
    EXPECT_FAILS(invalid_argument, stream.commit_offset("g", -2));
}

TEST(streams, have_forms_that_do_not_throw)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = client.try_open_stream("acme", "test", unique_name()).value();
    EXPECT_EQ(stream.try_read(0).status(), flowmesh::status::not_found);
    EXPECT_EQ(stream.try_write("x").value(), 0);
    EXPECT_EQ(stream.try_write(event{"x"}).value(), 1);
    EXPECT_EQ(stream.try_write(drinks())->size(), 2u);
    EXPECT_EQ(stream.try_write(std::vector<event>()).status(), flowmesh::status::invalid_argument);
    EXPECT_EQ(stream.try_read(0)->size(), 4u);
    EXPECT_EQ(stream.try_open_reader(-1).status(), flowmesh::status::invalid_argument);
    EXPECT_TRUE(stream.try_commit_offset("g", 0));
    EXPECT_EQ(stream.try_get_offset("g").value(), 0);
    EXPECT_EQ(stream.try_latest_offset().value(), 3);
    EXPECT_EQ(stream.try_group_state("g")->lag, 3);
}

TEST(streams, have_asynchronous_forms)
{
    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    EXPECT_EQ(stream.write_async("x").get(), 0);
    EXPECT_EQ(stream.write_async(event{"y"}).get(), 1);
    EXPECT_EQ(stream.write_async(drinks()).get(), (std::vector<std::int64_t>{2, 3}));
    EXPECT_EQ(stream.read_async(1).get()[0].payload(), "y");
    stream.commit_offset_async("g", 1).get();
    EXPECT_EQ(stream.get_offset_async("g").get(), 1);
    EXPECT_EQ(stream.latest_offset_async().get(), 3);
    EXPECT_EQ(stream.group_state_async("g").get().lag, 2);
    EXPECT_EQ(stream.open_reader().next_async().get().size(), 4u);
    EXPECT_FAILS(invalid_argument, stream.write_async(std::vector<event>()).get());
}

#if __cplusplus >= 202002L
TEST(streams, give_ranges_of_the_standard)
{
    static_assert(std::ranges::forward_range<flowmesh::message_batch>);
    static_assert(std::ranges::forward_range<flowmesh::key_list>);
    static_assert(std::ranges::contiguous_range<flowmesh::view>);
    using messages = decltype(std::declval<flowmesh::stream_reader>().messages());
    using pages = decltype(std::declval<flowmesh::stream_reader>().pages());
    static_assert(std::ranges::input_range<messages>);
    static_assert(std::ranges::input_range<pages>);

    const flowmesh::client client = open_client();
    const flowmesh::stream stream = open_stream(client);
    write_numbers(stream, 0, 6);
    auto reader = stream.open_reader();
    auto range = reader.messages();
    std::string seen;
    for (const std::string &text :
         range | std::views::filter([](flowmesh::message m) { return m.offset() % 2 == 0; }) |
             std::views::transform([](flowmesh::message m) { return m.payload().str(); }))
        seen += text;
    EXPECT_EQ(seen, "024");
}
#endif

} // namespace
