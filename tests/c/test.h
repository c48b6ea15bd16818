/* What the tests of the C API share: a client to test with, names, and ways to say what must
 * hold. Every test program is compiled as C11 and as C++17.
 *
 * FLOWMESH_TEST_ENDPOINT says what to test against; without it, the engine in memory.
 */
#ifndef TEST_H
#define TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif
#include <cmocka.h>
#ifdef __cplusplus
}
#endif

#include <flowmesh.h>

enum { PATIENCE_MS = 60000 }; /* for what must happen, on the busiest machine */

/* The call succeeded. Says why not, and frees the error. */
#define OK(call) check_ok((call), &error, #call, __FILE__, __LINE__)

/* The call failed with `status` and a message that holds `text`. Frees the error. */
#define FAILS(status, text, call)                                                                  \
    check_fails((call), (status), (text), &error, #call, __FILE__, __LINE__)

static inline void check_ok(flowmesh_status_t status, flowmesh_error_t **error, const char *call,
                            const char *file, int line)
{
    if (status != FLOWMESH_OK) {
        print_error("%s:%d: %s\n  is %s: %s\n", file, line, call, flowmesh_status_name(status),
                    flowmesh_error_message(*error));
        _fail(file, line);
    }
    if (*error != NULL) {
        print_error("%s:%d: %s\n  succeeded, but *error is not NULL\n", file, line, call);
        _fail(file, line);
    }
}

static inline void check_fails(flowmesh_status_t status, flowmesh_status_t expected,
                               const char *text, flowmesh_error_t **error, const char *call,
                               const char *file, int line)
{
    if (status != expected || flowmesh_error_status(*error) != expected ||
        strstr(flowmesh_error_message(*error), text) == NULL) {
        print_error("%s:%d: %s\n  is %s: \"%s\"\n  but should be %s with \"%s\"\n", file, line,
                    call, flowmesh_status_name(status), flowmesh_error_message(*error),
                    flowmesh_status_name(expected), text);
        _fail(file, line);
    }
    flowmesh_error_free(*error);
    *error = NULL;
}

static inline const char *test_endpoint(void)
{
    const char *endpoint = getenv("FLOWMESH_TEST_ENDPOINT");
    return endpoint != NULL ? endpoint : "embedded:";
}

/* A name that no other test, and no other run against the same server, has used. */
static inline const char *test_name(void)
{
    static char name[64];
    static unsigned counter;
    snprintf(name, sizeof(name), "test-%ld-%ld-%u", (long)time(NULL), (long)getpid(), ++counter);
    return name;
}

static inline flowmesh_client_t *open_client(void)
{
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_client_open(test_endpoint(), NULL, &client, &error));
    return client;
}

/* A client whose callbacks run on `dispatcher`. */
static inline flowmesh_client_t *client_on(const flowmesh_dispatcher_t *dispatcher)
{
    flowmesh_client_options_t *options = NULL;
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_client_options_new(&options, &error));
    OK(flowmesh_client_options_set_dispatcher(options, dispatcher, &error));
    OK(flowmesh_client_open(test_endpoint(), options, &client, &error));
    flowmesh_client_options_free(options);
    return client;
}

static inline flowmesh_stream_t *open_stream(const flowmesh_client_t *client)
{
    flowmesh_stream_t *stream = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_stream_open(client, "acme", "test", test_name(), &stream, &error));
    return stream;
}

static inline flowmesh_queue_t *open_queue(const flowmesh_client_t *client)
{
    flowmesh_queue_t *queue = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_queue_open(client, "acme", "test", test_name(), &queue, &error));
    return queue;
}

static inline flowmesh_kv_t *open_kv(const flowmesh_client_t *client)
{
    flowmesh_kv_t *kv = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_kv_open(client, "acme", "test", test_name(), &kv, &error));
    return kv;
}

/* Writes `count` events "0", "1", ... counted on from `first`; returns the last offset. */
static inline int64_t write_numbers(const flowmesh_stream_t *stream, int first, int count)
{
    flowmesh_error_t *error = NULL;
    int64_t offset = -1;
    for (int i = first; i < first + count; i++) {
        flowmesh_event_t event = FLOWMESH_EVENT_INIT;
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        event.payload = flowmesh_view_str(text);
        OK(flowmesh_stream_write(stream, &event, 1, NULL, &offset, &error));
    }
    return offset;
}

/* Has `producer` send a message. */
static inline void send_one(const flowmesh_producer_t *producer)
{
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    flowmesh_error_t *error = NULL;
    event.payload = FLOWMESH_VIEW_LITERAL("x");
    OK(flowmesh_producer_send(producer, &event, NULL, -1, &error));
}

static inline void check_view(flowmesh_view_t view, const char *text)
{
    assert_int_equal(view.len, strlen(text));
    assert_memory_equal(view.data, text, view.len);
}

/* Runs `test` in a child of a fork; what it returns is how many things were wrong. */
static inline void in_child(int (*test)(void *), void *argument)
{
    int status = -1;
    fflush(NULL);
    pid_t child = fork();
    /* Another program ends the child: valgrind would look for leaks in it, and blame it for what
     * only the parent's other threads point to. */
    if (child == 0) {
        const char *end = test(argument) == 0 ? "true" : "false";
        execlp(end, end, (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Ends the library's threads, so that valgrind sees what is left: nothing. */
static inline int end_library(void **state)
{
    flowmesh_error_t *error = NULL;
    (void)state;
    OK(flowmesh_shutdown(PATIENCE_MS, &error));
    return 0;
}

#endif
