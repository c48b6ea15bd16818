/*
 * Log lines. The library tells them on any thread, which may hold what Go would wait for; so they
 * are copied here, and Go reads them when its own descriptor says so.
 */
#include "shim_internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Beyond these, lines are counted and not kept. */
enum { MOST_LINES = 4096 };

static struct {
    pthread_mutex_t lock;
    int fd;
    fm_log_line_t *first;
    fm_log_line_t *last;
    size_t count;
    uint64_t lost;
} lines = {PTHREAD_MUTEX_INITIALIZER, -1, NULL, NULL, 0, 0};

static void on_line(flowmesh_log_level_t level, const char *target, uint64_t client_id,
                    const char *text, void *user_data)
{
    (void)user_data;
    fm_log_line_t *line = NULL;
    pthread_mutex_lock(&lines.lock);
    if (lines.count >= MOST_LINES) {
        lines.lost++;
    } else {
        line = fm_alloc(1, sizeof *line);
        line->level = level;
        line->client_id = client_id;
        line->target = fm_copy_text(target);
        line->text = fm_copy_text(text);
        if (lines.last == NULL) {
            lines.first = line;
        } else {
            lines.last->next = line;
        }
        lines.last = line;
        lines.count++;
    }
    bool first = line != NULL && lines.count == 1;
    pthread_mutex_unlock(&lines.lock);
    uint64_t one = 1;
    if (first && write(lines.fd, &one, sizeof one) < 0) {
        return; /* its counter is full: it is readable */
    }
}

int32_t fm_log_fd(void)
{
    pthread_mutex_lock(&lines.lock);
    if (lines.fd < 0) {
        lines.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    int fd = lines.fd;
    pthread_mutex_unlock(&lines.lock);
    return fd;
}

int32_t fm_log_start(int32_t level, flowmesh_error_t **error)
{
    return flowmesh_log_set_callback(level, on_line, NULL, NULL, error);
}

int32_t fm_log_stop(flowmesh_error_t **error)
{
    return flowmesh_log_set_callback(FLOWMESH_LOG_ERROR, NULL, NULL, NULL, error);
}

fm_log_line_t *fm_log_take(uint64_t *lost)
{
    pthread_mutex_lock(&lines.lock);
    fm_log_line_t *first = lines.first;
    *lost = lines.lost;
    lines.first = NULL;
    lines.last = NULL;
    lines.count = 0;
    lines.lost = 0;
    pthread_mutex_unlock(&lines.lock);
    return first;
}

void fm_log_line_free(fm_log_line_t *line)
{
    free(line->target);
    free(line->text);
    free(line);
}
