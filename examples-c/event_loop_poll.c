/* A dispatcher in a loop around poll(2).
 *
 *     event_loop_poll [ENDPOINT]
 */
#include "event_loop.h"

#include <poll.h>

int main(int argc, char **argv)
{
    struct work work;
    work_start(&work, argc > 1 ? argv[1] : "embedded:");
    while (!work.done) {
        struct pollfd watch = {.fd = work.fd, .events = POLLIN};
        if (poll(&watch, 1, -1) > 0)
            work_run(&work);
    }
    return work_end(&work);
}
