/* A dispatcher in GLib's main loop.
 *
 *     event_loop_glib [ENDPOINT]
 */
#include "event_loop.h"

#include <glib-unix.h>

struct program {
    struct work work;
    GMainLoop *loop;
};

static gboolean on_readable(gint fd, GIOCondition condition, gpointer user_data)
{
    struct program *program = user_data;
    (void)fd;
    (void)condition;
    work_run(&program->work);
    if (!program->work.done)
        return G_SOURCE_CONTINUE;
    g_main_loop_quit(program->loop);
    return G_SOURCE_REMOVE;
}

int main(int argc, char **argv)
{
    struct program program = {.loop = g_main_loop_new(NULL, FALSE)};
    if (work_start(&program.work, argc > 1 ? argv[1] : "embedded:")) {
        g_unix_fd_add(program.work.fd, G_IO_IN, on_readable, &program);
        g_main_loop_run(program.loop);
    }
    g_main_loop_unref(program.loop);
    return work_end(&program.work);
}
