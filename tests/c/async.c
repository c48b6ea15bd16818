/* Asynchronous calls: every form with its result and its failures, and exactly one completion
 * whatever happens.
 */
#include "completion.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <sys/socket.h>

/* What calls are made on. All NULL: calls that must be refused. */
struct world {
    flowmesh_client_t *client;
    flowmesh_stream_t *stream;
    flowmesh_stream_reader_t *reader;
    flowmesh_queue_t *queue;
    flowmesh_kv_t *kv;
    flowmesh_job_t *job;        /* leased */
    flowmesh_job_batch_t *jobs; /* leased */
    bool without_callback;
};

static void open_world(struct world *world)
{
    flowmesh_error_t *error = NULL;
    memset(world, 0, sizeof(*world));
    world->client = open_client();
    world->stream = open_stream(world->client);
    world->queue = open_queue(world->client);
    world->kv = open_kv(world->client);
    OK(flowmesh_stream_reader_open(world->stream, 0, NULL, &world->reader, &error));
    write_numbers(world->stream, 0, 3);
    OK(flowmesh_kv_set(world->kv, flowmesh_view_str("k"), flowmesh_view_str("v"), NULL, &error));
    for (int i = 0; i < 3; i++)
        OK(flowmesh_queue_enqueue(world->queue, flowmesh_view_str("job"), NULL, NULL, NULL,
                                  &error));
    OK(flowmesh_queue_reserve(world->queue, NULL, &world->job, &error));
    OK(flowmesh_queue_receive(world->queue, 1, NULL, &world->jobs, &error));
}

static void free_world(struct world *world)
{
    flowmesh_job_batch_free(world->jobs);
    flowmesh_job_free(world->job);
    flowmesh_kv_free(world->kv);
    flowmesh_queue_free(world->queue);
    flowmesh_stream_reader_free(world->reader);
    flowmesh_stream_free(world->stream);
    flowmesh_client_free(world->client);
}

/* Every asynchronous form but that of close, numbered from 0. */
enum { CONNECT, FIRST_WITH_OPTIONS, FORMS = 26 };

/* Starts the form of that number, none of which gets into another's way: with `cancel` in its
 * options, where it has any. */
