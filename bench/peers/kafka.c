/* kafka.c: Apache Kafka through librdkafka. Streams only: one topic of one
 * partition each. All threads share one producer, as its manual advises. */
#include "bench.h"
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct conn {
    char addr[64];
    pthread_mutex_t mu;
    pthread_cond_t cond;
    int state;
};

static rd_kafka_t *producer;
static pthread_mutex_t producer_mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_t poller;
static int users;
static atomic_int stopping;
static atomic_long bulk_acked, bulk_failed;

/* opaque: the waiting connection, or NULL where nobody waits. */
static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *arg)
{
    (void)rk;
    (void)arg;
    conn *c = m->_private;
    if (m->err)
        fail("delivery: %s", rd_kafka_err2str(m->err));
    if (!c) {
        atomic_fetch_add(m->err ? &bulk_failed : &bulk_acked, 1);
        return;
    }
    pthread_mutex_lock(&c->mu);
    c->state = m->err ? -1 : 1;
    pthread_cond_signal(&c->cond);
    pthread_mutex_unlock(&c->mu);
}

static void *poll_loop(void *arg)
{
    (void)arg;
    while (!atomic_load(&stopping))
        rd_kafka_poll(producer, 50);
    return NULL;
}

static rd_kafka_t *client(const char *addr, rd_kafka_type_t type, const char *const *settings)
{
    char err[256];
    rd_kafka_conf_t *k = rd_kafka_conf_new();
    rd_kafka_conf_set(k, "bootstrap.servers", addr, err, sizeof err);
    for (; *settings; settings += 2)
        if (rd_kafka_conf_set(k, settings[0], settings[1], err, sizeof err))
            fail("%s", err);
    if (type == RD_KAFKA_PRODUCER)
        rd_kafka_conf_set_dr_msg_cb(k, on_delivery);
    rd_kafka_t *rk = rd_kafka_new(type, k, err, sizeof err);
    if (!rk)
        fail("%s", err);
    return rk;
}

/* A writer that waits is served best by linger 0 and one request in flight: what
 * other threads append meanwhile goes into the next request together. */
static rd_kafka_t *new_producer(const char *addr, const char *linger_ms, const char *in_flight)
{
    const char *s[] = {"acks",
                       "all",
                       "linger.ms",
                       linger_ms,
                       "max.in.flight.requests.per.connection",
                       in_flight,
                       "queue.buffering.max.messages",
                       "1000000",
                       NULL};
    return client(addr, RD_KAFKA_PRODUCER, s);
}

static conn *open_(const char *addr, int thread)
{
    (void)thread;
    conn *c = calloc(1, sizeof *c);
    snprintf(c->addr, sizeof c->addr, "%s", addr);
    pthread_mutex_init(&c->mu, NULL);
    pthread_cond_init(&c->cond, NULL);
    pthread_mutex_lock(&producer_mu);
    if (!users++) {
        producer = new_producer(addr, "0", "1");
        atomic_store(&stopping, 0);
        pthread_create(&poller, NULL, poll_loop, NULL);
    }
    pthread_mutex_unlock(&producer_mu);
    return c;
}

static void close_(conn *c)
{
    pthread_mutex_lock(&producer_mu);
    if (!--users) {
        atomic_store(&stopping, 1);
        pthread_join(poller, NULL);
        rd_kafka_destroy(producer);
    }
    pthread_mutex_unlock(&producer_mu);
    free(c);
}

static int stream_make(conn *c, const char *name)
{
    char err[256];
    (void)c;
    rd_kafka_NewTopic_t *t = rd_kafka_NewTopic_new(name, 1, 1, err, sizeof err);
    rd_kafka_queue_t *q = rd_kafka_queue_new(producer);
    rd_kafka_CreateTopics(producer, &t, 1, NULL, q);
    rd_kafka_event_t *e = rd_kafka_queue_poll(q, 10000);
    CHECK(e && !rd_kafka_event_error(e), "create %s: %s", name,
          e ? rd_kafka_event_error_string(e) : "timeout");
    rd_kafka_event_destroy(e);
    rd_kafka_queue_destroy(q);
    rd_kafka_NewTopic_destroy(t);
    return 0;
}

