/* beanstalkd.c: beanstalkd through its text protocol. Queues only. */
#include "bench.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct conn {
    int fd;
    char tube[32], buf[65536];
    size_t from, to;
};

static conn *open_(const char *addr, int thread)
{
    (void)thread;
    char host[64] = "";
    int port = 0;
    sscanf(addr, "%63[^:]:%d", host, &port);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host, &a.sin_addr);
    conn *c = calloc(1, sizeof *c);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (connect(c->fd, (struct sockaddr *)&a, sizeof a)) {
        fail("connect to %s", addr);
        return NULL;
    }
    return c;
}

static void close_(conn *c)
{
    close(c->fd);
    free(c);
}

static int send_all(conn *c, const char *p, size_t n)
{
    while (n) {
        ssize_t k = write(c->fd, p, n);
        CHECK(k > 0, "write");
        p += k;
        n -= k;
    }
    return 0;
}

static int fill(conn *c)
{
    if (c->from) {
        memmove(c->buf, c->buf + c->from, c->to - c->from);
        c->to -= c->from;
        c->from = 0;
    }
    ssize_t k = read(c->fd, c->buf + c->to, sizeof c->buf - c->to);
    CHECK(k > 0, "connection closed");
    c->to += k;
    return 0;
}

static int get_line(conn *c, char *line, size_t cap)
{
    for (;;) {
        char *p = c->buf + c->from, *end = memchr(p, '\n', c->to - c->from);
        if (end) {
            snprintf(line, cap, "%.*s", (int)(end - p - 1), p);
            c->from += end - p + 1;
            return 0;
        }
        if (fill(c))
            return -1;
    }
}

static int expect(conn *c, const char *word)
{
    char line[128];
    if (get_line(c, line, sizeof line))
        return -1;
    CHECK(!strncmp(line, word, strlen(word)), "wanted %s, got %s", word, line);
    return 0;
}

static int use(conn *c, const char *tube)
{
    if (!strcmp(c->tube, tube))
        return 0;
    char cmd[128];
    snprintf(c->tube, sizeof c->tube, "%s", tube);
    int n = snprintf(cmd, sizeof cmd, "use %s\r\nwatch %s\r\nignore default\r\n", tube, tube);
    return send_all(c, cmd, n) || expect(c, "USING") || expect(c, "WATCHING") ||
                   expect(c, "WATCHING")
               ? -1
               : 0;
}

static size_t put_text(char *out, const void *data, size_t len)
{
    int n = sprintf(out, "put 0 0 60 %zu\r\n", len);
    memcpy(out + n, data, len);
    memcpy(out + n + len, "\r\n", 2);
    return n + len + 2;
}

static int queue_make(conn *c, const char *tube)
{
    (void)c;
    (void)tube;
    return 0;
}

static int put(conn *c, const char *tube, const void *data, size_t len)
{
    char cmd[PAYLOAD + 64];
    return use(c, tube) || send_all(c, cmd, put_text(cmd, data, len)) || expect(c, "INSERTED") ? -1
                                                                                               : 0;
}

static long put_many(conn *c, const char *tube, long n)
{
    static char out[FETCH * (PAYLOAD + 64)];
    unsigned char b[PAYLOAD];
    long i = 0;
    if (use(c, tube))
        return -1;
    while (i < n && !late()) {
        size_t at = 0;
        int k = 0;
        for (; k < FETCH && i < n; k++, i++) {
            payload(b, i);
            at += put_text(out + at, b, PAYLOAD);
        }
        if (send_all(c, out, at))
            return -1;
        while (k--)
            if (expect(c, "INSERTED"))
                return -1;
    }
    return i;
}

static int reserved(conn *c, struct job *j)
{
    char line[128];
    unsigned long id;
    if (get_line(c, line, sizeof line))
        return -1;
    if (!strcmp(line, "TIMED_OUT"))
        return 0;
    CHECK(sscanf(line, "RESERVED %lu %zu", &id, &j->len) == 2 && j->len <= PAYLOAD, "reserve: %s",
          line);
    j->num = id;
    while (c->to - c->from < j->len + 2)
        if (fill(c))
            return -1;
    memcpy(j->data, c->buf + c->from, j->len);
    c->from += j->len + 2;
    return 1;
}

static int take(conn *c, const char *tube, struct job *j, int wait_ms)
{
    char cmd[64];
    int n = sprintf(cmd, "reserve-with-timeout %d\r\n", (wait_ms + 999) / 1000);
    return use(c, tube) || send_all(c, cmd, n) ? -1 : reserved(c, j);
}

static int done(conn *c, const char *tube, struct job *j)
{
    char cmd[64];
    (void)tube;
    int n = sprintf(cmd, "delete %lu\r\n", (unsigned long)j->num);
    return send_all(c, cmd, n) || expect(c, "DELETED") ? -1 : 0;
}

/* No batch in the protocol: FETCH reserves in one write, then FETCH deletes. */
static long drain(conn *c, const char *tube, long n)
{
    static const char one[] = "reserve-with-timeout 0\r\n";
    char out[FETCH * 32];
    long got = 0;
    if (use(c, tube))
        return -1;
    while (got < n && !late()) {
        size_t at = 0;
        int k = 0;
        struct job j;
        for (int i = 0; i < FETCH; i++, at += sizeof one - 1)
            memcpy(out + at, one, sizeof one - 1);
        if (send_all(c, out, at))
            return -1;
        at = 0;
        for (int i = 0; i < FETCH; i++) {
            int r = reserved(c, &j);
            if (r < 0)
                return -1;
            if (r) {
                k++;
                at += sprintf(out + at, "delete %lu\r\n", (unsigned long)j.num);
            }
        }
        if (!k)
            break;
        if (send_all(c, out, at))
            return -1;
        for (int i = 0; i < k; i++)
            if (expect(c, "DELETED"))
                return -1;
        got += k;
    }
    return got;
}

const struct peer_ops beanstalkd_ops = {"beanstalkd", open_, close_, NULL,       NULL, NULL,
                                        NULL,         NULL,  NULL,   queue_make, put,  put_many,
                                        take,         done,  drain,  NULL,       NULL, NULL};
