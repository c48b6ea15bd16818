/*
 * Log lines. The library tells them on any thread, which must not enter Python; so they are copied
 * here, and a thread of Python's takes them.
 */

#include <pthread.h>

#include "buffer.h"
#include "glue.h"

/* Beyond so many bytes, lines are counted and not kept. */
#define MOST_BYTES ((size_t)4 << 20)

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct buffer lines;
static struct buffer taken;
static uint64_t lost;
static bool stopped = true;

static void on_line(flowmesh_log_level_t level, const char *target, uint64_t client_id,
                    const char *text, void *user_data)
{
    (void)user_data;
    pthread_mutex_lock(&mutex);
    size_t before = lines.length;
    if (before > MOST_BYTES) {
        lost++;
    } else {
        buffer_i32(&lines, level);
        buffer_u32(&lines, strlen(target));
        buffer_u32(&lines, strlen(text));
        buffer_i64(&lines, (int64_t)client_id);
        buffer_put(&lines, target, strlen(target));
        buffer_put(&lines, text, strlen(text));
        if (lines.failed) {
            lines.failed = false;
            lines.length = before;
            lost++;
        }
    }
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&mutex);
}

int32_t fm_log_start(int32_t level, flowmesh_error_t **error)
{
    flowmesh_status_t status = flowmesh_log_set_callback(level, on_line, NULL, NULL, error);
    if (status == FLOWMESH_OK) {
        pthread_mutex_lock(&mutex);
        stopped = false;
        pthread_mutex_unlock(&mutex);
    }
    return status;
}

int32_t fm_log_stop(flowmesh_error_t **error)
{
    flowmesh_status_t status =
        flowmesh_log_set_callback(FLOWMESH_LOG_ERROR, NULL, NULL, NULL, error);
    if (status == FLOWMESH_OK) {
        pthread_mutex_lock(&mutex);
        stopped = true;
        pthread_cond_signal(&changed);
        pthread_mutex_unlock(&mutex);
    }
    return status;
}

const uint8_t *fm_log_take(size_t *length, uint64_t *missing)
{
    pthread_mutex_lock(&mutex);
    while (lines.length == 0 && lost == 0 && !stopped) {
        pthread_cond_wait(&changed, &mutex);
    }
    struct buffer last = taken;
    taken = lines;
    lines = last;
    buffer_clear(&lines);
    *length = taken.length;
    *missing = lost;
    lost = 0;
    pthread_mutex_unlock(&mutex);
    return taken.data;
}

void fm_log_after_fork(void)
{
    pthread_mutex_init(&mutex, NULL);
    pthread_cond_init(&changed, NULL);
    memset(&lines, 0, sizeof lines); /* another thread may have been at work on them */
    memset(&taken, 0, sizeof taken);
    lost = 0;
    stopped = true;
}