static int produce(rd_kafka_t *rk, const char *topic, const void *data, size_t len, void *opaque)
{
    for (;;) {
        rd_kafka_resp_err_t e = rd_kafka_producev(
            rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(0),
            RD_KAFKA_V_VALUE((void *)data, len), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
            RD_KAFKA_V_OPAQUE(opaque), RD_KAFKA_V_END);
        if (!e)
            return 0;
        CHECK(e == RD_KAFKA_RESP_ERR__QUEUE_FULL, "produce: %s", rd_kafka_err2str(e));
        rd_kafka_poll(rk, 1);
    }
}

static int append(conn *c, const char *stream, const void *data, size_t len)
{
    pthread_mutex_lock(&c->mu);
    c->state = 0;
    int r = produce(producer, stream, data, len, c);
    while (!r && !c->state)
        pthread_cond_wait(&c->cond, &c->mu);
    pthread_mutex_unlock(&c->mu);
    return r || c->state < 0 ? -1 : 0;
}

/* One append takes longer than S5's pace allows a writer that waits. */
static int offer(conn *c, const char *stream, const void *data, size_t len)
{
    (void)c;
    return produce(producer, stream, data, len, NULL);
}

static long append_many(conn *c, const char *stream, long n)
{
    unsigned char b[PAYLOAD];
    long i = 0;
    rd_kafka_t *rk = new_producer(c->addr, "5", "5");
    atomic_store(&bulk_acked, 0);
    for (; i < n && !(i % 64 == 0 && late()); i++) {
        payload(b, i);
        if (produce(rk, stream, b, PAYLOAD, NULL))
            return -1;
        if (i % 256 == 0)
            rd_kafka_poll(rk, 0);
    }
    rd_kafka_flush(rk, 60000);
    rd_kafka_destroy(rk);
    CHECK(!atomic_load(&bulk_failed) && atomic_load(&bulk_acked) == i, "%ld of %ld acknowledged",
          atomic_load(&bulk_acked), i);
    return i;
}

static rd_kafka_t *consumer(conn *c, const char *stream, int64_t from, rd_kafka_queue_t **q)
{
    const char *s[] = {"group.id", "bench", "enable.auto.commit", "false", "auto.offset.reset",
                       "earliest", NULL};
    rd_kafka_t *rk = client(c->addr, RD_KAFKA_CONSUMER, s);
    rd_kafka_topic_partition_list_t *l = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(l, stream, 0)->offset = from;
    rd_kafka_poll_set_consumer(rk);
    rd_kafka_assign(rk, l);
    rd_kafka_topic_partition_list_destroy(l);
    *q = rd_kafka_queue_get_consumer(rk);
    return rk;
}

static int deliver(rd_kafka_queue_t *q, struct sink *s, int wait_ms, int max)
{
    rd_kafka_message_t *m[BATCH];
    ssize_t k = rd_kafka_consume_batch_queue(q, wait_ms, m, max);
    int r = 0;
    for (ssize_t i = 0; i < k; i++) {
        if (m[i]->err)
            r = fail("consume: %s", rd_kafka_message_errstr(m[i]));
        else
            s->on_event(s, m[i]->payload, m[i]->len);
        rd_kafka_message_destroy(m[i]);
    }
    return r;
}

static void consumer_end(rd_kafka_t *rk, rd_kafka_queue_t *q)
{
    rd_kafka_queue_destroy(q);
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
}

static long read_(conn *c, const char *stream, long n, struct sink *s)
{
    rd_kafka_queue_t *q;
    rd_kafka_t *rk = consumer(c, stream, RD_KAFKA_OFFSET_BEGINNING, &q);
    while (atomic_load(&s->seen) < n && !late()) {
        long left = n - atomic_load(&s->seen);
        if (deliver(q, s, 100, left < BATCH ? left : BATCH))
            return -1;
    }
    consumer_end(rk, q);
    return atomic_load(&s->seen);
}

static int subscribe(conn *c, const char *stream, struct sink *s, atomic_int *ready,
                     atomic_int *stop)
{
    rd_kafka_queue_t *q;
    rd_kafka_t *rk = consumer(c, stream, RD_KAFKA_OFFSET_END, &q);
    deliver(q, s, 2000, 1); /* nothing comes yet: lets the fetcher find the end */
    atomic_store(ready, 1);
    while (!atomic_load(stop))
        if (deliver(q, s, 100, 1))
            return -1;
    consumer_end(rk, q);
    return 0;
}

const struct peer_ops kafka_ops = {.name = "kafka",
                                   .open = open_,
                                   .close = close_,
                                   .stream_make = stream_make,
                                   .append = append,
                                   .offer = offer,
                                   .append_many = append_many,
                                   .read = read_,
                                   .subscribe = subscribe};