static flowmesh_status_t start(int form, const struct world *w, struct call *call,
                               const flowmesh_cancel_t *cancel, flowmesh_operation_t **operation,
                               flowmesh_error_t **error)
{
    flowmesh_call_options_t plain = FLOWMESH_CALL_OPTIONS_INIT;
    flowmesh_write_options_t write = FLOWMESH_WRITE_OPTIONS_INIT;
    flowmesh_read_options_t read = FLOWMESH_READ_OPTIONS_INIT;
    flowmesh_offset_options_t offset = FLOWMESH_OFFSET_OPTIONS_INIT;
    flowmesh_enqueue_options_t enqueue = FLOWMESH_ENQUEUE_OPTIONS_INIT;
    flowmesh_reserve_options_t reserve = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_nack_options_t nack = FLOWMESH_NACK_OPTIONS_INIT;
    flowmesh_set_options_t set = FLOWMESH_SET_OPTIONS_INIT;
    flowmesh_retry_policy_t policy = FLOWMESH_RETRY_POLICY_INIT;
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    flowmesh_view_t key = FLOWMESH_VIEW_LITERAL("k");
    flowmesh_view_t value = FLOWMESH_VIEW_LITERAL("v");
    plain.cancel = write.cancel = read.cancel = offset.cancel = cancel;
    enqueue.cancel = reserve.cancel = nack.cancel = set.cancel = cancel;
    event.payload = value;

#define TELL(callback) (w->without_callback ? NULL : (callback)), call, on_drop, operation, error
    switch (form) {
    case CONNECT:
        return flowmesh_client_connect_async(w->client, PATIENCE_MS, TELL(on_done));
    case FIRST_WITH_OPTIONS:
        return flowmesh_client_health_check_async(w->client, &plain, TELL(on_done));
    case 2:
        return flowmesh_client_readiness_check_async(w->client, &plain, TELL(on_bool));
    case 3:
        return flowmesh_stream_write_async(w->stream, &event, 1, &write, TELL(on_offsets));
    case 4:
        return flowmesh_stream_read_async(w->stream, 0, &read, TELL(on_batch));
    case 5:
        return flowmesh_stream_commit_offset_async(w->stream, "g", 1, &offset, TELL(on_done));
    case 6:
        return flowmesh_stream_get_offset_async(w->stream, "g", &offset, TELL(on_offset));
    case 7:
        return flowmesh_stream_latest_offset_async(w->stream, &offset, TELL(on_offset));
    case 8:
        return flowmesh_stream_group_state_async(w->stream, "g", &offset, TELL(on_state));
    case 9:
        return flowmesh_stream_reader_next_async(w->reader, &plain, TELL(on_batch));
    case 10:
        return flowmesh_queue_enqueue_async(w->queue, value, &enqueue, TELL(on_enqueued));
    case 11:
        return flowmesh_queue_reserve_async(w->queue, &reserve, TELL(on_job));
    case 12:
        return flowmesh_queue_receive_async(w->queue, 1, &reserve, TELL(on_jobs));
    case 13:
        return flowmesh_queue_ack_async(w->queue, "no such job", &plain, TELL(on_done));
    case 14:
        return flowmesh_queue_stats_async(w->queue, &plain, TELL(on_stats));
    case 15:
        return flowmesh_queue_set_retry_policy_async(w->queue, &policy, &plain, TELL(on_done));
    case 16:
        return flowmesh_queue_get_retry_policy_async(w->queue, &plain, TELL(on_policy));
    case 17:
        return flowmesh_queue_list_dlq_jobs_async(w->queue, 0, &plain, TELL(on_jobs));
    case 18:
        return flowmesh_job_batch_ack_async(w->jobs, &plain, TELL(on_count));
    case 19:
        return flowmesh_job_nack_async(w->job, &nack, TELL(on_bool));
    case 20:
        return flowmesh_job_ack_async(flowmesh_job_batch_at(w->jobs, 0), &plain, TELL(on_done));
    case 21:
        return flowmesh_kv_set_async(w->kv, key, value, &set, TELL(on_done));
    case 22:
        return flowmesh_kv_get_async(w->kv, key, &plain, TELL(on_value));
    case 23:
        return flowmesh_kv_exists_async(w->kv, key, &plain, TELL(on_bool));
    case 24:
        return flowmesh_kv_list_keys_async(w->kv, key, &plain, TELL(on_keys));
    case 25:
        return flowmesh_kv_delete_async(w->kv, value, &plain, TELL(on_done));
    default:
        fail_msg("no form %d", form);
        return -1;
    }
#undef TELL
}

static void every_form_succeeds(void **state)
{
    struct world w;
    flowmesh_error_t *error = NULL;
    struct call *calls[FORMS];
    (void)state;
    open_world(&w);
    for (int form = 0; form < FORMS; form++) {
        calls[form] = call_new();
        OK(start(form, &w, calls[form], NULL, NULL, &error));
        ENDS(FLOWMESH_OK, calls[form]);
        assert_false(pthread_equal(calls[form]->thread, pthread_self()));
    }
    assert_true(calls[2]->yes);
    assert_int_equal(calls[3]->count, 1);
    assert_int_equal(calls[3]->number, 3);
    assert_int_equal(flowmesh_message_batch_count(calls[4]->batch), 4);
    check_view(flowmesh_message_batch_at(calls[4]->batch, 2)->payload, "2");
    assert_int_equal(calls[6]->number, 1);
    assert_int_equal(calls[7]->number, 3);
    assert_int_equal(calls[8]->state.committed_offset, 1);
    assert_int_equal(calls[8]->state.lag, 2);
    assert_int_equal(flowmesh_message_batch_count(calls[9]->batch), 4);
    assert_int_equal(strlen(calls[10]->id), FLOWMESH_JOB_ID_SIZE - 1);
    assert_int_equal(calls[10]->number, 3);
    check_view(calls[11]->job->payload, "job");
    assert_string_equal(flowmesh_job_batch_at(calls[12]->jobs, 0)->id, calls[10]->id);
    assert_int_equal(calls[14]->stats.in_flight_jobs, 4);
    assert_int_equal(calls[16]->policy.max_attempts, 3);
    assert_int_equal(flowmesh_job_batch_count(calls[17]->jobs), 0);
    assert_int_equal(calls[18]->count, 1);
    assert_false(calls[19]->yes);
    check_view(flowmesh_value_data(calls[22]->value), "v");
    assert_true(calls[23]->yes);
    assert_int_equal(flowmesh_key_list_count(calls[24]->keys), 1);
    for (int form = 0; form < FORMS; form++)
        call_free(calls[form]);
    free_world(&w);
}

