/*
 * flowmesh.h - streams, queues and key-value storage.
 *
 * Generated from src/capi by cbindgen; `make header` renews it. Apache-2.0.
 *
 * OVERVIEW
 *
 * FlowMesh keeps three kinds of things, each named by (tenant, namespace, name):
 *   streams  ordered logs of events; consumer groups remember how far they have read;
 *   queues   jobs that are leased, acknowledged, retried and dead-lettered;
 *   stores   values under keys, with an optional time to live.
 * They live in a flowmesh-server (endpoint "host:port", "http://host:port", "https://host:port",
 * "unix:/path") or in this process ("embedded:/dir" on disk, "embedded:" in memory). The functions
 * are the same.
 *
 *     #include <flowmesh.h>
 *
 *     flowmesh_client_t *client = NULL;
 *     flowmesh_stream_t *stream = NULL;
 *     flowmesh_error_t *error = NULL;
 *     flowmesh_event_t event = FLOWMESH_EVENT_INIT;
 *     event.payload = FLOWMESH_VIEW_LITERAL("hello");
 *
 *     if (flowmesh_client_open("embedded:./data", NULL, &client, &error) ||
 *         flowmesh_stream_open(client, "acme", "shop", "orders", &stream, &error) ||
 *         flowmesh_stream_write(stream, &event, 1, NULL, NULL, &error)) {
 *         fprintf(stderr, "%s\n", flowmesh_error_message(error));
 *     }
 *     flowmesh_error_free(error);
 *     flowmesh_stream_free(stream);
 *     flowmesh_client_free(client);
 *
 * Calls and errors. Calls that can fail return a flowmesh_status_t: FLOWMESH_OK is 0, 1 to 16
 * are the gRPC codes, from 100 on the library's own. The last parameter, `error`, may be NULL.
 * On success *error becomes NULL. On failure it becomes an object to be given to
 * flowmesh_error_free, and every other output is left as it was. A NULL where a pointer is needed
 * gives FLOWMESH_INVALID_ARGUMENT. Pointers that may be NULL are marked FLOWMESH_NULLABLE;
 * results that must be looked at, FLOWMESH_MUST_CHECK. Every call can also end with
 * FLOWMESH_INTERNAL (a defect, caught at the boundary), FLOWMESH_FORKED (see PROCESS) and,
 * when it works on a closed client, FLOWMESH_CLOSED.
 *
 * Memory. What a call gives you is freed once with the function of its type's name; free(NULL)
 * does nothing. Objects keep what they depend on alive, so any order of frees is safe: a stream
 * works on after flowmesh_client_free. Freeing is not closing. Results own everything in them;
 * what their accessors return is borrowed until the result is freed. Inputs are copied before
 * the call returns. `const` on a handle says only that the call does not free it.
 *
 * Bytes and texts. Payloads, keys and values are views, a pointer with a length; names given
 * once (endpoint, tenant, namespace, name, consumer group, job id) end in NUL. Texts are UTF-8.
 *
 * Names. Tenant, namespace and name have 1 to 255 bytes, are not only white space and hold no
 * control character; only `name` may hold '/'. A consumer group has 1 to 255 bytes without
 * control characters, a key 1 to 1024 bytes. Payloads and values hold at least 1 byte. A request
 * is at most 4 MiB unless the server allows more.
 *
 * Threads. Every object may be used by any number of threads at once; only its free must be the
 * last use. Callbacks run on a dispatcher, see below.
 *
 * Time. Durations are milliseconds (_ms), instants unix nanoseconds (_ns). Every call has a
 * deadline: `timeout_ms` in its options, where 0 means the client's default (30 s) and -1 none.
 * Where a timeout is a parameter it is that of poll(2): 0 does not wait, -1 waits for ever. A
 * flowmesh_cancel_t in the options ends a blocked call from another thread. The server counts
 * delays, leases, times to live and waits for a job in whole seconds: they are rounded up.
 *
 * Options. NULL means the defaults. Fill others from their _INIT macro, then set what you need:
 *     flowmesh_read_options_t options = FLOWMESH_READ_OPTIONS_INIT;
 *     options.max_messages = 1000;
 *
 * Seeing. flowmesh_log_set_callback has the library tell what an operator should know;
 * flowmesh_client_get_stats reads what a client has counted.
 *
 * Trust. "https://host:port" is TLS: the server must prove to be who the endpoint says, by an
 * authority that the system trusts or that flowmesh_client_options_set_tls_ca_file names, and may
 * ask the client to do the same. A token says who calls; it goes neither to an embedded engine nor,
 * unless allowed, unencrypted to another machine. What the options leave open, the environment can
 * say: FLOWMESH_ENDPOINT, FLOWMESH_AUTH_TOKEN, FLOWMESH_AUTH_TOKEN_FILE,
 * FLOWMESH_ALLOW_PLAINTEXT_TOKEN, FLOWMESH_TLS_CA_FILE, FLOWMESH_TLS_CERT_FILE,
 * FLOWMESH_TLS_KEY_FILE, FLOWMESH_TLS_SERVER_NAME.
 *
 * Traces. `traceparent` and `tracestate` (W3C Trace Context) in the options of a call go to the
 * server with it. Calls that store an event or a job also put them into its headers, under these
 * names, unless it names a trace itself, in its flowmesh_event_t or by a header "traceparent";
 * flowmesh_message_get_header and flowmesh_job_get_header find them there. A malformed one is FLOWMESH_INVALID_ARGUMENT.
 *
 * COMPLETIONS
 *
 * Every call that can wait has a second form, named _async, that never does. In place of outputs it
 * takes a callback with `user_data` and `drop_user_data`; it copies its inputs and returns. Without
 * one are flowmesh_dispatcher_run, flowmesh_shutdown, flowmesh_log_set_callback, flowmesh_producer_send
 * and _send_delayed, which need not wait, and flowmesh_subscription_next, in whose place a subscription
 * with a callback does.
 *
 *   FLOWMESH_OK      The call was accepted: its callback runs exactly once, whatever happens. It
 *                    gets the result, or an error: what the blocking form would return,
 *                    FLOWMESH_CANCELLED, FLOWMESH_CLOSED when the client was closed or the library
 *                    shut down, FLOWMESH_UNAVAILABLE when the connection was lost.
 *   anything else    It was not accepted: the callback does not run.
 *
 * In both cases drop_user_data(user_data) runs once, last: when the callback has returned, or before
 * a call that was not accepted returns. Errors and results belong to the callback, which frees them
 * like those of the blocking form, except for what its type says is lent. NULLs, sizes and texts
 * that are wrong are refused at once; values that break a rule may be reported by the completion.
 *
 * The callback may run before the call returns, on another thread. Handles may be freed while calls
 * are under way: freeing ends nothing. What does: the deadline, a flowmesh_cancel_t in the options,
 * flowmesh_operation_cancel, closing the client. Calls that are under way at the same time reach the
 * server, and end, in any order; completions are handed to the dispatcher in the order in which
 * their calls end. There is no limit to their number but memory.
 *
 *     static void on_set(flowmesh_error_t *error, void *user_data)
 *     {
 *         report(user_data, flowmesh_error_message(error)); // "" on success
 *         flowmesh_error_free(error);
 *     }
 *
 *     status = flowmesh_kv_set_async(kv, key, value, NULL, on_set, request, free, NULL, &error);
 *
 * DISPATCHERS
 *
 * Callbacks run on a dispatcher: never on the threads that serve connections, and with no lock held.
 * They may block, call anything here, close and free what called them. They must return, not throw
 * or longjmp. A callback that lasts holds up only those of its dispatcher. There are three kinds:
 *
 *   default          one thread of the library, "flowmesh-callback": callbacks one at a time;
 *   with threads     flowmesh_dispatcher_new(n): n such threads; callbacks of different calls and
 *                    subscriptions at the same time, those of one subscription one at a time;
 *   run by you       flowmesh_dispatcher_new(0): an event loop watches flowmesh_dispatcher_fd and
 *                    calls flowmesh_dispatcher_run: callbacks run there and nowhere else. In between
 *                    a thread of the library serves the connections: nothing is late because the
 *                    application does something else, and it is woken only for callbacks.
 *
 * It is chosen per client, and per subscription, producer and worker (..._options_set_dispatcher).
 * Those without one use their client's, only a worker has threads of its own, "flowmesh-worker".
 * Completions come on the client's. Closing and shutting down wait for callbacks, but never for a
 * run that nobody makes: what is left on a dispatcher that you run is run by the thread that
 * closes, one callback after the other until its time is up. Inside a callback of what is closed
 * they do not wait for that. After FLOWMESH_OK no callback of what was closed runs, and its user
 * data is released (a producer's when it is closed or freed itself). After
 * FLOWMESH_DEADLINE_EXCEEDED no message is delivered any more, but calls that were accepted still
 * get their completion. flowmesh_client_close_async closes without blocking an event loop.
 *
 * GUARANTEES
 *
 * When a change was acknowledged (FLOWMESH_OK) it is stored: under the server's default fsync
 * policy it survives a crash of the machine. When a call fails, flowmesh_error_outcome says
 * whether its change was not applied, was applied, or is unknown. A call is repeated by the
 * library only after the connection failed, within its deadline, and only if a repeat cannot do
 * harm:
 *
 *   call                        order                         repeated?      a repeat can
 *   stream write                a batch gets consecutive      no             (yours: duplicate
 *                               offsets, whole or not at all                  the whole batch)
 *   producer, to a stream       as sent, over repeats; what   what is        nothing (with
 *                               is unknown may come late      certainly not  retry_unknown:
 *                                                             stored         duplicate a batch)
 *   producer, to a queue        as sent with max_in_flight    as above       as above, a job
 *                               1, otherwise any
 *   stream read, offsets,       by offset                     yes            nothing
 *     group state
 *   commit_offset               last commit wins              yes            undo a commit that
 *                                                                            another thread made
 *                                                                            in between
 *   subscription                by offset, no gap and no      resumes after  nothing
 *                               repeat within the process     the last one
 *   its automatic commits       one at a time, the latest;    by the next,   undo a commit that
 *                               only what was handled         or the close   another made
 *   enqueue, replay_dlq_job     seq rises by one              no             (yours: enqueue
 *                                                                            twice; replay:
 *                                                                            NOT_FOUND)
 *   reserve, receive            visible_at, then seq          no             (lost reply: the
 *                                                                            job returns when
 *                                                                            its lease ends)
 *   ack                         -                             yes            nothing
 *   nack                        -                             no             (yours: NOT_FOUND)
 *   worker                      jobs begin in the order of    acks, within   nothing
 *                               their leases                  the lease;
 *                                                             nacks that
 *                                                             never left
 *   retry policy set, get;      last set wins                 yes            undo a set made in
 *     stats, list_dlq_jobs                                                   between
 *   kv set, delete              last write wins               yes            undo a write made
 *                                                                            in between
 *   kv get, exists, list_keys   -                             yes            nothing
 *
 * The _async forms have the same guarantees, and exactly one completion each. Delivery of jobs is at
 * least once: a lease that ends before the ack hands the job out again.
 *
 * PROCESS
 *
 * The library starts its threads at the first use that needs one: one "flowmesh-io" for all
 * connections and _async calls (and for a second another, where a host name was resolved or a file read), one
 * "flowmesh-callback" for the default dispatcher and as many as you ask for in others, the
 * "flowmesh-worker" of workers without a dispatcher and, for each embedded engine, a fixed few.
 * Their number does not grow with clients, handles or calls. Signals are blocked in them, and they
 * sleep while there is nothing to do. What waits for jobs asks again every 20 s, as no server waits
 * longer; with FLOWMESH_POLL_SAFE up to five times a second. No other timer wakes an idle library.
 * A thread that makes blocking calls alone looks for each reply for up to 60 us before it sleeps, as long
 * as that is measured to be quicker, and never where there is one processor or
 * flowmesh_client_options_set_spin forbids it.
 *
 * It changes no signal handler, raises no SIGPIPE, prints nothing and has no constructors or exit
 * hooks. exit and return from main need no preparation, whatever is under way, also in a callback;
 * handlers of exit and static destructors may still close and free. dlclose is harmless: the code
 * stays loaded; call flowmesh_shutdown before, so that no thread is left. After fork, calls in the
 * child return FLOWMESH_FORKED and frees are safe, until flowmesh_after_fork_child; the parent
 * goes on undisturbed. Once an embedded engine was opened, a fork first waits for the moment in which
 * no thread is inside its database's own locks (pthread_atfork).
 */
#ifndef FLOWMESH_H
#define FLOWMESH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Version of this header; flowmesh_version() tells that of the library. */
#define FLOWMESH_VERSION_MAJOR 1
/** Rises when something is added. */
#define FLOWMESH_VERSION_MINOR 0
/** Rises with every other release. */
#define FLOWMESH_VERSION_PATCH 0
/** All three, as text. */
#define FLOWMESH_VERSION_STRING "1.0.0"

/** The pointer may be NULL; all others must not be. For tools; define it as you like before. */
#ifndef FLOWMESH_NULLABLE
#define FLOWMESH_NULLABLE
#endif

/** The result must be looked at. */
#if defined(__GNUC__) || defined(__clang__)
#define FLOWMESH_MUST_CHECK __attribute__((warn_unused_result))
#else
#define FLOWMESH_MUST_CHECK
#endif

