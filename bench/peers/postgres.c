/* postgres.c: PostgreSQL through libpq. A stream and a queue are one table each;
 * jobs are leased by UPDATE ... FOR UPDATE SKIP LOCKED and deleted when done.
 * With PG_NOTIFY=1 each insert also notifies, which waiting readers need. */
#include "bench.h"
#include <arpa/inet.h>
#include <endian.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct conn {
    PGconn *pg;
    int notify, listening;
    char prepared[4][16];
};

static int good(conn *c, PGresult *r, const char *what)
{
    ExecStatusType s = PQresultStatus(r);
    if (s == PGRES_COMMAND_OK || s == PGRES_TUPLES_OK || s == PGRES_COPY_IN)
        return 0;
    fail("%s: %s", what, PQerrorMessage(c->pg));
    PQclear(r);
    return -1;
}

static int run(conn *c, const char *fmt, const char *name)
{
    char sql[512];
    snprintf(sql, sizeof sql, fmt, name, name, name);
    PGresult *r = PQexec(c->pg, sql);
    if (good(c, r, sql))
        return -1;
    PQclear(r);
    return 0;
}

/* Prepares `fmt` for `name` on first use. `slot` names the statement. */
static int prepare(conn *c, int slot, const char *fmt, const char *name)
{
    char sql[512], stmt[16];
    if (!strcmp(c->prepared[slot], name))
        return 0;
    snprintf(sql, sizeof sql, fmt, name, name);
    snprintf(stmt, sizeof stmt, "%d%s", slot, name);
    PGresult *r = PQprepare(c->pg, stmt, sql, 0, NULL);
    if (good(c, r, sql))
        return -1;
    PQclear(r);
    snprintf(c->prepared[slot], sizeof c->prepared[slot], "%s", name);
    return 0;
}

static PGresult *call(conn *c, int slot, const char *name, int n, const void *const *v,
                      const int *len, const int *fmt)
{
    char stmt[16];
    snprintf(stmt, sizeof stmt, "%d%s", slot, name);
    PGresult *r = PQexecPrepared(c->pg, stmt, n, (const char *const *)v, len, fmt, 1);
    return good(c, r, stmt) ? NULL : r;
}

static PGresult *call_bytes(conn *c, int slot, const char *name, const void *data, size_t len)
{
    return call(c, slot, name, 1, &data, &(int){(int)len}, &(int){1});
}

static PGresult *call_id(conn *c, int slot, const char *name, uint64_t id)
{
    uint64_t be = htobe64(id);
    return call_bytes(c, slot, name, &be, sizeof be);
}

static uint64_t int8_at(PGresult *r, int row)
{
    uint64_t v;
    memcpy(&v, PQgetvalue(r, row, 0), 8);
    return be64toh(v);
}

static conn *open_(const char *addr, int thread)
{
    (void)thread;
    char host[64] = "", info[160];
    int port = 0;
    sscanf(addr, "%63[^:]:%d", host, &port);
    snprintf(info, sizeof info, "host=%s port=%d user=postgres dbname=postgres", host, port);
    conn *c = calloc(1, sizeof *c);
    c->pg = PQconnectdb(info);
    c->notify = getenv("PG_NOTIFY") != NULL;
    if (PQstatus(c->pg) != CONNECTION_OK) {
        fail("%s", PQerrorMessage(c->pg));
        return NULL;
    }
    return c;
}

static void close_(conn *c)
{
    PQfinish(c->pg);
    free(c);
}

static int stream_make(conn *c, const char *name)
{
    return run(c, "CREATE TABLE %s (id bigserial PRIMARY KEY, data bytea NOT NULL)", name);
}

static int append(conn *c, const char *name, const void *data, size_t len)
{
    const char *sql = c->notify ? "WITH i AS (INSERT INTO %s (data) VALUES ($1) RETURNING id) "
                                  "SELECT id, pg_notify('%s', '') FROM i"
                                : "INSERT INTO %s (data) VALUES ($1) RETURNING id";
    if (prepare(c, 0, sql, name))
        return -1;
    PGresult *r = call_bytes(c, 0, name, data, len);
    PQclear(r);
    return r ? 0 : -1;
}

