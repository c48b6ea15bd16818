// What makes batches and pulled messages ranges.
#ifndef FLOWMESH_RANGE_HPP
#define FLOWMESH_RANGE_HPP

#include <flowmesh/error.hpp>

#include <cstddef>
#include <iterator>

namespace flowmesh
{

namespace detail
{

// Goes through the elements of a batch by their index. They are made when they are looked at: an
// Element is a pointer or a view.
template <class Batch, class Element> class index_iterator
{
    const Batch *batch_ = nullptr;
    std::size_t index_ = 0;

  public:
    using iterator_category = std::input_iterator_tag;
    // C++20: may be gone through more than once.
    using iterator_concept = std::forward_iterator_tag;
    using value_type = Element;
    using difference_type = std::ptrdiff_t;
    using pointer = const Element *;
    using reference = Element;

    index_iterator() noexcept = default;
    index_iterator(const Batch *batch, std::size_t index) noexcept : batch_(batch), index_(index) {}

    Element operator*() const noexcept { return (*batch_)[index_]; }
    index_iterator &operator++() noexcept
    {
        ++index_;
        return *this;
    }
    index_iterator operator++(int) noexcept { return {batch_, index_++}; }

    friend bool operator==(const index_iterator &a, const index_iterator &b) noexcept
    {
        return a.index_ == b.index_;
    }
    friend bool operator!=(const index_iterator &a, const index_iterator &b) noexcept
    {
        return a.index_ != b.index_;
    }
};

} // namespace detail

// The end of a range whose end is seen when it is there.
struct range_end {
};

namespace detail
{

// Goes through a range that is pulled: one that has current(), advance() and is_over().
template <class Range> class pull_iterator
{
    Range *range_ = nullptr;

  public:
    using iterator_category = std::input_iterator_tag;
    using value_type = typename Range::value_type;
    using difference_type = std::ptrdiff_t;
    using reference = decltype(std::declval<Range &>().current());
    using pointer = std::remove_reference_t<reference> *;

    pull_iterator() noexcept = default;
    explicit pull_iterator(Range *range) noexcept : range_(range) {}

    reference operator*() const noexcept { return range_->current(); }
    pull_iterator &operator++()
    {
        range_->advance();
        return *this;
    }
    void operator++(int) { ++*this; }

    bool is_over() const noexcept { return range_->is_over(); }
    friend bool operator==(const pull_iterator &at, range_end) noexcept { return at.is_over(); }
    friend bool operator!=(const pull_iterator &at, range_end) noexcept { return !at.is_over(); }
    friend bool operator==(range_end, const pull_iterator &at) noexcept { return at.is_over(); }
    friend bool operator!=(range_end, const pull_iterator &at) noexcept { return !at.is_over(); }
};

} // namespace detail

// Batches as they are pulled: an input range, to be gone through once. Next is called for each and
// gives a std::optional of one, empty at the end; what it throws comes out of the loop.
template <class Batch, class Next> class batch_range
{
    Next next_;
    std::optional<Batch> batch_;

  public:
    using value_type = Batch;
    using iterator = detail::pull_iterator<batch_range>;

    explicit batch_range(Next next) : next_(std::move(next)) {}

    iterator begin()
    {
        advance();
        return iterator(this);
    }
    range_end end() const noexcept { return {}; }

    // May be moved away, to be kept.
    Batch &current() noexcept { return *batch_; }
    void advance() { batch_ = next_(); }
    bool is_over() const noexcept { return !batch_; }
};

// The elements of batches as they are pulled: an input range, to be gone through once. An element
// is good until the loop goes on.
template <class Batch, class Next> class element_range
{
    batch_range<Batch, Next> batches_;
    std::size_t index_ = 0;
    std::size_t size_ = 0;

  public:
    using value_type = typename Batch::value_type;
    using iterator = detail::pull_iterator<element_range>;

    explicit element_range(Next next) : batches_(std::move(next)) {}

    iterator begin()
    {
        advance();
        return iterator(this);
    }
    range_end end() const noexcept { return {}; }

    value_type current() noexcept { return batches_.current()[index_]; }
    void advance()
    {
        for (++index_; index_ >= size_;) {
            batches_.advance();
            if (is_over())
                return;
            index_ = 0;
            size_ = batches_.current().size();
        }
    }
    bool is_over() const noexcept { return batches_.is_over(); }
};

} // namespace flowmesh

#endif
