/* Producers: a report for every message, full buffers, and every way to end. */
#include <pthread.h>
#include <semaphore.h>
#include <sys/wait.h>

#include "test.h"

enum { MANY = 5000 };

/* What reports said, one after the other. */
struct record {
    int tags[MANY]; /* message_data of each, as an index into `numbers` */
    int64_t positions[MANY];
    flowmesh_status_t statuses[MANY];
    flowmesh_outcome_t outcomes[MANY];
    char ids[MANY][FLOWMESH_JOB_ID_SIZE];
    int count, released, writable;
    sem_t *hold;                   /* the callback waits for it, when not NULL */
    flowmesh_producer_t *producer; /* for callbacks that use it */
};

static int numbers[MANY]; /* their addresses are the message data */

static void on_reports(const flowmesh_report_batch_t *reports, void *user_data)
{
    struct record *record = (struct record *)user_data;
    size_t count = flowmesh_report_batch_count(reports);
    assert_true(count > 0);
    assert_null(flowmesh_report_batch_at(reports, count));
    if (record->hold != NULL) {
        sem_wait(record->hold);
    }
    for (size_t i = 0; i < count; i++) {
        const flowmesh_report_t *report = flowmesh_report_batch_at(reports, i);
        int at = record->count++;
        assert_true(at < MANY);
        record->tags[at] = (int)((int *)report->message_data - numbers);
        record->positions[at] = report->position;
        record->statuses[at] = report->status;
        record->outcomes[at] = report->outcome;
        assert_int_equal(report->status, flowmesh_error_status(report->error));
        if (report->job_id != NULL) {
            strcpy(record->ids[at], report->job_id);
        }
    }
}

static void on_writable(void *user_data)
{
    ((struct record *)user_data)->writable++;
}

static void release(void *user_data)
{
    ((struct record *)user_data)->released++;
}

static flowmesh_producer_options_t *recording(struct record *record)
{
    flowmesh_producer_options_t *options = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_producer_options_new(&options, &error));
    OK(flowmesh_producer_options_set_report_callback(options, on_reports, record, release, &error));
    return options;
}

static struct record *new_record(void)
{
    struct record *record = (struct record *)calloc(1, sizeof(*record));
    assert_non_null(record);
    return record;
}

static flowmesh_producer_t *open_stream_producer(const flowmesh_client_t *client,
                                                 flowmesh_producer_options_t *options)
{
    flowmesh_producer_t *producer = NULL;
    flowmesh_error_t *error = NULL;
    flowmesh_stream_t *stream = open_stream(client);
    OK(flowmesh_stream_producer_open(stream, options, &producer, &error));
    flowmesh_producer_options_free(options);
    flowmesh_stream_free(stream); /* the producer keeps it */
    return producer;
}

static flowmesh_status_t send_number(flowmesh_producer_t *producer, int number, int64_t timeout_ms,
                                     flowmesh_error_t **error)
{
    char text[16];
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    snprintf(text, sizeof(text), "%d", number);
    event.payload = flowmesh_view_str(text);
    return flowmesh_producer_send(producer, &event, &numbers[number], timeout_ms, error);
}

static void every_event_is_reported_in_order(void **state)
{
    flowmesh_error_t *error = NULL;
    flowmesh_client_t *client = open_client();
    struct record *record = new_record();
    flowmesh_producer_t *producer = open_stream_producer(client, recording(record));
    size_t unsent = 99;
    (void)state;
    for (int i = 0; i < MANY; i++) {
        OK(send_number(producer, i, -1, &error));
    }
    OK(flowmesh_producer_flush(producer, PATIENCE_MS, &error));
    assert_int_equal(record->count, MANY);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(record->tags[i], i);
        assert_int_equal(record->positions[i], i);
        assert_int_equal(record->statuses[i], FLOWMESH_OK);
        assert_int_equal(record->outcomes[i], FLOWMESH_OUTCOME_APPLIED);
    }
    assert_int_equal(record->released, 0);
    OK(flowmesh_producer_close(producer, PATIENCE_MS, &unsent, &error));
    assert_int_equal(unsent, 0);
    assert_int_equal(record->released, 1);
    OK(flowmesh_producer_close(producer, PATIENCE_MS, NULL, &error));
    FAILS(FLOWMESH_CLOSED, "was closed", send_number(producer, 0, -1, &error));
    flowmesh_client_free(client);
    flowmesh_producer_free(producer);
    assert_int_equal(record->released, 1);
    free(record);
}