#ifdef __cplusplus
extern "C" {
#endif


// Before the call returns: they survive a power cut. The default.
#define FLOWMESH_FSYNC_ALWAYS 0

// Within a second; a crash of the process loses nothing.
#define FLOWMESH_FSYNC_INTERVAL 1

// When the system likes; a crash of the process loses nothing.
#define FLOWMESH_FSYNC_NONE 2

// The change may or may not have happened.
#define FLOWMESH_OUTCOME_UNKNOWN 0

// The change did not happen and will not.
#define FLOWMESH_OUTCOME_NOT_APPLIED 1

// The change happened, although the call failed.
#define FLOWMESH_OUTCOME_APPLIED 2

// Something failed and somebody has to act.
#define FLOWMESH_LOG_ERROR 1

// Something failed and the library deals with it: a lost connection, a refused job.
#define FLOWMESH_LOG_WARN 2

// What happens rarely: connected, resumed, shut down.
#define FLOWMESH_LOG_INFO 3

// More, for those who look for a fault.
#define FLOWMESH_LOG_DEBUG 4

// Room that a job id needs: 32 hex digits and the NUL.
#define FLOWMESH_JOB_ID_SIZE 33

// initial_backoff_ms each time.
#define FLOWMESH_BACKOFF_FIXED 1

// initial_backoff_ms times n.
#define FLOWMESH_BACKOFF_LINEAR 2

// initial_backoff_ms times backoff_multiplier to the power of n-1.
#define FLOWMESH_BACKOFF_EXPONENTIAL 3

// Success.
#define FLOWMESH_OK 0

// The caller cancelled the call.
#define FLOWMESH_CANCELLED 1

// The other side failed without saying how.
#define FLOWMESH_UNKNOWN 2

// An argument breaks a rule; the message names both.
#define FLOWMESH_INVALID_ARGUMENT 3

// The call's time was up.
#define FLOWMESH_DEADLINE_EXCEEDED 4

// The resource, job or key does not exist.
#define FLOWMESH_NOT_FOUND 5

// It exists already.
#define FLOWMESH_ALREADY_EXISTS 6

// The token, or the system, does not permit it.
#define FLOWMESH_PERMISSION_DENIED 7

// The storage is full, or a message is larger than allowed.
#define FLOWMESH_RESOURCE_EXHAUSTED 8

// The present state does not permit the call.
#define FLOWMESH_FAILED_PRECONDITION 9

// A conflict ended the call.
#define FLOWMESH_ABORTED 10

// A value lies outside its range.
#define FLOWMESH_OUT_OF_RANGE 11

// The server does not know the call.
#define FLOWMESH_UNIMPLEMENTED 12

// Storage failed or is damaged, or a defect of the library or server.
#define FLOWMESH_INTERNAL 13

// The server cannot be reached or is stopping; try again later.
#define FLOWMESH_UNAVAILABLE 14

// Data were lost.
#define FLOWMESH_DATA_LOSS 15

// The token is missing, unknown or expired.
#define FLOWMESH_UNAUTHENTICATED 16

// The client, producer or subscription is closed, or the library was shut down.
#define FLOWMESH_CLOSED 100

// The process is the child of a fork; see flowmesh_after_fork_child.
#define FLOWMESH_FORKED 101

// A bounded buffer of the library is full; see flowmesh_producer_send.
#define FLOWMESH_QUEUE_FULL 102

// Not yet connected, or not yet again after a seek. Only flowmesh_subscription_get_state gives it.
#define FLOWMESH_SUBSCRIPTION_CONNECTING 0

// Connected, or connected again: the server follows the stream.
#define FLOWMESH_SUBSCRIPTION_CONNECTED 1

// The connection is lost; the subscription reconnects by itself.
#define FLOWMESH_SUBSCRIPTION_LOST 2

// An automatic commit failed, for the reason given: the next one covers it, or the close.
// flowmesh_subscription_get_state does not give it.
#define FLOWMESH_SUBSCRIPTION_COMMIT_FAILED 4

// Over by itself: the server refused it, or its client was closed. The last call. Closing or freeing
// the subscription is not told.
#define FLOWMESH_SUBSCRIPTION_ENDED 3

// Start after the last offset that the consumer group committed; at 0 when there is none.
#define FLOWMESH_START_COMMITTED -1

// Start with what is written from now on.
#define FLOWMESH_START_NEW -2

// Nothing: the default.
#define FLOWMESH_COMMIT_MANUAL 0

// What the callback was given, when it has returned. The commit is sent without waiting for it; at
// most one is under way, and then only the latest is sent.
#define FLOWMESH_COMMIT_AFTER_CALLBACK 1

// As AFTER_CALLBACK, but at most once per interval.
#define FLOWMESH_COMMIT_PERIODIC 2

// The job is done: acknowledge it.
#define FLOWMESH_VERDICT_ACK 1

// The job is to be tried again: give it back. At its attempt limit it goes to the dead-letter queue,
// which FLOWMESH_WORKER_DEAD_LETTERED tells.
#define FLOWMESH_VERDICT_NACK 2

// The job is the application's from now on: it settles it later, with flowmesh_job_settle, and frees
// it. Until one of the two it counts as under way: so a program with one thread can have as many
// jobs under way as the concurrency says.
#define FLOWMESH_VERDICT_LEAVE 3

// Jobs cannot be fetched, see the reason; the worker goes on trying, with growing pauses. Told once
// until FLOWMESH_WORKER_FETCH_RESUMED.
#define FLOWMESH_WORKER_FETCH_FAILED 1

// Jobs can be fetched again.
#define FLOWMESH_WORKER_FETCH_RESUMED 2

// The lease of a job ended before its verdict was stored: while its handler ran, while it was left to
// the application, before it was handed out, or before the server could be reached. The handler had
// better stop: its verdict is not sent. The job comes again, or goes to the dead-letter queue at its
// attempt limit.
#define FLOWMESH_WORKER_LEASE_LOST 3

// A job that was given back had reached its attempt limit, and is in the dead-letter queue.
#define FLOWMESH_WORKER_DEAD_LETTERED 4

// A verdict could not be stored, see the reason and its outcome. Unless it was applied all the same,
// the job comes again at the end of its lease.
#define FLOWMESH_WORKER_NOT_SETTLED 5

// The worker has ended by itself, see the reason: the server refuses it, or its client was closed. It
// fetches nothing more.
#define FLOWMESH_WORKER_ENDED 6

// As the server can. Found out when the worker opens, by a call of the standard health service, which
// of all FlowMesh servers only the original engine lacks. The default.
#define FLOWMESH_POLL_AUTO 0

// The server waits until there is a job.
#define FLOWMESH_POLL_LONG 1

// One job at a time, without waiting at the server, 10 to 200 ms apart when there are none: for the
// original engine, which loses jobs or stops otherwise. Its leases do not end by themselves, so late
// verdicts are sent, and FLOWMESH_WORKER_LEASE_LOST is not told. Not for other servers.
#define FLOWMESH_POLL_SAFE 2

// Ends blocked calls from another thread: put it into the options of any number of calls. Once
// cancelled it stays so. Thread-safe.
//
//     flowmesh_reserve_options_t options = FLOWMESH_RESERVE_OPTIONS_INIT;
//     options.wait_ms = -1;
//     options.cancel = cancel; // another thread calls flowmesh_cancel_cancel(cancel)
//     status = flowmesh_queue_reserve(queue, &options, &job, &error);
typedef struct flowmesh_cancel_t flowmesh_cancel_t;

// How to reach a server, or how to run the engine of an embedded endpoint. Thread-safe; the
// client copies what it needs, so that options can be freed or changed after
// flowmesh_client_open. Setters take the value or refuse it (FLOWMESH_INVALID_ARGUMENT) and leave
// the old one; they do not block.
typedef struct flowmesh_client_options_t flowmesh_client_options_t;

// A connection to one endpoint, or an engine in this process. Thread-safe; one serves any number
// of threads. Opening does no I/O: the first call connects, and a lost connection is made anew.
//
//     flowmesh_client_options_t *options = NULL;
//     status = flowmesh_client_options_new(&options, &error);
//     if (status == FLOWMESH_OK) {
//         status = flowmesh_client_options_set_timeout_ms(options, 5000, &error);
//     }
//     if (status == FLOWMESH_OK) {
//         status = flowmesh_client_open("localhost:50051", options, &client, &error);
//     }
//     flowmesh_client_options_free(options);
typedef struct flowmesh_client_t flowmesh_client_t;

// Runs callbacks: in threads of the library, or where the application's event loop calls
// flowmesh_dispatcher_run. Thread-safe. Any number of clients can share one.
//
//     flowmesh_dispatcher_t *dispatcher = NULL;
//     struct pollfd watch = {-1, POLLIN, 0};
//     status = flowmesh_dispatcher_new(0, &dispatcher, &error);
//     if (status == FLOWMESH_OK) {
//         status = flowmesh_client_options_set_dispatcher(options, dispatcher, &error);
//     }
//     if (status == FLOWMESH_OK) {
//         status = flowmesh_dispatcher_fd(dispatcher, &watch.fd, &error);
//     }
//     while (status == FLOWMESH_OK && poll(&watch, 1, -1) >= 0) {
//         status = flowmesh_dispatcher_run(dispatcher, 0, 0, NULL, &error); // callbacks run here
//     }
typedef struct flowmesh_dispatcher_t flowmesh_dispatcher_t;

// Why a call failed, in detail. Immutable; any thread. It belongs to the caller of the failed
// call, or to the callback of an asynchronous one, which free it. The reasons in reports, events and
// changes of state are lent for the call.
//
//     if (flowmesh_kv_delete(kv, key, NULL, &error) != FLOWMESH_OK) {
//         fprintf(stderr, "%s: %s\n", flowmesh_status_name(flowmesh_error_status(error)),
//                 flowmesh_error_message(error));
//         flowmesh_error_free(error);
//         error = NULL;
//     }
typedef struct flowmesh_error_t flowmesh_error_t;

// Jobs and everything in them. Immutable, thread-safe.
//
//     size_t acked = 0;
//     status = flowmesh_queue_receive(queue, 100, NULL, &batch, &error);
//     if (status == FLOWMESH_OK) {
//         for (size_t i = 0; i < flowmesh_job_batch_count(batch); i++) {
//             handle(flowmesh_job_batch_at(batch, i));
//         }
//         status = flowmesh_job_batch_ack(batch, NULL, &acked, &error);
//     }
//     flowmesh_job_batch_free(batch);
typedef struct flowmesh_job_batch_t flowmesh_job_batch_t;

// Keys that were listed. Immutable, thread-safe.
typedef struct flowmesh_key_list_t flowmesh_key_list_t;

// A key-value store. Thread-safe. It keeps its client alive.
//
//     flowmesh_kv_t *settings = NULL;
//     flowmesh_value_t *value = NULL;
//     flowmesh_view_t key = FLOWMESH_VIEW_LITERAL("colour");
//     status = flowmesh_kv_open(client, "acme", "shop", "settings", &settings, &error);
//     if (status == FLOWMESH_OK) {
//         status = flowmesh_kv_set(settings, key, flowmesh_view_str("red"), NULL, &error);
//     }
//     if (status == FLOWMESH_OK) {
//         status = flowmesh_kv_get(settings, key, NULL, &value, &error);
//     }
//     if (status == FLOWMESH_OK) {
//         printf(FLOWMESH_VIEW_FMT "\n", FLOWMESH_VIEW_ARG(flowmesh_value_data(value)));
//     }
//     flowmesh_value_free(value);
//     flowmesh_kv_free(settings);
typedef struct flowmesh_kv_t flowmesh_kv_t;

// Messages in ascending offset and everything in them. Immutable, thread-safe. One that a call
// gave you is yours to free; one given to a callback is lent for the call, and
// flowmesh_message_batch_retain keeps it.
typedef struct flowmesh_message_batch_t flowmesh_message_batch_t;

// One asynchronous call that was accepted, for cancelling it. Those who never cancel pass NULL for
// it. Thread-safe.
//
//     static void on_value(flowmesh_error_t *error, flowmesh_value_t *value, void *user_data)
//     {
//         struct request *request = user_data;
//         if (error != NULL) {
//             fail(request, flowmesh_error_message(error));
//         } else {
//             answer(request, flowmesh_value_data(value));
//         }
//         flowmesh_error_free(error); // both are yours
//         flowmesh_value_free(value);
//     }
//
//     status = flowmesh_kv_get_async(kv, key, NULL, on_value, request, free_request, NULL, &error);
typedef struct flowmesh_operation_t flowmesh_operation_t;

// How to produce. Thread-safe; copied when the producer is opened, and the callbacks go to the
// first producer opened with it. Setters take the value or refuse it
// (FLOWMESH_INVALID_ARGUMENT) and leave the old one; they do not block.
typedef struct flowmesh_producer_options_t flowmesh_producer_options_t;

// Sends messages to one stream or queue without waiting for each: flowmesh_producer_send accepts
// a message, and a delivery report says what became of it. While one request is under way, what
// is sent meanwhile gathers into the next one; an idle producer sends at once. Thread-safe.
//
//     static void on_reports(const flowmesh_report_batch_t *reports, void *user_data)
//     {
//         for (size_t i = 0; i < flowmesh_report_batch_count(reports); i++) {
//             const flowmesh_report_t *r = flowmesh_report_batch_at(reports, i);
//             if (r->status != FLOWMESH_OK) {
//                 failed(user_data, r->message_data, flowmesh_error_message(r->error));
//             }
//         }
//     }
//
//     status = flowmesh_producer_options_new(&options, &error);
//     status = flowmesh_producer_options_set_report_callback(options, on_reports, app, NULL, &error);
//     status = flowmesh_stream_producer_open(stream, options, &producer, &error);
//     while (next_order(&event.payload)) {
//         status = flowmesh_producer_send(producer, &event, order, -1, &error);
//     }
//     status = flowmesh_producer_close(producer, 10000, &unsent, &error);
//     flowmesh_producer_free(producer);
//
// Reports. Exactly one for every message accepted, whatever happens to connection, client, process
// (but for a crash) or the producer itself; one callback at a time, in the order of the sends, many
// reports in one call.
//
// Order. A stream gets the messages of one producer in the order in which they were sent (from
// one thread, or one after the other), over every repeat: one request is on the way at a time. Only
// one that was given up with its outcome unknown may still be on its way, and be stored behind what
// was sent after it; set stop_on_error where that must not be. Jobs are sent in the order of the
// sends, but up to max_in_flight at once, and those that are on the way together are stored in any
// order; with a max_in_flight of 1, `seq` rises in the order of the sends, with the same exception.
//
// Failures. What happens when a request fails:
//   certainly not stored, may pass later (no connection, FLOWMESH_RESOURCE_EXHAUSTED): sent again,
//     with growing pauses, until the delivery timeout; then reported, not applied.
//   perhaps stored (connection lost, or no answer, after it was sent): reported, with the outcome
//     unknown. With retry_unknown it is sent again, which can store the whole request twice: all
//     messages that were in it.
//   refused for what is in it (FLOWMESH_INVALID_ARGUMENT): halved and sent again, until only those
//     messages are reported that the server refuses; others are stored in their order.
//   refused for good (no permission, ...): reported, not applied. The next ones are still sent,
//     unless stop_on_error is set.
typedef struct flowmesh_producer_t flowmesh_producer_t;

// A job queue. Thread-safe. It keeps its client alive.
//
//     flowmesh_queue_t *mails = NULL;
//     flowmesh_job_t *job = NULL;
//     status = flowmesh_queue_open(client, "acme", "shop", "mails", &mails, &error);
//     if (status == FLOWMESH_OK) {
//         flowmesh_view_t payload = FLOWMESH_VIEW_LITERAL("to: bob");
//         status = flowmesh_queue_enqueue(mails, payload, NULL, NULL, NULL, &error);
//     }
//     if (status == FLOWMESH_OK) {
//         status = flowmesh_queue_reserve(mails, NULL, &job, &error);
//     }
//     if (status == FLOWMESH_OK && job != NULL) {
//         status = flowmesh_job_ack(job, NULL, &error); // or flowmesh_job_nack
//     }
//     flowmesh_job_free(job);
//     flowmesh_queue_free(mails);
typedef struct flowmesh_queue_t flowmesh_queue_t;

// Reports in the order of the sends: at least one. Lent to a callback for the call.
typedef struct flowmesh_report_batch_t flowmesh_report_batch_t;

// Pages through a stream, remembering where it is. Thread-safe: each page goes to one caller. It
// keeps the stream alive.
//
//     flowmesh_stream_reader_t *reader = NULL;
//     status = flowmesh_stream_reader_open(stream, 0, NULL, &reader, &error);
//     for (size_t n = 1; status == FLOWMESH_OK && n > 0;) {
//         status = flowmesh_stream_reader_next(reader, NULL, &batch, &error);
//         if (status == FLOWMESH_OK) {
//             n = flowmesh_message_batch_count(batch); // 0: at the end for now
//             handle(batch);
//             flowmesh_message_batch_free(batch);
//         }
//     }
//     flowmesh_stream_reader_free(reader);
typedef struct flowmesh_stream_reader_t flowmesh_stream_reader_t;

// A stream: an ordered, durable log. Thread-safe. It keeps its client alive.
//
//     flowmesh_stream_t *orders = NULL;
//     flowmesh_message_batch_t *batch = NULL;
//     status = flowmesh_stream_open(client, "acme", "shop", "orders", &orders, &error);
//     if (status == FLOWMESH_OK) {
//         status = flowmesh_stream_read(orders, 0, NULL, &batch, &error);
//     }
//     for (size_t i = 0; i < flowmesh_message_batch_count(batch); i++) {
//         const flowmesh_message_t *m = flowmesh_message_batch_at(batch, i);
//         printf("%lld: " FLOWMESH_VIEW_FMT "\n", (long long)m->offset,
//                FLOWMESH_VIEW_ARG(m->payload));
//     }
//     flowmesh_message_batch_free(batch);
//     flowmesh_stream_free(orders);
typedef struct flowmesh_stream_t flowmesh_stream_t;

// How to subscribe. Thread-safe; copied when the subscription starts. Setters take the value or
// refuse it (FLOWMESH_INVALID_ARGUMENT) and leave the old one; they do not block.
typedef struct flowmesh_subscription_options_t flowmesh_subscription_options_t;

// A stream that is being followed: its messages in offset order, without gap or repeat for as long
// as the subscription lives. After a lost connection it connects again by itself and goes on
// behind what it has received. Messages come to a callback (flowmesh_stream_subscribe) or when you
// ask (flowmesh_subscription_open). Those that have arrived wait in bounded memory; then flow
// control holds up the server, and nothing is dropped. Thread-safe.
//
// Memory: at most the batch that is handed out, max_prefetch_bytes and one message, and 4 MiB
// that the connection holds for each subscription. Idle, it has no thread, no timer and no
// buffer.
//
// Commits: nothing is committed unless you commit, or flowmesh_subscription_options_set_commit_mode
// says so. Every mode commits only what was handled, so a message is delivered at least once: after
// a crash, those handled since the last commit come again.
//
//     static void on_messages(const flowmesh_message_batch_t *batch, void *user_data)
//     {
//         size_t count = flowmesh_message_batch_count(batch);
//         for (size_t i = 0; i < count; i++) {
//             handle(flowmesh_message_batch_at(batch, i), user_data);
//         }
//     }
//
//     status = flowmesh_stream_subscribe(stream, NULL, on_messages, state, NULL, &sub, &error);
//     ...
//     flowmesh_subscription_close(sub, -1, NULL); // after this, no callback runs
//     flowmesh_subscription_free(sub);
typedef struct flowmesh_subscription_t flowmesh_subscription_t;

// A value that was read. Immutable, thread-safe.
typedef struct flowmesh_value_t flowmesh_value_t;

// How a worker works. Thread-safe; copied when the worker opens. Setters take the value or refuse it
// (FLOWMESH_INVALID_ARGUMENT) and leave the old one; they do not block.
typedef struct flowmesh_worker_options_t flowmesh_worker_options_t;

// Hands the jobs of a queue to a handler and settles them by its verdicts. Thread-safe. It fetches
// by long poll, hands a job over as soon as it comes, and sends verdicts in the background, many at
// a time. What it promises: a job is handed out at most once per lease, and never when its lease is
// over. An ack is repeated while the lease lasts, and never sent after its end, when it would take
// the job from whoever has it by then; a nack is repeated only if the server has not seen it. A job
// whose verdict is not stored comes again, so each job is handled at least once. Jobs are leased
// ahead, so that short handlers need not wait for them, only as far as they have their turn within a
// tenth of their lease by the handling times measured.
//
//     static flowmesh_verdict_t send_mail(flowmesh_job_t *job, int64_t *delay_ms, void *user_data)
//     {
//         if (deliver(job->payload, user_data)) {
//             return FLOWMESH_VERDICT_ACK;
//         }
//         *delay_ms = 60000; // without it, the retry policy says when
//         return FLOWMESH_VERDICT_NACK;
//     }
//
//     status = flowmesh_worker_open(mails, NULL, send_mail, server, NULL, &worker, &error);
//     ...
//     status = flowmesh_worker_close(worker, 30000, NULL, &error); // lets handlers finish
//     flowmesh_worker_free(worker);
typedef struct flowmesh_worker_t flowmesh_worker_t;

// How a call ended: FLOWMESH_OK, a gRPC code (1 to 16) or one of the library's own (from 100).
// Values are never reused; be ready for ones that a later version adds.
typedef int32_t flowmesh_status_t;

// When an embedded engine has acknowledged writes on disk.
typedef int32_t flowmesh_fsync_t;

// Borrowed bytes: `len` of them at `data`, which may be NULL when `len` is 0. Make one with
// flowmesh_view_str, flowmesh_view_bytes or FLOWMESH_VIEW_LITERAL; print one with
// FLOWMESH_VIEW_FMT and FLOWMESH_VIEW_ARG. A view owns nothing: it is good for as long as what
// it was taken from.
typedef struct {
    // First byte.
    const uint8_t *data;
    // Number of bytes.
    size_t len;
} flowmesh_view_t;

// Called once when a call has ended: `error` is NULL on success, otherwise it is yours to free with
// flowmesh_error_free. So are the results of the other callbacks below, unless they are lent for
// the call; on failure they are NULL.
typedef void (*flowmesh_done_callback_t)(flowmesh_error_t *FLOWMESH_NULLABLE error,
                                         void *user_data);

// Receives a yes or no; false on failure.
typedef void (*flowmesh_bool_callback_t)(flowmesh_error_t *FLOWMESH_NULLABLE error,
                                         bool result,
                                         void *user_data);

// Whether a failed call changed anything: one of the FLOWMESH_OUTCOME constants.
typedef int32_t flowmesh_outcome_t;

// A header of an event, message or job: metadata as UTF-8 text. Keys are unique within one
// event; of equal ones the last counts. This struct never grows.
typedef struct {
    // Name.
    flowmesh_view_t key;
    // Value, may be empty.
    flowmesh_view_t value;
} flowmesh_header_t;

// A job. Reached only by pointer; later versions append fields, so never copy it by value or rely
// on its size. Immutable, thread-safe. One from flowmesh_queue_reserve is yours to free; one from a
// batch is borrowed from it. It keeps its queue alive.
typedef struct {
    // Of the library.
    const void *owner;
    // Id, NUL-terminated.
    char id[FLOWMESH_JOB_ID_SIZE];
    // Number in the queue, from 0.
    int64_t seq;
    // As enqueued.
    flowmesh_view_t payload;
    // `header_count` headers; see also flowmesh_job_get_header.
    const flowmesh_header_t *headers;
    // Number of headers.
    size_t header_count;
    // The queue, as "tenant/namespace/queue/name".
    flowmesh_view_t resource_path;
    // When it was enqueued, by the server's clock.
    int64_t created_at_ns;
    // When it last became due, by the server's clock.
    int64_t visible_at_ns;
    // When its lease ends, by the server's clock; 0 when it is not leased.
    int64_t reserve_until_ns;
    // Deliveries, this one included.
    int32_t attempts;
} flowmesh_job_t;

// Receives how many were done, on success and on failure.
typedef void (*flowmesh_count_callback_t)(flowmesh_error_t *FLOWMESH_NULLABLE error,
                                          size_t count,
                                          void *user_data);

// Receives a value: free it with flowmesh_value_free.
typedef void (*flowmesh_value_callback_t)(flowmesh_error_t *FLOWMESH_NULLABLE error,
                                          flowmesh_value_t *FLOWMESH_NULLABLE value,
                                          void *user_data);

// Receives keys: free them with flowmesh_key_list_free.
typedef void (*flowmesh_key_list_callback_t)(flowmesh_error_t *FLOWMESH_NULLABLE error,
                                             flowmesh_key_list_t *FLOWMESH_NULLABLE keys,
                                             void *user_data);

// How much a log record matters: one of the FLOWMESH_LOG constants.
typedef int32_t flowmesh_log_level_t;

// A message of a stream. Borrowed from its batch; later versions append fields, so never copy it
// by value or rely on its size.
typedef struct {
    // Position in the stream, from 0.
    int64_t offset;
    // When it was written, by the server's clock.
    int64_t created_at_ns;
    // As written.
    flowmesh_view_t payload;
    // `header_count` headers; see also flowmesh_message_get_header.
    const flowmesh_header_t *headers;
    // Number of headers.
    size_t header_count;
    // Id of the message.
    flowmesh_view_t id;
    // The stream, as "tenant/namespace/stream/name".
    flowmesh_view_t resource_path;
    // Partition, always 0.
    int32_t partition;
    // Version of the schema that the payload was checked against, 0 for none.
    int32_t schema_version;
} flowmesh_message_t;

// Receives reports, lent for the call. One call at a time, on the producer's dispatcher; what it
// calls may block.
typedef void (*flowmesh_report_callback_t)(const flowmesh_report_batch_t *reports,
                                           void *user_data);

// Told, after a send was refused with FLOWMESH_QUEUE_FULL, that at least half of the buffer is free
// again, or that the producer has ended: once for all refusals before it. Never at the same time
// as the producer's report callback.
typedef void (*flowmesh_writable_callback_t)(void *user_data);

// An event to write. Start from FLOWMESH_EVENT_INIT.
typedef struct {
    // sizeof(flowmesh_event_t); the same in every event of an array.
    size_t size;
    // At least 1 byte.
    flowmesh_view_t payload;
    // `header_count` headers; may be NULL when there are none.
    const flowmesh_header_t *headers;
    // Number of headers.
    size_t header_count;
    // Trace that the event, or the job of a producer, belongs to: a W3C `traceparent`; NULL for that
    // of the call, if there is one. A header of that name counts more.
    const char *traceparent;
    // Its `tracestate`; NULL for none.
    const char *tracestate;
} flowmesh_event_t;

// What became of one message. Borrowed from its batch; later versions append fields, so never
// copy it by value or rely on its size.
typedef struct {
    // As given to flowmesh_producer_send.
    void *message_data;
    // FLOWMESH_OK: it is stored.
    flowmesh_status_t status;
    // Whether it is stored; after a failure too.
    flowmesh_outcome_t outcome;
    // Its offset in the stream, or its number (seq) in the queue; -1 after a failure.
    int64_t position;
    // Id of the job, ends in NUL; NULL from a stream and after a failure.
    const char *job_id;
    // Why it failed; NULL when it did not.
    const flowmesh_error_t *error;
    // How often it was tried.
    int32_t attempts;
} flowmesh_report_t;

// Counters of a queue; they survive restarts. Start from FLOWMESH_QUEUE_STATS_INIT.
typedef struct {
    // sizeof(flowmesh_queue_stats_t).
    size_t size;
    // Jobs ever enqueued, moved or replayed into the queue.
    int64_t total_jobs;
    // Waiting, due or not.
    int64_t pending_jobs;
    // Leased.
    int64_t in_flight_jobs;
    // Acknowledged.
    int64_t completed_jobs;
    // Moved to the dead-letter queue.
    int64_t failed_jobs;
    // Age of the oldest waiting job, 0 if none. Whole seconds.
    int64_t oldest_job_age_ms;
} flowmesh_queue_stats_t;

// How the backoff grows with the number n of deliveries.
typedef int32_t flowmesh_backoff_t;

// When a job that failed is tried again. FLOWMESH_RETRY_POLICY_INIT is the default policy: 3
// deliveries, 1 s and 2 s apart, then the dead-letter queue.
typedef struct {
    // sizeof(flowmesh_retry_policy_t).
    size_t size;
    // Deliveries before a job is dead-lettered, 0 for no limit.
    int32_t max_attempts;
    // How the backoff grows, a FLOWMESH_BACKOFF constant.
    flowmesh_backoff_t backoff_strategy;
    // Backoff after the first delivery; above 0.
    int64_t initial_backoff_ms;
    // Longest backoff; from initial_backoff_ms to a year.
    int64_t max_backoff_ms;
    // Factor of FLOWMESH_BACKOFF_EXPONENTIAL; above 0 for every strategy.
    double backoff_multiplier;
} flowmesh_retry_policy_t;

// Receives the id, lent for the call, and the number of a new job; NULL and -1 on failure.
typedef void (*flowmesh_enqueued_callback_t)(flowmesh_error_t *FLOWMESH_NULLABLE error,
                                             const char *job_id,
                                             int64_t seq,
                                             void *user_data);

// Receives a job: free it with flowmesh_job_free. NULL without an error: there was none.
typedef void (*flowmesh_job_callback_t)(flowmesh_error_t *FLOWMESH_NULLABLE error,
                                        flowmesh_job_t *FLOWMESH_NULLABLE job,
                                        void *user_data);

// Receives jobs: free them with flowmesh_job_batch_free.
typedef void (*flowmesh_job_batch_callback_t)(flowmesh_error_t *FLOWMESH_NULLABLE error,
                                              flowmesh_job_batch_t *FLOWMESH_NULLABLE batch,
                                              void *user_data);

// Receives counters of a queue, lent for the call.
typedef void (*flowmesh_queue_stats_callback_t)(flowmesh_error_t *FLOWMESH_NULLABLE error,
                                                const flowmesh_queue_stats_t *FLOWMESH_NULLABLE stats,
                                                void *user_data);

// Receives a retry policy, lent for the call.
typedef void (*flowmesh_retry_policy_callback_t)(flowmesh_error_t *FLOWMESH_NULLABLE error,
                                                 const flowmesh_retry_policy_t *FLOWMESH_NULLABLE policy,
                                                 void *user_data);

// Receives messages: free them with flowmesh_message_batch_free.
typedef void (*flowmesh_batch_callback_t)(flowmesh_error_t *FLOWMESH_NULLABLE error,
                                          flowmesh_message_batch_t *FLOWMESH_NULLABLE batch,
                                          void *user_data);

// What a client has counted since it was opened, and what it holds now. Each number is right by
// itself; together they are not one instant. Start from FLOWMESH_CLIENT_STATS_INIT.
//
//     flowmesh_client_stats_t stats = FLOWMESH_CLIENT_STATS_INIT;
//     status = flowmesh_client_get_stats(client, &stats, &error);
//     if (status == FLOWMESH_OK) {
//         printf("%" PRIu64 " calls, p99 %" PRIu64 " us\n", stats.calls_started,
//                stats.latency_p99_ns / 1000);
//     }
typedef struct {
    // sizeof(flowmesh_client_stats_t).
    size_t size;
    // Calls begun, those of subscriptions, producers and workers included. A call that the
    // library refuses for its arguments, or because the client is closed, is none.
    uint64_t calls_started;
    // Calls that succeeded.
    uint64_t calls_succeeded;
    // Calls that failed, at their deadline too.
    uint64_t calls_failed;
    // Calls that the caller cancelled.
    uint64_t calls_cancelled;
    // Calls that the library repeated after the connection failed.
    uint64_t calls_retried;
    // Calls begun and not ended.
    uint64_t calls_under_way;
    // Half of the calls took at most this long. Latencies are those of calls that succeeded,
    // without calls that may wait for a job; they are up to 1/16 too high, and 0 without calls.
    uint64_t latency_p50_ns;
    // 90 of 100 calls took at most this long.
    uint64_t latency_p90_ns;
    // 99 of 100.
    uint64_t latency_p99_ns;
    // 999 of 1000.
    uint64_t latency_p999_ns;
    // The longest, exactly.
    uint64_t latency_max_ns;
    // Bytes written to sockets; 0 for embedded endpoints, as all about connections.
    uint64_t bytes_sent;
    // Bytes read from sockets.
    uint64_t bytes_received;
    // Connections made: the first and every reconnect.
    uint64_t connections_made;
    // Connections that ended otherwise than by closing the client.
    uint64_t connections_lost;
    // Messages given to subscribers.
    uint64_t messages_delivered;
    // Subscriptions that have not ended.
    uint64_t subscriptions;
    // Bytes that arrived for subscriptions and wait for the application.
    uint64_t prefetched_bytes;
    // Bytes that producers accepted and have not reported yet.
    uint64_t producer_bytes;
    // Messages that producers accepted and have not reported yet.
    uint64_t producer_messages;
    // Jobs that workers hold: leased, and neither acknowledged nor given back.
    uint64_t worker_jobs;
} flowmesh_client_stats_t;

// Where a consumer group stands. Start from FLOWMESH_GROUP_STATE_INIT.
typedef struct {
    // sizeof(flowmesh_group_state_t).
    size_t size;
    // Last offset that the group committed, -1 when none.
    int64_t committed_offset;
    // Last offset written, -1 when the stream is empty.
    int64_t latest_offset;
    // Messages that the group has still to process, -1 when the stream is empty.
    int64_t lag;
} flowmesh_group_state_t;

// Receives the offset of each event that was written, lent for the call; none on failure.
typedef void (*flowmesh_offsets_callback_t)(flowmesh_error_t *FLOWMESH_NULLABLE error,
                                            const int64_t *offsets,
                                            size_t count,
                                            void *user_data);

// Receives an offset; -1 on failure.
typedef void (*flowmesh_offset_callback_t)(flowmesh_error_t *FLOWMESH_NULLABLE error,
                                           int64_t offset,
                                           void *user_data);

// Receives where a consumer group stands, lent for the call.
typedef void (*flowmesh_group_state_callback_t)(flowmesh_error_t *FLOWMESH_NULLABLE error,
                                                const flowmesh_group_state_t *FLOWMESH_NULLABLE state,
                                                void *user_data);

// What a subscription with a callback commits by itself.
typedef int32_t flowmesh_commit_mode_t;

// State of a subscription.
typedef int32_t flowmesh_subscription_state_t;

// Told when a subscription changes state: one of the FLOWMESH_SUBSCRIPTION constants, and for LOST,
// COMMIT_FAILED and ENDED the reason, lent for the call (NULL otherwise). Never at the same time as
// the subscription's message callback, and in order with it. Changes that nobody was told of in
// time are told once, not once each.
typedef void (*flowmesh_state_callback_t)(flowmesh_subscription_state_t state,
                                          const flowmesh_error_t *FLOWMESH_NULLABLE reason,
                                          void *user_data);

// Receives messages: at least one, lent for the call. One call at a time, on the subscription's
// dispatcher; what it calls may block.
typedef void (*flowmesh_message_callback_t)(const flowmesh_message_batch_t *batch,
                                            void *user_data);

// Receives a subscription: free it with flowmesh_subscription_free.
typedef void (*flowmesh_subscription_callback_t)(flowmesh_error_t *FLOWMESH_NULLABLE error,
                                                 flowmesh_subscription_t *FLOWMESH_NULLABLE subscription,
                                                 void *user_data);

// How a worker asks for jobs: one of the FLOWMESH_POLL constants.
typedef int32_t flowmesh_poll_mode_t;

// What a worker tells beside its jobs: one of the FLOWMESH_WORKER constants.
typedef int32_t flowmesh_worker_event_kind_t;

// Something that happened to a worker, lent for the call. Reached only by pointer; later versions
// append fields.
typedef struct {
    // What happened: one of the FLOWMESH_WORKER constants.
    flowmesh_worker_event_kind_t kind;
    // Deliveries of the job; 0 where it is not about a job.
    int32_t attempts;
    // The job's number in the queue; -1 where it is not about a job.
    int64_t seq;
    // The job's id, NUL-terminated; empty where it is not about a job.
    char job_id[FLOWMESH_JOB_ID_SIZE];
    // Why, lent for the call; NULL where there is no reason.
    const flowmesh_error_t *reason;
} flowmesh_worker_event_t;

// Is told what happens to a worker: one call at a time, in order. On the worker's dispatcher, or
// without one on its client's: so it may come while the handler runs.
typedef void (*flowmesh_worker_event_callback_t)(const flowmesh_worker_event_t *event,
                                                 void *user_data);

// What a handler decides: one of the FLOWMESH_VERDICT constants.
typedef int32_t flowmesh_verdict_t;

// Handles a job and returns the verdict. `job` is lent for the call, unless the verdict is
// FLOWMESH_VERDICT_LEAVE: then it is the application's, which may have settled and freed it already,
// in any thread. *delay_ms is 0; with FLOWMESH_VERDICT_NACK it says how long until the job is due
// again, at most a year (0 is what the retry policy says). Called by as many threads at once as the
// concurrency says. It may block; flowmesh_job_time_left_ms says how long the job is still its own.
// Anything else than a verdict, or a wrong delay, is FLOWMESH_VERDICT_NACK without a delay, and told
// as FLOWMESH_WORKER_NOT_SETTLED.
typedef flowmesh_verdict_t (*flowmesh_job_handler_t)(flowmesh_job_t *job,
                                                     int64_t *delay_ms,
                                                     void *user_data);

// Releases `user_data`: called once, after the last call of the callback it came with, on any
// thread. Also when the call that took it fails.
typedef void (*flowmesh_drop_t)(void *user_data);

// Told what happens in the library: how much it matters, what it is about ("connection", "call",
// "subscription", "producer", "worker", "engine", "process"), the number of the client
// (flowmesh_client_id; 0 for none), and one line of UTF-8. The texts are lent for the call. They
// are for people and may change; they never hold payloads, keys or tokens.
//
// Any thread that is in the library may call it, the application's own too, and several at once.
// The thread may be in the middle of something: be short, and call nothing of the library but
// flowmesh_log_set_callback. What it causes itself is not told.
typedef void (*flowmesh_log_callback_t)(flowmesh_log_level_t level,
                                        const char *target,
                                        uint64_t client_id,
                                        const char *text,
                                        void *user_data);

// Options of a single call. Start from FLOWMESH_CALL_OPTIONS_INIT.
typedef struct {
    // sizeof(flowmesh_call_options_t).
    size_t size;
    // Deadline of the call: 0 is the client's default, -1 none.
    int64_t timeout_ms;
    // Ends the call from another thread; NULL for none.
    const flowmesh_cancel_t *cancel;
    // Trace that the call belongs to, a W3C `traceparent`; NULL for none.
    const char *traceparent;
    // Its `tracestate`; NULL for none.
    const char *tracestate;
} flowmesh_call_options_t;

// Options of flowmesh_stream_write. Start from FLOWMESH_WRITE_OPTIONS_INIT.
typedef struct {
    // sizeof(flowmesh_write_options_t).
    size_t size;
    // Deadline of the call: 0 is the client's default, -1 none.
    int64_t timeout_ms;
    // Ends the call from another thread; NULL for none.
    const flowmesh_cancel_t *cancel;
    // Trace that the call belongs to, a W3C `traceparent`; NULL for none.
    const char *traceparent;
    // Its `tracestate`; NULL for none.
    const char *tracestate;
} flowmesh_write_options_t;

// Options of flowmesh_stream_read and flowmesh_stream_reader_open. Start from
// FLOWMESH_READ_OPTIONS_INIT.
typedef struct {
    // sizeof(flowmesh_read_options_t).
    size_t size;
    // Deadline of each call: 0 is the client's default, -1 none.
    int64_t timeout_ms;
    // Ends the call from another thread; NULL for none.
    const flowmesh_cancel_t *cancel;
    // Trace that the call belongs to, a W3C `traceparent`; NULL for none.
    const char *traceparent;
    // Its `tracestate`; NULL for none.
    const char *tracestate;
    // At most so many messages, 1 to 1000 (above counts as 1000); 0 is 100.
    int32_t max_messages;
    // Partition, from 0 on; all events are in 0.
    int32_t partition;
} flowmesh_read_options_t;

// Options of calls about offsets. Start from FLOWMESH_OFFSET_OPTIONS_INIT.
typedef struct {
    // sizeof(flowmesh_offset_options_t).
    size_t size;
    // Deadline of the call: 0 is the client's default, -1 none.
    int64_t timeout_ms;
    // Ends the call from another thread; NULL for none.
    const flowmesh_cancel_t *cancel;
    // Trace that the call belongs to, a W3C `traceparent`; NULL for none.
    const char *traceparent;
    // Its `tracestate`; NULL for none.
    const char *tracestate;
    // Partition; all events are in 0.
    int32_t partition;
} flowmesh_offset_options_t;

// Options of flowmesh_queue_enqueue. Start from FLOWMESH_ENQUEUE_OPTIONS_INIT.
typedef struct {
    // sizeof(flowmesh_enqueue_options_t).
    size_t size;
    // Deadline of the call: 0 is the client's default, -1 none.
    int64_t timeout_ms;
    // Ends the call from another thread; NULL for none.
    const flowmesh_cancel_t *cancel;
    // Trace that the call belongs to, a W3C `traceparent`; NULL for none.
    const char *traceparent;
    // Its `tracestate`; NULL for none.
    const char *tracestate;
    // How long until the job is due, at most a year; 0 is now.
    int64_t delay_ms;
    // `header_count` headers; may be NULL when there are none.
    const flowmesh_header_t *headers;
    // Number of headers.
    size_t header_count;
} flowmesh_enqueue_options_t;

// Options of flowmesh_queue_reserve and flowmesh_queue_receive. Start from
// FLOWMESH_RESERVE_OPTIONS_INIT.
typedef struct {
    // sizeof(flowmesh_reserve_options_t).
    size_t size;
    // Deadline of the call, beyond wait_ms in whole seconds: 0 is the client's default, -1 none.
    int64_t timeout_ms;
    // Ends the call from another thread; NULL for none.
    const flowmesh_cancel_t *cancel;
    // Trace that the call belongs to, a W3C `traceparent`; NULL for none.
    const char *traceparent;
    // Its `tracestate`; NULL for none.
    const char *tracestate;
    // Length of the lease, at most 12 hours; 0 is 30 s.
    int64_t visibility_timeout_ms;
    // How long to wait for a job, rounded up to whole seconds: 0 not at all, -1 for ever.
    int64_t wait_ms;
} flowmesh_reserve_options_t;

// Options of flowmesh_job_nack and flowmesh_queue_nack. Start from FLOWMESH_NACK_OPTIONS_INIT.
typedef struct {
    // sizeof(flowmesh_nack_options_t).
    size_t size;
    // Deadline of the call: 0 is the client's default, -1 none.
    int64_t timeout_ms;
    // Ends the call from another thread; NULL for none.
    const flowmesh_cancel_t *cancel;
    // Trace that the call belongs to, a W3C `traceparent`; NULL for none.
    const char *traceparent;
    // Its `tracestate`; NULL for none.
    const char *tracestate;
    // How long until the job is due again, at most a year; 0 is what the retry policy says.
    int64_t delay_ms;
} flowmesh_nack_options_t;

// Options of flowmesh_kv_set. Start from FLOWMESH_SET_OPTIONS_INIT.
typedef struct {
    // sizeof(flowmesh_set_options_t).
    size_t size;
    // Deadline of the call: 0 is the client's default, -1 none.
    int64_t timeout_ms;
    // Ends the call from another thread; NULL for none.
    const flowmesh_cancel_t *cancel;
    // Trace that the call belongs to, a W3C `traceparent`; NULL for none.
    const char *traceparent;
    // Its `tracestate`; NULL for none.
    const char *tracestate;
    // How long the value lives, at most a year; 0 is for ever.
    int64_t ttl_ms;
} flowmesh_set_options_t;

// Makes a token; free it with flowmesh_cancel_free. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_cancel_new(flowmesh_cancel_t **cancel,
                                      flowmesh_error_t **FLOWMESH_NULLABLE error);

