// What concerns the whole process: the log, the version, the end, and fork.
#ifndef FLOWMESH_PROCESS_HPP
#define FLOWMESH_PROCESS_HPP

#include <flowmesh/options.hpp>

namespace flowmesh
{

// How much a log record matters.
enum class log_level : flowmesh_log_level_t {
    error = FLOWMESH_LOG_ERROR,
    warn = FLOWMESH_LOG_WARN,
    info = FLOWMESH_LOG_INFO,
    debug = FLOWMESH_LOG_DEBUG,
};

// What the library tells. Its texts are lent for the call.
struct log_record {
    log_level level;
    // What it is about: "connection", "call", "subscription", ...
    std::string_view target;
    // client::id(); 0: none.
    std::uint64_t client_id;
    std::string_view text;
};

// Has the library tell a function, called with a const log_record &, what happens up to a level.
// Any thread may call it, several at once; it must call nothing of the library, and not throw:
// std::terminate. When this returns, the function before is not called any more.
template <class Function> result<void> try_set_log(log_level level, Function &&function) noexcept
{
    using kept = std::decay_t<Function>;
    auto *boxed = new kept(std::forward<Function>(function));
    const auto call = [](flowmesh_log_level_t at, const char *target, std::uint64_t client_id,
                         const char *text, void *kept_function) noexcept {
        (*static_cast<kept *>(kept_function))(
            log_record{static_cast<log_level>(at), target, client_id, text});
    };
    const auto drop = [](void *kept_function) noexcept {
        delete static_cast<kept *>(kept_function);
    };
    return detail::done([&](auto **error) {
        return flowmesh_log_set_callback(static_cast<flowmesh_log_level_t>(level), call, boxed,
                                         drop, error);
    });
}
template <class Function> void set_log(log_level level, Function &&function)
{
    try_set_log(level, std::forward<Function>(function)).value();
}

// Silence again.
inline result<void> try_unset_log() noexcept
{
    return detail::done([&](auto **error) {
        return flowmesh_log_set_callback(FLOWMESH_LOG_ERROR, nullptr, nullptr, nullptr, error);
    });
}
inline void unset_log()
{
    try_unset_log().value();
}

// The version of the library that runs; that of the header is FLOWMESH_VERSION_STRING.
inline const char *version() noexcept
{
    return flowmesh_version();
}

// Ends the library's work in this process. Not needed before exit.
inline result<void> try_shutdown(milliseconds timeout = forever) noexcept
{
    return detail::done([&](auto **error) { return flowmesh_shutdown(timeout.count(), error); });
}
inline void shutdown(milliseconds timeout = forever)
{
    try_shutdown(timeout).value();
}

// Makes the library usable in the child of a fork. What the parent made stays unusable there
// (forked_error) and can be destroyed.
inline result<void> try_after_fork_child() noexcept
{
    return detail::done(flowmesh_after_fork_child);
}
inline void after_fork_child()
{
    try_after_fork_child().value();
}

} // namespace flowmesh

#endif