static void headers_are_stored_with_the_event(void **state)
{
    flowmesh_error_t *error = NULL;
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_producer_t *producer = NULL;
    flowmesh_message_batch_t *batch = NULL;
    flowmesh_header_t headers[2] = {
        {FLOWMESH_VIEW_LITERAL("a"), FLOWMESH_VIEW_LITERAL("1")},
        {FLOWMESH_VIEW_LITERAL("b"), FLOWMESH_VIEW_INIT},
    };
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    flowmesh_view_t value = FLOWMESH_VIEW_INIT;
    (void)state;
    event.payload = FLOWMESH_VIEW_LITERAL("payload");
    event.headers = headers;
    event.header_count = 2;
    OK(flowmesh_stream_producer_open(stream, NULL, &producer, &error));
    OK(flowmesh_producer_send(producer, &event, NULL, -1, &error));
    OK(flowmesh_producer_flush(producer, -1, &error));
    OK(flowmesh_stream_read(stream, 0, NULL, &batch, &error));
    assert_int_equal(flowmesh_message_batch_count(batch), 1);
    check_view(flowmesh_message_batch_at(batch, 0)->payload, "payload");
    assert_true(flowmesh_message_get_header(flowmesh_message_batch_at(batch, 0), "a", &value));
    check_view(value, "1");
    flowmesh_message_batch_free(batch);
    flowmesh_producer_free(producer);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void jobs_are_reported_with_number_and_id(void **state)
{
    enum { JOBS = 300 };
    flowmesh_error_t *error = NULL;
    flowmesh_client_t *client = open_client();
    flowmesh_queue_t *queue = open_queue(client);
    struct record *record = new_record();
    flowmesh_producer_options_t *options = recording(record);
    flowmesh_producer_t *producer = NULL;
    flowmesh_event_t late = FLOWMESH_EVENT_INIT;
    flowmesh_queue_stats_t stats = FLOWMESH_QUEUE_STATS_INIT;
    (void)state;
    OK(flowmesh_producer_options_set_max_in_flight(options, 1, &error));
    OK(flowmesh_queue_producer_open(queue, options, &producer, &error));
    flowmesh_producer_options_free(options);
    for (int i = 0; i < JOBS; i++) {
        OK(send_number(producer, i, -1, &error));
    }
    late.payload = FLOWMESH_VIEW_LITERAL("late");
    OK(flowmesh_producer_send_delayed(producer, &late, 3600000, &numbers[JOBS], -1, &error));
    OK(flowmesh_producer_close(producer, PATIENCE_MS, NULL, &error));
    assert_int_equal(record->count, JOBS + 1);
    for (int i = 0; i < JOBS + 1; i++) {
        assert_int_equal(record->tags[i], i);
        assert_int_equal(record->positions[i], i);
        assert_int_equal(strlen(record->ids[i]), FLOWMESH_JOB_ID_SIZE - 1);
    }
    OK(flowmesh_queue_stats(queue, NULL, &stats, &error));
    assert_int_equal(stats.pending_jobs, JOBS + 1);
    flowmesh_producer_free(producer);
    flowmesh_queue_free(queue);
    flowmesh_client_free(client);
    free(record);
}

static void a_full_buffer_refuses_and_says_when_there_is_room(void **state)
{
    flowmesh_error_t *error = NULL;
    flowmesh_client_t *client = open_client();
    struct record *record = new_record();
    flowmesh_producer_options_t *options = recording(record);
    flowmesh_producer_t *producer;
    sem_t hold;
    int accepted = 0;
    (void)state;
    sem_init(&hold, 0, 0);
    record->hold = &hold;
    OK(flowmesh_producer_options_set_writable_callback(options, on_writable, record, NULL, &error));
    OK(flowmesh_producer_options_set_max_buffered_messages(options, 2, &error));
    OK(flowmesh_producer_options_set_max_batch_messages(options, 1, &error));
    producer = open_stream_producer(client, options);
    /* While no report is taken, only so many get on. */
    while (send_number(producer, accepted, 200, &error) == FLOWMESH_OK) {
        accepted++;
    }
    assert_int_equal(flowmesh_error_status(error), FLOWMESH_QUEUE_FULL);
    assert_true(flowmesh_error_retryable(error));
    assert_int_equal(flowmesh_error_outcome(error), FLOWMESH_OUTCOME_NOT_APPLIED);
    flowmesh_error_free(error);
    error = NULL;
    assert_in_range(accepted, 2, 6);
    FAILS(FLOWMESH_QUEUE_FULL, "no room", send_number(producer, 0, 0, &error));
    FAILS(FLOWMESH_DEADLINE_EXCEEDED, "not everything",
          flowmesh_producer_flush(producer, 0, &error));
    for (int i = 0; i < accepted; i++) {
        sem_post(&hold);
    }
    OK(flowmesh_producer_close(producer, PATIENCE_MS, NULL, &error));
    assert_int_equal(record->count, accepted);
    assert_int_equal(record->writable, 1);
    flowmesh_producer_free(producer);
    flowmesh_client_free(client);
    sem_destroy(&hold);
    free(record);
}

/* Nobody listens at its endpoint, so that nothing is ever sent. */
static flowmesh_client_t *open_unreachable(void)
{
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    OK(flowmesh_client_open("unix:/nonexistent/socket", NULL, &client, &error));
    return client;
}

static void check_given_up(const struct record *record, int count)
{
    assert_int_equal(record->count, count);
    for (int i = 0; i < count; i++) {
        assert_int_equal(record->tags[i], i);
        assert_int_equal(record->positions[i], -1);
        assert_int_not_equal(record->statuses[i], FLOWMESH_OK);
        /* Given up in the middle of an attempt, its outcome is unknown. */
        assert_int_not_equal(record->outcomes[i], FLOWMESH_OUTCOME_APPLIED);
    }
}

static void close_says_what_was_not_sent(void **state)
{
    flowmesh_error_t *error = NULL;
    flowmesh_client_t *client = open_unreachable();
    struct record *record = new_record();
    flowmesh_producer_t *producer = open_stream_producer(client, recording(record));
    size_t unsent = 0;
    (void)state;
    for (int i = 0; i < 10; i++) {
        OK(send_number(producer, i, -1, &error));
    }
    FAILS(FLOWMESH_DEADLINE_EXCEEDED, "10 messages were given up",
          flowmesh_producer_close(producer, 50, &unsent, &error));
    assert_int_equal(unsent, 10);
    unsent = 0;
    OK(flowmesh_producer_close(producer, -1, &unsent, &error));
    assert_int_equal(unsent, 10);
    check_given_up(record, 10);
    assert_int_equal(record->released, 1);
    flowmesh_producer_free(producer);
    flowmesh_client_free(client);
    free(record);
}

static void free_reports_what_was_not_sent(void **state)
{
    flowmesh_error_t *error = NULL;
    flowmesh_client_t *client = open_unreachable();
    struct record *record = new_record();
    flowmesh_producer_t *producer = open_stream_producer(client, recording(record));
    (void)state;
    for (int i = 0; i < 10; i++) {
        OK(send_number(producer, i, -1, &error));
    }
    flowmesh_producer_free(producer);
    OK(flowmesh_client_close(client, PATIENCE_MS, &error)); /* waits for callbacks */
    check_given_up(record, 10);
    assert_int_equal(record->released, 1);
    flowmesh_client_free(client);
    free(record);
}

static void shutdown_reports_what_was_not_sent(void **state)
{
    flowmesh_error_t *error = NULL;
    flowmesh_client_t *client = open_unreachable();
    struct record *record = new_record();
    flowmesh_producer_t *producer = open_stream_producer(client, recording(record));
    (void)state;
    for (int i = 0; i < 10; i++) {
        OK(send_number(producer, i, -1, &error));
    }
    OK(flowmesh_shutdown(PATIENCE_MS, &error));
    check_given_up(record, 10);
    FAILS(FLOWMESH_CLOSED, "", send_number(producer, 0, -1, &error));
    OK(flowmesh_producer_close(producer, PATIENCE_MS, NULL, &error));
    flowmesh_producer_free(producer);
    assert_int_equal(record->released, 1);
    flowmesh_client_free(client);
    free(record);
}

static void *wait_for_room(void *with)
{
    flowmesh_error_t *error = NULL;
    FAILS(FLOWMESH_CLOSED, "was closed", send_number((flowmesh_producer_t *)with, 1, -1, &error));
    return NULL;
}

static void close_ends_a_send_that_waits(void **state)
{
    flowmesh_error_t *error = NULL;
    flowmesh_client_t *client = open_unreachable();
    flowmesh_producer_options_t *options = NULL;
    flowmesh_producer_t *producer;
    pthread_t thread;
    (void)state;
    OK(flowmesh_producer_options_new(&options, &error));
    OK(flowmesh_producer_options_set_max_buffered_messages(options, 1, &error));
    producer = open_stream_producer(client, options);
    OK(send_number(producer, 0, -1, &error));
    assert_int_equal(pthread_create(&thread, NULL, wait_for_room, producer), 0);
    FAILS(FLOWMESH_DEADLINE_EXCEEDED, "1 messages were given up",
          flowmesh_producer_close(producer, 20, NULL, &error));
    pthread_join(thread, NULL);
    FAILS(FLOWMESH_ABORTED, "1 messages failed",
          flowmesh_producer_close(producer, -1, NULL, &error));
    OK(flowmesh_producer_close(producer, -1, NULL, &error));
    flowmesh_producer_free(producer);
    flowmesh_client_free(client);
}

static void close_inside(const flowmesh_report_batch_t *reports, void *user_data)
{
    struct record *record = (struct record *)user_data;
    flowmesh_error_t *error = NULL;
    record->count += (int)flowmesh_report_batch_count(reports);
    FAILS(FLOWMESH_FAILED_PRECONDITION, "wait for itself",
          flowmesh_producer_flush(record->producer, -1, &error));
    OK(flowmesh_producer_close(record->producer, -1, NULL, &error));
    flowmesh_producer_free(record->producer);
    record->producer = NULL;
}

static void release_and_post(void *user_data)
{
    sem_post(((struct record *)user_data)->hold);
}

static void a_callback_may_close_and_free_its_producer(void **state)
{
    flowmesh_error_t *error = NULL;
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_producer_options_t *options = NULL;
    struct record *record = new_record();
    sem_t released;
    (void)state;
    sem_init(&released, 0, 0);
    record->hold = &released;
    OK(flowmesh_producer_options_new(&options, &error));
    OK(flowmesh_producer_options_set_report_callback(options, close_inside, record,
                                                     release_and_post, &error));
    OK(flowmesh_stream_producer_open(stream, options, &record->producer, &error));
    OK(send_number(record->producer, 0, -1, &error));
    sem_wait(&released);
    assert_int_equal(record->count, 1);
    assert_null(record->producer);
    flowmesh_producer_options_free(options);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
    sem_destroy(&released);
    free(record);
}

static void an_application_runs_the_reports_itself(void **state)
{
    flowmesh_error_t *error = NULL;
    flowmesh_client_t *client = open_client();
    flowmesh_dispatcher_t *dispatcher = NULL;
    struct record *record = new_record();
    flowmesh_producer_options_t *options = recording(record);
    flowmesh_producer_t *producer;
    (void)state;
    OK(flowmesh_dispatcher_new(0, &dispatcher, &error));
    OK(flowmesh_producer_options_set_dispatcher(options, dispatcher, &error));
    OK(flowmesh_producer_options_set_max_batch_messages(options, 1, &error));
    producer = open_stream_producer(client, options);
    for (int i = 0; i < 10; i++) {
        OK(send_number(producer, i, -1, &error));
    }
    while (record->count < 5) {
        size_t ran = 99;
        int before = record->count;
        OK(flowmesh_dispatcher_run(dispatcher, 1, PATIENCE_MS, &ran, &error));
        assert_int_equal(ran, 1);
        assert_int_equal(record->count, before + 1);
    }
    /* What nobody runs, the flush does. */
    OK(flowmesh_producer_flush(producer, PATIENCE_MS, &error));
    assert_int_equal(record->count, 10);
    OK(send_number(producer, 10, -1, &error));
    flowmesh_producer_free(producer);
    flowmesh_dispatcher_free(dispatcher);
    OK(flowmesh_client_close(client, PATIENCE_MS, &error));
    assert_int_equal(record->count, 11);
    assert_int_equal(record->released, 1);
    flowmesh_client_free(client);
    free(record);
}

/* Completions of flush and close. */
struct ends {
    sem_t ended;
    flowmesh_status_t status;
    size_t count;
};

static void on_flushed(flowmesh_error_t *error, void *user_data)
{
    struct ends *ends = (struct ends *)user_data;
    ends->status = flowmesh_error_status(error);
    flowmesh_error_free(error);
    sem_post(&ends->ended);
}

static void on_closed(flowmesh_error_t *error, size_t count, void *user_data)
{
    ((struct ends *)user_data)->count = count;
    on_flushed(error, user_data);
}

static void flush_and_close_have_completions(void **state)
{
    flowmesh_error_t *error = NULL;
    flowmesh_client_t *client = open_client();
    struct record *record = new_record();
    flowmesh_producer_t *producer = open_stream_producer(client, recording(record));
    struct ends ends;
    (void)state;
    memset(&ends, 0, sizeof(ends));
    sem_init(&ends.ended, 0, 0);
    for (int i = 0; i < 100; i++) {
        OK(send_number(producer, i, -1, &error));
    }
    OK(flowmesh_producer_flush_async(producer, -1, on_flushed, &ends, NULL, NULL, &error));
    sem_wait(&ends.ended);
    assert_int_equal(ends.status, FLOWMESH_OK);
    assert_int_equal(record->count, 100);
    OK(flowmesh_producer_close_async(producer, -1, on_closed, &ends, NULL, NULL, &error));
    sem_wait(&ends.ended);
    assert_int_equal(ends.status, FLOWMESH_OK);
    assert_int_equal(ends.count, 0);
    assert_int_equal(record->released, 1);
    FAILS(FLOWMESH_INVALID_ARGUMENT, "callback",
          flowmesh_producer_flush_async(producer, -1, NULL, &ends, NULL, NULL, &error));
    FAILS(FLOWMESH_INVALID_ARGUMENT, "producer",
          flowmesh_producer_close_async(NULL, -1, on_closed, &ends, NULL, NULL, &error));
    flowmesh_producer_free(producer);
    flowmesh_client_free(client);
    free(record);

    /* What cannot be sent: the flush is in time to say so, the close gives up. */
    client = open_unreachable();
    record = new_record();
    producer = open_stream_producer(client, recording(record));
    OK(send_number(producer, 0, -1, &error));
    OK(flowmesh_producer_flush_async(producer, 10, on_flushed, &ends, NULL, NULL, &error));
    sem_wait(&ends.ended);
    assert_int_equal(ends.status, FLOWMESH_DEADLINE_EXCEEDED);
    OK(flowmesh_producer_close_async(producer, 10, on_closed, &ends, NULL, NULL, &error));
    sem_wait(&ends.ended);
    assert_int_equal(ends.status, FLOWMESH_DEADLINE_EXCEEDED);
    assert_int_equal(ends.count, 1);
    OK(flowmesh_producer_close(producer, PATIENCE_MS, NULL, &error));
    check_given_up(record, 1);
    flowmesh_producer_free(producer);
    flowmesh_client_free(client);
    sem_destroy(&ends.ended);
    free(record);
}

static void bad_arguments_are_refused(void **state)
{
    flowmesh_error_t *error = NULL;
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    flowmesh_queue_t *queue = open_queue(client);
    struct record *record = new_record();
    flowmesh_producer_options_t *options = recording(record);
    flowmesh_producer_t *producer = NULL;
    flowmesh_event_t event = FLOWMESH_EVENT_INIT;
    flowmesh_event_t no_size = FLOWMESH_EVENT_INIT;
    const flowmesh_status_t bad = FLOWMESH_INVALID_ARGUMENT;
    (void)state;
    FAILS(bad, "options", flowmesh_producer_options_new(NULL, &error));
    FAILS(bad, "at least 1",
          flowmesh_producer_options_set_max_buffered_messages(options, 0, &error));
    FAILS(bad, "at least 1", flowmesh_producer_options_set_max_buffered_bytes(options, 0, &error));
    FAILS(bad, "at least 1", flowmesh_producer_options_set_max_batch_messages(options, 0, &error));
    FAILS(bad, "at most 67108864",
          flowmesh_producer_options_set_max_batch_bytes(options, (64 << 20) + 1, &error));
    FAILS(bad, "at most 200", flowmesh_producer_options_set_max_in_flight(options, 201, &error));
    FAILS(bad, "-1 (for ever)",
          flowmesh_producer_options_set_delivery_timeout_ms(options, 0, &error));
    FAILS(bad, "options", flowmesh_producer_options_set_retry_unknown(NULL, true, &error));
    FAILS(bad, "options", flowmesh_producer_options_set_stop_on_error(NULL, true, &error));
    FAILS(bad, "callback",
          flowmesh_producer_options_set_report_callback(options, NULL, record, release, &error));
    assert_int_equal(record->released, 1);
    FAILS(bad, "options",
          flowmesh_producer_options_set_writable_callback(NULL, on_writable, record, release,
                                                          &error));
    assert_int_equal(record->released, 2);
    FAILS(bad, "stream", flowmesh_stream_producer_open(NULL, options, &producer, &error));
    FAILS(bad, "producer", flowmesh_stream_producer_open(stream, options, NULL, &error));
    FAILS(bad, "queue", flowmesh_queue_producer_open(NULL, options, &producer, &error));
    assert_null(producer);
    OK(flowmesh_queue_producer_open(queue, NULL, &producer, &error));
    FAILS(bad, "event must not be NULL", flowmesh_producer_send(producer, NULL, NULL, 0, &error));
    FAILS(bad, "payload must not be empty",
          flowmesh_producer_send(producer, &event, NULL, 0, &error));
    no_size.size = 0;
    FAILS(bad, "size", flowmesh_producer_send(producer, &no_size, NULL, 0, &error));
    event.payload = FLOWMESH_VIEW_LITERAL("x");
    FAILS(bad, "timeout_ms", flowmesh_producer_send(producer, &event, NULL, -2, &error));
    FAILS(bad, "delay_ms", flowmesh_producer_send_delayed(producer, &event, -1, NULL, 0, &error));
    FAILS(bad, "producer", flowmesh_producer_send(NULL, &event, NULL, 0, &error));
    FAILS(bad, "producer", flowmesh_producer_flush(NULL, 0, &error));
    FAILS(bad, "timeout_ms", flowmesh_producer_flush(producer, -2, &error));
    FAILS(bad, "producer", flowmesh_producer_close(NULL, 0, NULL, &error));
    FAILS(bad, "timeout_ms", flowmesh_producer_close(producer, -2, NULL, &error));
    assert_int_equal(flowmesh_report_batch_count(NULL), 0);
    assert_null(flowmesh_report_batch_at(NULL, 0));
    flowmesh_producer_free(NULL);
    flowmesh_producer_options_free(NULL);
    flowmesh_producer_free(producer);
    flowmesh_producer_options_free(options);
    assert_int_equal(record->released, 3);
    flowmesh_queue_free(queue);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
    free(record);
}

static void a_forked_child_cannot_send_and_can_free(void **state)
{
    flowmesh_error_t *error = NULL;
    flowmesh_client_t *client = open_client();
    struct record *record = new_record();
    flowmesh_producer_t *producer = open_stream_producer(client, recording(record));
    pid_t child;
    int status = -1;
    (void)state;
    OK(send_number(producer, 0, -1, &error));
    OK(flowmesh_producer_flush(producer, PATIENCE_MS, &error));
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool refused = send_number(producer, 1, -1, NULL) == FLOWMESH_FORKED &&
                       flowmesh_producer_flush(producer, -1, NULL) == FLOWMESH_FORKED &&
                       flowmesh_producer_close(producer, -1, NULL, NULL) == FLOWMESH_FORKED;
        flowmesh_producer_free(producer);
        flowmesh_client_free(client);
        /* As in process.c: another program ends the child, valgrind does not look into it. */
        const char *end = refused ? "true" : "false";
        execlp(end, end, (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    OK(send_number(producer, 1, -1, &error));
    OK(flowmesh_producer_close(producer, PATIENCE_MS, NULL, &error));
    assert_int_equal(record->count, 2);
    flowmesh_producer_free(producer);
    flowmesh_client_free(client);
    free(record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_event_is_reported_in_order),
        cmocka_unit_test(headers_are_stored_with_the_event),
        cmocka_unit_test(jobs_are_reported_with_number_and_id),
        cmocka_unit_test(a_full_buffer_refuses_and_says_when_there_is_room),
        cmocka_unit_test(close_says_what_was_not_sent),
        cmocka_unit_test(free_reports_what_was_not_sent),
        cmocka_unit_test(close_ends_a_send_that_waits),
        cmocka_unit_test(a_callback_may_close_and_free_its_producer),
        cmocka_unit_test(an_application_runs_the_reports_itself),
        cmocka_unit_test(flush_and_close_have_completions),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(a_forked_child_cannot_send_and_can_free),
        cmocka_unit_test(shutdown_reports_what_was_not_sent),
    };
    return cmocka_run_group_tests(tests, NULL, end_library);
}