static void dead_letters_are_told_of_and_replayed(void **state)
{
    struct world w;
    flowmesh_error_t *error = NULL;
    flowmesh_retry_policy_t once = FLOWMESH_RETRY_POLICY_INIT;
    struct call *nacked = call_new(), *again = call_new(), *replayed = call_new();
    struct call *listed = call_new();
    (void)state;
    open_world(&w);
    once.max_attempts = 1;
    OK(flowmesh_queue_set_retry_policy(w.queue, &once, NULL, &error));
    OK(flowmesh_queue_nack_async(w.queue, w.job->id, NULL, on_bool, nacked, on_drop, NULL, &error));
    ENDS(FLOWMESH_OK, nacked);
    assert_true(nacked->yes);
    OK(flowmesh_queue_nack_async(w.queue, w.job->id, NULL, on_bool, again, on_drop, NULL, &error));
    ENDS(FLOWMESH_NOT_FOUND, again);
    assert_non_null(strstr(again->message, "acme/test/queue/"));
    OK(flowmesh_queue_list_dlq_jobs_async(w.queue, 0, NULL, on_jobs, listed, on_drop, NULL,
                                          &error));
    ENDS(FLOWMESH_OK, listed);
    assert_int_equal(flowmesh_job_batch_count(listed->jobs), 1);
    OK(flowmesh_queue_replay_dlq_job_async(w.queue, flowmesh_job_batch_at(listed->jobs, 0)->id,
                                           NULL, on_enqueued, replayed, on_drop, NULL, &error));
    ENDS(FLOWMESH_OK, replayed);
    assert_int_equal(strlen(replayed->id), FLOWMESH_JOB_ID_SIZE - 1);
    call_free(nacked);
    call_free(again);
    call_free(listed);
    call_free(replayed);
    free_world(&w);
}

static void every_form_refuses_bad_arguments_and_releases(void **state)
{
    struct world w, nowhere;
    flowmesh_error_t *error = NULL;
    flowmesh_operation_t *operation = NULL;
    (void)state;
    open_world(&w);
    memset(&nowhere, 0, sizeof(nowhere));
    w.without_callback = true;
    for (int form = 0; form < FORMS; form++) {
        struct call *call = call_new();
        FAILS(FLOWMESH_INVALID_ARGUMENT, "callback must not be NULL",
              start(form, &w, call, NULL, &operation, &error));
        call_refused(call);
        call = call_new();
        FAILS(FLOWMESH_INVALID_ARGUMENT, "must not be NULL",
              start(form, &nowhere, call, NULL, &operation, &error));
        call_refused(call);
        assert_null(operation);
    }
    struct call *call = call_new();
    FAILS(FLOWMESH_INVALID_ARGUMENT, "callback must not be NULL",
          flowmesh_client_close_async(w.client, 0, NULL, call, on_drop, NULL, &error));
    call_refused(call);
    call = call_new();
    FAILS(FLOWMESH_INVALID_ARGUMENT, "timeout_ms",
          flowmesh_client_close_async(w.client, -2, on_done, call, on_drop, NULL, &error));
    call_refused(call);
    OK(flowmesh_client_health_check(w.client, NULL, &error)); /* and it is not closed */
    /* Without a release nothing is released; without an error nothing is told. */
    assert_int_equal(
        flowmesh_kv_get_async(NULL, flowmesh_view_str("k"), NULL, on_value, NULL, NULL, NULL, NULL),
        FLOWMESH_INVALID_ARGUMENT);
    FAILS(FLOWMESH_INVALID_ARGUMENT, "operation must not be NULL",
          flowmesh_operation_cancel(NULL, &error));
    flowmesh_operation_free(NULL);
    free_world(&w);
}

