/* raw.c: the floor under every call: 64 bytes to a loopback socket and back, nothing else.
 *   raw serve tcp|unix:PATH          prints the address it listens on, then echoes for ever
 *   raw get ADDRESS SECONDS          times the exchange */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "measure.h"

enum { MESSAGE = 64 };

union address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_un un;
};

/* Reads `unix:PATH` or `127.0.0.1:PORT`; the length of the address. */
static socklen_t parse(const char *text, union address *a)
{
    memset(a, 0, sizeof *a);
    if (strncmp(text, "unix:", 5) == 0) {
        a->un.sun_family = AF_UNIX;
        snprintf(a->un.sun_path, sizeof a->un.sun_path, "%s", text + 5);
        return sizeof a->un;
    }
    const char *port = strrchr(text, ':');
    a->in.sin_family = AF_INET;
    a->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a->in.sin_port = htons((uint16_t)(port ? atoi(port + 1) : 0));
    return sizeof a->in;
}

static void no_delay(int fd)
{
    int on = 1;
    /* Fails on a unix socket, which does not delay anyway. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static int exchange_in(int fd, char *buffer)
{
    for (size_t have = 0; have < MESSAGE;) {
        ssize_t n = read(fd, buffer + have, MESSAGE - have);
        if (n <= 0)
            return -1;
        have += (size_t)n;
    }
    return 0;
}

static void serve(const char *text)
{
    union address a;
    socklen_t len = parse(text, &a);
    int listener = socket(a.any.sa_family, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, &a.any, len) || listen(listener, 8))
        die("serve", text);
    if (a.any.sa_family == AF_INET) {
        getsockname(listener, &a.any, &len);
        printf("127.0.0.1:%d\n", ntohs(a.in.sin_port));
    } else {
        printf("%s\n", text);
    }
    fflush(stdout);
    for (;;) {
        char buffer[MESSAGE];
        int fd = accept(listener, NULL, NULL);
        no_delay(fd);
        while (exchange_in(fd, buffer) == 0 && write(fd, buffer, MESSAGE) == MESSAGE) {
        }
        close(fd);
    }
}

static void exchange(void *with)
{
    int fd = *(int *)with;
    char buffer[MESSAGE] = {0};
    if (write(fd, buffer, MESSAGE) != MESSAGE || exchange_in(fd, buffer))
        die("exchange", "the other side is gone");
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "serve") == 0)
        serve(argv[2]);
    if (argc != 4 || strcmp(argv[1], "get") != 0)
        die("usage", "raw serve tcp|unix:PATH | raw get ADDRESS SECONDS");
    union address a;
    socklen_t len = parse(argv[2], &a);
    int fd = socket(a.any.sa_family, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, &a.any, len))
        die("connect", argv[2]);
    no_delay(fd);
    repeat(exchange, &fd, atof(argv[3]), 1);
    return 0;
}
