/* A dispatcher in libuv's loop.
 *
 *     event_loop_uv [ENDPOINT]
 */
#include "event_loop.h"

#include <uv.h>

static void on_readable(uv_poll_t *watcher, int status, int events)
{
    struct work *work = watcher->data;
    (void)status;
    (void)events;
    work_run(work);
    if (work->done)
        uv_close((uv_handle_t *)watcher, NULL); /* nothing left to watch: the loop ends */
}

int main(int argc, char **argv)
{
    struct work work;
    uv_poll_t watcher = {.data = &work};
    if (work_start(&work, argc > 1 ? argv[1] : "embedded:")) {
        uv_poll_init(uv_default_loop(), &watcher, work.fd);
        uv_poll_start(&watcher, UV_READABLE, on_readable);
        uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    }
    uv_loop_close(uv_default_loop());
    return work_end(&work);
}