// Ends every call that holds `cancel`, now or later, with FLOWMESH_CANCELLED. The outcome of a
// cancelled write is unknown unless it had not been sent. Does not block; any thread.
flowmesh_status_t flowmesh_cancel_cancel(const flowmesh_cancel_t *cancel,
                                         flowmesh_error_t **FLOWMESH_NULLABLE error);

// Frees the handle; calls that hold the token keep it. Does not block; any thread.
void flowmesh_cancel_free(flowmesh_cancel_t *FLOWMESH_NULLABLE cancel);

// Makes options with every default; free them with flowmesh_client_options_free. Does not block;
// any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_options_new(flowmesh_client_options_t **options,
                                              flowmesh_error_t **FLOWMESH_NULLABLE error);

// Frees options. Does not block; any thread.
void flowmesh_client_options_free(flowmesh_client_options_t *FLOWMESH_NULLABLE options);

// Deadline of calls whose options say 0. Default 30000; -1 for none; 0 is refused.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_options_set_timeout_ms(const flowmesh_client_options_t *options,
                                                         int64_t timeout_ms,
                                                         flowmesh_error_t **FLOWMESH_NULLABLE error);

// How long one attempt to connect may take. Default 10000; at least 1.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_options_set_connect_timeout_ms(const flowmesh_client_options_t *options,
                                                                 int64_t timeout_ms,
                                                                 flowmesh_error_t **FLOWMESH_NULLABLE error);

