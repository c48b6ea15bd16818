/* A dispatcher in a loop around epoll(7), level-triggered, next to a timer of the application.
 *
 *     event_loop_epoll [ENDPOINT]
 */
#include "event_loop.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

static bool watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

int main(int argc, char **argv)
{
    struct work work;
    struct itimerspec second = {.it_value.tv_sec = 1, .it_interval.tv_sec = 1};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    if (work_start(&work, argc > 1 ? argv[1] : "embedded:") &&
        (timerfd_settime(timer, 0, &second, NULL) != 0 || !watch(epoll, timer) ||
         !watch(epoll, work.fd))) {
        perror("epoll");
        work.done = work.failed = true;
    }
    while (!work.done) {
        struct epoll_event events[8];
        int count = epoll_wait(epoll, events, 8, -1);
        for (int i = 0; i < count; i++) {
            uint64_t ticks = 0;
            if (events[i].data.fd == work.fd)
                work_run(&work);
            else if (read(timer, &ticks, sizeof(ticks)) == sizeof(ticks))
                fprintf(stderr, "still waiting\n");
        }
    }
    close(timer);
    close(epoll);
    return work_end(&work);
}
