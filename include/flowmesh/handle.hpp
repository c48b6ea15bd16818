// What every object of the library is in C++: a pointer that is moved, not copied, and freed once.
#ifndef FLOWMESH_HANDLE_HPP
#define FLOWMESH_HANDLE_HPP

#include <flowmesh/error.hpp>

namespace flowmesh
{

// Owns an object of the library. An empty one, default-made or moved from, is good for nothing but
// assignment: calls on it fail with status::invalid_argument.
template <class C, void (*Free)(C *)> class handle
{
    C *c_ = nullptr;

  public:
    using c_type = C;

    handle() noexcept = default;
    explicit handle(C *owned) noexcept : c_(owned) {}
    handle(handle &&from) noexcept : c_(from.release()) {}
    handle &operator=(handle &&from) noexcept
    {
        reset(from.release());
        return *this;
    }
    ~handle() { reset(); }

    explicit operator bool() const noexcept { return c_ != nullptr; }
    // For the functions of flowmesh.h; still owned by this.
    C *c() const noexcept { return c_; }
    // Gives the object up to the caller.
    C *release() noexcept { return std::exchange(c_, nullptr); }
    // Frees the object, and takes another.
    void reset(C *owned = nullptr) noexcept
    {
        // Emptied first: what ends with the object may look at this.
        C *old = std::exchange(c_, owned);
        if (old != nullptr)
            Free(old);
    }
};

namespace detail
{

// An owner of what is only lent: it is not destroyed, not even on the way to std::terminate, where
// compilers may or may not do it.
template <class T> union lent {
    T value;

    explicit lent(typename T::c_type *c) noexcept : value(c) {}
    ~lent() {}
};

} // namespace detail

} // namespace flowmesh

#endif
