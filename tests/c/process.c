/* What concerns the whole process: threads, fork, shutdown, SIGPIPE. */
#include "test.h"
#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Names of this process's threads that begin with "flowmesh", sorted, each followed by ' '. */
static const char *threads(void)
{
    static char names[512];
    char found[16][32];
    size_t count = 0;
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL && count < 16;) {
        char path[300];
        snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
        FILE *comm = fopen(path, "r");
        if (comm == NULL)
            continue;
        if (fgets(found[count], sizeof(found[count]), comm) != NULL &&
            strncmp(found[count], "flowmesh", 8) == 0)
            count++;
        fclose(comm);
    }
    closedir(tasks);
    qsort(found, count, sizeof(found[0]), (int (*)(const void *, const void *))strcmp);
    names[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        found[i][strcspn(found[i], "\n")] = '\0';
        strcat(strcat(names, found[i]), " ");
    }
    return names;
}

static void opening_starts_nothing(void **state)
{
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    (void)state;
    OK(flowmesh_client_open("localhost:1", NULL, &client, &error));
    flowmesh_stream_free(open_stream(client));
    assert_string_equal(threads(), "");
    flowmesh_client_free(client);
}

static void on_messages(const flowmesh_message_batch_t *batch, void *user_data)
{
    (void)batch;
    if (user_data != NULL)
        sem_post((sem_t *)user_data);
}

static void shutdown_ends_everything_and_a_new_start_works(void **state)
{
    flowmesh_error_t *error = NULL;
    sem_t called;
    (void)state;
    sem_init(&called, 0, 0);
    for (int round = 0; round < 2; round++) {
        flowmesh_client_t *client = open_client();
        flowmesh_stream_t *stream = open_stream(client);
        flowmesh_subscription_t *subscription = NULL;
        int64_t offset = -1;
        write_numbers(stream, 0, 1);
        OK(flowmesh_stream_subscribe(stream, NULL, on_messages, &called, NULL, &subscription,
                                     &error));
        assert_int_equal(sem_wait(&called), 0);
        assert_non_null(strstr(threads(), "flowmesh-callba")); /* names have 15 bytes */
        OK(flowmesh_shutdown(PATIENCE_MS, &error));
        FAILS(FLOWMESH_CLOSED, "", flowmesh_stream_latest_offset(stream, NULL, &offset, &error));
        OK(flowmesh_subscription_close(subscription, 0, &error));
        flowmesh_subscription_free(subscription);
        flowmesh_stream_free(stream);
        flowmesh_client_free(client);
        assert_string_equal(threads(), "");
    }
    OK(flowmesh_shutdown(0, &error)); /* nothing is left */
    sem_destroy(&called);
}

struct family {
    flowmesh_client_t *client;
    flowmesh_stream_t *stream;
    flowmesh_queue_t *queue;
    flowmesh_subscription_t *subscription;
    flowmesh_job_t *job;
    flowmesh_cancel_t *cancel;
};