// The largest reply accepted. Default 256 MiB; at least 1024 bytes.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_options_set_max_message_bytes(const flowmesh_client_options_t *options,
                                                                size_t max_bytes,
                                                                flowmesh_error_t **FLOWMESH_NULLABLE error);

// Embedded directories: when writes reach the disk, a FLOWMESH_FSYNC constant. Clients of one
// process that open the same directory share the engine, and with it what the first one chose.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_options_set_fsync(const flowmesh_client_options_t *options,
                                                    flowmesh_fsync_t policy,
                                                    flowmesh_error_t **FLOWMESH_NULLABLE error);

// Whether a blocking call may look for its reply, for up to 60 microseconds, before it sleeps (default
// true). The only blocking call of the process does so, where there is more than one processor and as
// long as it is measured to be quicker; such a call then uses the processor all the time. False spares
// the processor, for power or for others. Asynchronous calls always sleep.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_options_set_spin(const flowmesh_client_options_t *options,
                                                   bool spin,
                                                   flowmesh_error_t **FLOWMESH_NULLABLE error);

// Embedded endpoints: whether calls that need a stream, queue or store create it (default true).
// With false such calls end with FLOWMESH_NOT_FOUND where there is none.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_options_set_create(const flowmesh_client_options_t *options,
                                                     bool create,
                                                     flowmesh_error_t **FLOWMESH_NULLABLE error);

// "embedded:" in memory: gives the engine a clock that moves only by flowmesh_test_clock_advance,
// so that tests of delays, leases and times to live need not sleep. Other endpoints refuse it
// when they are opened.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_options_set_test_clock(const flowmesh_client_options_t *options,
                                                         bool test_clock,
                                                         flowmesh_error_t **FLOWMESH_NULLABLE error);

// What runs the callbacks of the client and of what is opened from it, unless that has a
// dispatcher of its own. NULL is the default, a thread of the library. The dispatcher may be freed
// at once, see flowmesh_dispatcher_free.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_options_set_dispatcher(const flowmesh_client_options_t *options,
                                                         const flowmesh_dispatcher_t *FLOWMESH_NULLABLE dispatcher,
                                                         flowmesh_error_t **FLOWMESH_NULLABLE error);

// Makes a client for `endpoint`: "host:port", "http://host:port", "https://host:port" (TLS),
// "unix:/path", "embedded:/dir" (or a relative directory; its parent must exist) or "embedded:"
// (in memory, a world of its own). NULL is the environment's FLOWMESH_ENDPOINT, else
// "localhost:50051". Does no I/O and does not block; any thread. Free the client with
// flowmesh_client_free.
//
// FLOWMESH_INVALID_ARGUMENT: malformed endpoint, or options that do not go with it.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_open(const char *FLOWMESH_NULLABLE endpoint,
                                       const flowmesh_client_options_t *FLOWMESH_NULLABLE options,
                                       flowmesh_client_t **client,
                                       flowmesh_error_t **FLOWMESH_NULLABLE error);

// Connects now, for those who want to know early: waits until the endpoint answers a health
// check, or until an embedded engine is open. Health is open to everybody, so a token is first
// checked by the first other call. Blocks for at most `timeout_ms` (0 does not wait, -1 for ever);
// any thread.
//
// FLOWMESH_UNAVAILABLE: nobody answers there, or what answers speaks no HTTP/2, or TLS does not
// trust it (the message says why). FLOWMESH_UNIMPLEMENTED: another HTTP/2 server, a proxy perhaps.
// FLOWMESH_DEADLINE_EXCEEDED: not yet connected. Embedded: FLOWMESH_PERMISSION_DENIED,
// FLOWMESH_FAILED_PRECONDITION (the directory's parent is missing, or it is in use by another process,
// or written by a future version). Without a connect, the first call gives these.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_connect(const flowmesh_client_t *client,
                                          int64_t timeout_ms,
                                          flowmesh_error_t **FLOWMESH_NULLABLE error);

// Closes the client for everything that was opened from it: waiting calls and subscriptions end
// with FLOWMESH_CLOSED, later calls return it. Blocks for at most `timeout_ms` (0 does not wait,
// -1 for ever) until all is quiet; inside a callback it returns at once. After FLOWMESH_OK no
// callback of this client runs. A second close is fine. Any thread.
//
// FLOWMESH_DEADLINE_EXCEEDED: a call or callback still runs, or waits on a dispatcher that the
// application runs; nothing is delivered any more, but asynchronous calls still get their
// completion. What calls left unsent or unacknowledged, each of them reports itself, in its outcome.
flowmesh_status_t flowmesh_client_close(const flowmesh_client_t *client,
                                        int64_t timeout_ms,
                                        flowmesh_error_t **FLOWMESH_NULLABLE error);

// The number by which the log names the client; no other client of the process has it. 0 for
// NULL. Does not block; any thread.
uint64_t flowmesh_client_id(const flowmesh_client_t *client);

// Frees the handle. It does not close: streams, queues, stores and subscriptions of the client
// work on, and the connection ends with the last of them. Does not block; any thread, a
// callback's too.
void flowmesh_client_free(flowmesh_client_t *FLOWMESH_NULLABLE client);

// Asks the server for a sign of life. Blocks up to the deadline; any thread.
//
// FLOWMESH_UNAVAILABLE, FLOWMESH_DEADLINE_EXCEEDED: there was none.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_health_check(const flowmesh_client_t *client,
                                               const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                               flowmesh_error_t **FLOWMESH_NULLABLE error);

// Whether the server's storage can take work; a server that is not ready is no failure. Blocks up
// to the deadline; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_readiness_check(const flowmesh_client_t *client,
                                                  const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                                  bool *ready,
                                                  flowmesh_error_t **FLOWMESH_NULLABLE error);

// Moves the test clock of an "embedded:" client forward: what became due by then (leases, delays,
// times to live) is due when the call returns. Does not block; any thread.
//
// FLOWMESH_INVALID_ARGUMENT: `by_ms` is negative. FLOWMESH_FAILED_PRECONDITION: the client has no
// test clock, see flowmesh_client_options_set_test_clock.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_test_clock_advance(const flowmesh_client_t *client,
                                              int64_t by_ms,
                                              flowmesh_error_t **FLOWMESH_NULLABLE error);

// The bearer token sent with every call. Default: the environment's FLOWMESH_AUTH_TOKEN, or else
// what is in the file that its FLOWMESH_AUTH_TOKEN_FILE names. "" means none. An embedded endpoint
// takes no token: flowmesh_client_open refuses one set here and ignores the environment's. It also
// refuses to send one unencrypted to another machine, see
// flowmesh_client_options_set_allow_plaintext_token. Printable ASCII. Neither the log nor any
// error repeats it.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_options_set_auth_token(const flowmesh_client_options_t *options,
                                                         const char *token,
                                                         flowmesh_error_t **FLOWMESH_NULLABLE error);

// A file that holds the token, in place of flowmesh_client_options_set_auth_token. The first call
// reads it, and a call whose token the server refuses reads it again: when it holds another one
// by then, the call is repeated with that, and where it does not, the call fails. Subscriptions and
// workers go on trying, as the file may be renewed at any time. FLOWMESH_FAILED_PRECONDITION ends
// calls that need to read it when it cannot be read, or is no regular file.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_options_set_auth_token_file(const flowmesh_client_options_t *options,
                                                              const char *path,
                                                              flowmesh_error_t **FLOWMESH_NULLABLE error);

// Whether a token may go unencrypted to another machine, where everybody on the way can read it.
// Default: false, unless the environment's FLOWMESH_ALLOW_PLAINTEXT_TOKEN is 1. "https://", unix
// sockets and loopback addresses ("localhost" is one) need no such leave.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_options_set_allow_plaintext_token(const flowmesh_client_options_t *options,
                                                                    bool allow,
                                                                    flowmesh_error_t **FLOWMESH_NULLABLE error);

// "https://": a file of the authorities that may vouch for the server, PEM. Default: the
// environment's FLOWMESH_TLS_CA_FILE, or else the authorities that the system trusts. Files for TLS
// are read when a connection is made, so renewed ones count for the next one; what is wrong with
// them ends calls with FLOWMESH_UNAVAILABLE.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_options_set_tls_ca_file(const flowmesh_client_options_t *options,
                                                          const char *path,
                                                          flowmesh_error_t **FLOWMESH_NULLABLE error);

// The same authorities from memory: at least one certificate, PEM. They are copied.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_options_set_tls_ca_pem(const flowmesh_client_options_t *options,
                                                         flowmesh_view_t pem,
                                                         flowmesh_error_t **FLOWMESH_NULLABLE error);

// "https://": how the client proves who it is to servers that ask for it: files of its certificate
// (followed by those that lead to its authority) and of its private key, PEM, not encrypted.
// Default: the environment's FLOWMESH_TLS_CERT_FILE and FLOWMESH_TLS_KEY_FILE, or else none.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_options_set_tls_certificate_file(const flowmesh_client_options_t *options,
                                                                   const char *certificate_path,
                                                                   const char *key_path,
                                                                   flowmesh_error_t **FLOWMESH_NULLABLE error);

// The same from memory. Both are copied; neither the log nor any error repeats the key.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_options_set_tls_certificate_pem(const flowmesh_client_options_t *options,
                                                                  flowmesh_view_t certificate,
                                                                  flowmesh_view_t key,
                                                                  flowmesh_error_t **FLOWMESH_NULLABLE error);

// "https://": the name, or address, that the server's certificate must have. Default: the
// environment's FLOWMESH_TLS_SERVER_NAME, or else the endpoint's host.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_options_set_tls_server_name(const flowmesh_client_options_t *options,
                                                              const char *name,
                                                              flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_client_connect as an asynchronous call, see COMPLETIONS. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_connect_async(const flowmesh_client_t *client,
                                                int64_t timeout_ms,
                                                flowmesh_done_callback_t callback,
                                                void *FLOWMESH_NULLABLE user_data,
                                                flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                                flowmesh_error_t **FLOWMESH_NULLABLE error);

// Begins to close the client as flowmesh_client_close does: calls after this one return
// FLOWMESH_CLOSED. The callback runs when nothing of the client is left to run, as its last one, or
// when `timeout_ms` is over (0 does not wait, -1 for ever; FLOWMESH_DEADLINE_EXCEEDED). Cancelling the
// operation ends the wait only. See COMPLETIONS. Does not block; any thread.
//
// FLOWMESH_CLOSED: flowmesh_shutdown has closed the client already.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_close_async(const flowmesh_client_t *client,
                                              int64_t timeout_ms,
                                              flowmesh_done_callback_t callback,
                                              void *FLOWMESH_NULLABLE user_data,
                                              flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                              flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                              flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_client_health_check as an asynchronous call, see COMPLETIONS. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_health_check_async(const flowmesh_client_t *client,
                                                     const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                                     flowmesh_done_callback_t callback,
                                                     void *FLOWMESH_NULLABLE user_data,
                                                     flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                     flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                                     flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_client_readiness_check as an asynchronous call, see COMPLETIONS. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_readiness_check_async(const flowmesh_client_t *client,
                                                        const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                                        flowmesh_bool_callback_t callback,
                                                        void *FLOWMESH_NULLABLE user_data,
                                                        flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                        flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                                        flowmesh_error_t **FLOWMESH_NULLABLE error);

// Makes a dispatcher. `threads` 0: the application runs it, with flowmesh_dispatcher_run. Otherwise
// the library starts so many threads for it (at most 1024), named "flowmesh-callback". Does not
// block; any thread. Free it with flowmesh_dispatcher_free.
//
// FLOWMESH_RESOURCE_EXHAUSTED: no descriptor or no thread can be had.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_dispatcher_new(size_t threads,
                                          flowmesh_dispatcher_t **dispatcher,
                                          flowmesh_error_t **FLOWMESH_NULLABLE error);

// The descriptor to watch where the application runs the dispatcher: readable exactly while
// callbacks wait, or flowmesh_dispatcher_wake was called, and no thread is inside
// flowmesh_dispatcher_run. Such a run may find nothing to call after a close that has made the
// callback itself, and with an embedded engine, where a subscription looks for messages in its turn;
// the turn counts. Level-triggered; good for poll, epoll and every event loop on them. Only watch it:
// the library reads, writes and closes it, at the latest when the dispatcher and what uses it are
// gone. Stop watching before you free the dispatcher. Does not block; any thread.
//
// FLOWMESH_FAILED_PRECONDITION: the dispatcher has threads.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_dispatcher_fd(const flowmesh_dispatcher_t *dispatcher,
                                         int *fd,
                                         flowmesh_error_t **FLOWMESH_NULLABLE error);

// Runs callbacks in the calling thread: those that wait when it begins, but at most `max` (0 for no
// limit). When none waits, it blocks until there is one, for at most `timeout_ms` (0 does not wait, -1
// for ever), and meanwhile drives the connections itself. `count`, if not NULL, receives how many
// ran: 0 when the time was up or flowmesh_dispatcher_wake was called, which are no failures. Several
// threads may run one dispatcher; callbacks of one subscription still come one at a time.
//
// FLOWMESH_CLOSED: flowmesh_shutdown was called, and every callback has run.
// FLOWMESH_FAILED_PRECONDITION: the dispatcher has threads, or the caller is one of its callbacks.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_dispatcher_run(const flowmesh_dispatcher_t *dispatcher,
                                          size_t max,
                                          int64_t timeout_ms,
                                          size_t *FLOWMESH_NULLABLE count,
                                          flowmesh_error_t **FLOWMESH_NULLABLE error);

