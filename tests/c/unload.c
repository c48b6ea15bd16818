/* The library as a plug-in loads it: dlopen, work, shutdown, dlclose, and all of it again.
 *
 * This program calls nothing of the library by name, so that it is not linked with it.
 */
#include "threads.h"

#include <dlfcn.h>
#include <semaphore.h>

/* A function of the loaded library, of the type that the header gives it. */
#define LOADED(name) ((__typeof__(&name))load(library, #name))

typedef void (*function_t)(void);

static function_t load(void *library, const char *name)
{
    function_t function = NULL;
    void *address = dlsym(library, name);
    if (address == NULL)
        fail_msg("%s", dlerror());
    memcpy(&function, &address, sizeof(function)); /* ISO C has no cast for this */
    return function;
}

static void on_messages(const flowmesh_message_batch_t *batch, void *user_data)
{
    (void)batch;
    sem_post((sem_t *)user_data);
}

/* Starts every thread there is, and ends them. */
static void work(void *library)
{
    flowmesh_client_t *client = NULL;
    flowmesh_stream_t *stream = NULL;
    flowmesh_subscription_t *subscription = NULL;
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    sem_t called;
    sem_init(&called, 0, 0);
    event.payload = FLOWMESH_VIEW_LITERAL("x");
    assert_int_equal(LOADED(flowmesh_client_open)(test_endpoint(), NULL, &client, NULL), 0);
    assert_int_equal(
        LOADED(flowmesh_stream_open)(client, "acme", "test", test_name(), &stream, NULL), 0);
    assert_int_equal(LOADED(flowmesh_stream_write)(stream, &event, 1, NULL, NULL, NULL), 0);
    assert_int_equal(LOADED(flowmesh_stream_subscribe)(stream, NULL, on_messages, &called, NULL,
                                                       &subscription, NULL),
                     0);
    sem_wait(&called);
    LOADED(flowmesh_subscription_free)(subscription);
    LOADED(flowmesh_stream_free)(stream);
    LOADED(flowmesh_client_free)(client);
    assert_true(library_threads().count > 0);
    assert_int_equal(LOADED(flowmesh_shutdown)(PATIENCE_MS, NULL), 0);
    await_threads("");
    sem_destroy(&called);
}

static void unloading_after_the_shutdown_does_no_harm(void **state)
{
    const char *path = getenv("FLOWMESH_LIBRARY");
    (void)state;
    if (path == NULL)
        skip();
    assert_null(dlopen(path, RTLD_NOW | RTLD_NOLOAD)); /* nobody else keeps it */
    for (int round = 0; round < 3; round++) {
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (library == NULL)
            fail_msg("%s", dlerror());
        const char *(*version)(void) = LOADED(flowmesh_version);
        work(library);
        assert_int_equal(dlclose(library), 0);
        assert_string_equal(version(), FLOWMESH_VERSION_STRING); /* still there */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unloading_after_the_shutdown_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