/* COPY in binary, BATCH rows a transaction. */
static long append_many(conn *c, const char *name, long n)
{
    static const char head[19] = "PGCOPY\n\377\r\n";
    char sql[96];
    long i = 0;
    snprintf(sql, sizeof sql, "COPY %s (data) FROM STDIN (FORMAT binary)", name);
    while (i < n && !late()) {
        PGresult *r = PQexec(c->pg, sql);
        if (good(c, r, sql))
            return -1;
        PQclear(r);
        PQputCopyData(c->pg, head, sizeof head);
        for (int k = 0; k < BATCH && i < n; k++, i++) {
            struct __attribute__((packed)) {
                uint16_t cols;
                uint32_t len;
                unsigned char data[PAYLOAD];
            } row = {htons(1), htonl(PAYLOAD), {0}};
            payload(row.data, i);
            CHECK(PQputCopyData(c->pg, (char *)&row, sizeof row) == 1, "%s", PQerrorMessage(c->pg));
        }
        PQputCopyData(c->pg, "\377\377", 2);
        CHECK(PQputCopyEnd(c->pg, NULL) == 1, "%s", PQerrorMessage(c->pg));
        r = PQgetResult(c->pg);
        if (good(c, r, "copy"))
            return -1;
        while (r) {
            PQclear(r);
            r = PQgetResult(c->pg);
        }
    }
    return i;
}

/* One page of what follows *last. Returns how many. */
static long page(conn *c, const char *name, uint64_t *last, struct sink *s)
{
    if (prepare(c, 1, "SELECT id, data FROM %s WHERE id > $1 ORDER BY id LIMIT 5000", name))
        return -1;
    PGresult *r = call_id(c, 1, name, *last);
    if (!r)
        return -1;
    int n = PQntuples(r);
    for (int i = 0; i < n; i++)
        s->on_event(s, PQgetvalue(r, i, 1), PQgetlength(r, i, 1));
    if (n)
        *last = int8_at(r, n - 1);
    PQclear(r);
    return n;
}

static long read_(conn *c, const char *name, long n, struct sink *s)
{
    uint64_t last = 0;
    long got = 0, k = 1;
    while (got < n && k > 0 && !late())
        got += k = page(c, name, &last, s);
    return got;
}

static int listen_to(conn *c, const char *name)
{
    if (c->listening)
        return 0;
    c->listening = 1;
    return run(c, "LISTEN %s", name);
}

/* Waits for a notification; 1 if one came, 0 after wait_ms. */
static int wait_notified(conn *c, int wait_ms)
{
    int any = 0;
    for (int tries = 0;; tries++) {
        for (PGnotify *n; (n = PQnotifies(c->pg)); any = 1)
            PQfreemem(n);
        if (any || tries > 1)
            return any;
        struct pollfd p = {PQsocket(c->pg), POLLIN, 0};
        if (poll(&p, 1, wait_ms) < 1)
            return 0;
        PQconsumeInput(c->pg);
    }
}

static int subscribe(conn *c, const char *name, struct sink *s, atomic_int *ready, atomic_int *stop)
{
    uint64_t last = 0;
    if (listen_to(c, name))
        return -1;
    atomic_store(ready, 1); /* s5 is empty until then */
    while (!atomic_load(stop)) {
        long n = page(c, name, &last, s);
        if (n < 0)
            return -1;
        if (!n)
            wait_notified(c, 200);
    }
    return 0;
}

static int queue_make(conn *c, const char *name)
{
    return run(c,
               "CREATE TABLE %s (id bigserial PRIMARY KEY, lease timestamptz NOT NULL DEFAULT "
               "'-infinity', data bytea NOT NULL)",
               name);
}

