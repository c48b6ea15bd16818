// How option structs of C++ become the options objects of the library.
#ifndef FLOWMESH_SETTINGS_HPP
#define FLOWMESH_SETTINGS_HPP

#include <flowmesh/dispatcher.hpp>

#include <functional>

namespace flowmesh
{

namespace detail
{

// Makes an options object and sets what is set in an options struct. What fails is kept, and what
// would have followed is left out.
template <class C, flowmesh_status_t (*New)(C **, flowmesh_error_t **), void (*Free)(C *)>
class settings
{
    handle<C, Free> made_;
    handle<flowmesh_error_t, flowmesh_error_free> error_;
    flowmesh_status_t status_;

  public:
    settings() noexcept
    {
        C *made = nullptr;
        flowmesh_error_t *error = nullptr;
        status_ = New(&made, &error);
        made_.reset(made);
        error_.reset(error);
    }

    // Calls setter(options, values..., &error).
    template <class Setter, class... Values>
    void set(const Setter &setter, const Values &...values) noexcept
    {
        if (failed())
            return;
        flowmesh_error_t *error = nullptr;
        status_ = setter(made_.c(), values..., &error);
        error_.reset(error);
    }
    // As set(), of what may be left to its default.
    template <class Setter, class Value>
    void set_if(const Setter &setter, const std::optional<Value> &value) noexcept
    {
        if (value)
            set(setter, *value);
    }
    template <class Setter>
    void set_if(const Setter &setter, const std::optional<milliseconds> &value) noexcept
    {
        if (value)
            set(setter, value->count());
    }
    template <class Setter>
    void set_if(const Setter &setter, const std::optional<std::string> &value) noexcept
    {
        if (value)
            set(setter, text(*value).c());
    }
    template <class Setter> void set_if(const Setter &setter, const dispatcher *value) noexcept
    {
        if (value != nullptr)
            set(setter, value->c());
    }
    // Has the library keep a function: `call` gets a copy of it as its user data.
    template <class Setter, class Callback, class Function>
    void set_callback(const Setter &setter, Callback call, const Function &function) noexcept
    {
        if (!function || failed())
            return;
        set(setter, call, static_cast<void *>(new Function(function)), &drop<Function>);
    }

    bool failed() const noexcept { return status_ != FLOWMESH_OK; }
    // The error, after which nothing else can be done with this.
    error take() noexcept { return detail::take(error_.release()); }
    const C *c() const noexcept { return made_.c(); }

    // In the place of an asynchronous call that cannot be made, as something has failed.
    flowmesh_status_t refuse(void *user_data, flowmesh_drop_t drop_user_data,
                             flowmesh_error_t **error) noexcept
    {
        drop_user_data(user_data);
        *error = error_.release();
        return status_;
    }

  private:
    template <class Function> static void drop(void *function) noexcept
    {
        delete static_cast<Function *>(function);
    }
};

// Calls the std::function that set_callback() had the library keep.
template <class Function, class... Arguments>
void call_kept(void *function, Arguments &&...arguments) noexcept
{
    (*static_cast<const Function *>(function))(std::forward<Arguments>(arguments)...);
}

} // namespace detail

} // namespace flowmesh

#endif
