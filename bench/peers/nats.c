/* nats.c: NATS JetStream through the nats.c client. Peers: nats (bulk append by
 * atomic batches of 1000) and nats_async (bulk append by js_PublishAsync). */
#include "bench.h"
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct conn {
    natsConnection *nc, *bulk_nc; /* nc sends at once; bulk_nc gathers writes */
    jsCtx *js, *bulk_js;
    natsSubscription *pull;
    kvStore *kv;
    char addr[64];
    atomic_long errors;
};

#define OK(call)                                                                                   \
    do {                                                                                           \
        natsStatus s_ = (call);                                                                    \
        CHECK(s_ == NATS_OK, "%s: %s", #call, natsStatus_GetText(s_));                             \
    } while (0)

static void on_async_error(jsCtx *js, jsPubAckErr *e, void *arg)
{
    (void)js;
    if (atomic_fetch_add(&((conn *)arg)->errors, 1) == 0)
        fail("async publish: %s", e->ErrText ? e->ErrText : natsStatus_GetText(e->Err));
}

static int dial(conn *c, int send_asap, natsConnection **nc, jsCtx **js)
{
    natsOptions *o;
    jsOptions jo;
    OK(natsOptions_Create(&o));
    OK(natsOptions_SetURL(o, c->addr));
    OK(natsOptions_SetSendAsap(o, send_asap));
    OK(natsConnection_Connect(nc, o));
    natsOptions_Destroy(o);
    OK(jsOptions_Init(&jo));
    jo.Wait = 30000;
    jo.PublishAsync.MaxPending = 4096;
    jo.PublishAsync.StallWait = 30000;
    jo.PublishAsync.ErrHandler = on_async_error;
    jo.PublishAsync.ErrHandlerClosure = c;
    OK(natsConnection_JetStream(js, *nc, &jo));
    return 0;
}

static conn *open_(const char *addr, int thread)
{
    (void)thread;
    conn *c = calloc(1, sizeof *c);
    snprintf(c->addr, sizeof c->addr, "nats://%s", addr);
    return dial(c, 1, &c->nc, &c->js) ? NULL : c;
}

static void close_(conn *c)
{
    natsSubscription_Destroy(c->pull);
    kvStore_Destroy(c->kv);
    jsCtx_Destroy(c->js);
    natsConnection_Destroy(c->nc);
    jsCtx_Destroy(c->bulk_js);
    natsConnection_Destroy(c->bulk_nc);
    free(c);
}

/* By JSON, because this client's jsStreamConfig is older than allow_atomic. */
static int make(conn *c, const char *name, const char *retention)
{
    char subj[96], req[256];
    natsMsg *m = NULL;
    snprintf(subj, sizeof subj, "$JS.API.STREAM.CREATE.%s", name);
    snprintf(req, sizeof req,
             "{\"name\":\"%s\",\"subjects\":[\"%s\"],\"storage\":\"file\",\"num_replicas\":1,"
             "\"retention\":\"%s\",\"allow_atomic\":true}",
             name, name, retention);
    OK(natsConnection_RequestString(&m, c->nc, subj, req, 10000));
    int bad = strstr(natsMsg_GetData(m), "\"error\"") != NULL;
    if (bad)
        fail("stream %s: %s", name, natsMsg_GetData(m));
    natsMsg_Destroy(m);
    return bad ? -1 : 0;
}

static int stream_make(conn *c, const char *name)
{
    return make(c, name, "limits");
}

static int append(conn *c, const char *stream, const void *data, size_t len)
{
    OK(js_Publish(NULL, c->js, stream, data, (int)len, NULL, NULL));
    return 0;
}

static long append_async(conn *c, const char *stream, long n)
{
    unsigned char b[PAYLOAD];
    long i = 0;
    if (!c->bulk_nc && dial(c, 0, &c->bulk_nc, &c->bulk_js))
        return -1;
    for (; i < n && !(i % 64 == 0 && late()); i++) {
        payload(b, i);
        OK(js_PublishAsync(c->bulk_js, stream, b, PAYLOAD, NULL));
    }
    jsPubOptions po;
    OK(jsPubOptions_Init(&po));
    po.MaxWait = 60000;
    OK(js_PublishAsyncComplete(c->bulk_js, &po));
    CHECK(!atomic_load(&c->errors), "async publish lost events");
    return i;
}

/* ADR-50 atomic batches, one in flight: the server syncs once a batch. */
static long append_batches(conn *c, const char *stream, long n)
{
    unsigned char b[PAYLOAD];
    char id[32], num[16];
    long i = 0;
    if (!c->bulk_nc && dial(c, 0, &c->bulk_nc, &c->bulk_js))
        return -1;
    while (i < n && !late()) {
        int size = n - i < BATCH ? n - i : BATCH;
        snprintf(id, sizeof id, "%s-%ld", stream, i);
        for (int k = 1; k <= size; k++, i++) {
            natsMsg *m, *reply = NULL;
            payload(b, i);
            snprintf(num, sizeof num, "%d", k);
            OK(natsMsg_Create(&m, stream, NULL, (char *)b, PAYLOAD));
            OK(natsMsgHeader_Set(m, "Nats-Batch-Id", id));
            OK(natsMsgHeader_Set(m, "Nats-Batch-Sequence", num));
            if (k < size) {
                OK(natsConnection_PublishMsg(c->bulk_nc, m));
            } else {
                OK(natsMsgHeader_Set(m, "Nats-Batch-Commit", "1"));
                OK(natsConnection_RequestMsg(&reply, c->bulk_nc, m, 30000));
                snprintf(num, sizeof num, "\"count\":%d", size);
                CHECK(strstr(natsMsg_GetData(reply), num), "batch: %s", natsMsg_GetData(reply));
                natsMsg_Destroy(reply);
            }
            natsMsg_Destroy(m);
        }
    }
    return i;
}

static void on_msg(natsConnection *nc, natsSubscription *sub, natsMsg *m, void *arg)
{
    (void)nc;
    (void)sub;
    struct sink *s = arg;
    s->on_event(s, natsMsg_GetData(m), natsMsg_GetDataLength(m));
    natsMsg_Destroy(m);
}

static int ordered(conn *c, const char *stream, jsDeliverPolicy from, struct sink *s,
                   natsSubscription **sub)
{
    jsSubOptions so;
    OK(jsSubOptions_Init(&so));
    so.Stream = stream;
    so.Ordered = true;
    so.Config.DeliverPolicy = from;
    OK(js_Subscribe(sub, c->js, stream, on_msg, s, NULL, &so, NULL));
    return 0;
}

static long read_(conn *c, const char *stream, long n, struct sink *s)
{
    natsSubscription *sub;
    if (ordered(c, stream, js_DeliverAll, s, &sub))
        return -1;
    while (atomic_load(&s->seen) < n && !late())
        usleep(200);
    natsSubscription_Destroy(sub);
    return atomic_load(&s->seen);
}

static int subscribe(conn *c, const char *stream, struct sink *s, atomic_int *ready,
                     atomic_int *stop)
{
    natsSubscription *sub;
    if (ordered(c, stream, js_DeliverNew, s, &sub))
        return -1;
    atomic_store(ready, 1);
    while (!atomic_load(stop))
        usleep(5000);
    natsSubscription_Destroy(sub);
    return 0;
}

static int queue_make(conn *c, const char *name)
{
    jsConsumerConfig cc;
    if (make(c, name, "workqueue"))
        return -1;
    OK(jsConsumerConfig_Init(&cc));
    cc.Durable = "workers";
    cc.AckPolicy = js_AckExplicit;
    cc.MaxAckPending = 10000;
    OK(js_AddConsumer(NULL, c->js, name, &cc, NULL, NULL));
    return 0;
}

static int fetch(conn *c, const char *queue, int n, int wait_ms, natsMsgList *list)
{
    if (!c->pull) {
        jsSubOptions so;
        OK(jsSubOptions_Init(&so));
        so.Stream = queue;
        so.Consumer = "workers";
        OK(js_PullSubscribe(&c->pull, c->js, queue, NULL, NULL, &so, NULL));
    }
    natsStatus s = natsSubscription_Fetch(list, c->pull, n, wait_ms, NULL);
    if (s == NATS_TIMEOUT)
        return 0;
    CHECK(s == NATS_OK, "fetch: %s", natsStatus_GetText(s));
    return list->Count;
}

static int take(conn *c, const char *queue, struct job *j, int wait_ms)
{
    natsMsgList list = {0};
    int r = fetch(c, queue, 1, wait_ms, &list);
    if (r < 1)
        return r;
    natsMsg *m = list.Msgs[0];
    list.Msgs[0] = NULL;
    natsMsgList_Destroy(&list);
    j->ref = m;
    j->len = natsMsg_GetDataLength(m);
    memcpy(j->data, natsMsg_GetData(m), j->len < PAYLOAD ? j->len : PAYLOAD);
    return 1;
}

static int done(conn *c, const char *queue, struct job *j)
{
    (void)c;
    (void)queue;
    OK(natsMsg_AckSync(j->ref, NULL, NULL));
    natsMsg_Destroy(j->ref);
    return 0;
}

static long drain(conn *c, const char *queue, long n)
{
    long got = 0;
    while (got < n && !late()) {
        natsMsgList list = {0};
        int r = fetch(c, queue, FETCH, 1000, &list);
        if (r < 0)
            return -1;
        for (int i = 0; i < r; i++) { /* the last ack is answered after the others were handled */
            if (i < r - 1)
                OK(natsMsg_Ack(list.Msgs[i], NULL));
            else
                OK(natsMsg_AckSync(list.Msgs[i], NULL, NULL));
        }
        natsMsgList_Destroy(&list);
        got += r;
    }
    return got;
}

static int kv_make(conn *c)
{
    kvConfig kc;
    OK(kvConfig_Init(&kc));
    kc.Bucket = "kv";
    kc.History = 1;
    kc.StorageType = js_FileStorage;
    OK(js_CreateKeyValue(&c->kv, c->js, &kc));
    return 0;
}

static int kv_bind(conn *c)
{
    if (!c->kv)
        OK(js_KeyValue(&c->kv, c->js, "kv"));
    return 0;
}

static int set(conn *c, const char *key, const void *data, size_t len)
{
    if (kv_bind(c))
        return -1;
    OK(kvStore_Put(NULL, c->kv, key, data, (int)len));
    return 0;
}

static long get(conn *c, const char *key, void *buf, size_t cap)
{
    kvEntry *e;
    if (kv_bind(c))
        return -1;
    OK(kvStore_Get(&e, c->kv, key));
    long n = kvEntry_ValueLen(e);
    memcpy(buf, kvEntry_Value(e), (size_t)n < cap ? (size_t)n : cap);
    kvEntry_Destroy(e);
    return n;
}

#define COMMON open_, close_, stream_make, append, NULL
#define REST                                                                                       \
    read_, subscribe, queue_make, append, append_async, take, done, drain, kv_make, set, get
const struct peer_ops nats_ops = {"nats", COMMON, append_batches, REST};
const struct peer_ops nats_async_ops = {"nats_async", COMMON, append_async, REST};
