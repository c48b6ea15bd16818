// etcd.cc: etcd's gRPC API through grpc++ blocking stubs, one channel for each
// thread. KV only; gets are linearizable, as etcd does by default.
#include "bench.h"
#include "etcd.grpc.pb.h"
#include <cstring>
#include <grpcpp/grpcpp.h>
#include <memory>

namespace pb = etcdserverpb;

struct conn {
    std::unique_ptr<pb::KV::Stub> kv;
};

static conn *open_(const char *addr, int thread)
{
    grpc::ChannelArguments args;
    args.SetInt("bench.thread", thread); // distinct arguments: not one shared connection
    return new conn{
        pb::KV::NewStub(grpc::CreateCustomChannel(addr, grpc::InsecureChannelCredentials(), args))};
}

static void close_(conn *c)
{
    delete c;
}

static int good(const grpc::Status &s)
{
    return s.ok() ? 0 : fail("%s", s.error_message().c_str());
}

static int kv_make(conn *)
{
    return 0;
}

static int set(conn *c, const char *key, const void *data, size_t len)
{
    grpc::ClientContext ctx;
    pb::PutRequest q;
    pb::PutResponse r;
    q.set_key(key);
    q.set_value(data, len);
    return good(c->kv->Put(&ctx, q, &r));
}

static long get(conn *c, const char *key, void *buf, size_t cap)
{
    grpc::ClientContext ctx;
    pb::RangeRequest q;
    pb::RangeResponse r;
    q.set_key(key);
    if (good(c->kv->Range(&ctx, q, &r)) || r.kvs_size() != 1)
        return -1;
    const std::string &v = r.kvs(0).value();
    memcpy(buf, v.data(), v.size() < cap ? v.size() : cap);
    return (long)v.size();
}

extern "C" const peer_ops etcd_ops = {.name = "etcd",
                                      .open = open_,
                                      .close = close_,
                                      .stream_make = nullptr,
                                      .append = nullptr,
                                      .offer = nullptr,
                                      .append_many = nullptr,
                                      .read = nullptr,
                                      .subscribe = nullptr,
                                      .queue_make = nullptr,
                                      .put = nullptr,
                                      .put_many = nullptr,
                                      .take = nullptr,
                                      .done = nullptr,
                                      .drain = nullptr,
                                      .kv_make = kv_make,
                                      .set = set,
                                      .get = get};
