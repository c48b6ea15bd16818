// The log, the version, the end of the library and fork.
#include "test.hpp"

#include <sys/wait.h>

namespace
{

TEST(process, has_a_log)
{
    tally records;
    tracer tracer;
    flowmesh::set_log(flowmesh::log_level::debug,
                      [&, kept = tracer.give()](const flowmesh::log_record &record) {
                          if (!record.target.empty() && !record.text.empty())
                              records.hit();
                      });
    open_client().connect(patience);
    {
        const flowmesh::client client("unix:/nowhere/at/all");
        EXPECT_FALSE(client.try_connect(100ms));
    }
    EXPECT_TRUE(records.reaches(1));
    flowmesh::unset_log();
    EXPECT_TRUE(tracer.is_gone());
    EXPECT_EQ(flowmesh::try_set_log(static_cast<flowmesh::log_level>(9),
                                    [](const flowmesh::log_record &) {})
                  .status(),
              flowmesh::status::invalid_argument);
    EXPECT_TRUE(flowmesh::try_unset_log());
}

TEST(process, knows_its_version)
{
    EXPECT_STREQ(flowmesh::version(), FLOWMESH_VERSION_STRING);
}

TEST(process, ends_and_starts_anew)
{
    const flowmesh::client client = open_client();
    const flowmesh::queue queue = open_queue(client);
    flowmesh::reserve_options wait;
    wait.wait = flowmesh::forever;
    auto future = queue.reserve_async(wait);
    flowmesh::shutdown(patience);
    EXPECT_FAILS(closed, future.get());
    EXPECT_FAILS(closed, client.health_check());
    EXPECT_TRUE(flowmesh::try_shutdown(patience));
}

// What the child of a fork does; how many things were wrong.
int in_child(std::optional<flowmesh::client> &client,
             std::optional<flowmesh::subscription> &subscription)
{
    int wrong = 0;
    wrong += client->try_health_check().status() != flowmesh::status::forked;
    try {
        client->health_check();
        wrong++;
    } catch (const flowmesh::forked_error &) {
    }
    subscription.reset();
    client.reset();
    flowmesh::after_fork_child();
    const flowmesh::client own("embedded:");
    wrong += !own.try_connect(patience);
    return wrong;
}

TEST(process, may_fork)
{
    std::optional<flowmesh::client> client = open_client();
    const flowmesh::stream stream = open_stream(*client);
    std::optional<flowmesh::subscription> subscription =
        stream.subscribe([](const flowmesh::message_batch &) {});
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        // Another program ends the child: valgrind would look for leaks in it, and blame it for
        // what only the parent's other threads point to.
        const char *end = in_child(client, subscription) == 0 ? "true" : "false";
        execlp(end, end, static_cast<char *>(nullptr));
        _exit(127);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    client->health_check();
}

} // namespace
