// Stores.
#include "test.hpp"

namespace
{

TEST(kv, keeps_values)
{
    const flowmesh::client client = open_client();
    const flowmesh::kv kv = open_kv(client);
    kv.set("colour", "red");
    const flowmesh::value value = kv.get("colour");
    EXPECT_EQ(value.text(), "red");
    EXPECT_EQ(value.str(), "red");
    EXPECT_EQ(value.bytes().size(), 3u);
    EXPECT_TRUE(kv.exists("colour"));
    kv.erase("colour");
    EXPECT_FALSE(kv.exists("colour"));
    kv.erase("colour");
    EXPECT_FAILS(not_found, kv.get("colour"));
    EXPECT_FAILS(invalid_argument, kv.set("colour", ""));
}

TEST(kv, keeps_bytes_as_they_are)
{
    const flowmesh::client client = open_client();
    const flowmesh::kv kv = open_kv(client);
    const std::vector<std::uint8_t> bytes{0, 255, 0, 1};
    kv.set(std::string("k"), bytes);
    EXPECT_EQ(kv.get("k").bytes(), bytes);
}

TEST(kv, lists_keys_in_order)
{
    const flowmesh::client client = open_client();
    const flowmesh::kv kv = open_kv(client);
    for (const char *key : {"b/2", "a/1", "b/1"})
        kv.set(key, "x");
    std::string seen;
    const flowmesh::key_list keys = kv.list_keys("b/");
    for (const flowmesh::view key : keys)
        seen += key.str() + " ";
    EXPECT_EQ(seen, "b/1 b/2 ");
    EXPECT_EQ(keys.size(), 2u);
    EXPECT_EQ(keys[1], "b/2");
    EXPECT_EQ(kv.list_keys().size(), 3u);
    EXPECT_TRUE(kv.list_keys("c").empty());
}

TEST(kv, has_forms_that_do_not_throw)
{
    const flowmesh::client client = open_client();
    const flowmesh::kv kv = client.try_open_kv("acme", "test", unique_name()).value();
    EXPECT_TRUE(kv.try_set("k", "v"));
    EXPECT_EQ(kv.try_get("k")->text(), "v");
    EXPECT_EQ(kv.try_exists("k").value(), true);
    EXPECT_EQ(kv.try_list_keys()->size(), 1u);
    EXPECT_TRUE(kv.try_erase("k"));
    EXPECT_EQ(kv.try_get("k").status(), flowmesh::status::not_found);
    EXPECT_EQ(kv.try_set("", "v").status(), flowmesh::status::invalid_argument);
}

TEST(kv, has_asynchronous_forms)
{
    const flowmesh::client client = open_client();
    const flowmesh::kv kv = open_kv(client);
    kv.set_async("k", "v").get();
    EXPECT_EQ(kv.get_async("k").get().text(), "v");
    EXPECT_TRUE(kv.exists_async("k").get());
    EXPECT_EQ(kv.list_keys_async().get().size(), 1u);
    kv.erase_async("k").get();
    EXPECT_FAILS(not_found, kv.get_async("k").get());
    EXPECT_EQ(kv.get_async("k").try_get().status(), flowmesh::status::not_found);
}

TEST(kv, lets_values_expire)
{
    if (!is_embedded())
        GTEST_SKIP() << "needs the test clock";
    flowmesh::client_options options;
    options.test_clock = true;
    const flowmesh::client client = open_client(options);
    const flowmesh::kv kv = open_kv(client);
    flowmesh::set_options for_an_hour;
    for_an_hour.ttl = 1h;
    kv.set("k", "v", for_an_hour);
    client.advance_test_clock(59min);
    EXPECT_TRUE(kv.exists("k"));
    client.advance_test_clock(2min);
    EXPECT_FALSE(kv.exists("k"));
    EXPECT_FAILS(invalid_argument, client.advance_test_clock(-1ms));
}

TEST(kv, does_not_keep_for_ever_what_is_to_live_for_no_time)
{
    const flowmesh::client client = open_client();
    const flowmesh::kv kv = open_kv(client);
    flowmesh::set_options options;
    options.ttl = std::chrono::duration_cast<flowmesh::milliseconds>(999us);
    EXPECT_FAILS(invalid_argument, kv.set("k", "v", options));
    EXPECT_EQ(kv.try_set("k", "v", options).status(), flowmesh::status::invalid_argument);
    EXPECT_FAILS(invalid_argument, kv.set_async("k", "v", options).get());
    EXPECT_FAILS(invalid_argument,
                 kv.set_async("k", "v", options, [](const flowmesh::result<void> &) {}));
    options.ttl = -1ms;
    EXPECT_FAILS(invalid_argument, kv.set("k", "v", options));
    EXPECT_FALSE(kv.exists("k"));
}

TEST(kv, outlives_its_client)
{
    flowmesh::client client = open_client();
    const flowmesh::kv kv = open_kv(client);
    client.reset();
    kv.set("k", "v");
    EXPECT_EQ(kv.get("k").text(), "v");
}

#if __cplusplus >= 202002L
TEST(kv, takes_options_by_name)
{
    const flowmesh::client client = open_client();
    const flowmesh::kv kv = open_kv(client);
    kv.set("k", "v", {.timeout = patience, .ttl = 1h});
    EXPECT_EQ(kv.get("k", {.timeout = flowmesh::forever}).text(), "v");
}
#endif

} // namespace
