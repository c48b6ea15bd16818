// What bytes and texts are made from.
#include "test.hpp"

#include <array>
#include <cstddef>

namespace
{

TEST(views, take_whatever_holds_bytes)
{
    const flowmesh::view expected("abc");
    EXPECT_EQ(expected.size(), 3u);
    EXPECT_EQ(expected, std::string("abc"));
    EXPECT_EQ(expected, std::string_view("abcdef").substr(0, 3));
    EXPECT_EQ(expected, (std::vector<char>{'a', 'b', 'c'}));
    EXPECT_EQ(expected, (std::vector<std::uint8_t>{'a', 'b', 'c'}));
    EXPECT_EQ(expected, (std::array<std::byte, 3>{std::byte('a'), std::byte('b'), std::byte('c')}));
    EXPECT_EQ(expected, flowmesh::view("abcd", 3));
    EXPECT_NE(expected, "abd");
    EXPECT_NE(expected, "ab");
}

TEST(views, are_ranges_of_bytes)
{
    const flowmesh::view view("abc");
    std::string copy;
    for (const std::uint8_t byte : view)
        copy += static_cast<char>(byte);
    EXPECT_EQ(copy, "abc");
    EXPECT_EQ(view[1], 'b');
    EXPECT_EQ(view.text(), "abc");
    EXPECT_EQ(view.str(), copy);
}

TEST(views, may_be_empty)
{
    const flowmesh::view none;
    EXPECT_TRUE(none.empty());
    EXPECT_EQ(none, "");
    EXPECT_EQ(none.text(), "");
    EXPECT_EQ(flowmesh::view(static_cast<const char *>(nullptr)), none);
}

TEST(views, of_arrays_take_containers)
{
    const std::vector<int> vector{1, 2, 3};
    const int array[] = {1, 2};
    EXPECT_EQ(flowmesh::array_view<const int>(vector).size(), 3u);
    EXPECT_EQ(flowmesh::array_view<const int>(array)[1], 2);
    EXPECT_TRUE(flowmesh::array_view<const int>().empty());
}

TEST(texts, are_copied_only_where_they_must)
{
    const std::string string = "name";
    EXPECT_EQ(flowmesh::text(string).c(), string.c_str());
    const char *const c = "name";
    EXPECT_EQ(flowmesh::text(c).c(), c);
    EXPECT_STREQ(flowmesh::text(std::string_view("names").substr(0, 4)).c(), "name");
    // A NUL is not the end of it: the library gets something to refuse.
    EXPECT_STREQ(flowmesh::text(std::string("a\0b", 3)).c(), "a\x01"
                                                             "b");
}

} // namespace