#define LEASE(n)                                                                                   \
    "UPDATE %s SET lease = now() + interval '30 s' WHERE id = ANY(ARRAY("                          \
    "SELECT id FROM %s WHERE lease < now() ORDER BY id LIMIT " n                                   \
    " FOR UPDATE SKIP LOCKED)) RETURNING id, data"

static int take(conn *c, const char *name, struct job *j, int wait_ms)
{
    uint64_t until = now_ns() + wait_ms * 1000000ull;
    if (prepare(c, 2, LEASE("1"), name) || (c->notify && listen_to(c, name)))
        return -1;
    for (;;) {
        PGresult *r = call(c, 2, name, 0, NULL, NULL, NULL);
        if (!r)
            return -1;
        if (PQntuples(r)) {
            j->num = int8_at(r, 0);
            j->len = PQgetlength(r, 0, 1);
            memcpy(j->data, PQgetvalue(r, 0, 1), j->len < PAYLOAD ? j->len : PAYLOAD);
            PQclear(r);
            return 1;
        }
        PQclear(r);
        int64_t left = ((int64_t)until - (int64_t)now_ns()) / 1000000;
        if (left <= 0)
            return 0;
        if (c->notify)
            wait_notified(c, left);
        else
            poll(NULL, 0, 5);
    }
}

static int done(conn *c, const char *name, struct job *j)
{
    if (prepare(c, 3, "DELETE FROM %s WHERE id = $1", name))
        return -1;
    PGresult *r = call_id(c, 3, name, j->num);
    PQclear(r);
    return r ? 0 : -1;
}

static long drain(conn *c, const char *name, long n)
{
    long got = 0;
    if (prepare(c, 2, LEASE("100"), name) ||
        prepare(c, 3, "DELETE FROM %s WHERE id = ANY($1::bigint[])", name))
        return -1;
    while (got < n && !late()) {
        PGresult *r = call(c, 2, name, 0, NULL, NULL, NULL);
        if (!r)
            return -1;
        int k = PQntuples(r), at = 0;
        if (!k) {
            PQclear(r);
            break;
        }
        char ids[FETCH * 21 + 2];
        for (int i = 0; i < k; i++)
            at += sprintf(ids + at, "%c%lu", i ? ',' : '{', (unsigned long)int8_at(r, i));
        strcpy(ids + at, "}");
        PQclear(r);
        const void *v = ids;
        r = call(c, 3, name, 1, &v, &(int){0}, &(int){0});
        if (!r)
            return -1;
        CHECK(atoi(PQcmdTuples(r)) == k, "deleted %s of %d", PQcmdTuples(r), k);
        PQclear(r);
        got += k;
    }
    return got;
}

static int kv_make(conn *c)
{
    return run(c, "CREATE TABLE kv (k text PRIMARY KEY, v bytea NOT NULL)", "");
}

static int set(conn *c, const char *key, const void *data, size_t len)
{
    if (prepare(c, 0, "INSERT INTO %s VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
                "kv"))
        return -1;
    PGresult *r = call(c, 0, "kv", 2, (const void *[]){key, data},
                       (int[]){(int)strlen(key), (int)len}, (int[]){1, 1});
    PQclear(r);
    return r ? 0 : -1;
}

static long get(conn *c, const char *key, void *buf, size_t cap)
{
    if (prepare(c, 1, "SELECT v FROM %s WHERE k = $1", "kv"))
        return -1;
    PGresult *r = call_bytes(c, 1, "kv", key, strlen(key));
    if (!r)
        return -1;
    long n = PQntuples(r) ? PQgetlength(r, 0, 0) : -1;
    if (n > 0)
        memcpy(buf, PQgetvalue(r, 0, 0), (size_t)n < cap ? (size_t)n : cap);
    PQclear(r);
    return n;
}

const struct peer_ops postgres_ops = {
    "postgres", open_,  close_,      stream_make, append, NULL,  append_many, read_, subscribe,
    queue_make, append, append_many, take,        done,   drain, kv_make,     set,   get};
