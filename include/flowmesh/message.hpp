// Messages of a stream, in the batches in which they come.
#ifndef FLOWMESH_MESSAGE_HPP
#define FLOWMESH_MESSAGE_HPP

#include <flowmesh/options.hpp>
#include <flowmesh/range.hpp>

namespace flowmesh
{

namespace detail
{

inline time_point instant(std::int64_t ns) noexcept
{
    return time_point(std::chrono::nanoseconds(ns));
}

// The value of a header, by one of the library's functions that look one up.
template <class Owner, class Look>
std::optional<std::string_view> look_up(const Owner *owner, const text &key,
                                        const Look &look) noexcept
{
    flowmesh_view_t value = FLOWMESH_VIEW_INIT;
    if (!look(owner, key.c(), &value))
        return std::nullopt;
    return view(value).text();
}

} // namespace detail

// A message. It points into its batch, and so do the views that it gives.
class message
{
    const flowmesh_message_t *c_;

  public:
    explicit message(const flowmesh_message_t *c) noexcept : c_(c) {}

    std::int64_t offset() const noexcept { return c_->offset; }
    time_point created_at() const noexcept { return detail::instant(c_->created_at_ns); }
    view payload() const noexcept { return c_->payload; }
    array_view<const flowmesh::header> headers() const noexcept
    {
        return detail::from_c(c_->headers, c_->header_count);
    }
    // The value of a header, if there is one of that name.
    std::optional<std::string_view> header(const text &key) const noexcept
    {
        return detail::look_up(c_, key, flowmesh_message_get_header);
    }
    std::string_view id() const noexcept { return view(c_->id).text(); }
    // "tenant/namespace/stream/name".
    std::string_view resource_path() const noexcept { return view(c_->resource_path).text(); }
    std::int32_t partition() const noexcept { return c_->partition; }
    std::int32_t schema_version() const noexcept { return c_->schema_version; }

    const flowmesh_message_t *c() const noexcept { return c_; }
};

// Messages in ascending offset: a range of them. One that a callback receives is lent for the call;
// retain() gives another that may be kept.
class message_batch : public handle<flowmesh_message_batch_t, flowmesh_message_batch_free>
{
  public:
    using handle::handle;
    using value_type = message;
    using iterator = detail::index_iterator<message_batch, message>;

    std::size_t size() const noexcept { return flowmesh_message_batch_count(c()); }
    bool empty() const noexcept { return size() == 0; }
    // The index must be below size().
    message operator[](std::size_t index) const noexcept
    {
        return message(flowmesh_message_batch_at(c(), index));
    }
    message front() const noexcept { return (*this)[0]; }
    message back() const noexcept { return (*this)[size() - 1]; }
    iterator begin() const noexcept { return {this, 0}; }
    iterator end() const noexcept { return {this, size()}; }

    // The same messages, not copied, in a batch of the caller's own.
    message_batch retain() const { return try_retain().value(); }
    result<message_batch> try_retain() const noexcept
    {
        return detail::make<message_batch>([&](auto **out, auto **error) {
            return flowmesh_message_batch_retain(c(), out, error);
        });
    }
};

} // namespace flowmesh

#endif