static void what_breaks_a_rule_of_values_comes_with_the_completion(void **state)
{
    struct world w;
    flowmesh_error_t *error = NULL;
    struct call *call = call_new();
    (void)state;
    open_world(&w);
    OK(flowmesh_kv_get_async(w.kv, flowmesh_view_str(""), NULL, on_value, call, on_drop, NULL,
                             &error));
    ENDS(FLOWMESH_INVALID_ARGUMENT, call);
    call_free(call);
    free_world(&w);
}

static void every_form_can_be_cancelled_by_a_token(void **state)
{
    struct world w;
    flowmesh_error_t *error = NULL;
    flowmesh_cancel_t *cancel = NULL;
    (void)state;
    open_world(&w);
    OK(flowmesh_cancel_new(&cancel, &error));
    OK(flowmesh_cancel_cancel(cancel, &error));
    for (int form = FIRST_WITH_OPTIONS; form < FORMS; form++) {
        struct call *call = call_new();
        OK(start(form, &w, call, cancel, NULL, &error));
        ENDS(FLOWMESH_CANCELLED, call);
        assert_int_equal(call->outcome, FLOWMESH_OUTCOME_NOT_APPLIED);
        call_free(call);
    }
    flowmesh_cancel_free(cancel);
    free_world(&w);
}

