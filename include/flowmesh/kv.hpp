// Values under keys.
#ifndef FLOWMESH_KV_HPP
#define FLOWMESH_KV_HPP

#include <flowmesh/client.hpp>
#include <flowmesh/range.hpp>

namespace flowmesh
{

// Options of kv::set. In C++20: {.ttl = 1h}.
struct set_options {
    milliseconds timeout = default_timeout;
    const cancel_token *cancel = nullptr;
    const char *traceparent = nullptr;
    const char *tracestate = nullptr;
    // How long the value lives, above 0; without one, for ever. Round a finer duration up
    // (std::chrono::ceil): one that is cut to 0 is refused.
    std::optional<milliseconds> ttl = std::nullopt;

    flowmesh_set_options_t c() const noexcept
    {
        auto c = detail::common(flowmesh_set_options_t FLOWMESH_SET_OPTIONS_INIT, *this);
        c.ttl_ms = ttl.value_or(milliseconds(0)).count();
        return c;
    }
    // 0 is no time to live to flowmesh.h, which who computed it does not mean.
    std::optional<error> refusal() const
    {
        if (!ttl || ttl->count() != 0)
            return std::nullopt;
        return error(status::invalid_argument,
                     "ttl must be above 0: a value without one is kept for ever");
    }
};

// A value that was read. Views into it are good for as long as it lives.
class value : public handle<flowmesh_value_t, flowmesh_value_free>
{
  public:
    using handle::handle;

    view bytes() const noexcept { return flowmesh_value_data(c()); }
    std::string_view text() const noexcept { return bytes().text(); }
    std::string str() const { return bytes().str(); }
};

// Keys that were listed: a range of views into it.
class key_list : public handle<flowmesh_key_list_t, flowmesh_key_list_free>
{
  public:
    using handle::handle;
    using iterator = detail::index_iterator<key_list, view>;

    std::size_t size() const noexcept { return flowmesh_key_list_count(c()); }
    bool empty() const noexcept { return size() == 0; }
    view operator[](std::size_t index) const noexcept { return flowmesh_key_list_at(c(), index); }
    iterator begin() const noexcept { return {this, 0}; }
    iterator end() const noexcept { return {this, size()}; }
};

// A key-value store. It keeps its client alive.
//
//     flowmesh::kv prices = client.open_kv("acme", "shop", "prices");
//     prices.set("tea", "1.90");
//     std::cout << prices.get("tea").text() << '\n';
class kv : public handle<flowmesh_kv_t, flowmesh_kv_free>
{
  public:
    using handle::handle;

    // Stores a value of at least 1 byte.
    void set(view key, view value, const set_options &options = {}) const
    {
        try_set(key, value, options).value();
    }
    result<void> try_set(view key, view value, const set_options &options = {}) const noexcept
    {
        if (std::optional<error> refusal = options.refusal())
            return *std::move(refusal);
        const auto c_options = options.c();
        return detail::done([&](auto **error) {
            return flowmesh_kv_set(c(), key.c(), value.c(), &c_options, error);
        });
    }
    template <class Done = use_future>
    auto set_async(view key, view value, const set_options &options = {}, Done &&done = {}) const
    {
        if (std::optional<error> refusal = options.refusal())
            return detail::refused<void, Done>(*std::move(refusal));
        const auto c_options = options.c();
        return detail::start<void, flowmesh_done_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_kv_set_async(c(), key.c(), value.c(), &c_options, completion...);
            });
    }

    // Reads the value of a key; not_found_error when there is none.
    value get(view key, const call_options &options = {}) const
    {
        return try_get(key, options).value();
    }
    result<value> try_get(view key, const call_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::make<value>([&](auto **out, auto **error) {
            return flowmesh_kv_get(c(), key.c(), &c_options, out, error);
        });
    }
    template <class Done = use_future>
    auto get_async(view key, const call_options &options = {}, Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<value, flowmesh_value_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_kv_get_async(c(), key.c(), &c_options, completion...);
            });
    }

    // Removes a key; one that is not there is no failure. (`delete` is a word of the language.)
    void erase(view key, const call_options &options = {}) const
    {
        try_erase(key, options).value();
    }
    result<void> try_erase(view key, const call_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::done(
            [&](auto **error) { return flowmesh_kv_delete(c(), key.c(), &c_options, error); });
    }
    template <class Done = use_future>
    auto erase_async(view key, const call_options &options = {}, Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<void, flowmesh_done_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_kv_delete_async(c(), key.c(), &c_options, completion...);
            });
    }

    // Whether a key is there.
    bool exists(view key, const call_options &options = {}) const
    {
        return try_exists(key, options).value();
    }
    result<bool> try_exists(view key, const call_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::read(false, [&](bool *exists, auto **error) {
            return flowmesh_kv_exists(c(), key.c(), &c_options, exists, error);
        });
    }
    template <class Done = use_future>
    auto exists_async(view key, const call_options &options = {}, Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<bool, flowmesh_bool_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_kv_exists_async(c(), key.c(), &c_options, completion...);
            });
    }

    // The keys that start with `prefix`, in byte order.
    key_list list_keys(view prefix = {}, const call_options &options = {}) const
    {
        return try_list_keys(prefix, options).value();
    }
    result<key_list> try_list_keys(view prefix = {},
                                   const call_options &options = {}) const noexcept
    {
        const auto c_options = options.c();
        return detail::make<key_list>([&](auto **out, auto **error) {
            return flowmesh_kv_list_keys(c(), prefix.c(), &c_options, out, error);
        });
    }
    template <class Done = use_future>
    auto list_keys_async(view prefix = {}, const call_options &options = {}, Done &&done = {}) const
    {
        const auto c_options = options.c();
        return detail::start<key_list, flowmesh_key_list_callback_t>(
            std::forward<Done>(done), [&](auto... completion) {
                return flowmesh_kv_list_keys_async(c(), prefix.c(), &c_options, completion...);
            });
    }
};

inline result<kv> client::try_open_kv(const text &tenant, const text &name_space,
                                      const text &name) const noexcept
{
    return detail::make<kv>([&](auto **out, auto **error) {
        return flowmesh_kv_open(c(), tenant.c(), name_space.c(), name.c(), out, error);
    });
}
inline kv client::open_kv(const text &tenant, const text &name_space, const text &name) const
{
    return try_open_kv(tenant, name_space, name).value();
}

} // namespace flowmesh

#endif
