/* Subscriptions with a callback, steered while they run: pause, seek, commits, dispatchers. */
#include "test.h"
#include <poll.h>
#include <pthread.h>

/* What a callback does and has seen. */
struct seen {
    pthread_mutex_t lock;
    pthread_cond_t bell;
    int64_t next; /* the offset that must come next */
    int gaps;
    int callbacks;
    int running;
    bool hold; /* callbacks wait while it is set */
    int states;
    int64_t seek_at; /* inside the callback that has this offset: seek to seek_to */
    int64_t seek_to;
    bool close_at_seek; /* close instead */
    flowmesh_subscription_t *subscription;
};

static void start(struct seen *seen)
{
    memset(seen, 0, sizeof(*seen));
    seen->seek_at = -1;
    pthread_mutex_init(&seen->lock, NULL);
    pthread_cond_init(&seen->bell, NULL);
}

/* Waits until `condition` holds. */
#define AWAIT(seen, condition)                                                                     \
    do {                                                                                           \
        struct timespec until;                                                                     \
        clock_gettime(CLOCK_REALTIME, &until);                                                     \
        until.tv_sec += PATIENCE_MS / 1000;                                                        \
        pthread_mutex_lock(&(seen)->lock);                                                         \
        while (!(condition))                                                                       \
            assert_int_equal(pthread_cond_timedwait(&(seen)->bell, &(seen)->lock, &until), 0);     \
        pthread_mutex_unlock(&(seen)->lock);                                                       \
    } while (0)

static void set_hold(struct seen *seen, bool hold)
{
    pthread_mutex_lock(&seen->lock);
    seen->hold = hold;
    pthread_cond_broadcast(&seen->bell);
    pthread_mutex_unlock(&seen->lock);
}

static void on_messages(const flowmesh_message_batch_t *batch, void *user_data)
{
    struct seen *seen = (struct seen *)user_data;
    pthread_mutex_lock(&seen->lock);
    seen->running++;
    seen->callbacks++;
    bool steer = false;
    for (size_t i = 0; i < flowmesh_message_batch_count(batch); i++) {
        int64_t offset = flowmesh_message_batch_at(batch, i)->offset;
        seen->gaps += offset != seen->next;
        seen->next = offset + 1;
        steer = steer || offset == seen->seek_at;
    }
    while (steer && seen->subscription == NULL)
        pthread_cond_wait(&seen->bell, &seen->lock);
    if (steer) {
        pthread_mutex_unlock(&seen->lock);
        flowmesh_status_t status =
            seen->close_at_seek
                ? flowmesh_subscription_close(seen->subscription, -1, NULL)
                : flowmesh_subscription_seek(seen->subscription, seen->seek_to, NULL, NULL);
        pthread_mutex_lock(&seen->lock);
        seen->gaps += status != FLOWMESH_OK;
        seen->seek_at = -1;
        if (!seen->close_at_seek)
            seen->next = seen->seek_to;
    }
    pthread_cond_broadcast(&seen->bell);
    while (seen->hold)
        pthread_cond_wait(&seen->bell, &seen->lock);
    seen->running--;
    pthread_cond_broadcast(&seen->bell);
    pthread_mutex_unlock(&seen->lock);
}

static void on_state(flowmesh_subscription_state_t now, const flowmesh_error_t *reason, void *data)
{
    struct seen *seen = (struct seen *)data;
    (void)now;
    (void)reason;
    pthread_mutex_lock(&seen->lock);
    seen->states++;
    pthread_cond_broadcast(&seen->bell);
    pthread_mutex_unlock(&seen->lock);
}

static flowmesh_subscription_options_t *from_start(size_t max_messages)
{
    flowmesh_subscription_options_t *options = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_subscription_options_new(&options, &error));
    OK(flowmesh_subscription_options_set_start_offset(options, 0, &error));
    OK(flowmesh_subscription_options_set_max_batch_messages(options, max_messages, &error));
    return options;
}

/* Subscribes, and frees the options. */
static void subscribe(const flowmesh_stream_t *stream, flowmesh_subscription_options_t *options,
                      struct seen *seen)
{
    flowmesh_subscription_t *subscription = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_stream_subscribe(stream, options, on_messages, seen, NULL, &subscription, &error));
    flowmesh_subscription_options_free(options);
    pthread_mutex_lock(&seen->lock);
    seen->subscription = subscription;
    pthread_cond_broadcast(&seen->bell);
    pthread_mutex_unlock(&seen->lock);
}