// Has one flowmesh_dispatcher_run return although no callback waits: one that waits now, or else
// the next. Makes the descriptor readable until then. For telling an event loop of something
// else. Does not block; any thread.
//
// FLOWMESH_FAILED_PRECONDITION: the dispatcher has threads.
flowmesh_status_t flowmesh_dispatcher_wake(const flowmesh_dispatcher_t *dispatcher,
                                           flowmesh_error_t **FLOWMESH_NULLABLE error);

// Frees the handle. Clients keep what they need of it: threads of the library work on until the
// last of them is gone; where the application has run the dispatcher, callbacks that wait or come
// later run on the library's default thread. Does not block; any thread that is not waiting in
// flowmesh_dispatcher_run, a callback too.
void flowmesh_dispatcher_free(flowmesh_dispatcher_t *FLOWMESH_NULLABLE dispatcher);

// The status that the call returned; FLOWMESH_OK for NULL. Does not block; any thread.
flowmesh_status_t flowmesh_error_status(const flowmesh_error_t *FLOWMESH_NULLABLE error);

// What was tried, on which resource, which rule or reason stopped it; "" for NULL. UTF-8, for
// people: do not match it. Borrowed until the error is freed. Does not block; any thread.
const char *flowmesh_error_message(const flowmesh_error_t *FLOWMESH_NULLABLE error);

// The server's own words, or "" when it said nothing; "" for NULL. Borrowed until the error is
// freed. Does not block; any thread.
const char *flowmesh_error_detail(const flowmesh_error_t *FLOWMESH_NULLABLE error);

// Whether the same call may succeed later without any change to it. Look at the outcome before
// you repeat a write or enqueue. False for NULL. Does not block; any thread.
bool flowmesh_error_retryable(const flowmesh_error_t *FLOWMESH_NULLABLE error);

// Whether the call changed anything; FLOWMESH_OUTCOME_UNKNOWN for NULL. Does not block; any
// thread.
flowmesh_outcome_t flowmesh_error_outcome(const flowmesh_error_t *FLOWMESH_NULLABLE error);

// Frees an error. Does not block; any thread.
void flowmesh_error_free(flowmesh_error_t *FLOWMESH_NULLABLE error);

// Acknowledges the job: it is done and gone. When its lease is over and somebody else has the job,
// that lease is acknowledged; when nobody has it, nothing happens, and neither is a failure: look at
// flowmesh_job_time_left_ms first. Blocks until it is stored, up to the deadline; any thread.
// Repeated by the library when the connection fails.
//
// FLOWMESH_FAILED_PRECONDITION: the job was listed, not leased.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_job_ack(const flowmesh_job_t *job,
                                   const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                   flowmesh_error_t **FLOWMESH_NULLABLE error);

// Gives the job back, to be tried again after options->delay_ms or the policy's backoff. A job at its
// last attempt goes to the dead-letter queue instead: that is no failure, and *dead_lettered, if not
// NULL, says so. Blocks until it is stored, up to the deadline; any thread. Never repeated by the
// library.
//
// FLOWMESH_NOT_FOUND: the job is not leased any more. FLOWMESH_FAILED_PRECONDITION: it was listed,
// not leased.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_job_nack(const flowmesh_job_t *job,
                                    const flowmesh_nack_options_t *FLOWMESH_NULLABLE options,
                                    bool *FLOWMESH_NULLABLE dead_lettered,
                                    flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_job_ack as an asynchronous call, see COMPLETIONS; the job may be freed at once. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_job_ack_async(const flowmesh_job_t *job,
                                         const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                         flowmesh_done_callback_t callback,
                                         void *FLOWMESH_NULLABLE user_data,
                                         flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                         flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                         flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_job_nack as an asynchronous call, see COMPLETIONS; the callback's `result` says whether the job was
// dead-lettered. The job may be freed at once. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_job_nack_async(const flowmesh_job_t *job,
                                          const flowmesh_nack_options_t *FLOWMESH_NULLABLE options,
                                          flowmesh_bool_callback_t callback,
                                          void *FLOWMESH_NULLABLE user_data,
                                          flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                          flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                          flowmesh_error_t **FLOWMESH_NULLABLE error);

// What is left of the lease, 0 when it is over or the job is NULL or not leased. Counted from the
// job's arrival by this process's own clock (a test clock's, where there is one), so that clocks
// need not agree; the server's count began a network transit earlier. Does not block; any thread.
int64_t flowmesh_job_time_left_ms(const flowmesh_job_t *job);

// Looks up the header `key` of `job`: true, and its value in `value`, or false. The value is
// borrowed from the job. False also for NULL arguments. Does not block; any thread.
bool flowmesh_job_get_header(const flowmesh_job_t *job,
                             const char *key,
                             flowmesh_view_t *value);

// Frees a job from flowmesh_queue_reserve, or one that a worker's handler was called with, and every
// view into it; its lease stays. Not for jobs of a batch. Does not block; any thread.
void flowmesh_job_free(flowmesh_job_t *FLOWMESH_NULLABLE job);

// Number of jobs; 0 for NULL. Does not block; any thread.
size_t flowmesh_job_batch_count(const flowmesh_job_batch_t *batch);

// Job `index`, counted from 0; NULL when there is none. Borrowed until the batch is freed. Does not
// block; any thread.
const flowmesh_job_t *flowmesh_job_batch_at(const flowmesh_job_batch_t *batch,
                                            size_t index);

// Acknowledges every job of the batch, many at a time; *acked, if not NULL, receives how many were
// acknowledged, on success and failure alike (the one output that a failure changes). One
// failure does not stop the others; the first is reported. Blocks until all are stored, up to
// the deadline; any thread. Repeated by the library when the connection fails.
//
// FLOWMESH_FAILED_PRECONDITION: the jobs were listed, not leased.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_job_batch_ack(const flowmesh_job_batch_t *batch,
                                         const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                         size_t *FLOWMESH_NULLABLE acked,
                                         flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_job_batch_ack as an asynchronous call, see COMPLETIONS; the batch may be freed at once. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_job_batch_ack_async(const flowmesh_job_batch_t *batch,
                                               const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                               flowmesh_count_callback_t callback,
                                               void *FLOWMESH_NULLABLE user_data,
                                               flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                               flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                               flowmesh_error_t **FLOWMESH_NULLABLE error);

// Frees a batch, its jobs and every view into them; their leases stay. Does not block; any thread.
void flowmesh_job_batch_free(flowmesh_job_batch_t *FLOWMESH_NULLABLE batch);

// Names a store. Does no I/O and does not block; any thread. The first set creates the store. Free
// the handle with flowmesh_kv_free.
//
// FLOWMESH_INVALID_ARGUMENT: a name breaks the rules of the overview.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_kv_open(const flowmesh_client_t *client,
                                   const char *tenant,
                                   const char *name_space,
                                   const char *name,
                                   flowmesh_kv_t **kv,
                                   flowmesh_error_t **FLOWMESH_NULLABLE error);

// Frees the handle. Does not block; any thread.
void flowmesh_kv_free(flowmesh_kv_t *FLOWMESH_NULLABLE kv);

// Stores a value of at least 1 byte, in place of the one before and of its time to live; key and
// value are copied before the call returns. Blocks until it is stored, up to the deadline; any
// thread. Repeated by the library when the connection fails.
//
// FLOWMESH_INVALID_ARGUMENT: bad key, empty value, negative or too long ttl_ms.
// FLOWMESH_RESOURCE_EXHAUSTED: larger than the server allows (4 MiB), or its storage is full.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_kv_set(const flowmesh_kv_t *kv,
                                  flowmesh_view_t key,
                                  flowmesh_view_t value,
                                  const flowmesh_set_options_t *FLOWMESH_NULLABLE options,
                                  flowmesh_error_t **FLOWMESH_NULLABLE error);

// Reads the value of a key. It belongs to the caller: flowmesh_value_free. Blocks up to the
// deadline; any thread. Repeated by the library when the connection fails.
//
// FLOWMESH_NOT_FOUND: no such key, or its time to live is over.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_kv_get(const flowmesh_kv_t *kv,
                                  flowmesh_view_t key,
                                  const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                  flowmesh_value_t **value,
                                  flowmesh_error_t **FLOWMESH_NULLABLE error);

// Removes a key; one that is not there is no failure. Blocks until it is stored, up to the
// deadline; any thread. Repeated by the library when the connection fails.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_kv_delete(const flowmesh_kv_t *kv,
                                     flowmesh_view_t key,
                                     const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                     flowmesh_error_t **FLOWMESH_NULLABLE error);

// Asks whether a key is there. Blocks up to the deadline; any thread. Repeated by the library when
// the connection fails.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_kv_exists(const flowmesh_kv_t *kv,
                                     flowmesh_view_t key,
                                     const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                     bool *exists,
                                     flowmesh_error_t **FLOWMESH_NULLABLE error);

// Lists every key that starts with `prefix` (all, when it is empty), in byte order. The list belongs
// to the caller: flowmesh_key_list_free. Blocks up to the deadline; any thread. Repeated by the
// library when the connection fails.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_kv_list_keys(const flowmesh_kv_t *kv,
                                        flowmesh_view_t prefix,
                                        const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                        flowmesh_key_list_t **keys,
                                        flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_kv_set as an asynchronous call, see COMPLETIONS. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_kv_set_async(const flowmesh_kv_t *kv,
                                        flowmesh_view_t key,
                                        flowmesh_view_t value,
                                        const flowmesh_set_options_t *FLOWMESH_NULLABLE options,
                                        flowmesh_done_callback_t callback,
                                        void *FLOWMESH_NULLABLE user_data,
                                        flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                        flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                        flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_kv_get as an asynchronous call, see COMPLETIONS. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_kv_get_async(const flowmesh_kv_t *kv,
                                        flowmesh_view_t key,
                                        const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                        flowmesh_value_callback_t callback,
                                        void *FLOWMESH_NULLABLE user_data,
                                        flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                        flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                        flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_kv_delete as an asynchronous call, see COMPLETIONS. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_kv_delete_async(const flowmesh_kv_t *kv,
                                           flowmesh_view_t key,
                                           const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                           flowmesh_done_callback_t callback,
                                           void *FLOWMESH_NULLABLE user_data,
                                           flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                           flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                           flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_kv_exists as an asynchronous call, see COMPLETIONS. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_kv_exists_async(const flowmesh_kv_t *kv,
                                           flowmesh_view_t key,
                                           const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                           flowmesh_bool_callback_t callback,
                                           void *FLOWMESH_NULLABLE user_data,
                                           flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                           flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                           flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_kv_list_keys as an asynchronous call, see COMPLETIONS. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_kv_list_keys_async(const flowmesh_kv_t *kv,
                                              flowmesh_view_t prefix,
                                              const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                              flowmesh_key_list_callback_t callback,
                                              void *FLOWMESH_NULLABLE user_data,
                                              flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                              flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                              flowmesh_error_t **FLOWMESH_NULLABLE error);

// The bytes of a value, borrowed until it is freed; an empty view for NULL. Does not block; any
// thread.
flowmesh_view_t flowmesh_value_data(const flowmesh_value_t *value);

// Frees a value. Does not block; any thread.
void flowmesh_value_free(flowmesh_value_t *FLOWMESH_NULLABLE value);

// Number of keys; 0 for NULL. Does not block; any thread.
size_t flowmesh_key_list_count(const flowmesh_key_list_t *keys);

// Key `index`, counted from 0, borrowed until the list is freed; an empty view when there is none.
// Does not block; any thread.
flowmesh_view_t flowmesh_key_list_at(const flowmesh_key_list_t *keys,
                                     size_t index);

// Frees a list of keys. Does not block; any thread.
void flowmesh_key_list_free(flowmesh_key_list_t *FLOWMESH_NULLABLE keys);

// Sets the log callback of the process, which is told records from FLOWMESH_LOG_ERROR up to `level`,
// in place of the former one. NULL is silence, the default; `level` does not count then. When
// this returns, the former callback does not run any more and its user_data is released; so it
// blocks while another thread is inside that callback. Inside the callback it does not wait, and
// user_data is released when the callback returns. flowmesh_shutdown leaves the callback; the
// child of a fork has none. Any thread.
//
//     static void on_log(flowmesh_log_level_t level, const char *target, uint64_t client_id,
//                        const char *text, void *user_data)
//     {
//         fprintf(user_data, "%d %s client %" PRIu64 ": %s\n", level, target, client_id, text);
//     }
//
//     status = flowmesh_log_set_callback(FLOWMESH_LOG_INFO, on_log, stderr, NULL, &error);
//
// FLOWMESH_INVALID_ARGUMENT: `level` is no FLOWMESH_LOG constant.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_log_set_callback(flowmesh_log_level_t level,
                                            flowmesh_log_callback_t FLOWMESH_NULLABLE callback,
                                            void *FLOWMESH_NULLABLE user_data,
                                            flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                            flowmesh_error_t **FLOWMESH_NULLABLE error);

// Number of messages; 0 for NULL. Does not block; any thread.
size_t flowmesh_message_batch_count(const flowmesh_message_batch_t *batch);

// Message `index`, counted from 0; NULL when there is none. Borrowed until the batch is freed.
// Does not block; any thread.
const flowmesh_message_t *flowmesh_message_batch_at(const flowmesh_message_batch_t *batch,
                                                    size_t index);

// Gives you a batch of your own with the same messages, without copying them: for keeping what a
// callback was lent. Free it with flowmesh_message_batch_free. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_message_batch_retain(const flowmesh_message_batch_t *batch,
                                                flowmesh_message_batch_t **retained,
                                                flowmesh_error_t **FLOWMESH_NULLABLE error);

// Frees a batch and every view into it. Not for a batch that was lent to a callback. Does not
// block; any thread.
void flowmesh_message_batch_free(flowmesh_message_batch_t *FLOWMESH_NULLABLE batch);

// Looks up the header `key` of `message`: true, and its value in `value`, or false. The value is
// borrowed from the message. False also for NULL arguments. Does not block; any thread.
bool flowmesh_message_get_header(const flowmesh_message_t *message,
                                 const char *key,
                                 flowmesh_view_t *value);

// Ends the call with FLOWMESH_CANCELLED, unless it has ended already: its callback runs once, soon,
// and tells which. A write that was cancelled may have happened, see flowmesh_error_outcome. Does
// not block; any thread.
flowmesh_status_t flowmesh_operation_cancel(const flowmesh_operation_t *operation,
                                            flowmesh_error_t **FLOWMESH_NULLABLE error);

// Frees the handle and nothing else: the call goes on. Does not block; any thread, the call's
// callback too.
void flowmesh_operation_free(flowmesh_operation_t *FLOWMESH_NULLABLE operation);

// Version of the library, "major.minor.patch"; compare with FLOWMESH_VERSION_STRING. The text is
// static. Does not block; any thread.
const char *flowmesh_version(void);

// Ends the library's work in this process: subscriptions and waiting calls end, later calls
// return FLOWMESH_CLOSED, threads stop, embedded engines close their directories. Frees still
// work. Blocks for at most `timeout_ms` (0 does not wait, -1 for ever), whatever is in flight;
// call it from any thread, in a callback it does not wait for that callback. Not needed before
// exit.
//
// FLOWMESH_DEADLINE_EXCEEDED: something still runs; the rest is done, none starts any more. Shut down
// again to wait for it.
flowmesh_status_t flowmesh_shutdown(int64_t timeout_ms,
                                    flowmesh_error_t **FLOWMESH_NULLABLE error);

// Makes the library usable in the child of a fork: call it there once, before any other call.
// What the parent made stays unusable in the child (FLOWMESH_FORKED) and can be freed; new
// clients work. Elsewhere it does nothing. Does not block.
flowmesh_status_t flowmesh_after_fork_child(flowmesh_error_t **FLOWMESH_NULLABLE error);

// Makes options with every default; free them with flowmesh_producer_options_free. Does not block;
// any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_producer_options_new(flowmesh_producer_options_t **options,
                                                flowmesh_error_t **FLOWMESH_NULLABLE error);

// Frees options. Callbacks that no producer took are dropped. Does not block; any thread.
void flowmesh_producer_options_free(flowmesh_producer_options_t *FLOWMESH_NULLABLE options);

// At most so many messages wait for their outcome. Default 100000; at least 1. When as many
// reports wait for their callback, nothing more is sent until they are delivered.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_producer_options_set_max_buffered_messages(const flowmesh_producer_options_t *options,
                                                                      size_t max_messages,
                                                                      flowmesh_error_t **FLOWMESH_NULLABLE error);

// At most so many bytes of messages wait for their outcome; one that is larger is accepted when
// nothing else waits. Default 64 MiB; at least 1.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_producer_options_set_max_buffered_bytes(const flowmesh_producer_options_t *options,
                                                                   size_t max_bytes,
                                                                   flowmesh_error_t **FLOWMESH_NULLABLE error);

// Streams: at most so many messages in one request. Default 10000; at least 1.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_producer_options_set_max_batch_messages(const flowmesh_producer_options_t *options,
                                                                   size_t max_messages,
                                                                   flowmesh_error_t **FLOWMESH_NULLABLE error);

// Streams: at most so many bytes in one request; a single message may have more, up to 4 MiB.
// Default 1 MiB; 1 to 64 MiB. More than 4 MiB is only for servers that are set up to allow it.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_producer_options_set_max_batch_bytes(const flowmesh_producer_options_t *options,
                                                                size_t max_bytes,
                                                                flowmesh_error_t **FLOWMESH_NULLABLE error);

// Queues: at most so many jobs on the way at once. Default 64; 1 to 200. With 1 they are stored in
// the order of the sends.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_producer_options_set_max_in_flight(const flowmesh_producer_options_t *options,
                                                              size_t max_in_flight,
                                                              flowmesh_error_t **FLOWMESH_NULLABLE error);

// How long the producer tries to deliver a message, from when it was accepted. Default 120000; -1
// for ever; 0 is refused. One attempt takes at most the client's default deadline.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_producer_options_set_delivery_timeout_ms(const flowmesh_producer_options_t *options,
                                                                    int64_t timeout_ms,
                                                                    flowmesh_error_t **FLOWMESH_NULLABLE error);