static int forked_calls(struct family *family)
{
    flowmesh_client_t *client = NULL;
    flowmesh_error_t *error = NULL;
    int64_t offset = 0;
    int wrong = 0;
    wrong +=
        flowmesh_stream_latest_offset(family->stream, NULL, &offset, &error) != FLOWMESH_FORKED;
    wrong += strstr(flowmesh_error_message(error), "flowmesh_after_fork_child") == NULL;
    flowmesh_error_free(error);
    error = NULL;
    wrong += flowmesh_client_health_check(family->client, NULL, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_job_ack(family->job, NULL, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_client_close(family->client, -1, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_subscription_close(family->subscription, -1, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_shutdown(-1, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_client_open("embedded:", NULL, &client, NULL) != FLOWMESH_FORKED;
    return wrong;
}

static int forked_child(void *argument)
{
    struct family *family = (struct family *)argument;
    flowmesh_client_t *client = NULL;
    flowmesh_kv_t *kv = NULL;
    flowmesh_value_t *value = NULL;
    flowmesh_view_t key = FLOWMESH_VIEW_LITERAL("k");
    int wrong = forked_calls(family);

    /* Starting anew: what the parent made stays unusable, what the child makes works. */
    wrong += flowmesh_after_fork_child(NULL) != FLOWMESH_OK;
    wrong += flowmesh_after_fork_child(NULL) != FLOWMESH_OK;
    wrong += flowmesh_client_health_check(family->client, NULL, NULL) != FLOWMESH_FORKED;
    wrong += flowmesh_client_open("embedded:", NULL, &client, NULL) != FLOWMESH_OK;
    wrong += flowmesh_kv_open(client, "acme", "test", "kv", &kv, NULL) != FLOWMESH_OK;
    wrong += flowmesh_kv_set(kv, key, key, NULL, NULL) != FLOWMESH_OK;
    wrong += flowmesh_kv_get(kv, key, NULL, &value, NULL) != FLOWMESH_OK;
    flowmesh_value_free(value);
    flowmesh_kv_free(kv);
    flowmesh_client_free(client);

    flowmesh_subscription_free(family->subscription);
    flowmesh_job_free(family->job);
    flowmesh_queue_free(family->queue);
    flowmesh_stream_free(family->stream);
    flowmesh_cancel_free(family->cancel);
    flowmesh_client_free(family->client);
    wrong += flowmesh_shutdown(PATIENCE_MS, NULL) != FLOWMESH_OK;
    return wrong;
}

static void a_child_is_told_and_its_parent_goes_on(void **state)
{
    struct family family;
    flowmesh_error_t *error = NULL;
    (void)state;
    family.client = open_client();
    family.stream = open_stream(family.client);
    family.queue = open_queue(family.client);
    write_numbers(family.stream, 0, 1);
    OK(flowmesh_cancel_new(&family.cancel, &error));
    OK(flowmesh_queue_enqueue(family.queue, flowmesh_view_str("x"), NULL, NULL, NULL, &error));
    OK(flowmesh_queue_reserve(family.queue, NULL, &family.job, &error));
    OK(flowmesh_stream_subscribe(family.stream, NULL, on_messages, NULL, NULL, &family.subscription,
                                 &error));
    in_child(forked_child, &family);

    write_numbers(family.stream, 1, 1);
    OK(flowmesh_job_ack(family.job, NULL, &error));
    OK(flowmesh_after_fork_child(&error)); /* no child: does nothing */
    OK(flowmesh_client_health_check(family.client, NULL, &error));
    OK(flowmesh_subscription_close(family.subscription, PATIENCE_MS, &error));
    flowmesh_subscription_free(family.subscription);
    flowmesh_job_free(family.job);
    flowmesh_queue_free(family.queue);
    flowmesh_stream_free(family.stream);
    flowmesh_cancel_free(family.cancel);
    flowmesh_client_free(family.client);
}

/* ---- SIGPIPE --------------------------------------------------------------------------- */

/* A peer that takes connections and cuts each at its first bytes. */
static void *cut_connections(void *listener)
{
    int fd;
    while ((fd = accept(*(int *)listener, NULL, NULL)) >= 0) {
        char byte;
        if (read(fd, &byte, 1) < 0)
            perror("read");
        close(fd);
    }
    return NULL;
}

static int write_to_a_peer_that_cuts(void *endpoint)
{
    flowmesh_client_t *client = NULL;
    flowmesh_call_options_t options = FLOWMESH_CALL_OPTIONS_INIT;
    int wrong = 0;
    signal(SIGPIPE, SIG_DFL); /* the signal would end this process */
    options.timeout_ms = 2000;
    wrong += flowmesh_after_fork_child(NULL) != FLOWMESH_OK;
    wrong += flowmesh_client_open((const char *)endpoint, NULL, &client, NULL) != FLOWMESH_OK;
    for (int i = 0; i < 50; i++)
        wrong += flowmesh_client_health_check(client, &options, NULL) == FLOWMESH_OK;
    flowmesh_client_free(client);
    wrong += flowmesh_shutdown(PATIENCE_MS, NULL) != FLOWMESH_OK;
    return wrong;
}

static void no_call_raises_sigpipe(void **state)
{
    char directory[] = "/tmp/flowmesh-pipe-XXXXXX";
    char endpoint[128];
    struct sockaddr_un address;
    pthread_t thread;
    (void)state;
    assert_non_null(mkdtemp(directory));
    memset(&address, 0, sizeof(address));
    address.sun_family = AF_UNIX;
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", directory);
    snprintf(endpoint, sizeof(endpoint), "unix:%s", address.sun_path);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 64), 0);
    assert_int_equal(pthread_create(&thread, NULL, cut_connections, &listener), 0);
    in_child(write_to_a_peer_that_cuts, endpoint);
    shutdown(listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(listener);
    unlink(address.sun_path);
    rmdir(directory);
}

/* ---- signal handlers ------------------------------------------------------------------- */

static void signals_stay_as_they_were(void **state)
{
    struct sigaction before[NSIG];
    sigset_t mask_before;
    sigset_t mask_after;
    (void)state;
    memset(before, 0, sizeof(before));
    for (int i = 1; i < NSIG; i++)
        sigaction(i, NULL, &before[i]);
    pthread_sigmask(SIG_SETMASK, NULL, &mask_before);
    flowmesh_client_t *client = open_client();
    flowmesh_stream_t *stream = open_stream(client);
    write_numbers(stream, 0, 1);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
    pthread_sigmask(SIG_SETMASK, NULL, &mask_after);
    for (int i = 1; i < NSIG; i++) {
        struct sigaction after;
        memset(&after, 0, sizeof(after));
        sigaction(i, NULL, &after);
        assert_true(after.sa_handler == before[i].sa_handler);
        assert_int_equal(sigismember(&mask_before, i), sigismember(&mask_after, i));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_starts_nothing),
        cmocka_unit_test(shutdown_ends_everything_and_a_new_start_works),
        cmocka_unit_test(a_child_is_told_and_its_parent_goes_on),
        cmocka_unit_test(no_call_raises_sigpipe),
        cmocka_unit_test(signals_stay_as_they_were),
    };
    return cmocka_run_group_tests(tests, NULL, end_library);
}
