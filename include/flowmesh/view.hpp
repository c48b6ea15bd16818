// Borrowed memory: bytes, texts, arrays, headers. Nothing here owns what it points to, but for
// `text`, which copies only what has no NUL at its end.
#ifndef FLOWMESH_VIEW_HPP
#define FLOWMESH_VIEW_HPP

#include <flowmesh.h>

#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace flowmesh
{

namespace detail
{

// Whether T is a class that holds a run of single bytes: std::string, std::vector<std::byte>, ...
template <class T, class = void> struct holds_bytes : std::false_type {
};
template <class T>
struct holds_bytes<T, std::void_t<decltype(std::declval<const T &>().data()),
                                  decltype(std::declval<const T &>().size())>>
    : std::bool_constant<
          std::is_pointer_v<decltype(std::declval<const T &>().data())> &&
          std::is_trivially_copyable_v<
              std::remove_pointer_t<decltype(std::declval<const T &>().data())>> &&
          sizeof(std::remove_pointer_t<decltype(std::declval<const T &>().data())>) == 1> {
};

} // namespace detail

// Bytes that something else owns, as std::string_view is for text. What is taken from a message,
// job or value is good for as long as that lives; what is given to a call need live only until it
// returns.
class view
{
    flowmesh_view_t c_{nullptr, 0};

  public:
    using value_type = std::uint8_t;

    constexpr view() noexcept = default;
    constexpr view(flowmesh_view_t c) noexcept : c_(c) {}
    view(const void *data, std::size_t size) noexcept
        : c_{static_cast<const std::uint8_t *>(data), size}
    {
    }
    // A text that ends in NUL, without the NUL.
    view(const char *text) noexcept : view(text, text == nullptr ? 0 : std::strlen(text)) {}
    // std::string, std::string_view, std::vector<std::byte>, std::span<const std::uint8_t>, ...
    template <class Bytes,
              std::enable_if_t<detail::holds_bytes<Bytes>::value && !std::is_same_v<Bytes, view>,
                               int> = 0>
    view(const Bytes &bytes) noexcept : view(static_cast<const void *>(bytes.data()), bytes.size())
    {
    }

    constexpr const std::uint8_t *data() const noexcept { return c_.data; }
    constexpr std::size_t size() const noexcept { return c_.len; }
    constexpr bool empty() const noexcept { return c_.len == 0; }
    constexpr const std::uint8_t *begin() const noexcept { return c_.data; }
    constexpr const std::uint8_t *end() const noexcept { return c_.data + c_.len; }
    constexpr std::uint8_t operator[](std::size_t index) const noexcept { return c_.data[index]; }

    // The same bytes as text.
    std::string_view text() const noexcept
    {
        return {reinterpret_cast<const char *>(c_.data), c_.len};
    }
    // A copy.
    std::string str() const { return std::string(text()); }

    constexpr flowmesh_view_t c() const noexcept { return c_; }

    friend bool operator==(view a, view b) noexcept { return a.text() == b.text(); }
    friend bool operator!=(view a, view b) noexcept { return !(a == b); }
};

// Elements that something else owns and that lie one after the other: std::span of C++20, for
// C++17.
template <class T> class array_view
{
    T *data_ = nullptr;
    std::size_t size_ = 0;

  public:
    using value_type = std::remove_cv_t<T>;

    constexpr array_view() noexcept = default;
    constexpr array_view(T *data, std::size_t size) noexcept : data_(data), size_(size) {}
    template <std::size_t N> constexpr array_view(T (&array)[N]) noexcept : array_view(array, N) {}
    // std::vector, std::array, std::span, ...
    template <class Container,
              std::enable_if_t<
                  std::is_convertible_v<decltype(std::declval<const Container &>().data()), T *>,
                  int> = 0>
    constexpr array_view(const Container &container) noexcept
        : array_view(container.data(), container.size())
    {
    }

    constexpr T *data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr bool empty() const noexcept { return size_ == 0; }
    constexpr T *begin() const noexcept { return data_; }
    constexpr T *end() const noexcept { return data_ + size_; }
    constexpr T &operator[](std::size_t index) const noexcept { return data_[index]; }
};

// A header of an event, message or job: UTF-8 texts that something else owns.
struct header {
    view key;
    view value;
};

// Arrays of headers go to and from the library as they are.
static_assert(std::is_standard_layout_v<header> && sizeof(header) == sizeof(flowmesh_header_t) &&
              alignof(header) == alignof(flowmesh_header_t) &&
              sizeof(view) == sizeof(flowmesh_view_t));

namespace detail
{

inline const flowmesh_header_t *to_c(const header *headers) noexcept
{
    return reinterpret_cast<const flowmesh_header_t *>(headers);
}

inline array_view<const header> from_c(const flowmesh_header_t *headers, std::size_t count) noexcept
{
    return {reinterpret_cast<const header *>(headers), count};
}

} // namespace detail

// A text as the library takes names: ending in NUL. Made from what a program has; only a
// std::string_view is copied, as it may lack the NUL.
class text
{
    std::string copy_;
    const char *c_;

  public:
    text(const char *c) noexcept : c_(c) {}
    text(const std::string &string)
        : copy_(string.find('\0') == std::string::npos ? std::string() : visible(string)),
          c_(copy_.empty() ? string.c_str() : copy_.c_str())
    {
    }
    text(std::string_view string) : copy_(visible(string)), c_(copy_.c_str()) {}
    text(const text &) = delete;
    text &operator=(const text &) = delete;

    const char *c() const noexcept { return c_; }

  private:
    // A NUL inside would cut the text off. Another control character in its place has the library
    // refuse it, as it does wherever it takes texts.
    static std::string visible(std::string_view string)
    {
        std::string copy(string);
        for (char &c : copy)
            c = c == '\0' ? '\x01' : c;
        return copy;
    }
};

} // namespace flowmesh

#endif