static void a_call_that_waits_is_cancelled_by_its_operation(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_error_t *error = NULL;
    flowmesh_reserve_options_t forever = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_operation_t *first = NULL, *second = NULL;
    struct call *one = call_new(), *two = call_new();
    (void)state;
    forever.wait_ms = -1;
    OK(flowmesh_queue_reserve_async(queue, &forever, on_job, one, on_drop, &first, &error));
    OK(flowmesh_queue_reserve_async(queue, &forever, on_job, two, on_drop, &second, &error));
    OK(flowmesh_operation_cancel(first, &error));
    ENDS(FLOWMESH_CANCELLED, one);
    assert_false(call_is_over(two)); /* only the one */
    OK(flowmesh_operation_cancel(first, &error));
    flowmesh_operation_free(first);
    OK(flowmesh_queue_enqueue(queue, flowmesh_view_str("j"), NULL, NULL, NULL, &error));
    ENDS(FLOWMESH_OK, two);
    assert_non_null(two->job);
    OK(flowmesh_operation_cancel(second, &error)); /* after its end: nothing happens */
    flowmesh_operation_free(second);
    call_free(one);
    call_free(two);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static void freeing_an_operation_cancels_nothing(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_error_t *error = NULL;
    flowmesh_reserve_options_t forever = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_operation_t *operation = NULL;
    struct call *call = call_new();
    (void)state;
    forever.wait_ms = -1;
    OK(flowmesh_queue_reserve_async(queue, &forever, on_job, call, on_drop, &operation, &error));
    flowmesh_operation_free(operation);
    OK(flowmesh_queue_enqueue(queue, flowmesh_view_str("j"), NULL, NULL, NULL, &error));
    ENDS(FLOWMESH_OK, call);
    assert_non_null(call->job);
    call_free(call);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

/* All kinds of calls, and some that wait for ever. */
enum { WAITING = 5, MANY = FORMS + WAITING };

static void start_many(const struct world *w, struct call **calls)
{
    flowmesh_error_t *error = NULL;
    flowmesh_reserve_options_t forever = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_queue_t *empty = open_queue(w->client);
    forever.wait_ms = -1;
    for (int i = 0; i < MANY; i++) {
        calls[i] = call_new();
        if (i < FORMS)
            OK(start(i, w, calls[i], NULL, NULL, &error));
        else
            OK(flowmesh_queue_reserve_async(empty, &forever, on_job, calls[i], on_drop, NULL,
                                            &error));
    }
    flowmesh_queue_free(empty);
}

/* Each has ended once, by itself or because of the close. */
static void check_many(struct call **calls)
{
    for (int i = 0; i < MANY; i++) {
        flowmesh_status_t status = (assert_true(call_wait(calls[i])), calls[i]->status);
        if (i < FORMS && status == FLOWMESH_OK)
            ENDS(FLOWMESH_OK, calls[i]);
        else
            ENDS(FLOWMESH_CLOSED, calls[i]);
        call_free(calls[i]);
    }
}

static void a_close_completes_every_call(void **state)
{
    struct world w;
    flowmesh_error_t *error = NULL;
    struct call *calls[MANY];
    struct call *late = call_new();
    (void)state;
    open_world(&w);
    start_many(&w, calls);
    OK(flowmesh_client_close(w.client, PATIENCE_MS, &error));
    for (int i = 0; i < MANY; i++)
        assert_true(call_is_over(calls[i])); /* after OK nothing runs any more */
    check_many(calls);
    FAILS(FLOWMESH_CLOSED, "closed", start(22, &w, late, NULL, NULL, &error));
    call_refused(late);
    free_world(&w);
}

static void an_asynchronous_close_completes_last(void **state)
{
    struct world w;
    flowmesh_error_t *error = NULL;
    struct call *calls[MANY];
    struct call *closed = call_new(), *again = call_new();
    (void)state;
    open_world(&w);
    start_many(&w, calls);
    OK(flowmesh_client_close_async(w.client, -1, on_done, closed, on_drop, NULL, &error));
    FAILS(FLOWMESH_CLOSED, "closed", flowmesh_client_health_check(w.client, NULL, &error));
    ENDS(FLOWMESH_OK, closed);
    for (int i = 0; i < MANY; i++)
        assert_true(call_is_over(calls[i]));
    check_many(calls);
    OK(flowmesh_client_close_async(w.client, -1, on_done, again, on_drop, NULL, &error));
    ENDS(FLOWMESH_OK, again);
    call_free(closed);
    call_free(again);
    free_world(&w);
}

static void calls_outlive_every_handle(void **state)
{
    struct world w;
    flowmesh_error_t *error = NULL;
    struct call *calls[FORMS];
    (void)state;
    open_world(&w);
    for (int form = 0; form < FORMS; form++) {
        flowmesh_operation_t *operation = NULL;
        calls[form] = call_new();
        OK(start(form, &w, calls[form], NULL, &operation, &error));
        flowmesh_operation_free(operation);
    }
    free_world(&w);
    for (int form = 0; form < FORMS; form++) {
        ENDS(FLOWMESH_OK, calls[form]);
        call_free(calls[form]);
    }
}

static void a_shutdown_completes_every_call(void **state)
{
    struct world w;
    flowmesh_error_t *error = NULL;
    struct call *calls[MANY];
    struct call *late = call_new();
    (void)state;
    open_world(&w);
    start_many(&w, calls);
    OK(flowmesh_shutdown(PATIENCE_MS, &error));
    for (int i = 0; i < MANY; i++)
        assert_true(call_is_over(calls[i]));
    check_many(calls);
    FAILS(FLOWMESH_CLOSED, "", start(22, &w, late, NULL, NULL, &error));
    call_refused(late);
    free_world(&w);
}

/* A server that accepts connections and answers nothing. */
static int silent_server(char *endpoint, size_t size)
{
    struct sockaddr_in address;
    socklen_t length = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    memset(&address, 0, sizeof(address));
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(listener >= 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    snprintf(endpoint, size, "127.0.0.1:%d", (int)ntohs(address.sin_port));
    return listener;
}

static void a_lost_connection_completes_its_calls(void **state)
{
    char endpoint[32], bytes[256];
    int listener = silent_server(endpoint, sizeof(endpoint));
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    struct call *write = call_new(), *read = call_new();
    (void)state;
    event.payload = flowmesh_view_str("e");
    OK(flowmesh_client_open(endpoint, NULL, &client, &error));
    flowmesh_stream_t *stream = open_stream(client);
    OK(flowmesh_stream_write_async(stream, &event, 1, NULL, on_offsets, write, on_drop, NULL,
                                   &error));
    int connection = accept(listener, NULL, NULL);
    assert_true(connection >= 0);
    assert_true(recv(connection, bytes, sizeof(bytes), 0) > 0);
    OK(flowmesh_stream_latest_offset_async(stream, NULL, on_offset, read, on_drop, NULL, &error));
    assert_false(call_is_over(write));
    close(listener); /* the read will not find a new connection */
    close(connection);
    ENDS(FLOWMESH_UNAVAILABLE, write);
    ENDS(FLOWMESH_UNAVAILABLE, read);
    assert_int_not_equal(write->outcome, FLOWMESH_OUTCOME_APPLIED);
    assert_int_equal(read->outcome, FLOWMESH_OUTCOME_NOT_APPLIED);
    call_free(write);
    call_free(read);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void calls_on_the_wire_end_by_cancel_deadline_and_close(void **state)
{
    char endpoint[32];
    int listener = silent_server(endpoint, sizeof(endpoint));
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    flowmesh_operation_t *operation = NULL;
    flowmesh_call_options_t soon = FLOWMESH_CALL_OPTIONS_INIT;
    struct call *cancelled = call_new(), *late = call_new(), *left = call_new();
    (void)state;
    soon.timeout_ms = 1;
    OK(flowmesh_client_open(endpoint, NULL, &client, &error));
    flowmesh_kv_t *kv = open_kv(client);
    flowmesh_view_t key = flowmesh_view_str("k");
    OK(flowmesh_kv_get_async(kv, key, NULL, on_value, cancelled, on_drop, &operation, &error));
    OK(flowmesh_kv_delete_async(kv, key, &soon, on_done, late, on_drop, NULL, &error));
    OK(flowmesh_kv_exists_async(kv, key, NULL, on_bool, left, on_drop, NULL, &error));
    int connection = accept(listener, NULL, NULL);
    assert_true(connection >= 0);
    OK(flowmesh_operation_cancel(operation, &error));
    flowmesh_operation_free(operation);
    ENDS(FLOWMESH_CANCELLED, cancelled);
    ENDS(FLOWMESH_DEADLINE_EXCEEDED, late);
    assert_false(call_is_over(left));
    OK(flowmesh_client_close(client, PATIENCE_MS, &error));
    ENDS(FLOWMESH_CLOSED, left);
    close(connection);
    close(listener);
    call_free(cancelled);
    call_free(late);
    call_free(left);
    flowmesh_kv_free(kv);
    flowmesh_client_free(client);
}

static void a_page_can_be_cancelled_behind_another(void **state)
{
    char endpoint[32];
    int listener = silent_server(endpoint, sizeof(endpoint));
    flowmesh_client_t *client = NULL;
    flowmesh_stream_reader_t *reader = NULL;
    flowmesh_error_t *error = NULL;
    flowmesh_operation_t *operation = NULL;
    struct call *first = call_new(), *second = call_new();
    (void)state;
    OK(flowmesh_client_open(endpoint, NULL, &client, &error));
    flowmesh_stream_t *stream = open_stream(client);
    OK(flowmesh_stream_reader_open(stream, 0, NULL, &reader, &error));
    OK(flowmesh_stream_reader_next_async(reader, NULL, on_batch, first, on_drop, NULL, &error));
    OK(flowmesh_stream_reader_next_async(reader, NULL, on_batch, second, on_drop, &operation,
                                         &error));
    OK(flowmesh_operation_cancel(operation, &error));
    flowmesh_operation_free(operation);
    ENDS(FLOWMESH_CANCELLED, second);
    assert_int_equal(second->outcome, FLOWMESH_OUTCOME_NOT_APPLIED);
    assert_false(call_is_over(first));
    OK(flowmesh_client_close(client, PATIENCE_MS, &error));
    ENDS(FLOWMESH_CLOSED, first);
    close(listener);
    call_free(first);
    call_free(second);
    flowmesh_stream_reader_free(reader);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

/* A callback that lasts until the test lets it go. */
struct blocked {
    struct call *call;
    sem_t entered, released;
};

static void on_blocked(flowmesh_error_t *error, void *user_data)
{
    struct blocked *blocked = (struct blocked *)user_data;
    sem_post(&blocked->entered);
    sem_wait(&blocked->released);
    call_done(call_noted(error, blocked->call));
}

static void drop_blocked(void *user_data)
{
    on_drop(((struct blocked *)user_data)->call);
}

static void start_blocked(struct blocked *blocked, const flowmesh_client_t *client)
{
    flowmesh_error_t *error = NULL;
    blocked->call = call_new();
    sem_init(&blocked->entered, 0, 0);
    sem_init(&blocked->released, 0, 0);
    OK(flowmesh_client_health_check_async(client, NULL, on_blocked, blocked, drop_blocked, NULL,
                                          &error));
    sem_wait(&blocked->entered);
}

/* What a callback that lasts holds up comes when it has ended, whatever was told meanwhile. */
static void check_held_up(struct blocked *blocked, struct call *behind)
{
    assert_false(call_is_over(behind));
    sem_post(&blocked->released);
    ENDS(FLOWMESH_OK, blocked->call);
    ENDS(FLOWMESH_CLOSED, behind);
    call_free(blocked->call);
    call_free(behind);
    sem_destroy(&blocked->entered);
    sem_destroy(&blocked->released);
}

static void a_close_that_times_out_loses_no_completion(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_error_t *error = NULL;
    flowmesh_reserve_options_t forever = FLOWMESH_RESERVE_OPTIONS_INIT;
    struct blocked blocked;
    struct call *behind = call_new();
    (void)state;
    forever.wait_ms = -1;
    start_blocked(&blocked, client);
    OK(flowmesh_queue_reserve_async(queue, &forever, on_job, behind, on_drop, NULL, &error));
    FAILS(FLOWMESH_DEADLINE_EXCEEDED, "callback", flowmesh_client_close(client, 20, &error));
    check_held_up(&blocked, behind);
    OK(flowmesh_client_close(client, PATIENCE_MS, &error));
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

static void a_shutdown_that_times_out_loses_no_completion(void **state)
{
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    flowmesh_error_t *error = NULL;
    flowmesh_reserve_options_t forever = FLOWMESH_RESERVE_OPTIONS_INIT;
    struct blocked blocked;
    struct call *behind = call_new();
    (void)state;
    forever.wait_ms = -1;
    start_blocked(&blocked, client);
    OK(flowmesh_queue_reserve_async(queue, &forever, on_job, behind, on_drop, NULL, &error));
    FAILS(FLOWMESH_DEADLINE_EXCEEDED, "shutdown", flowmesh_shutdown(20, &error));
    check_held_up(&blocked, behind);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
}

/* In a callback: blocking calls, another asynchronous call, close, and the last free. */
struct chain {
    struct call *call;
    flowmesh_client_t *client;
    flowmesh_kv_t *kv;
    struct call *next;
    flowmesh_status_t statuses[4];
};

static void on_chain(flowmesh_error_t *error, flowmesh_value_t *value, void *user_data)
{
    struct chain *chain = (struct chain *)user_data;
    flowmesh_view_t key = flowmesh_view_str("k");
    flowmesh_value_free(value);
    chain->statuses[0] = flowmesh_kv_set(chain->kv, key, flowmesh_view_str("w"), NULL, NULL);
    chain->statuses[1] =
        flowmesh_kv_get_async(chain->kv, key, NULL, on_value, chain->next, on_drop, NULL, NULL);
    chain->statuses[2] = flowmesh_client_close(chain->client, -1, NULL);
    chain->statuses[3] = flowmesh_client_health_check(chain->client, NULL, NULL);
    flowmesh_kv_free(chain->kv);
    flowmesh_client_free(chain->client);
    call_done(call_noted(error, chain->call));
}

static void drop_chain(void *user_data)
{
    on_drop(((struct chain *)user_data)->call);
}

static void callbacks_may_block_start_close_and_free(void **state)
{
    flowmesh_error_t *error = NULL;
    struct chain chain;
    flowmesh_view_t key = flowmesh_view_str("k");
    (void)state;
    chain.call = call_new();
    chain.next = call_new();
    chain.client = open_client();
    chain.kv = open_kv(chain.client);
    OK(flowmesh_kv_set(chain.kv, key, flowmesh_view_str("v"), NULL, &error));
    OK(flowmesh_kv_get_async(chain.kv, key, NULL, on_chain, &chain, drop_chain, NULL, &error));
    ENDS(FLOWMESH_OK, chain.call);
    assert_int_equal(chain.statuses[0], FLOWMESH_OK);
    assert_int_equal(chain.statuses[1], FLOWMESH_OK);
    assert_int_equal(chain.statuses[2], FLOWMESH_OK);
    assert_int_equal(chain.statuses[3], FLOWMESH_CLOSED);
    assert_true(call_wait(chain.next));
    ENDS(chain.next->status == FLOWMESH_OK ? FLOWMESH_OK : FLOWMESH_CLOSED, chain.next);
    call_free(chain.call);
    call_free(chain.next);
}

static void a_thousand_calls_from_one_thread(void **state)
{
    enum { CALLS = 1000 };
    flowmesh_client_t *client = open_client();
    flowmesh_kv_t *kv = open_kv(client);
    flowmesh_error_t *error = NULL;
    static struct call *calls[CALLS];
    char key[16];
    (void)state;
    for (int i = 0; i < CALLS; i++) {
        flowmesh_view_t text = (snprintf(key, sizeof(key), "%d", i), flowmesh_view_str(key));
        calls[i] = call_new();
        OK(flowmesh_kv_set_async(kv, text, text, NULL, on_done, calls[i], on_drop, NULL, &error));
    }
    for (int i = 0; i < CALLS; i++) {
        ENDS(FLOWMESH_OK, calls[i]);
        call_free(calls[i]);
        calls[i] = call_new();
        snprintf(key, sizeof(key), "%d", i);
        OK(flowmesh_kv_get_async(kv, flowmesh_view_str(key), NULL, on_value, calls[i], on_drop,
                                 NULL, &error));
    }
    for (int i = 0; i < CALLS; i++) {
        ENDS(FLOWMESH_OK, calls[i]);
        snprintf(key, sizeof(key), "%d", i);
        check_view(flowmesh_value_data(calls[i]->value), key);
        call_free(calls[i]);
    }
    flowmesh_kv_free(kv);
    flowmesh_client_free(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_succeeds),
        cmocka_unit_test(dead_letters_are_told_of_and_replayed),
        cmocka_unit_test(every_form_refuses_bad_arguments_and_releases),
        cmocka_unit_test(what_breaks_a_rule_of_values_comes_with_the_completion),
        cmocka_unit_test(every_form_can_be_cancelled_by_a_token),
        cmocka_unit_test(a_call_that_waits_is_cancelled_by_its_operation),
        cmocka_unit_test(freeing_an_operation_cancels_nothing),
        cmocka_unit_test(a_close_completes_every_call),
        cmocka_unit_test(an_asynchronous_close_completes_last),
        cmocka_unit_test(calls_outlive_every_handle),
        cmocka_unit_test(a_lost_connection_completes_its_calls),
        cmocka_unit_test(calls_on_the_wire_end_by_cancel_deadline_and_close),
        cmocka_unit_test(a_page_can_be_cancelled_behind_another),
        cmocka_unit_test(a_close_that_times_out_loses_no_completion),
        cmocka_unit_test(a_shutdown_that_times_out_loses_no_completion),
        cmocka_unit_test(callbacks_may_block_start_close_and_free),
        cmocka_unit_test(a_thousand_calls_from_one_thread),
        cmocka_unit_test(a_shutdown_completes_every_call),
    };
    return cmocka_run_group_tests(tests, NULL, end_library);
}
