// A connection to an endpoint, from which streams, queues and stores are opened.
#ifndef FLOWMESH_CLIENT_HPP
#define FLOWMESH_CLIENT_HPP

#include <flowmesh/future.hpp>
#include <flowmesh/settings.hpp>

namespace flowmesh
{

class stream;
class queue;
class kv;

// When an embedded engine has acknowledged writes on disk.
enum class fsync : flowmesh_fsync_t {
    always = FLOWMESH_FSYNC_ALWAYS,
    interval = FLOWMESH_FSYNC_INTERVAL,
    none = FLOWMESH_FSYNC_NONE,
};

// How to trust the server of an "https://" endpoint, and be trusted; each from a file or from
// memory.
struct tls_options {
    // Who may vouch for the server, PEM.
    std::optional<std::string> ca_file = std::nullopt;
    std::optional<std::string> ca_pem = std::nullopt;
    // Who the client is: both of a pair, PEM.
    std::optional<std::string> certificate_file = std::nullopt;
    std::optional<std::string> key_file = std::nullopt;
    std::optional<std::string> certificate_pem = std::nullopt;
    std::optional<std::string> key_pem = std::nullopt;
    // The name that the server's certificate must have.
    std::optional<std::string> server_name = std::nullopt;
};

// How to open a client; what is not set has the default that flowmesh_client_options_t tells.
struct client_options {
    std::optional<std::string> auth_token = std::nullopt;
    // In place of auth_token.
    std::optional<std::string> auth_token_file = std::nullopt;
    std::optional<bool> allow_plaintext_token = std::nullopt;
    tls_options tls = {};
    std::optional<milliseconds> timeout = std::nullopt;
    std::optional<milliseconds> connect_timeout = std::nullopt;
    std::optional<std::size_t> max_message_bytes = std::nullopt;
    std::optional<flowmesh::fsync> fsync = std::nullopt;
    std::optional<bool> spin = std::nullopt;
    std::optional<bool> create = std::nullopt;
    bool test_clock = false;
    // nullptr: a thread of the library.
    const flowmesh::dispatcher *dispatcher = nullptr;
};

// What a client has counted; see flowmesh_client_stats_t.
using client_stats = flowmesh_client_stats_t;

namespace detail
{

struct client_settings : settings<flowmesh_client_options_t, flowmesh_client_options_new,
                                  flowmesh_client_options_free> {
    explicit client_settings(const client_options &from) noexcept
    {
        set_if(flowmesh_client_options_set_auth_token, from.auth_token);
        set_if(flowmesh_client_options_set_auth_token_file, from.auth_token_file);
        set_if(flowmesh_client_options_set_allow_plaintext_token, from.allow_plaintext_token);
        set_tls(from.tls);
        set_if(flowmesh_client_options_set_timeout_ms, from.timeout);
        set_if(flowmesh_client_options_set_connect_timeout_ms, from.connect_timeout);
        set_if(flowmesh_client_options_set_max_message_bytes, from.max_message_bytes);
        if (from.fsync)
            set(flowmesh_client_options_set_fsync, static_cast<flowmesh_fsync_t>(*from.fsync));
        set_if(flowmesh_client_options_set_spin, from.spin);
        set_if(flowmesh_client_options_set_create, from.create);
        set(flowmesh_client_options_set_test_clock, from.test_clock);
        set_if(flowmesh_client_options_set_dispatcher, from.dispatcher);
    }

  private:
    void set_tls(const tls_options &tls) noexcept
    {
        set_if(flowmesh_client_options_set_tls_ca_file, tls.ca_file);
        if (tls.ca_pem)
            set(flowmesh_client_options_set_tls_ca_pem, view(*tls.ca_pem).c());
        // Half a pair is refused below, by the argument that is missing.
        if (tls.certificate_file || tls.key_file)
            set(flowmesh_client_options_set_tls_certificate_file, c_str(tls.certificate_file),
                c_str(tls.key_file));
        if (tls.certificate_pem || tls.key_pem)
            set(flowmesh_client_options_set_tls_certificate_pem,
                view(tls.certificate_pem.value_or("")).c(), view(tls.key_pem.value_or("")).c());
        set_if(flowmesh_client_options_set_tls_server_name, tls.server_name);
    }

    static const char *c_str(const std::optional<std::string> &text) noexcept
    {
        return text ? text->c_str() : nullptr;
    }
};

} // namespace detail

// A connection to one endpoint, or an engine in this process; serves any number of threads. Opening
// it does no I/O. Destroying it closes nothing: what was opened from it works on.
//
//     flowmesh::client client("localhost:50051");
//     flowmesh::stream orders = client.open_stream("acme", "shop", "orders");
class client : public handle<flowmesh_client_t, flowmesh_client_free>
{
  public:
    using handle::handle;
    // Endpoints are "host:port", "http://host:port", "unix:/path", "embedded:/dir" and "embedded:".
    explicit client(const text &endpoint, const client_options &options = {})
        : client(try_open(endpoint, options).value())
    {
    }
    static result<client> try_open(const text &endpoint,
                                   const client_options &options = {}) noexcept
    {
        detail::client_settings made(options);
        if (made.failed())
            return made.take();
        return detail::make<client>([&](auto **out, auto **error) {
            return flowmesh_client_open(endpoint.c(), made.c(), out, error);
        });
    }
    // With the endpoint that FLOWMESH_ENDPOINT names, else "localhost:50051".
    static client from_environment(const client_options &options = {})
    {
        return client(static_cast<const char *>(nullptr), options);
    }

