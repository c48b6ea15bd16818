/* The process ends while the library is at work: quickly, silently, with its own exit code.
 *
 * Each scene is played by a process of its own: this program, started with the scene's name.
 */
#include "completion.h"

#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/wait.h>

enum { EXIT_CODE = 7 };

static const char *program; /* how this process was started */

/* ---- scenes ------------------------------------------------------------------------------ */

/* What the handlers of exit find. */
static flowmesh_client_t *client;
static flowmesh_stream_t *stream;
static flowmesh_queue_t *queue;
static flowmesh_subscription_t *subscription;
static flowmesh_operation_t *operation;
static flowmesh_producer_t *producer;
static flowmesh_queue_t *worked;
static flowmesh_worker_t *worker;
static sem_t called;
static sem_t played; /* the main thread has nothing more to do */

static bool exits_at_work;

static flowmesh_verdict_t on_work(flowmesh_job_t *job, int64_t *delay_ms, void *user_data)
{
    (void)job;
    (void)delay_ms;
    (void)user_data;
    if (exits_at_work) {
        sem_wait(&played);
        exit(EXIT_CODE);
    }
    return FLOWMESH_VERDICT_ACK;
}

static void play(flowmesh_message_callback_t callback)
{
    flowmesh_reserve_options_t options = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_error_t *error = NULL;
    sem_init(&called, 0, 0);
    client = open_client();
    stream = open_stream(client);
    queue = open_queue(client);
    write_numbers(stream, 0, 10);
    options.wait_ms = -1;
    OK(flowmesh_queue_reserve_async(queue, &options, on_job, call_new(), on_drop, &operation,
                                    &error));
    worked = open_queue(client);
    OK(flowmesh_worker_open(worked, NULL, on_work, NULL, NULL, &worker, &error));
    OK(flowmesh_stream_producer_open(stream, NULL, &producer, &error));
    OK(flowmesh_stream_subscribe(stream, NULL, callback, NULL, NULL, &subscription, &error));
    for (int i = 0; i < 1000; i++)
        send_one(producer);
}

static void on_messages(const flowmesh_message_batch_t *batch, void *user_data)
{
    (void)batch;
    (void)user_data;
    sem_post(&called);
}

static void stay_inside(const flowmesh_message_batch_t *batch, void *user_data)
{
    on_messages(batch, user_data);
    for (;;)
        pause();
}

static void exit_inside(const flowmesh_message_batch_t *batch, void *user_data)
{
    (void)batch;
    (void)user_data;
    sem_wait(&played);
    exit(EXIT_CODE);
}

static void free_everything(void)
{
    flowmesh_operation_free(operation);
    flowmesh_producer_free(producer);
    flowmesh_worker_free(worker);
    flowmesh_queue_free(worked);
    flowmesh_subscription_free(subscription);
    flowmesh_queue_free(queue);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
}

static void close_and_free(void)
{
    flowmesh_error_t *error = NULL;
    OK(flowmesh_client_close(client, PATIENCE_MS, &error));
    free_everything();
    OK(flowmesh_shutdown(PATIENCE_MS, &error));
}

static void use_again(void)
{
    write_numbers(stream, 10, 1);
}

/* The handles are left as they are. */
static void leave(void)
{
    play(on_messages);
    sem_wait(&called);
    exit(EXIT_CODE);
}

static void leave_a_callback_behind(void)
{
    play(stay_inside);
    sem_wait(&called);
    exit(EXIT_CODE);
}

static void leave_inside_a_callback(void)
{
    sem_init(&played, 0, 0);
    play(exit_inside);
    sem_post(&played);
    for (;;)
        pause();
}

/* The thread that ends the process has driven the connection by itself before. */
static void call_at_exit(void)
{
    sem_init(&called, 0, 0);
    client = open_client();
    stream = open_stream(client);
    write_numbers(stream, 0, 10);
    atexit(use_again);
    exit(EXIT_CODE);
}

/* What static destructors of C++ do. */
static void free_at_exit(void)
{
    play(on_messages);
    atexit(free_everything);
    exit(EXIT_CODE);
}

