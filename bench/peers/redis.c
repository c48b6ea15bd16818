/* redis.c: Redis through hiredis. Peers: redis (streams; jobs as a stream with
 * a consumer group), redis_multi (bulk append by transactions) and redis_list
 * (jobs as BLMOVE + LREM). */
#include "bench.h"
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct conn {
    redisContext *r;
    char consumer[16];
};

static int good(conn *c, redisReply *r)
{
    CHECK(r, "%s", c->r->errstr);
    if (r->type == REDIS_REPLY_ERROR) {
        fail("%s", r->str);
        freeReplyObject(r);
        return -1;
    }
    return 0;
}

#define ASK(c, var, ...)                                                                           \
    redisReply *var = redisCommand((c)->r, __VA_ARGS__);                                           \
    if (good(c, var))                                                                              \
    return -1
#define DO(c, ...)                                                                                 \
    do {                                                                                           \
        ASK(c, reply, __VA_ARGS__);                                                                \
        freeReplyObject(reply);                                                                    \
    } while (0)

static int next_reply(conn *c, redisReply **r)
{
    if (redisGetReply(c->r, (void **)r) != REDIS_OK)
        *r = NULL;
    return good(c, *r);
}

static int skip_replies(conn *c, int n)
{
    for (redisReply *r; n > 0; n--) {
        if (next_reply(c, &r))
            return -1;
        freeReplyObject(r);
    }
    return 0;
}

static conn *open_(const char *addr, int thread)
{
    char host[64] = "";
    int port = 0;
    sscanf(addr, "%63[^:]:%d", host, &port);
    conn *c = calloc(1, sizeof *c);
    c->r = redisConnect(host, port);
    snprintf(c->consumer, sizeof c->consumer, "w%d", thread);
    if (!c->r || c->r->err) {
        fail("connect: %s", c->r ? c->r->errstr : "no memory");
        return NULL;
    }
    return c;
}

static void close_(conn *c)
{
    redisFree(c->r);
    free(c);
}

static int stream_make(conn *c, const char *name)
{
    (void)c;
    (void)name;
    return 0;
}

static int append(conn *c, const char *stream, const void *data, size_t len)
{
    DO(c, "XADD %s * d %b", stream, data, len);
    return 0;
}

/* n commands built by `one`, in pipelines of BATCH. */
static long pipelined(conn *c, const char *name, long n,
                      int (*one)(conn *, const char *, const void *))
{
    unsigned char b[PAYLOAD];
    long i = 0;
    while (i < n && !late()) {
        int size = n - i < BATCH ? n - i : BATCH;
        for (int k = 0; k < size; k++) {
            payload(b, i++);
            if (one(c, name, b) != REDIS_OK)
                return -1;
        }
        if (skip_replies(c, size))
            return -1;
    }
    return i;
}

static int one_xadd(conn *c, const char *name, const void *b)
{
    return redisAppendCommand(c->r, "XADD %s * d %b", name, b, (size_t)PAYLOAD);
}
static int one_lpush(conn *c, const char *name, const void *b)
{
    return redisAppendCommand(c->r, "LPUSH %s %b", name, b, (size_t)PAYLOAD);
}
static long append_many(conn *c, const char *name, long n)
{
    return pipelined(c, name, n, one_xadd);
}
static long lput_many(conn *c, const char *name, long n)
{
    return pipelined(c, name, n, one_lpush);
}

/* As MULTI ... EXEC. Redis reads 16 KiB of a plain pipeline at a time, and syncs
 * after each such read: some 18 times in BATCH events. A transaction syncs once. */
static long append_multi(conn *c, const char *name, long n)
{
    unsigned char b[PAYLOAD];
    long i = 0;
    while (i < n && !late()) {
        int size = n - i < BATCH ? n - i : BATCH;
        redisReply *r;
        redisAppendCommand(c->r, "MULTI");
        for (int k = 0; k < size; k++) {
            payload(b, i++);
            one_xadd(c, name, b);
        }
        redisAppendCommand(c->r, "EXEC");
        if (skip_replies(c, 1 + size) || next_reply(c, &r))
            return -1;
        CHECK(r->type == REDIS_REPLY_ARRAY && (int)r->elements == size, "EXEC: %zu of %d",
              r->elements, size);
        freeReplyObject(r);
    }
    return i;
}

/* The entries of the one stream in an XREAD or XREADGROUP reply, or NULL. */
static redisReply *entries(redisReply *r)
{
    return r->type == REDIS_REPLY_ARRAY && r->elements ? r->element[0]->element[1] : NULL;
}

static redisReply *value(redisReply *entry)
{
    return entry->element[1]->element[1];
}

/* Hands over one reply; keeps the last id in `last`. Returns how many. */
static long deliver(redisReply *r, char last[64], struct sink *s)
{
    redisReply *es = entries(r);
    long n = es ? (long)es->elements : 0;
    for (long i = 0; i < n; i++)
        s->on_event(s, value(es->element[i])->str, value(es->element[i])->len);
    if (n)
        snprintf(last, 64, "%s", es->element[n - 1]->element[0]->str);
    return n;
}

static long read_(conn *c, const char *stream, long n, struct sink *s)
{
    char last[64] = "0";
    long got = 0, k = 1;
    while (got < n && k > 0 && !late()) {
        ASK(c, r, "XREAD COUNT %d STREAMS %s %s", BATCH, stream, last);
        got += k = deliver(r, last, s);
        freeReplyObject(r);
    }
    return got;
}

