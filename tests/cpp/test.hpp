// What the tests of flowmesh.hpp share: what to test against, names, waiting for events.
//
// FLOWMESH_TEST_ENDPOINT says what to test against; without it, the engine in memory.
#ifndef TEST_HPP
#define TEST_HPP

#include <flowmesh.hpp>

#include <gtest/gtest.h>

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

// For what must happen.
inline constexpr std::chrono::milliseconds patience = 60s;

inline std::string endpoint()
{
    const char *endpoint = std::getenv("FLOWMESH_TEST_ENDPOINT");
    return endpoint == nullptr ? "embedded:" : endpoint;
}

inline bool is_embedded()
{
    return endpoint() == "embedded:";
}

// A name that no other test, and no other run against the same server, has used.
inline std::string unique_name()
{
    static std::atomic<int> counter;
    const auto now = std::chrono::system_clock::now().time_since_epoch().count();
    return "test-" + std::to_string(now) + "-" + std::to_string(getpid()) + "-" +
           std::to_string(++counter);
}

inline flowmesh::client open_client(const flowmesh::client_options &options = {})
{
    return flowmesh::client(endpoint(), options);
}
inline flowmesh::stream open_stream(const flowmesh::client &client)
{
    return client.open_stream("acme", "test", unique_name());
}
inline flowmesh::queue open_queue(const flowmesh::client &client)
{
    return client.open_queue("acme", "test", unique_name());
}
inline flowmesh::kv open_kv(const flowmesh::client &client)
{
    return client.open_kv("acme", "test", unique_name());
}

// Writes "0", "1", ... counted on from `first`.
inline void write_numbers(const flowmesh::stream &stream, int first, int count)
{
    for (int i = first; i < first + count; i++)
        stream.write(std::to_string(i));
}

// Counts events that other threads tell.
class tally
{
    std::mutex mutex_;
    std::condition_variable changed_;
    int count_ = 0;

  public:
    void hit()
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        count_++;
        changed_.notify_all();
    }
    int count()
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        return count_;
    }
    // Waits until so many have come; false when they did not in time.
    bool reaches(int count)
    {
        std::unique_lock<std::mutex> lock(mutex_);
        return changed_.wait_for(lock, patience, [&] { return count_ >= count; });
    }
};

// Tells when the last copy of what it gave is gone, as those in a lambda that the library has let
// go.
class tracer
{
    std::shared_ptr<tally> gone_ = std::make_shared<tally>();

  public:
    std::shared_ptr<void> give() const
    {
        return std::shared_ptr<void>(nullptr, [gone = gone_](void *) { gone->hit(); });
    }
    bool is_gone() const { return gone_->count() > 0; }
    bool goes() const { return gone_->reaches(1); }
};

// The statement throws an error of that class, with that status.
#define EXPECT_FAILS(expected, statement)                                                          \
    EXPECT_THROW(                                                                                  \
        {                                                                                          \
            try {                                                                                  \
                statement;                                                                         \
            } catch (const flowmesh::error &error) {                                               \
                EXPECT_EQ(error.status(), flowmesh::status::expected) << error.what();             \
                EXPECT_STRNE(error.what(), "");                                                    \
                throw;                                                                             \
            }                                                                                      \
        },                                                                                         \
        flowmesh::expected##_error)

#endif