    // Names a stream, queue or store; no I/O.
    stream open_stream(const text &tenant, const text &name_space, const text &name) const;
    result<stream> try_open_stream(const text &tenant, const text &name_space,
                                   const text &name) const noexcept;
    queue open_queue(const text &tenant, const text &name_space, const text &name) const;
    result<queue> try_open_queue(const text &tenant, const text &name_space,
                                 const text &name) const noexcept;
    kv open_kv(const text &tenant, const text &name_space, const text &name) const;
    result<kv> try_open_kv(const text &tenant, const text &name_space,
                           const text &name) const noexcept;

    // Connects now, for those who want to know early. It does not tell whether the token is good.
    void connect(milliseconds timeout) const { try_connect(timeout).value(); }
    result<void> try_connect(milliseconds timeout) const noexcept
    {
        return detail::done(
            [&](auto **error) { return flowmesh_client_connect(c(), timeout.count(), error); });
    }
    template <class Done = use_future>
    auto connect_async(milliseconds timeout, Done &&done = {}) const
    {
        return detail::start<void, flowmesh_done_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_client_connect_async(c(), timeout.count(), completion...);
            });
    }

    // Closes the client for everything that was opened from it. After success no callback of it
    // runs.
    void close(milliseconds timeout = forever) const { try_close(timeout).value(); }
    result<void> try_close(milliseconds timeout = forever) const noexcept
    {
        return detail::done(
            [&](auto **error) { return flowmesh_client_close(c(), timeout.count(), error); });
    }
    // Dropping the future ends the wait, not the closing.
    template <class Done = use_future>
    auto close_async(milliseconds timeout = forever, Done &&done = {}) const
    {
        return detail::start<void, flowmesh_done_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_client_close_async(c(), timeout.count(), completion...);
            });
    }

    // Asks the server for a sign of life.
    void health_check(const call_options &options = {}) const { try_health_check(options).value(); }
    result<void> try_health_check(const call_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::done(
            [&](auto **error) { return flowmesh_client_health_check(c(), &c_options, error); });
    }
    template <class Done = use_future>
    auto health_check_async(const call_options &options = {}, Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<void, flowmesh_done_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_client_health_check_async(c(), &c_options, completion...);
            });
    }

    // Whether the server's storage can take work.
    bool readiness_check(const call_options &options = {}) const
    {
        return try_readiness_check(options).value();
    }
    result<bool> try_readiness_check(const call_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::read(false, [&](bool *ready, auto **error) {
            return flowmesh_client_readiness_check(c(), &c_options, ready, error);
        });
    }
    template <class Done = use_future>
    auto readiness_check_async(const call_options &options = {}, Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<bool, flowmesh_bool_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_client_readiness_check_async(c(), &c_options, completion...);
            });
    }

    // Counters and latencies, also after the close.
    client_stats stats() const { return try_stats().value(); }
    result<client_stats> try_stats() const noexcept
    {
        return detail::read(client_stats FLOWMESH_CLIENT_STATS_INIT,
                            [&](auto *stats, auto **error) {
                                return flowmesh_client_get_stats(c(), stats, error);
                            });
    }

    // The number by which the log names the client.
    std::uint64_t id() const noexcept { return flowmesh_client_id(c()); }

    // Moves the clock of an "embedded:" client with the option test_clock.
    void advance_test_clock(milliseconds by) const { try_advance_test_clock(by).value(); }
    result<void> try_advance_test_clock(milliseconds by) const noexcept
    {
        return detail::done(
            [&](auto **error) { return flowmesh_test_clock_advance(c(), by.count(), error); });
    }
};

} // namespace flowmesh

#endif