static int subscribe(conn *c, const char *stream, struct sink *s, atomic_int *ready,
                     atomic_int *stop)
{
    char last[64] = "0";
    atomic_store(ready, 1); /* s5 is empty until then */
    while (!atomic_load(stop)) {
        ASK(c, r, "XREAD COUNT %d BLOCK 200 STREAMS %s %s", BATCH, stream, last);
        deliver(r, last, s);
        freeReplyObject(r);
    }
    return 0;
}

static int queue_make(conn *c, const char *name)
{
    DO(c, "XGROUP CREATE %s g 0 MKSTREAM", name);
    return 0;
}

static int take(conn *c, const char *queue, struct job *j, int wait_ms)
{
    ASK(c, r, "XREADGROUP GROUP g %s COUNT 1 BLOCK %d STREAMS %s >", c->consumer, wait_ms, queue);
    redisReply *es = entries(r);
    if (es) {
        redisReply *v = value(es->element[0]);
        snprintf(j->id, sizeof j->id, "%s", es->element[0]->element[0]->str);
        j->len = v->len;
        memcpy(j->data, v->str, v->len < PAYLOAD ? v->len : PAYLOAD);
    }
    freeReplyObject(r);
    return es ? 1 : 0;
}

static int done(conn *c, const char *queue, struct job *j)
{
    redisAppendCommand(c->r, "XACK %s g %s", queue, j->id);
    redisAppendCommand(c->r, "XDEL %s %s", queue, j->id);
    return skip_replies(c, 2);
}

static long drain(conn *c, const char *queue, long n)
{
    long got = 0;
    while (got < n && !late()) {
        ASK(c, r, "XREADGROUP GROUP g %s COUNT %d STREAMS %s >", c->consumer, FETCH, queue);
        redisReply *es = entries(r);
        if (!es) {
            freeReplyObject(r);
            break;
        }
        for (size_t i = 0; i < es->elements; i++) {
            redisAppendCommand(c->r, "XACK %s g %s", queue, es->element[i]->element[0]->str);
            redisAppendCommand(c->r, "XDEL %s %s", queue, es->element[i]->element[0]->str);
        }
        if (skip_replies(c, 2 * (int)es->elements))
            return -1;
        got += es->elements;
        freeReplyObject(r);
    }
    return got;
}

/* Jobs in two lists: QUEUE, and QUEUE:busy while a worker has them. */
static int lput(conn *c, const char *queue, const void *data, size_t len)
{
    DO(c, "LPUSH %s %b", queue, data, len);
    return 0;
}

static int ltake(conn *c, const char *queue, struct job *j, int wait_ms)
{
    ASK(c, r, "BLMOVE %s %s:busy RIGHT LEFT %f", queue, queue, wait_ms / 1000.0);
    int got = r->type == REDIS_REPLY_STRING;
    if (got) {
        j->len = r->len;
        memcpy(j->data, r->str, r->len < PAYLOAD ? r->len : PAYLOAD);
    }
    freeReplyObject(r);
    return got;
}

static int ldone(conn *c, const char *queue, struct job *j)
{
    DO(c, "LREM %s:busy -1 %b", queue, j->data, j->len);
    return 0;
}

static long ldrain(conn *c, const char *queue, long n)
{
    redisReply *r[FETCH];
    long got = 0;
    while (got < n && !late()) {
        int k = 0;
        for (int i = 0; i < FETCH; i++)
            redisAppendCommand(c->r, "LMOVE %s %s:busy RIGHT LEFT", queue, queue);
        for (int i = 0; i < FETCH; i++) {
            if (next_reply(c, &r[k]))
                return -1;
            if (r[k]->type == REDIS_REPLY_STRING)
                k++;
            else
                freeReplyObject(r[k]);
        }
        if (!k)
            break;
        for (int i = 0; i < k; i++)
            redisAppendCommand(c->r, "LREM %s:busy -1 %b", queue, r[i]->str, r[i]->len);
        for (int i = 0; i < k; i++)
            freeReplyObject(r[i]);
        if (skip_replies(c, k))
            return -1;
        got += k;
    }
    return got;
}

static int kv_make(conn *c)
{
    (void)c;
    return 0;
}

static int set(conn *c, const char *key, const void *data, size_t len)
{
    DO(c, "SET %s %b", key, data, len);
    return 0;
}

static long get(conn *c, const char *key, void *buf, size_t cap)
{
    ASK(c, r, "GET %s", key);
    long n = r->type == REDIS_REPLY_STRING ? (long)r->len : -1;
    if (n > 0)
        memcpy(buf, r->str, (size_t)n < cap ? (size_t)n : cap);
    freeReplyObject(r);
    return n;
}

const struct peer_ops redis_ops = {"redis",     open_, close_,    stream_make, append, NULL,
                                   append_many, read_, subscribe, queue_make,  append, append_many,
                                   take,        done,  drain,     kv_make,     set,    get};
const struct peer_ops redis_multi_ops = {
    "redis_multi", open_,  close_,       stream_make, append, NULL,  append_multi, read_, subscribe,
    queue_make,    append, append_multi, take,        done,   drain, kv_make,      set,   get};
const struct peer_ops redis_list_ops = {"redis_list", open_, close_, NULL,        NULL, NULL,
                                        NULL,         NULL,  NULL,   stream_make, lput, lput_many,
                                        ltake,        ldone, ldrain, NULL,        NULL, NULL};
