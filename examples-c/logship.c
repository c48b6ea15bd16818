/* Ships a file through a stream: every line, terminator included, becomes an event.
 *
 *     logship send FILE            writes the lines that the stream does not have yet
 *     logship receive OUT [LINES]  appends them to OUT; ends when OUT has LINES lines
 *
 * The endpoint is FLOWMESH_ENDPOINT, else localhost:50051. Kill and start either side, or the
 * server, whenever you like: OUT ends up identical to FILE.
 *
 * Why that holds. There is one sender. It sends one batch at a time and numbers the lines in a
 * header; a new sender goes on behind the last line of the stream. A batch whose sender was
 * killed may still arrive after that, so a line can be there twice, but none is ever left out.
 * The receiver takes its position from OUT alone: it cuts off a line that was half written,
 * counts the others, starts at the offset of that number (line n is never before offset n) and
 * skips the lines it has.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <flowmesh.h>
#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BATCH_LINES = 1000, BATCH_BYTES = 1 << 20, PATIENCE_S = 60 };

static const char GROUP[] = "logship";

static int complain(const char *what, const flowmesh_error_t *error)
{
    fprintf(stderr, "logship: %s: %s\n", what,
            error != NULL ? flowmesh_error_message(error) : strerror(errno));
    return 1;
}

/* The number in the header "line"; -1 when there is none. */
static int64_t line_of(const flowmesh_message_t *message)
{
    flowmesh_view_t text = FLOWMESH_VIEW_INIT;
    int64_t line = 0;
    if (!flowmesh_message_get_header(message, "line", &text) || text.len == 0)
        return -1;
    for (size_t i = 0; i < text.len; i++)
        line = line * 10 + (text.data[i] - '0');
    return line;
}

/* ---- send ------------------------------------------------------------------------------- */

struct file {
    const char *data;
    size_t size;
    size_t position; /* of the next line */
    int64_t line;    /* its number */
};

static int map(const char *path, struct file *file)
{
    struct stat info;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &info) != 0)
        return complain(path, NULL);
    file->size = (size_t)info.st_size;
    if (file->size > 0) {
        void *data = mmap(NULL, file->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            return complain(path, NULL);
        file->data = (const char *)data;
    }
    close(fd);
    return 0;
}

static flowmesh_view_t next_line(struct file *file)
{
    const char *start = file->data + file->position;
    size_t left = file->size - file->position;
    const char *end = (const char *)memchr(start, '\n', left);
    flowmesh_view_t line =
        flowmesh_view_bytes(start, end != NULL ? (size_t)(end - start) + 1 : left);
    file->position += line.len;
    file->line++;
    return line;
}

/* Goes to the first line that the stream does not have. */
static flowmesh_status_t resume(flowmesh_stream_t *stream, struct file *file,
                                flowmesh_error_t **error)
{
    flowmesh_message_batch_t *batch = NULL;
    int64_t latest = -1;
    int64_t have = 0;
    flowmesh_status_t status = flowmesh_stream_latest_offset(stream, NULL, &latest, error);
    if (status == FLOWMESH_NOT_FOUND) { /* nobody has written yet */
        flowmesh_error_free(*error);
        *error = NULL;
        status = FLOWMESH_OK;
    }
    if (status == FLOWMESH_OK && latest >= 0) {
        status = flowmesh_stream_read(stream, latest, NULL, &batch, error);
        if (flowmesh_message_batch_count(batch) > 0)
            have = line_of(flowmesh_message_batch_at(batch, 0)) + 1;
        flowmesh_message_batch_free(batch);
    }
    if (status != FLOWMESH_OK)
        return status;
    file->position = 0;
    file->line = 0;
    while (file->line < have && file->position < file->size)
        next_line(file);
    return FLOWMESH_OK;
}

static flowmesh_status_t send_batch(flowmesh_stream_t *stream, struct file *file,
                                    flowmesh_error_t **error)
{
    static flowmesh_event_t events[BATCH_LINES];
    static flowmesh_header_t headers[BATCH_LINES];
    static char numbers[BATCH_LINES][24];
    const flowmesh_event_t init = FLOWMESH_EVENT_INIT;
    size_t count = 0;
    size_t bytes = 0;

    while (count < BATCH_LINES && bytes < BATCH_BYTES && file->position < file->size) {
        snprintf(numbers[count], sizeof(numbers[count]), "%" PRId64, file->line);
        headers[count].key = FLOWMESH_VIEW_LITERAL("line");
        headers[count].value = flowmesh_view_str(numbers[count]);
        events[count] = init;
        events[count].payload = next_line(file);
        events[count].headers = &headers[count];
        events[count].header_count = 1;
        bytes += events[count].payload.len;
        count++;
    }
    return count > 0 ? flowmesh_stream_write(stream, events, count, NULL, NULL, error)
                     : FLOWMESH_OK;
}

static int send_file(flowmesh_stream_t *stream, const char *path)
{
    const struct timespec pause = {0, 100 * 1000 * 1000};
    struct file file = {NULL, 0, 0, 0};
    time_t progress = time(NULL);
    bool resumed = false;

    if (map(path, &file) != 0)
        return 1;
    while (!resumed || file.position < file.size) {
        flowmesh_error_t *error = NULL;
        flowmesh_status_t status =
            resumed ? send_batch(stream, &file, &error) : resume(stream, &file, &error);
        if (status == FLOWMESH_OK) {
            resumed = true;
            progress = time(NULL);
            continue;
        }
        /* Whether a failed batch is stored may be unknown: ask the stream. */
        resumed = false;
        if (!flowmesh_error_retryable(error) || time(NULL) - progress > PATIENCE_S) {
            int failed = complain("send", error);
            flowmesh_error_free(error);
            return failed;
        }
        flowmesh_error_free(error);
        nanosleep(&pause, NULL);
    }
    return 0;
}