// Whether a request that may have been stored is sent again. Default false: its messages are
// reported with FLOWMESH_OUTCOME_UNKNOWN. True means at least once: they can be stored twice.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_producer_options_set_retry_unknown(const flowmesh_producer_options_t *options,
                                                              bool retry_unknown,
                                                              flowmesh_error_t **FLOWMESH_NULLABLE error);

// Whether the first message that fails ends the producer, so that nothing is stored behind a
// gap. Then what has not been sent is reported as not applied, with FLOWMESH_ABORTED, and so are
// later sends refused. Jobs that are on the way together with the failed one may still be stored.
// Default false.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_producer_options_set_stop_on_error(const flowmesh_producer_options_t *options,
                                                              bool stop_on_error,
                                                              flowmesh_error_t **FLOWMESH_NULLABLE error);

// Has `callback` receive the delivery reports of the next producer opened with these options;
// setting it again drops the one before. `drop_user_data` releases `user_data` once, after the
// last call, also when this call fails. Without a callback, flowmesh_producer_flush and _close
// tell that messages failed.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_producer_options_set_report_callback(const flowmesh_producer_options_t *options,
                                                                flowmesh_report_callback_t callback,
                                                                void *FLOWMESH_NULLABLE user_data,
                                                                flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                                flowmesh_error_t **FLOWMESH_NULLABLE error);

// Has `callback` told when there is room again after FLOWMESH_QUEUE_FULL, for the next producer
// opened with these options; as flowmesh_producer_options_set_report_callback otherwise.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_producer_options_set_writable_callback(const flowmesh_producer_options_t *options,
                                                                  flowmesh_writable_callback_t callback,
                                                                  void *FLOWMESH_NULLABLE user_data,
                                                                  flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                                  flowmesh_error_t **FLOWMESH_NULLABLE error);

// What runs the producer's callbacks; NULL, the default, is its client's dispatcher. The dispatcher
// may be freed at once, see flowmesh_dispatcher_free.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_producer_options_set_dispatcher(const flowmesh_producer_options_t *options,
                                                           const flowmesh_dispatcher_t *FLOWMESH_NULLABLE dispatcher,
                                                           flowmesh_error_t **FLOWMESH_NULLABLE error);

// Opens a producer of events for `stream`, which it keeps alive. Does no I/O and does not block;
// any thread. Close it with flowmesh_producer_close, free it with flowmesh_producer_free.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_stream_producer_open(const flowmesh_stream_t *stream,
                                                const flowmesh_producer_options_t *FLOWMESH_NULLABLE options,
                                                flowmesh_producer_t **producer,
                                                flowmesh_error_t **FLOWMESH_NULLABLE error);

// Opens a producer of jobs for `queue`; as flowmesh_stream_producer_open otherwise. Does not block;
// any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_producer_open(const flowmesh_queue_t *queue,
                                               const flowmesh_producer_options_t *FLOWMESH_NULLABLE options,
                                               flowmesh_producer_t **producer,
                                               flowmesh_error_t **FLOWMESH_NULLABLE error);

// Accepts an event, or a job with payload and headers of `event`. It is copied before the call
// returns; `message_data` comes back in its report, untouched. When the buffer is full, blocks for
// at most `timeout_ms` (0 does not wait, -1 for ever) until there is room; closing the producer
// from another thread ends the wait. After FLOWMESH_OK exactly one report follows, after anything
// else none. It makes no callbacks: the thread that alone runs the producer's dispatcher must not wait
// here without limit, as there may be no room before it has run reports. Any thread, a callback's too.
//
// FLOWMESH_QUEUE_FULL: no room within the time; the writable callback tells when there is. A thread
// of the producer's dispatcher gets it at once when all that is missing is that reports are
// delivered there. FLOWMESH_INVALID_ARGUMENT: an empty payload, a header that is not UTF-8, or more
// than fits into a request. FLOWMESH_CLOSED: the producer or its client was closed.
// FLOWMESH_ABORTED: see flowmesh_producer_options_set_stop_on_error.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_producer_send(const flowmesh_producer_t *producer,
                                         const flowmesh_event_t *event,
                                         void *FLOWMESH_NULLABLE message_data,
                                         int64_t timeout_ms,
                                         flowmesh_error_t **FLOWMESH_NULLABLE error);

// As flowmesh_producer_send, of a job that is due after `delay_ms`, at most a year. Queues only. Blocks
// for at most `timeout_ms` while the buffer is full; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_producer_send_delayed(const flowmesh_producer_t *producer,
                                                 const flowmesh_event_t *event,
                                                 int64_t delay_ms,
                                                 void *FLOWMESH_NULLABLE message_data,
                                                 int64_t timeout_ms,
                                                 flowmesh_error_t **FLOWMESH_NULLABLE error);

// Waits until every message accepted before has been reported and the callback has returned.
// Blocks for at most `timeout_ms` (0 does not wait, -1 for ever); any thread, also of the
// producer's dispatcher: what would have to run there is run inside this call, and so are the
// callbacks of a dispatcher that the application runs itself.
//
// FLOWMESH_DEADLINE_EXCEEDED: not everything was reported in time; it still will be.
// FLOWMESH_FAILED_PRECONDITION: inside a callback of this producer, which would wait for itself.
// FLOWMESH_ABORTED: without a report callback, messages failed since the last flush.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_producer_flush(const flowmesh_producer_t *producer,
                                          int64_t timeout_ms,
                                          flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_producer_flush as an asynchronous call, see COMPLETIONS; the completion comes on the
// client's dispatcher. Does not block; any thread, a callback of the producer too.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_producer_flush_async(const flowmesh_producer_t *producer,
                                                int64_t timeout_ms,
                                                flowmesh_done_callback_t callback,
                                                void *FLOWMESH_NULLABLE user_data,
                                                flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                                flowmesh_error_t **FLOWMESH_NULLABLE error);

// Accepts no more messages, sends what was accepted, and ends. Blocks for at most `timeout_ms` (0
// does not wait, -1 for ever). At the timeout the producer gives up what has no outcome yet: those
// messages are reported with FLOWMESH_CLOSED, not applied, or with an unknown outcome when they
// were on the way. `unsent`, if not NULL, says how many those are; it is set in every case but bad
// arguments and a forked process. After FLOWMESH_OK every report has been delivered, no callback
// runs and user_data has been released. Inside a callback of this producer it returns at once:
// with a `timeout_ms` of 0 the producer gives up, otherwise it goes on to its end by itself. A
// second close is fine. Any thread; callbacks run as with flowmesh_producer_flush.
//
// FLOWMESH_DEADLINE_EXCEEDED: reports are still to come, those of messages given up at once; close
// again to wait for them. FLOWMESH_ABORTED: as with flowmesh_producer_flush.
flowmesh_status_t flowmesh_producer_close(const flowmesh_producer_t *producer,
                                          int64_t timeout_ms,
                                          size_t *FLOWMESH_NULLABLE unsent,
                                          flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_producer_close as an asynchronous call, see COMPLETIONS: `count` of the callback is how
// many messages were given up. It comes on the client's dispatcher. Cancelling ends the wait only.
// Does not block; any thread, a callback of the producer too.
//
// FLOWMESH_CLOSED: the client is closed already; use flowmesh_producer_close.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_producer_close_async(const flowmesh_producer_t *producer,
                                                int64_t timeout_ms,
                                                flowmesh_count_callback_t callback,
                                                void *FLOWMESH_NULLABLE user_data,
                                                flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                                flowmesh_error_t **FLOWMESH_NULLABLE error);

// Ends the producer as flowmesh_producer_close with timeout 0 does, and frees the handle. Messages
// without an outcome are given up, and reported on the dispatcher. Does not block; any thread, a
// callback's too.
void flowmesh_producer_free(flowmesh_producer_t *FLOWMESH_NULLABLE producer);

// Number of reports; 0 for NULL. Does not block; any thread.
size_t flowmesh_report_batch_count(const flowmesh_report_batch_t *reports);

// Report `index`, counted from 0; NULL when there is none. Borrowed from the batch. Does not block;
// any thread.
const flowmesh_report_t *flowmesh_report_batch_at(const flowmesh_report_batch_t *reports,
                                                  size_t index);

// Names a queue. Does no I/O and does not block; any thread. The first enqueue, reserve or policy
// creates the queue. Free the handle with flowmesh_queue_free.
//
// FLOWMESH_INVALID_ARGUMENT: a name breaks the rules of the overview.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_open(const flowmesh_client_t *client,
                                      const char *tenant,
                                      const char *name_space,
                                      const char *name,
                                      flowmesh_queue_t **queue,
                                      flowmesh_error_t **FLOWMESH_NULLABLE error);

// Frees the handle; its jobs live on. Does not block; any thread.
void flowmesh_queue_free(flowmesh_queue_t *FLOWMESH_NULLABLE queue);

// Adds a job; the payload (at least 1 byte) is copied before the call returns. `job_id`, if not
// NULL, has room for FLOWMESH_JOB_ID_SIZE bytes and receives the id, NUL-terminated; `seq`
// receives the job's number in the queue. Blocks until the job is stored, up to the deadline;
// any thread. Never repeated by the library: after a failure with FLOWMESH_OUTCOME_UNKNOWN the job
// may be stored, and enqueueing it again may store it twice.
//
// FLOWMESH_INVALID_ARGUMENT: empty payload, negative or too long delay.
// FLOWMESH_RESOURCE_EXHAUSTED: larger than the server allows (4 MiB), or its storage is full.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_enqueue(const flowmesh_queue_t *queue,
                                         flowmesh_view_t payload,
                                         const flowmesh_enqueue_options_t *FLOWMESH_NULLABLE options,
                                         char *FLOWMESH_NULLABLE job_id,
                                         int64_t *FLOWMESH_NULLABLE seq,
                                         flowmesh_error_t **FLOWMESH_NULLABLE error);

// Leases the next due job, waiting up to options->wait_ms for one; *job becomes NULL when there was
// none. Callers that wait are served in order. The job is yours to free (flowmesh_job_free); the
// lease stays until it is acknowledged, given back, or its time is over. Blocks up to wait_ms and
// then the deadline; any thread. Not repeated by the library: when a reply is lost, or the call is
// cancelled, a job that was on its way is given to others, at the latest at the end of its lease.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_reserve(const flowmesh_queue_t *queue,
                                         const flowmesh_reserve_options_t *FLOWMESH_NULLABLE options,
                                         flowmesh_job_t **job,
                                         flowmesh_error_t **FLOWMESH_NULLABLE error);

// Leases up to `max_jobs` due jobs (1 to 100; 0 is 1, above counts as 100), waiting up to
// options->wait_ms for the first; fewer where the reply would pass 4 MiB. The batch, empty when there
// was none, is yours to free (flowmesh_job_batch_free). Blocks up to wait_ms and then the deadline;
// any thread. Otherwise as flowmesh_queue_reserve.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_receive(const flowmesh_queue_t *queue,
                                         int32_t max_jobs,
                                         const flowmesh_reserve_options_t *FLOWMESH_NULLABLE options,
                                         flowmesh_job_batch_t **batch,
                                         flowmesh_error_t **FLOWMESH_NULLABLE error);

// Acknowledges a leased job by its id: it is done and gone. An id that is not leased (any more)
// is no failure and changes nothing. See flowmesh_job_ack. Blocks until it is stored, up to the
// deadline; any thread. Repeated by the library when the connection fails.
//
// FLOWMESH_NOT_FOUND: no such queue.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_ack(const flowmesh_queue_t *queue,
                                     const char *job_id,
                                     const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                     flowmesh_error_t **FLOWMESH_NULLABLE error);

// Gives a leased job back by its id, to be tried again after options->delay_ms or the policy's
// backoff. A job at its last attempt goes to the dead-letter queue instead: that is no failure,
// and *dead_lettered, if not NULL, says so. See flowmesh_job_nack. Blocks until it is stored, up
// to the deadline; any thread. Never repeated by the library.
//
// FLOWMESH_NOT_FOUND: the job is not leased (any more).
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_nack(const flowmesh_queue_t *queue,
                                      const char *job_id,
                                      const flowmesh_nack_options_t *FLOWMESH_NULLABLE options,
                                      bool *FLOWMESH_NULLABLE dead_lettered,
                                      flowmesh_error_t **FLOWMESH_NULLABLE error);

// Reads the counters. `stats->size` must be set (FLOWMESH_QUEUE_STATS_INIT). Blocks up to the
// deadline; any thread. Repeated by the library when the connection fails.
//
// FLOWMESH_NOT_FOUND: no such queue.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_stats(const flowmesh_queue_t *queue,
                                       const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                       flowmesh_queue_stats_t *stats,
                                       flowmesh_error_t **FLOWMESH_NULLABLE error);

// Sets the retry policy; it counts from the next nack or expiry on. Backoffs are rounded up to
// seconds. Blocks until it is stored, up to the deadline; any thread. Repeated by the library
// when the connection fails.
//
// FLOWMESH_INVALID_ARGUMENT: a field breaks the rule at its declaration.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_set_retry_policy(const flowmesh_queue_t *queue,
                                                  const flowmesh_retry_policy_t *policy,
                                                  const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                                  flowmesh_error_t **FLOWMESH_NULLABLE error);

// Reads the retry policy in force. `policy->size` must be set (FLOWMESH_RETRY_POLICY_INIT). Blocks
// up to the deadline; any thread. Repeated by the library when the connection fails.
//
// FLOWMESH_NOT_FOUND: no such queue.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_get_retry_policy(const flowmesh_queue_t *queue,
                                                  const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                                  flowmesh_retry_policy_t *policy,
                                                  flowmesh_error_t **FLOWMESH_NULLABLE error);

// Lists dead letters of this queue that wait, in the order in which they would be delivered: up to
// `max_jobs` (0 is 100), fewer where the reply would pass 4 MiB. There is no cursor: later ones
// show once earlier ones are handled. The jobs are not leased: give their ids to
// flowmesh_queue_replay_dlq_job. They are the jobs of another queue, whose name is that of this one
// with "-dlq" behind it: to delete one, open that queue, lease it there, and acknowledge it. Their
// headers x-flowmesh-original-queue, x-flowmesh-original-job-id, x-flowmesh-attempts and
// x-flowmesh-failed-at tell where they come from. Free the batch with flowmesh_job_batch_free. Blocks up to the
// deadline; any thread. Repeated by the library when the connection fails.
//
// FLOWMESH_NOT_FOUND: no such queue.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_list_dlq_jobs(const flowmesh_queue_t *queue,
                                               int32_t max_jobs,
                                               const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                               flowmesh_job_batch_t **batch,
                                               flowmesh_error_t **FLOWMESH_NULLABLE error);

// Moves a dead letter back into this queue as a new job, due now, with no attempts counted.
// `new_job_id`, if not NULL, has room for FLOWMESH_JOB_ID_SIZE bytes and receives its id; `seq` its
// number. Blocks until it is stored, up to the deadline; any thread. Never repeated by the
// library: after a failure with FLOWMESH_OUTCOME_UNKNOWN, FLOWMESH_NOT_FOUND at the next try means
// that it was moved.
//
// FLOWMESH_NOT_FOUND: no dead letter has this id.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_replay_dlq_job(const flowmesh_queue_t *queue,
                                                const char *job_id,
                                                const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                                char *FLOWMESH_NULLABLE new_job_id,
                                                int64_t *FLOWMESH_NULLABLE seq,
                                                flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_queue_enqueue as an asynchronous call, see COMPLETIONS; the payload is copied before it returns. Calls
// may overtake each other: for order, enqueue the next job when the one before has ended, or use
// a producer. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_enqueue_async(const flowmesh_queue_t *queue,
                                               flowmesh_view_t payload,
                                               const flowmesh_enqueue_options_t *FLOWMESH_NULLABLE options,
                                               flowmesh_enqueued_callback_t callback,
                                               void *FLOWMESH_NULLABLE user_data,
                                               flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                               flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                               flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_queue_reserve as an asynchronous call, see COMPLETIONS. A job whose reply was under way