static void end(struct seen *seen, flowmesh_stream_t *stream, flowmesh_client_t *client)
{
    flowmesh_error_t *error = NULL;
    OK(flowmesh_subscription_close(seen->subscription, PATIENCE_MS, &error));
    assert_int_equal(seen->running, 0);
    assert_int_equal(seen->gaps, 0);
    flowmesh_subscription_free(seen->subscription);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static int64_t committed(const flowmesh_stream_t *stream)
{
    flowmesh_error_t *error = NULL;
    int64_t offset = -2;
    OK(flowmesh_stream_get_offset(stream, "default", NULL, &offset, &error));
    return offset;
}

static void a_pause_holds_callbacks_back(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_error_t *error = NULL;
    int64_t position = -1;
    struct seen seen;
    (void)state;
    start(&seen);
    subscribe(stream, from_start(10), &seen);
    write_numbers(stream, 0, 5);
    AWAIT(&seen, seen.next == 5 && seen.running == 0);
    OK(flowmesh_subscription_pause(seen.subscription, &error));
    int callbacks = seen.callbacks;
    int64_t last = write_numbers(stream, 5, 100);
    OK(flowmesh_subscription_get_position(seen.subscription, &position, &error));
    assert_int_equal(position, 5);
    assert_int_equal(seen.callbacks, callbacks);
    OK(flowmesh_subscription_resume(seen.subscription, &error));
    AWAIT(&seen, seen.next == last + 1);
    end(&seen, stream, client);
}

static void closing_the_client_is_told_to_a_paused_one(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_subscription_options_t *options = from_start(10);
    flowmesh_error_t *error = NULL;
    struct seen seen;
    (void)state;
    start(&seen);
    OK(flowmesh_subscription_options_set_state_callback(options, on_state, &seen, NULL, &error));
    subscribe(stream, options, &seen);
    AWAIT(&seen, seen.states == 1); /* connected */
    OK(flowmesh_subscription_pause(seen.subscription, &error));
    write_numbers(stream, 0, 5);
    OK(flowmesh_client_close(client, PATIENCE_MS, &error));
    assert_int_equal(seen.states, 2);
    assert_int_equal(seen.callbacks, 0);
    end(&seen, stream, client);
}

static void a_seek_inside_the_callback_holds_at_once(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    struct seen seen;
    (void)state;
    start(&seen);
    seen.seek_at = 12;
    seen.seek_to = 3;
    int64_t last = write_numbers(stream, 0, 60);
    subscribe(stream, from_start(5), &seen);
    AWAIT(&seen, seen.seek_at == -1 && seen.next == last + 1);
    assert_true(seen.callbacks >= 15); /* 13 messages, then 57 */
    end(&seen, stream, client);
}

struct seeker {
    struct seen *seen;
    flowmesh_status_t status;
    flowmesh_outcome_t outcome;
    int64_t timeout_ms;
    int running; /* callbacks when it returned */
};

static void *seek_to_40(void *argument)
{
    struct seeker *seeker = (struct seeker *)argument;
    flowmesh_call_options_t options = FLOWMESH_CALL_OPTIONS_INIT;
    flowmesh_error_t *error = NULL;
    options.timeout_ms = seeker->timeout_ms;
    seeker->status = flowmesh_subscription_seek(seeker->seen->subscription, 40, &options, &error);
    seeker->outcome = flowmesh_error_outcome(error);
    flowmesh_error_free(error);
    pthread_mutex_lock(&seeker->seen->lock);
    seeker->running = seeker->seen->running;
    if (seeker->status == FLOWMESH_OK)
        seeker->seen->next = 40;
    pthread_mutex_unlock(&seeker->seen->lock);
    return NULL;
}

static void a_seek_waits_for_the_callback_that_runs(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    struct seen seen;
    struct seeker seeker;
    flowmesh_error_t *error = NULL;
    pthread_t thread;
    (void)state;
    start(&seen);
    memset(&seeker, 0, sizeof(seeker));
    seen.hold = true;
    int64_t last = write_numbers(stream, 0, 60);
    subscribe(stream, from_start(5), &seen);
    AWAIT(&seen, seen.running == 1);
    seeker.seen = &seen;
    seeker.timeout_ms = 20;
    seek_to_40(&seeker);
    assert_int_equal(seeker.status, FLOWMESH_DEADLINE_EXCEEDED);
    assert_int_equal(seeker.outcome, FLOWMESH_OUTCOME_APPLIED);
    assert_int_equal(seeker.running, 1);
    /* It holds all the same: what comes next is 40. */
    pthread_mutex_lock(&seen.lock);
    seen.next = 40;
    pthread_mutex_unlock(&seen.lock);
    OK(flowmesh_subscription_pause(seen.subscription, &error)); /* nothing runs in between */
    seeker.timeout_ms = PATIENCE_MS;
    assert_int_equal(pthread_create(&thread, NULL, seek_to_40, &seeker), 0);
    set_hold(&seen, false);
    pthread_join(thread, NULL);
    assert_int_equal(seeker.status, FLOWMESH_OK);
    assert_int_equal(seeker.running, 0);
    OK(flowmesh_subscription_resume(seen.subscription, &error));
    AWAIT(&seen, seen.next == last + 1);
    end(&seen, stream, client);
}

static void what_was_handled_is_committed(void **state)
{
    flowmesh_error_t *error = NULL;
    (void)state;
    for (int periodic = 0; periodic < 2; periodic++) {
        flowmesh_client_t *client = open_client();
        flowmesh_stream_t *stream = open_stream(client);
        flowmesh_subscription_options_t *options = from_start(5);
        struct seen seen;
        start(&seen);
        OK(flowmesh_subscription_options_set_commit_mode(
            options, periodic ? FLOWMESH_COMMIT_PERIODIC : FLOWMESH_COMMIT_AFTER_CALLBACK,
            periodic ? 3600000 : 0, &error));
        subscribe(stream, options, &seen);
        int64_t last = write_numbers(stream, 0, 30);
        AWAIT(&seen, seen.next == last + 1 && seen.running == 0);
        if (periodic)
            assert_int_equal(committed(stream), -1);
        OK(flowmesh_subscription_close(seen.subscription, PATIENCE_MS, &error));
        assert_int_equal(committed(stream), last);
        end(&seen, stream, client);
    }
}

static void what_is_not_handled_is_not_committed(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_subscription_options_t *options = from_start(5);
    flowmesh_error_t *error = NULL;
    struct seen seen;
    (void)state;
    start(&seen);
    seen.hold = true;
    write_numbers(stream, 0, 30);
    OK(flowmesh_subscription_options_set_commit_mode(options, FLOWMESH_COMMIT_AFTER_CALLBACK, 0,
                                                     &error));
    subscribe(stream, options, &seen);
    AWAIT(&seen, seen.running == 1);
    FAILS(FLOWMESH_DEADLINE_EXCEEDED, "callback",
          flowmesh_subscription_close(seen.subscription, 10, &error));
    assert_int_equal(committed(stream), -1);
    set_hold(&seen, false);
    OK(flowmesh_subscription_close(seen.subscription, PATIENCE_MS, &error));
    assert_int_equal(committed(stream), seen.next - 1); /* the one that ran */
    assert_in_range(seen.next, 1, 5);
    end(&seen, stream, client);
}

static void a_close_inside_the_callback_commits_its_batch(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_subscription_options_t *options = from_start(100);
    flowmesh_error_t *error = NULL;
    struct seen seen;
    (void)state;
    start(&seen);
    seen.seek_at = 0;
    seen.close_at_seek = true;
    write_numbers(stream, 0, 1);
    OK(flowmesh_subscription_options_set_commit_mode(options, FLOWMESH_COMMIT_PERIODIC, 3600000,
                                                     &error));
    subscribe(stream, options, &seen);
    AWAIT(&seen, seen.seek_at == -1 && seen.running == 0);
    OK(flowmesh_subscription_close(seen.subscription, PATIENCE_MS, &error)); /* waits for it */
    assert_int_equal(committed(stream), 0);
    end(&seen, stream, client);
}

static void an_own_dispatcher_is_woken_for_callbacks_only(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_subscription_options_t *options = from_start(10);
    flowmesh_dispatcher_t *dispatcher = NULL;
    flowmesh_error_t *error = NULL;
    struct pollfd watch = {-1, POLLIN, 0};
    bool remote = strncmp(test_endpoint(), "embedded", 8) != 0;
    struct seen seen;
    size_t ran = 0;
    int turns = 0;
    (void)state;
    start(&seen);
    OK(flowmesh_dispatcher_new(0, &dispatcher, &error));
    OK(flowmesh_dispatcher_fd(dispatcher, &watch.fd, &error));
    OK(flowmesh_subscription_options_set_dispatcher(options, dispatcher, &error));
    subscribe(stream, options, &seen);
    write_numbers(stream, 0, 100);
    while (seen.next < 100) {
        assert_int_equal(poll(&watch, 1, PATIENCE_MS), 1);
        OK(flowmesh_dispatcher_run(dispatcher, 0, 0, &ran, &error));
        turns += (int)ran;
    }
    /* With an engine inside, its first turn may only begin to follow. */
    assert_in_range(turns, seen.callbacks, seen.callbacks + (remote ? 0 : 1));
    assert_int_equal(poll(&watch, 1, 20), 0);
    OK(flowmesh_subscription_pause(seen.subscription, &error));
    write_numbers(stream, 100, 10);
    if (remote)
        assert_int_equal(poll(&watch, 1, 20), 0);
    flowmesh_dispatcher_free(dispatcher);
    end(&seen, stream, client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pause_holds_callbacks_back),
        cmocka_unit_test(closing_the_client_is_told_to_a_paused_one),
        cmocka_unit_test(a_seek_inside_the_callback_holds_at_once),
        cmocka_unit_test(a_seek_waits_for_the_callback_that_runs),
        cmocka_unit_test(what_was_handled_is_committed),
        cmocka_unit_test(what_is_not_handled_is_not_committed),
        cmocka_unit_test(a_close_inside_the_callback_commits_its_batch),
        cmocka_unit_test(an_own_dispatcher_is_woken_for_callbacks_only),
    };
    return cmocka_run_group_tests(tests, NULL, end_library);
}