static void close_at_exit(void)
{
    play(on_messages);
    atexit(close_and_free);
    exit(EXIT_CODE);
}

static void use_at_exit(void)
{
    play(on_messages);
    atexit(use_again);
    exit(EXIT_CODE);
}

static void free_at_exit_inside_a_callback(void)
{
    atexit(free_everything);
    leave_inside_a_callback();
}

static void close_at_exit_inside_a_callback(void)
{
    atexit(close_and_free);
    leave_inside_a_callback();
}

static void close_worker_and_free(void)
{
    flowmesh_error_t *error = NULL;
    OK(flowmesh_worker_close(worker, PATIENCE_MS, NULL, &error));
    close_and_free();
}

static void close_at_exit_inside_a_handler(void)
{
    flowmesh_error_t *error = NULL;
    sem_init(&played, 0, 0);
    exits_at_work = true;
    play(on_messages);
    atexit(close_worker_and_free);
    OK(flowmesh_queue_enqueue(worked, FLOWMESH_VIEW_LITERAL("x"), NULL, NULL, NULL, &error));
    sem_post(&played);
    for (;;)
        pause();
}

static void *wait_for_a_job(void *unused)
{
    flowmesh_reserve_options_t options = FLOWMESH_RESERVE_OPTIONS_INIT;
    flowmesh_job_t *job = NULL;
    options.wait_ms = -1;
    sem_post(&called);
    if (flowmesh_queue_reserve(queue, &options, &job, NULL) != FLOWMESH_OK)
        flowmesh_job_free(job);
    return unused;
}

static void leave_a_blocked_thread_behind(void)
{
    pthread_t thread;
    play(on_messages);
    sem_wait(&called);
    pthread_create(&thread, NULL, wait_for_a_job, NULL);
    sem_wait(&called);
    exit(EXIT_CODE);
}

static void leave_after_the_shutdown(void)
{
    flowmesh_error_t *error = NULL;
    play(on_messages);
    OK(flowmesh_shutdown(PATIENCE_MS, &error));
    atexit(free_everything);
    exit(EXIT_CODE);
}

struct scene {
    const char *name;
    void (*play)(void);
};

#define SCENE(name)                                                                                \
    {                                                                                              \
#name, name                                                                                \
    }

static const struct scene scenes[] = {
    SCENE(leave),
    SCENE(leave_a_callback_behind),
    SCENE(leave_inside_a_callback),
    SCENE(call_at_exit),
    SCENE(free_at_exit),
    SCENE(close_at_exit),
    SCENE(use_at_exit),
    SCENE(free_at_exit_inside_a_callback),
    SCENE(close_at_exit_inside_a_callback),
    SCENE(close_at_exit_inside_a_handler),
    SCENE(leave_a_blocked_thread_behind),
    SCENE(leave_after_the_shutdown),
};

enum { SCENES = sizeof(scenes) / sizeof(scenes[0]) };

/* ---- their audience ---------------------------------------------------------------------- */

/* The scene ends by itself, with its exit code, and says nothing. */
static void watch(const char *scene)
{
    char said[1024];
    size_t length = 0;
    int status = -1;
    int output[2];
    assert_int_equal(pipe(output), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(output[1], STDOUT_FILENO);
        dup2(output[1], STDERR_FILENO);
        close(output[0]);
        close(output[1]);
        alarm(PATIENCE_MS / 1000); /* survives exec */
        execl(program, program, scene, (char *)NULL);
        _exit(127);
    }
    close(output[1]);
    for (ssize_t n; (n = read(output[0], said + length, sizeof(said) - 1 - length)) > 0;)
        length += (size_t)n;
    close(output[0]);
    said[length] = '\0';
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_CODE || length > 0)
        fail_msg("%s: wait status %#x, said: %s", scene, (unsigned)status, said);
}

static void every_scene_ends(void **state)
{
    (void)state;
    for (int i = 0; i < SCENES; i++)
        watch(scenes[i].name);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_scene_ends)};
    program = argv[0];
    for (int i = 0; argc > 1 && i < SCENES; i++)
        if (strcmp(argv[1], scenes[i].name) == 0)
            scenes[i].play();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