/* ---- receive ---------------------------------------------------------------------------- */

struct output {
    FILE *file;
    flowmesh_stream_t *stream;
    int64_t lines;  /* complete ones in the file */
    int64_t wanted; /* -1: no end */
    int failed;
    sem_t done;
};

/* Opens OUT behind its last complete line. */
static int open_output(const char *path, struct output *output)
{
    off_t complete = 0;
    int byte;
    int fd = open(path, O_RDWR | O_CREAT, 0666);
    output->file = fd < 0 ? NULL : fdopen(fd, "r+");
    if (output->file == NULL)
        return complain(path, NULL);
    for (off_t at = 1; (byte = getc(output->file)) != EOF; at++) {
        if (byte == '\n') {
            output->lines++;
            complete = at;
        }
    }
    if (ftruncate(fd, complete) != 0 || fseeko(output->file, complete, SEEK_SET) != 0)
        return complain(path, NULL);
    return 0;
}

/* On a thread of the library, one call at a time. */
static void on_messages(const flowmesh_message_batch_t *batch, void *user_data)
{
    struct output *output = (struct output *)user_data;
    size_t count = flowmesh_message_batch_count(batch);
    int64_t last = flowmesh_message_batch_at(batch, count - 1)->offset;

    if (output->failed || output->lines == output->wanted)
        return; /* main is about to close the subscription */
    for (size_t i = 0; i < count && output->lines != output->wanted; i++) {
        const flowmesh_message_t *message = flowmesh_message_batch_at(batch, i);
        if (line_of(message) == output->lines) {
            fwrite(message->payload.data, 1, message->payload.len, output->file);
            output->lines++;
        }
    }
    if (fflush(output->file) != 0)
        output->failed = complain("output", NULL);
    /* For whoever watches the group; if it fails, the next one tells as much. */
    else if (flowmesh_stream_commit_offset(output->stream, GROUP, last, NULL, NULL))
        fprintf(stderr, "logship: offset %" PRId64 " is not committed\n", last);
    if (output->failed || output->lines == output->wanted)
        sem_post(&output->done);
}

static void on_state(flowmesh_subscription_state_t state, const flowmesh_error_t *reason,
                     void *user_data)
{
    struct output *output = (struct output *)user_data;
    if (state == FLOWMESH_SUBSCRIPTION_ENDED && reason != NULL) {
        output->failed = complain("receive", reason);
        sem_post(&output->done);
    }
}

static flowmesh_status_t subscribe(struct output *output, flowmesh_subscription_t **subscription,
                                   flowmesh_error_t **error)
{
    flowmesh_subscription_options_t *options = NULL;
    flowmesh_status_t status = flowmesh_subscription_options_new(&options, error);
    if (status == FLOWMESH_OK)
        status = flowmesh_subscription_options_set_consumer_group(options, GROUP, error);
    if (status == FLOWMESH_OK)
        status = flowmesh_subscription_options_set_start_offset(options, output->lines, error);
    if (status == FLOWMESH_OK)
        status = flowmesh_subscription_options_set_state_callback(options, on_state, output, NULL,
                                                                  error);
    if (status == FLOWMESH_OK)
        status = flowmesh_stream_subscribe(output->stream, options, on_messages, output, NULL,
                                           subscription, error);
    flowmesh_subscription_options_free(options);
    return status;
}

static int receive_file(flowmesh_stream_t *stream, const char *path, int64_t wanted)
{
    struct output output = {.stream = stream, .wanted = wanted};
    flowmesh_subscription_t *subscription = NULL;
    flowmesh_error_t *error = NULL;

    sem_init(&output.done, 0, 0);
    if (open_output(path, &output) != 0)
        return 1;
    if (output.lines != output.wanted) {
        if (subscribe(&output, &subscription, &error) == FLOWMESH_OK) {
            while (sem_wait(&output.done) != 0 && errno == EINTR) {
            }
            flowmesh_subscription_close(subscription, -1, NULL);
        } else {
            output.failed = complain("receive", error);
        }
    }
    flowmesh_error_free(error);
    flowmesh_subscription_free(subscription);
    sem_destroy(&output.done);
    if (fclose(output.file) != 0)
        output.failed = complain(path, NULL);
    return output.failed;
}

int main(int argc, char **argv)
{
    flowmesh_client_t *client = NULL;
    flowmesh_stream_t *stream = NULL;
    flowmesh_error_t *error = NULL;
    int failed = 2;

    if (flowmesh_client_open(NULL, NULL, &client, &error) ||
        flowmesh_stream_open(client, "demo", "logs", "logship", &stream, &error))
        failed = complain("open", error);
    else if (argc == 3 && strcmp(argv[1], "send") == 0)
        failed = send_file(stream, argv[2]);
    else if ((argc == 3 || argc == 4) && strcmp(argv[1], "receive") == 0)
        failed = receive_file(stream, argv[2], argc == 4 ? strtoll(argv[3], NULL, 10) : -1);
    else
        fprintf(stderr, "usage: logship send FILE | logship receive OUT [LINES]\n");
    flowmesh_error_free(error);
    flowmesh_stream_free(stream);
    flowmesh_client_free(client);
    return failed;
}