// when the call was cancelled is given to others, at the latest at the end of its lease. Does not
// block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_reserve_async(const flowmesh_queue_t *queue,
                                               const flowmesh_reserve_options_t *FLOWMESH_NULLABLE options,
                                               flowmesh_job_callback_t callback,
                                               void *FLOWMESH_NULLABLE user_data,
                                               flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                               flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                               flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_queue_receive as an asynchronous call, see COMPLETIONS. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_receive_async(const flowmesh_queue_t *queue,
                                               int32_t max_jobs,
                                               const flowmesh_reserve_options_t *FLOWMESH_NULLABLE options,
                                               flowmesh_job_batch_callback_t callback,
                                               void *FLOWMESH_NULLABLE user_data,
                                               flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                               flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                               flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_queue_ack as an asynchronous call, see COMPLETIONS. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_ack_async(const flowmesh_queue_t *queue,
                                           const char *job_id,
                                           const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                           flowmesh_done_callback_t callback,
                                           void *FLOWMESH_NULLABLE user_data,
                                           flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                           flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                           flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_queue_nack as an asynchronous call, see COMPLETIONS; the callback's `result` says whether the job
// was dead-lettered. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_nack_async(const flowmesh_queue_t *queue,
                                            const char *job_id,
                                            const flowmesh_nack_options_t *FLOWMESH_NULLABLE options,
                                            flowmesh_bool_callback_t callback,
                                            void *FLOWMESH_NULLABLE user_data,
                                            flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                            flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                            flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_queue_stats as an asynchronous call, see COMPLETIONS. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_stats_async(const flowmesh_queue_t *queue,
                                             const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                             flowmesh_queue_stats_callback_t callback,
                                             void *FLOWMESH_NULLABLE user_data,
                                             flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                             flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                             flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_queue_set_retry_policy as an asynchronous call, see COMPLETIONS. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_set_retry_policy_async(const flowmesh_queue_t *queue,
                                                        const flowmesh_retry_policy_t *policy,
                                                        const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                                        flowmesh_done_callback_t callback,
                                                        void *FLOWMESH_NULLABLE user_data,
                                                        flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                        flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                                        flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_queue_get_retry_policy as an asynchronous call, see COMPLETIONS. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_get_retry_policy_async(const flowmesh_queue_t *queue,
                                                        const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                                        flowmesh_retry_policy_callback_t callback,
                                                        void *FLOWMESH_NULLABLE user_data,
                                                        flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                        flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                                        flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_queue_list_dlq_jobs as an asynchronous call, see COMPLETIONS. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_list_dlq_jobs_async(const flowmesh_queue_t *queue,
                                                     int32_t max_jobs,
                                                     const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                                     flowmesh_job_batch_callback_t callback,
                                                     void *FLOWMESH_NULLABLE user_data,
                                                     flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                     flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                                     flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_queue_replay_dlq_job as an asynchronous call, see COMPLETIONS. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_queue_replay_dlq_job_async(const flowmesh_queue_t *queue,
                                                      const char *job_id,
                                                      const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                                      flowmesh_enqueued_callback_t callback,
                                                      void *FLOWMESH_NULLABLE user_data,
                                                      flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                      flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                                      flowmesh_error_t **FLOWMESH_NULLABLE error);

// Makes a reader that starts at `offset` (at least 0); options->max_messages is its page size.
// Does no I/O and does not block; any thread. Free it with flowmesh_stream_reader_free.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_stream_reader_open(const flowmesh_stream_t *stream,
                                              int64_t offset,
                                              const flowmesh_read_options_t *FLOWMESH_NULLABLE options,
                                              flowmesh_stream_reader_t **reader,
                                              flowmesh_error_t **FLOWMESH_NULLABLE error);

// Reads the next page; an empty batch means that the end is reached for now. After a failure the
// reader stays where it was. Options given here replace those of the reader. Free the batch with
// flowmesh_message_batch_free. Blocks up to the deadline; any thread. Repeated by the library when the connection fails.
//
// FLOWMESH_NOT_FOUND: nobody has written to the stream yet.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_stream_reader_next(const flowmesh_stream_reader_t *reader,
                                              const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                              flowmesh_message_batch_t **batch,
                                              flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_stream_reader_next as an asynchronous call, see COMPLETIONS. Several at once get pages that follow
// each other, but their callbacks may overtake. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_stream_reader_next_async(const flowmesh_stream_reader_t *reader,
                                                    const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                                    flowmesh_batch_callback_t callback,
                                                    void *FLOWMESH_NULLABLE user_data,
                                                    flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                    flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                                    flowmesh_error_t **FLOWMESH_NULLABLE error);

// Frees a reader. Does not block; any thread.
void flowmesh_stream_reader_free(flowmesh_stream_reader_t *FLOWMESH_NULLABLE reader);

// Reads the client's statistics, also after it was closed. `stats->size` must be set
// (FLOWMESH_CLIENT_STATS_INIT). Does no I/O and does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_client_get_stats(const flowmesh_client_t *client,
                                            flowmesh_client_stats_t *stats,
                                            flowmesh_error_t **FLOWMESH_NULLABLE error);

// Name of a status without prefix, as in "NOT_FOUND"; "?" for one that this version does not
// know. The text is static. Does not block; any thread.
const char *flowmesh_status_name(flowmesh_status_t status);

// Names a stream. Does no I/O and does not block; any thread. The first write or subscription
// creates the stream. Free the handle with flowmesh_stream_free.
//
// FLOWMESH_INVALID_ARGUMENT: a name breaks the rules of the overview.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_stream_open(const flowmesh_client_t *client,
                                       const char *tenant,
                                       const char *name_space,
                                       const char *name,
                                       flowmesh_stream_t **stream,
                                       flowmesh_error_t **FLOWMESH_NULLABLE error);

// Frees the handle; its readers, batches and subscriptions live on. Does not block; any thread.
void flowmesh_stream_free(flowmesh_stream_t *FLOWMESH_NULLABLE stream);

// Appends `count` events as one batch: all of them or none, at consecutive offsets. They are
// copied before the call returns. `offsets`, if not NULL, has room for `count` and receives the
// offset of each. Blocks until the batch is stored, up to the deadline; any thread. Never
// repeated by the library: after a failure with FLOWMESH_OUTCOME_UNKNOWN the batch may be stored,
// and writing it again may store it twice.
//
// FLOWMESH_INVALID_ARGUMENT: no event, an empty payload, a header that is not UTF-8.
// FLOWMESH_RESOURCE_EXHAUSTED: the batch is larger than the server allows (4 MiB), or its storage
// is full.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_stream_write(const flowmesh_stream_t *stream,
                                        const flowmesh_event_t *events,
                                        size_t count,
                                        const flowmesh_write_options_t *FLOWMESH_NULLABLE options,
                                        int64_t *FLOWMESH_NULLABLE offsets,
                                        flowmesh_error_t **FLOWMESH_NULLABLE error);

// Reads messages from `offset` (at least 0) on, in order: up to options->max_messages, fewer where
// the reply would pass 4 MiB, none past the end. Never waits for new ones. The batch belongs to
// the caller: flowmesh_message_batch_free. Blocks up to the deadline; any thread. Repeated by
// the library when the connection fails.
//
// FLOWMESH_NOT_FOUND: nobody has written to the stream yet.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_stream_read(const flowmesh_stream_t *stream,
                                       int64_t offset,
                                       const flowmesh_read_options_t *FLOWMESH_NULLABLE options,
                                       flowmesh_message_batch_t **batch,
                                       flowmesh_error_t **FLOWMESH_NULLABLE error);

// Records `offset` as the last one that `consumer_group` has processed; -1 forgets. Any value
// from -1 on is taken, also backwards. Blocks until it is stored, up to the deadline; any
// thread. Repeated by the library when the connection fails.
//
// FLOWMESH_INVALID_ARGUMENT: offset below -1, bad group name. FLOWMESH_NOT_FOUND: no such stream.
// FLOWMESH_RESOURCE_EXHAUSTED: a new group, and the tenant has as many as the server allows or the
// storage is full.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_stream_commit_offset(const flowmesh_stream_t *stream,
                                                const char *consumer_group,
                                                int64_t offset,
                                                const flowmesh_offset_options_t *FLOWMESH_NULLABLE options,
                                                flowmesh_error_t **FLOWMESH_NULLABLE error);

// Asks for the last offset that `consumer_group` committed, -1 when none. Blocks up to the
// deadline; any thread. Repeated by the library when the connection fails.
//
// FLOWMESH_NOT_FOUND: no such stream.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_stream_get_offset(const flowmesh_stream_t *stream,
                                             const char *consumer_group,
                                             const flowmesh_offset_options_t *FLOWMESH_NULLABLE options,
                                             int64_t *offset,
                                             flowmesh_error_t **FLOWMESH_NULLABLE error);

// Asks for the last offset written, -1 when the stream is empty. Blocks up to the deadline; any
// thread. Repeated by the library when the connection fails.
//
// FLOWMESH_NOT_FOUND: no such stream.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_stream_latest_offset(const flowmesh_stream_t *stream,
                                                const flowmesh_offset_options_t *FLOWMESH_NULLABLE options,
                                                int64_t *offset,
                                                flowmesh_error_t **FLOWMESH_NULLABLE error);

// Asks where `consumer_group` stands. `state->size` must be set (FLOWMESH_GROUP_STATE_INIT).
// Blocks up to the deadline; any thread. Repeated by the library when the connection fails.
//
// FLOWMESH_NOT_FOUND: no such stream.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_stream_group_state(const flowmesh_stream_t *stream,
                                              const char *consumer_group,
                                              const flowmesh_offset_options_t *FLOWMESH_NULLABLE options,
                                              flowmesh_group_state_t *state,
                                              flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_stream_write as an asynchronous call, see COMPLETIONS; the events are copied before it returns. Calls may
// overtake each other: for order, write the next batch when the one before has ended, or use a
// producer. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_stream_write_async(const flowmesh_stream_t *stream,
                                              const flowmesh_event_t *events,
                                              size_t count,
                                              const flowmesh_write_options_t *FLOWMESH_NULLABLE options,
                                              flowmesh_offsets_callback_t callback,
                                              void *FLOWMESH_NULLABLE user_data,
                                              flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                              flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                              flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_stream_read as an asynchronous call, see COMPLETIONS. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_stream_read_async(const flowmesh_stream_t *stream,
                                             int64_t offset,
                                             const flowmesh_read_options_t *FLOWMESH_NULLABLE options,
                                             flowmesh_batch_callback_t callback,
                                             void *FLOWMESH_NULLABLE user_data,
                                             flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                             flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                             flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_stream_commit_offset as an asynchronous call, see COMPLETIONS. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_stream_commit_offset_async(const flowmesh_stream_t *stream,
                                                      const char *consumer_group,
                                                      int64_t offset,
                                                      const flowmesh_offset_options_t *FLOWMESH_NULLABLE options,
                                                      flowmesh_done_callback_t callback,
                                                      void *FLOWMESH_NULLABLE user_data,
                                                      flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                      flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                                      flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_stream_get_offset as an asynchronous call, see COMPLETIONS. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_stream_get_offset_async(const flowmesh_stream_t *stream,
                                                   const char *consumer_group,
                                                   const flowmesh_offset_options_t *FLOWMESH_NULLABLE options,
                                                   flowmesh_offset_callback_t callback,
                                                   void *FLOWMESH_NULLABLE user_data,
                                                   flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                   flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                                   flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_stream_latest_offset as an asynchronous call, see COMPLETIONS. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_stream_latest_offset_async(const flowmesh_stream_t *stream,
                                                      const flowmesh_offset_options_t *FLOWMESH_NULLABLE options,
                                                      flowmesh_offset_callback_t callback,
                                                      void *FLOWMESH_NULLABLE user_data,
                                                      flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                      flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                                      flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_stream_group_state as an asynchronous call, see COMPLETIONS. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_stream_group_state_async(const flowmesh_stream_t *stream,
                                                    const char *consumer_group,
                                                    const flowmesh_offset_options_t *FLOWMESH_NULLABLE options,
                                                    flowmesh_group_state_callback_t callback,
                                                    void *FLOWMESH_NULLABLE user_data,
                                                    flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                    flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                                    flowmesh_error_t **FLOWMESH_NULLABLE error);

// Makes options with every default; free them with flowmesh_subscription_options_free. Does not
// block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_subscription_options_new(flowmesh_subscription_options_t **options,
                                                    flowmesh_error_t **FLOWMESH_NULLABLE error);

// Frees options. A state callback that no subscription took is dropped. Does not block; any
// thread.
void flowmesh_subscription_options_free(flowmesh_subscription_options_t *FLOWMESH_NULLABLE options);

// The group that FLOWMESH_START_COMMITTED and commits mean. Default "default". 1 to 255
// bytes, no control characters.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_subscription_options_set_consumer_group(const flowmesh_subscription_options_t *options,
                                                                   const char *consumer_group,
                                                                   flowmesh_error_t **FLOWMESH_NULLABLE error);

// Where to start: an offset from 0 on, FLOWMESH_START_COMMITTED (the default) or
// FLOWMESH_START_NEW.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_subscription_options_set_start_offset(const flowmesh_subscription_options_t *options,
                                                                 int64_t start_offset,
                                                                 flowmesh_error_t **FLOWMESH_NULLABLE error);

// The partition, from 0 on. Default 0, where all events are.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_subscription_options_set_partition(const flowmesh_subscription_options_t *options,
                                                              int32_t partition,
                                                              flowmesh_error_t **FLOWMESH_NULLABLE error);

// At most so many messages in one call of the callback. Default 1024; at least 1.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_subscription_options_set_max_batch_messages(const flowmesh_subscription_options_t *options,
                                                                       size_t max_messages,
                                                                       flowmesh_error_t **FLOWMESH_NULLABLE error);

// A call of the callback gets no more messages when those it has reach so many bytes. Default 256
// KiB; at least 1.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_subscription_options_set_max_batch_bytes(const flowmesh_subscription_options_t *options,
                                                                    size_t max_bytes,
                                                                    flowmesh_error_t **FLOWMESH_NULLABLE error);

// From so many bytes on that have arrived and wait for a callback or a
// flowmesh_subscription_next, no more are taken from the connection. Each message counts 32 bytes
// besides its own. Default 4 MiB; at least 1. With an embedded engine, it is one batch that waits.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_subscription_options_set_max_prefetch_bytes(const flowmesh_subscription_options_t *options,
                                                                       size_t max_bytes,
                                                                       flowmesh_error_t **FLOWMESH_NULLABLE error);

// What is committed by itself, for the consumer group: one of the FLOWMESH_COMMIT constants.
// `interval_ms` is at least 1 for FLOWMESH_COMMIT_PERIODIC and 0 for the others.
// flowmesh_subscription_close sends and awaits the last commit; without a close it is sent at the
// free but not awaited, and closing the client first loses it.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_subscription_options_set_commit_mode(const flowmesh_subscription_options_t *options,
                                                                flowmesh_commit_mode_t mode,
                                                                int64_t interval_ms,
                                                                flowmesh_error_t **FLOWMESH_NULLABLE error);

// How long to wait before connecting again. The first attempt is made at once, the second after up
// to `first_ms`; the bound doubles with each, up to `longest_ms`, and the wait is random up to the
// bound. The next message begins it anew. Default 100 and 10000; at least 1, and `longest_ms` not
// below `first_ms`.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_subscription_options_set_backoff(const flowmesh_subscription_options_t *options,
                                                            int64_t first_ms,
                                                            int64_t longest_ms,
                                                            flowmesh_error_t **FLOWMESH_NULLABLE error);

// What runs the subscription's callbacks; NULL, the default, is its client's dispatcher. The
// dispatcher may be freed at once, see flowmesh_dispatcher_free.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_subscription_options_set_dispatcher(const flowmesh_subscription_options_t *options,
                                                               const flowmesh_dispatcher_t *FLOWMESH_NULLABLE dispatcher,
                                                               flowmesh_error_t **FLOWMESH_NULLABLE error);

// Has `callback` told of changes of state, by the next subscription that starts with these
// options; setting it again drops the one before. `drop_user_data` releases `user_data` once,
// after the last call, also when this call fails.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_subscription_options_set_state_callback(const flowmesh_subscription_options_t *options,
                                                                   flowmesh_state_callback_t callback,
                                                                   void *FLOWMESH_NULLABLE user_data,
                                                                   flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                                   flowmesh_error_t **FLOWMESH_NULLABLE error);

// Starts delivering messages to `callback`. It returns when the position is fixed: -1 and -2 have
// become an offset, so that nothing written after the call is missed. A stream that does not
// exist is created. `drop_user_data` releases `user_data` once, after the last callback, also when
// this call fails. Close the subscription with flowmesh_subscription_close, free it with
// flowmesh_subscription_free. Blocks up to the client's default deadline; any thread.
//
// FLOWMESH_UNAVAILABLE, FLOWMESH_DEADLINE_EXCEEDED: the position could not be asked for.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_stream_subscribe(const flowmesh_stream_t *stream,
                                            const flowmesh_subscription_options_t *FLOWMESH_NULLABLE options,
                                            flowmesh_message_callback_t callback,
                                            void *FLOWMESH_NULLABLE user_data,
                                            flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                            flowmesh_subscription_t **subscription,
                                            flowmesh_error_t **FLOWMESH_NULLABLE error);

// Starts following without a callback: flowmesh_subscription_next gives the messages. As
// flowmesh_stream_subscribe in everything else. `options` must hold neither a state callback
// (flowmesh_subscription_get_state tells) nor a commit mode other than FLOWMESH_COMMIT_MANUAL.
// Blocks up to the client's default deadline; any thread. Free it with
// flowmesh_subscription_free.
//
// There is no descriptor to watch for it: an event loop is better served by a callback and a
// dispatcher that it runs.
//
//     status = flowmesh_subscription_open(stream, NULL, &sub, &error);
//     while (status == FLOWMESH_OK && running) {
//         status = flowmesh_subscription_next(sub, 1000, NULL, &batch, &error);
//         if (status == FLOWMESH_OK && batch != NULL) {
//             handle(batch);
//             flowmesh_message_batch_free(batch);
//             status = flowmesh_subscription_commit(sub, NULL, &error);
//         }
//     }
//     flowmesh_subscription_free(sub);
//
// FLOWMESH_UNAVAILABLE, FLOWMESH_DEADLINE_EXCEEDED: the position could not be asked for.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_subscription_open(const flowmesh_stream_t *stream,
                                             const flowmesh_subscription_options_t *FLOWMESH_NULLABLE options,
                                             flowmesh_subscription_t **subscription,
                                             flowmesh_error_t **FLOWMESH_NULLABLE error);

// Gives the next messages: what has arrived, up to the limits of the options. Blocks until there is
// one, for at most `timeout_ms` (0 does not wait, -1 for ever) and as long as `cancel`, if not NULL, is
// not cancelled; *batch is NULL when the time was up, which is no failure. Several threads may call it:
// each batch goes to one of them, in the order in which they asked. Nothing comes while the
// subscription is paused. Free the batch with flowmesh_message_batch_free. Any thread.
//
// FLOWMESH_CANCELLED: by `cancel`; the subscription goes on, and nothing is lost.
// FLOWMESH_CLOSED: the subscription was closed, or its client.
// FLOWMESH_FAILED_PRECONDITION: the subscription has a callback.
// Others: the server refused it. The subscription is over, and every call says so.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_subscription_next(const flowmesh_subscription_t *subscription,
                                             int64_t timeout_ms,
                                             const flowmesh_cancel_t *FLOWMESH_NULLABLE cancel,
                                             flowmesh_message_batch_t **batch,
                                             flowmesh_error_t **FLOWMESH_NULLABLE error);

// Holds back what arrives: after this no callback starts and flowmesh_subscription_next gives
// nothing, until flowmesh_subscription_resume. Nothing is lost: messages wait as far as
// max_prefetch_bytes allows, then the server is held up. A callback that is running goes on to its
// end. Closing the client is told all the same. Does not block; any thread, a callback too.
flowmesh_status_t flowmesh_subscription_pause(const flowmesh_subscription_t *subscription,
                                              flowmesh_error_t **FLOWMESH_NULLABLE error);

