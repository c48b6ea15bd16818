// Errors as exceptions and as results.
#include "test.hpp"

using flowmesh::error;
using flowmesh::status;

namespace
{

TEST(errors, have_a_class_for_each_status)
{
    EXPECT_FAILS(cancelled, error(status::cancelled, "x").raise());
    EXPECT_FAILS(unknown, error(status::unknown, "x").raise());
    EXPECT_FAILS(invalid_argument, error(status::invalid_argument, "x").raise());
    EXPECT_FAILS(deadline_exceeded, error(status::deadline_exceeded, "x").raise());
    EXPECT_FAILS(not_found, error(status::not_found, "x").raise());
    EXPECT_FAILS(already_exists, error(status::already_exists, "x").raise());
    EXPECT_FAILS(permission_denied, error(status::permission_denied, "x").raise());
    EXPECT_FAILS(resource_exhausted, error(status::resource_exhausted, "x").raise());
    EXPECT_FAILS(failed_precondition, error(status::failed_precondition, "x").raise());
    EXPECT_FAILS(aborted, error(status::aborted, "x").raise());
    EXPECT_FAILS(out_of_range, error(status::out_of_range, "x").raise());
    EXPECT_FAILS(unimplemented, error(status::unimplemented, "x").raise());
    EXPECT_FAILS(internal, error(status::internal, "x").raise());
    EXPECT_FAILS(unavailable, error(status::unavailable, "x").raise());
    EXPECT_FAILS(data_loss, error(status::data_loss, "x").raise());
    EXPECT_FAILS(unauthenticated, error(status::unauthenticated, "x").raise());
    EXPECT_FAILS(closed, error(status::closed, "x").raise());
    EXPECT_FAILS(forked, error(status::forked, "x").raise());
    EXPECT_FAILS(queue_full, error(status::queue_full, "x").raise());
    // One that this header does not know is an error all the same.
    EXPECT_THROW(error(static_cast<status>(4711), "x").raise(), error);
}

TEST(errors, have_names)
{
    EXPECT_STREQ(flowmesh::name(status::not_found), "NOT_FOUND");
    EXPECT_STREQ(flowmesh::name(status::queue_full), "QUEUE_FULL");
    EXPECT_STREQ(flowmesh::name(static_cast<status>(4711)), "?");
}

TEST(errors, tell_everything_that_the_library_tells)
{
    const flowmesh::client client = open_client();
    const flowmesh::kv kv = open_kv(client);
    kv.set("there", "x");
    try {
        kv.get("missing");
        FAIL() << "there is no such key";
    } catch (const flowmesh::not_found_error &error) {
        EXPECT_EQ(error.status(), status::not_found);
        EXPECT_NE(error.message().find("acme"), std::string_view::npos) << error.what();
        EXPECT_FALSE(error.detail().empty());
        EXPECT_FALSE(error.retryable());
        EXPECT_EQ(error.outcome(), flowmesh::outcome::not_applied);
        EXPECT_EQ(error.count(), 0u);
    }
}

TEST(errors, say_when_a_repeat_may_help)
{
    const flowmesh::client client("unix:/nowhere/at/all");
    const auto result = client.open_kv("a", "b", "c").try_set("key", "value", {200ms});
    ASSERT_FALSE(result);
    EXPECT_EQ(result.status(), status::unavailable) << result.error().what();
    EXPECT_TRUE(result.error().retryable());
    EXPECT_EQ(result.error().outcome(), flowmesh::outcome::not_applied);
    EXPECT_FAILS(unavailable, result.value());
}

TEST(errors, can_be_kept_and_caught_as_standard_exceptions)
{
    std::exception_ptr kept;
    std::optional<error> copy;
    {
        const flowmesh::client client = open_client();
        try {
            open_kv(client).get("");
        } catch (const error &error) {
            kept = std::current_exception();
            copy = error;
        }
    }
    ASSERT_TRUE(copy);
    EXPECT_EQ(copy->status(), status::invalid_argument);
    try {
        std::rethrow_exception(kept);
    } catch (const std::exception &exception) {
        EXPECT_EQ(exception.what(), copy->message());
    }
}

TEST(errors, results_hold_a_value_or_an_error)
{
    flowmesh::result<int> good = 7;
    EXPECT_TRUE(good);
    EXPECT_EQ(good.status(), status::ok);
    EXPECT_EQ(*good, 7);
    EXPECT_EQ(good.value(), 7);
    EXPECT_EQ(std::move(good).value_or(8), 7);

    flowmesh::result<int> bad = error(status::aborted, "no");
    EXPECT_FALSE(bad.has_value());
    EXPECT_EQ(bad.error().message(), "no");
    EXPECT_FAILS(aborted, bad.value());
    EXPECT_EQ(std::move(bad).value_or(8), 8);

    flowmesh::result<std::unique_ptr<int>> moved = std::make_unique<int>(9);
    EXPECT_EQ(**moved, 9);
    const std::unique_ptr<int> out = std::move(moved).value();
    EXPECT_EQ(*out, 9);

    EXPECT_TRUE(flowmesh::result<void>());
    EXPECT_NO_THROW(flowmesh::result<void>().value());
    EXPECT_FAILS(closed, flowmesh::result<void>(error(status::closed, "over")).value());
}

TEST(errors, come_from_opening_with_wrong_options)
{
    flowmesh::client_options options;
    options.timeout = 0ms;
    EXPECT_FAILS(invalid_argument, open_client(options));
    EXPECT_EQ(flowmesh::client::try_open(endpoint(), options).status(), status::invalid_argument);
    EXPECT_FAILS(invalid_argument, flowmesh::client("no such thing as this"));
}

TEST(errors, come_from_names_that_are_not_whole)
{
    const flowmesh::client client = open_client();
    const std::string with_nul("na\0me", 5);
    EXPECT_FAILS(invalid_argument, client.open_stream("acme", "test", with_nul));
    EXPECT_FAILS(invalid_argument, client.open_queue("acme", std::string_view(with_nul), "x"));
    EXPECT_FAILS(invalid_argument, client.open_kv("", "test", "x"));
    EXPECT_EQ(client.try_open_kv("acme", "test", "a\nb").status(), status::invalid_argument);
}

TEST(errors, come_from_objects_that_were_moved)
{
    flowmesh::client client = open_client();
    const flowmesh::client moved = std::move(client);
    EXPECT_FALSE(client); // NOLINT: that is what is tested
    EXPECT_TRUE(moved);
    EXPECT_FAILS(invalid_argument, client.connect(1s));
    EXPECT_FAILS(invalid_argument, open_kv(client));
    EXPECT_EQ(client.try_health_check().status(), status::invalid_argument);
    EXPECT_FAILS(invalid_argument, client.health_check_async().get());
    moved.connect(patience);
}

} // namespace