// Ends a pause. Does not block; any thread, a callback too.
flowmesh_status_t flowmesh_subscription_resume(const flowmesh_subscription_t *subscription,
                                               flowmesh_error_t **FLOWMESH_NULLABLE error);

// Goes on at `offset`: one from 0 on, FLOWMESH_START_COMMITTED or FLOWMESH_START_NEW, which mean
// what is committed or written now. After FLOWMESH_OK no message from before the seek comes any
// more: it waits until a callback that is running has returned, unless it is called inside it. A
// flowmesh_subscription_next that another thread is in may still return one. A commit that
// was due by itself and not yet sent is dropped; what was handled before the seek may so come
// again elsewhere. Blocks up to the deadline; any thread, a callback too.
//
// FLOWMESH_DEADLINE_EXCEEDED with the outcome "applied": done, but a callback was still running.
// Others: the position could not be asked for, or the subscription is over. It goes on, if it
// does, where it was.
flowmesh_status_t flowmesh_subscription_seek(const flowmesh_subscription_t *subscription,
                                             int64_t offset,
                                             const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                             flowmesh_error_t **FLOWMESH_NULLABLE error);

// The offset of the next message that will be handed out. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_subscription_get_position(const flowmesh_subscription_t *subscription,
                                                     int64_t *offset,
                                                     flowmesh_error_t **FLOWMESH_NULLABLE error);

// How the subscription stands with the server: CONNECTING, CONNECTED, LOST or ENDED. For the last
// two `reason`, if not NULL, receives an error object that says why, to be freed with
// flowmesh_error_free; otherwise NULL. This is ahead of what was told or handed out: messages may
// still wait. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_subscription_get_state(const flowmesh_subscription_t *subscription,
                                                  flowmesh_subscription_state_t *state,
                                                  flowmesh_error_t **FLOWMESH_NULLABLE reason,
                                                  flowmesh_error_t **FLOWMESH_NULLABLE error);

// Commits, for the consumer group, everything that was handed out since the start or the last
// seek: call it when that is handled. In a callback this includes the batch that it has. Where
// several threads handle messages, commit what you know to be handled with
// flowmesh_stream_commit_offset instead. Does nothing when nothing was handed out. Blocks up to the
// deadline; any thread, a callback too. Repeated by the library when the connection fails.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_subscription_commit(const flowmesh_subscription_t *subscription,
                                               const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                               flowmesh_error_t **FLOWMESH_NULLABLE error);

// Ends the subscription: no callback starts any more, and flowmesh_subscription_next gives
// FLOWMESH_CLOSED. Blocks for at most `timeout_ms` (0 does not wait, -1 for ever) until the callback
// that runs has returned and the last automatic commit is confirmed; inside a callback of this
// subscription it returns at once, and the commit follows. After FLOWMESH_OK no callback runs and
// user_data has been released (inside a callback: when that returns). Messages received but not
// handed out are read again by whoever subscribes next. A second close is fine, and tries a commit
// that failed once more. Any thread.
//
// FLOWMESH_DEADLINE_EXCEEDED: a callback still runs, and user_data is released when it returns; or
// the last automatic commit is not confirmed.
// Others: the last automatic commit failed; what it was for may come again.
flowmesh_status_t flowmesh_subscription_close(const flowmesh_subscription_t *subscription,
                                              int64_t timeout_ms,
                                              flowmesh_error_t **FLOWMESH_NULLABLE error);

// Ends the subscription as flowmesh_subscription_close with timeout 0 does, and frees the handle. A
// callback that is running goes on to its end; none starts after this returns. Does not block;
// any thread, a callback's too.
void flowmesh_subscription_free(flowmesh_subscription_t *FLOWMESH_NULLABLE subscription);

// flowmesh_stream_subscribe as an asynchronous call, see COMPLETIONS: `subscribed` runs once, with
// the subscription or an error, on the client's dispatcher. Delivery to `callback` begins right
// before: on a dispatcher with several threads, or on another one, the two may run at the same
// time. Both get `user_data`, which is released after the last call of either. Does not block;
// any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_stream_subscribe_async(const flowmesh_stream_t *stream,
                                                  const flowmesh_subscription_options_t *FLOWMESH_NULLABLE options,
                                                  flowmesh_message_callback_t callback,
                                                  flowmesh_subscription_callback_t subscribed,
                                                  void *FLOWMESH_NULLABLE user_data,
                                                  flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                  flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                                  flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_subscription_open as an asynchronous call, see COMPLETIONS. Does not block; any thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_subscription_open_async(const flowmesh_stream_t *stream,
                                                   const flowmesh_subscription_options_t *FLOWMESH_NULLABLE options,
                                                   flowmesh_subscription_callback_t callback,
                                                   void *FLOWMESH_NULLABLE user_data,
                                                   flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                   flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                                   flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_subscription_seek as an asynchronous call, see COMPLETIONS. Does not block; any thread, a
// callback too.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_subscription_seek_async(const flowmesh_subscription_t *subscription,
                                                   int64_t offset,
                                                   const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                                   flowmesh_done_callback_t callback,
                                                   void *FLOWMESH_NULLABLE user_data,
                                                   flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                   flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                                   flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_subscription_commit as an asynchronous call, see COMPLETIONS: what it commits is what was
// handed out when it is carried out. Does not block; any thread, a callback too.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_subscription_commit_async(const flowmesh_subscription_t *subscription,
                                                     const flowmesh_call_options_t *FLOWMESH_NULLABLE options,
                                                     flowmesh_done_callback_t callback,
                                                     void *FLOWMESH_NULLABLE user_data,
                                                     flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                     flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                                     flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_subscription_close as an asynchronous call, see COMPLETIONS: the callback runs when the
// one of the subscription has returned, also where it was called in that. It cannot be cancelled.
// Does not block; any thread, a callback too.
//
// FLOWMESH_CLOSED: the client is closed already, and the subscription with it.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_subscription_close_async(const flowmesh_subscription_t *subscription,
                                                    int64_t timeout_ms,
                                                    flowmesh_done_callback_t callback,
                                                    void *FLOWMESH_NULLABLE user_data,
                                                    flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                    flowmesh_error_t **FLOWMESH_NULLABLE error);

// Makes options with every default; free them with flowmesh_worker_options_free. Does not block; any
// thread.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_worker_options_new(flowmesh_worker_options_t **options,
                                              flowmesh_error_t **FLOWMESH_NULLABLE error);

// Frees options. An event callback that no worker took is dropped. Does not block; any thread.
void flowmesh_worker_options_free(flowmesh_worker_options_t *FLOWMESH_NULLABLE options);

// How many jobs are under way at once. Default 1; 1 to 4096, without a dispatcher of the worker's own
// at most 512: then it has so many threads.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_worker_options_set_concurrency(const flowmesh_worker_options_t *options,
                                                          size_t concurrency,
                                                          flowmesh_error_t **FLOWMESH_NULLABLE error);

// How many jobs at most are leased ahead, beside those that can be handled at once. Default 16; 0 to
// 100. More make a worker with short handlers faster; fewer leave more to others. None are leased
// ahead until the first job is done, and none where a job would wait for longer than a tenth of its
// lease.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_worker_options_set_prefetch(const flowmesh_worker_options_t *options,
                                                       size_t prefetch,
                                                       flowmesh_error_t **FLOWMESH_NULLABLE error);

// Length of the leases, at most 12 hours; 0, the default, is 30 s. Longer than a handler ever takes:
// a job whose lease ends is handed out again.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_worker_options_set_visibility_timeout_ms(const flowmesh_worker_options_t *options,
                                                                    int64_t visibility_timeout_ms,
                                                                    flowmesh_error_t **FLOWMESH_NULLABLE error);

// How to ask for jobs. Default FLOWMESH_POLL_AUTO.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_worker_options_set_poll_mode(const flowmesh_worker_options_t *options,
                                                        flowmesh_poll_mode_t poll_mode,
                                                        flowmesh_error_t **FLOWMESH_NULLABLE error);

// Has `dispatcher` call the handler and tell events. NULL, the default: the handler has threads of the
// worker's own, named "flowmesh-worker", as many as the concurrency says. On a dispatcher that the
// application runs, a handler that takes long should return FLOWMESH_VERDICT_LEAVE. The dispatcher
// may be freed at once.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_worker_options_set_dispatcher(const flowmesh_worker_options_t *options,
                                                         const flowmesh_dispatcher_t *FLOWMESH_NULLABLE dispatcher,
                                                         flowmesh_error_t **FLOWMESH_NULLABLE error);

// Has `callback` told of events, by the next worker that opens with these options; setting it again
// drops the one before. `drop_user_data` releases `user_data` once, after the last call, also when
// this call fails.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_worker_options_set_event_callback(const flowmesh_worker_options_t *options,
                                                             flowmesh_worker_event_callback_t callback,
                                                             void *FLOWMESH_NULLABLE user_data,
                                                             flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                                             flowmesh_error_t **FLOWMESH_NULLABLE error);

// Starts to work on `queue`, which it keeps alive; a queue that does not exist is created. It connects
// in the background: what fails there is told as an event. `drop_user_data` releases `user_data`
// once, after the last call of the handler, also when this call fails. Close the worker with
// flowmesh_worker_close, free it with flowmesh_worker_free. Does not block; any thread.
//
// FLOWMESH_RESOURCE_EXHAUSTED: no thread can be had.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_worker_open(const flowmesh_queue_t *queue,
                                       const flowmesh_worker_options_t *FLOWMESH_NULLABLE options,
                                       flowmesh_job_handler_t handler,
                                       void *FLOWMESH_NULLABLE user_data,
                                       flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                       flowmesh_worker_t **worker,
                                       flowmesh_error_t **FLOWMESH_NULLABLE error);

// Drains the worker: it fetches nothing more; handlers finish, and the few jobs leased ahead are
// handled too, as giving them back would cost them an attempt; then their verdicts are stored.
// Blocks up to `timeout_ms` (0 does not wait, -1 for ever); it also waits for jobs that were left
// to the application, so settle those first or in another thread; after flowmesh_worker_stop, or
// when the client is closed, it does not, as no verdict would be stored. Inside a callback of this
// worker it returns at once. Where the application runs the dispatcher, and inside other callbacks
// of the dispatcher, the calling thread makes the callbacks that are still to be made. After
// FLOWMESH_OK no callback runs and user data has been released (inside a callback: when the last
// one has returned). `unfinished`, if not NULL, receives how many leased jobs have no stored
// verdict, on success and failure alike. A second close is fine. Any thread. A job that was on its
// way to the worker comes again at the end of its lease.
//
// FLOWMESH_DEADLINE_EXCEEDED: jobs were under way at the timeout. None is begun any more and nothing
// told; verdicts of those under way are still sent while the client is open.
flowmesh_status_t flowmesh_worker_close(const flowmesh_worker_t *worker,
                                        int64_t timeout_ms,
                                        size_t *FLOWMESH_NULLABLE unfinished,
                                        flowmesh_error_t **FLOWMESH_NULLABLE error);

// flowmesh_worker_close as an asynchronous call, see COMPLETIONS: `count` of the callback is how many
// leased jobs have no stored verdict. It comes on the client's dispatcher. The worker drains from now
// on; cancelling ends only the wait. Nobody makes callbacks but the dispatcher. Does not block; any
// thread, a callback of the worker too.
//
// FLOWMESH_CLOSED: the client is closed already; use flowmesh_worker_close.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_worker_close_async(const flowmesh_worker_t *worker,
                                              int64_t timeout_ms,
                                              flowmesh_count_callback_t callback,
                                              void *FLOWMESH_NULLABLE user_data,
                                              flowmesh_drop_t FLOWMESH_NULLABLE drop_user_data,
                                              flowmesh_operation_t **FLOWMESH_NULLABLE operation,
                                              flowmesh_error_t **FLOWMESH_NULLABLE error);

// Stops the worker at once: nothing more is fetched, handed out, sent or told. Jobs without a stored
// verdict come again at the end of their lease. Handlers that run go on to their end; wait for them
// with flowmesh_worker_close, which then waits for nothing else. Does not block; any thread, a
// callback's too.
flowmesh_status_t flowmesh_worker_stop(const flowmesh_worker_t *worker,
                                       flowmesh_error_t **FLOWMESH_NULLABLE error);

// Ends the worker as flowmesh_worker_close with timeout 0 does, and frees the handle. A handler that
// is running goes on to its end, and its verdict is sent; none starts after this returns. Does not
// block; any thread, a callback's too.
void flowmesh_worker_free(flowmesh_worker_t *FLOWMESH_NULLABLE worker);

// Gives the verdict on a job that its handler has left, or will leave, to the application:
// FLOWMESH_VERDICT_ACK, or FLOWMESH_VERDICT_NACK, due again after `delay_ms` (at most a year; 0 is
// what the retry policy says). It is sent in the background, as one that a handler returns, and makes
// room for the next job. The job is still to be freed. Of several verdicts on a job the first counts;
// also one by flowmesh_job_ack or flowmesh_job_nack. Does not block; any thread.
//
// FLOWMESH_FAILED_PRECONDITION: the job is none of a worker's, or has its verdict. FLOWMESH_CLOSED: the
// worker was stopped or its client closed, so the verdict is not sent.
FLOWMESH_MUST_CHECK
flowmesh_status_t flowmesh_job_settle(const flowmesh_job_t *job,
                                      flowmesh_verdict_t verdict,
                                      int64_t delay_ms,
                                      flowmesh_error_t **FLOWMESH_NULLABLE error);

/* ---- Initialisers and inline helpers --------------------------------------------------------
 *
 * An _INIT macro lists every field of its struct: size first, then the defaults.
 */
/** An empty flowmesh_view_t. */
#define FLOWMESH_VIEW_INIT {NULL, 0}
/** A flowmesh_event_t without payload, headers and trace. */
#define FLOWMESH_EVENT_INIT {sizeof(flowmesh_event_t), FLOWMESH_VIEW_INIT, NULL, 0, NULL, NULL}
/** A flowmesh_call_options_t with the defaults. */
#define FLOWMESH_CALL_OPTIONS_INIT {sizeof(flowmesh_call_options_t), 0, NULL, NULL, NULL}
/** A flowmesh_write_options_t with the defaults. */
#define FLOWMESH_WRITE_OPTIONS_INIT {sizeof(flowmesh_write_options_t), 0, NULL, NULL, NULL}
/** A flowmesh_read_options_t with the defaults. */
#define FLOWMESH_READ_OPTIONS_INIT {sizeof(flowmesh_read_options_t), 0, NULL, NULL, NULL, 0, 0}
/** A flowmesh_offset_options_t with the defaults. */
#define FLOWMESH_OFFSET_OPTIONS_INIT {sizeof(flowmesh_offset_options_t), 0, NULL, NULL, NULL, 0}
/** A flowmesh_group_state_t to be filled. */
#define FLOWMESH_GROUP_STATE_INIT {sizeof(flowmesh_group_state_t), 0, 0, 0}
/** A flowmesh_enqueue_options_t with the defaults. */
#define FLOWMESH_ENQUEUE_OPTIONS_INIT {sizeof(flowmesh_enqueue_options_t), 0, NULL, NULL, NULL, 0, NULL, 0}
/** A flowmesh_reserve_options_t with the defaults. */
#define FLOWMESH_RESERVE_OPTIONS_INIT {sizeof(flowmesh_reserve_options_t), 0, NULL, NULL, NULL, 0, 0}
/** A flowmesh_nack_options_t with the defaults. */
#define FLOWMESH_NACK_OPTIONS_INIT {sizeof(flowmesh_nack_options_t), 0, NULL, NULL, NULL, 0}
/** A flowmesh_queue_stats_t to be filled. */
#define FLOWMESH_QUEUE_STATS_INIT {sizeof(flowmesh_queue_stats_t), 0, 0, 0, 0, 0, 0}
/** The default flowmesh_retry_policy_t: 3 deliveries, 1 s and 2 s apart. */
#define FLOWMESH_RETRY_POLICY_INIT                                                              \
    {sizeof(flowmesh_retry_policy_t), 3, FLOWMESH_BACKOFF_EXPONENTIAL, 1000, 60000, 2.0}
/** A flowmesh_client_stats_t to be filled. */
#define FLOWMESH_CLIENT_STATS_INIT                                                              \
    {sizeof(flowmesh_client_stats_t), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
/** A flowmesh_set_options_t with the defaults. */
#define FLOWMESH_SET_OPTIONS_INIT {sizeof(flowmesh_set_options_t), 0, NULL, NULL, NULL, 0}

/** The bytes of a NUL-terminated text, without the NUL; NULL gives an empty view. */
static inline flowmesh_view_t flowmesh_view_str(const char *FLOWMESH_NULLABLE text)
{
    flowmesh_view_t view = FLOWMESH_VIEW_INIT;
    if (text != NULL) {
        view.data = (const uint8_t *)text;
        while (text[view.len] != '\0') {
            view.len++;
        }
    }
    return view;
}

/** `len` bytes at `data`. */
static inline flowmesh_view_t flowmesh_view_bytes(const void *FLOWMESH_NULLABLE data, size_t len)
{
    flowmesh_view_t view = FLOWMESH_VIEW_INIT;
    view.data = (const uint8_t *)data;
    view.len = len;
    return view;
}

/** A view of a string literal, NUL bytes within it included. */
#define FLOWMESH_VIEW_LITERAL(literal) flowmesh_view_bytes("" literal, sizeof(literal) - 1)

/** For printf: printf("key " FLOWMESH_VIEW_FMT "\n", FLOWMESH_VIEW_ARG(key)). */
#define FLOWMESH_VIEW_FMT "%.*s"
/** The arguments that FLOWMESH_VIEW_FMT wants. */
#define FLOWMESH_VIEW_ARG(view)                                                                 \
    (int)((view).len), ((view).data == NULL ? "" : (const char *)(view).data)

#ifdef __cplusplus
}
#endif

#endif /* FLOWMESH_H */
