// grpc_client.cc: the same work through grpc++'s blocking stubs, generated from the same proto.
//   grpc_client ENDPOINT get|health SECONDS
//   grpc_client ENDPOINT threads N SECONDS         get, on so many threads at once
//   grpc_client ENDPOINT subscribe MESSAGES
//   grpc_client ENDPOINT write EVENTS_PER_CALL SECONDS
//   grpc_client ENDPOINT idle 0                    connects, says so, waits for EOF
//   grpc_client ENDPOINT connect SECONDS           a new channel each time, and a health check
// FLOWMESH_TLS_CA_FILE makes it speak TLS, and trust what is in that file.
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

#include "flowmesh/v1/flowmesh.grpc.pb.h"
#include "measure.h"

namespace pb = flowmesh::v1;

namespace
{

void set_path(pb::ResourcePath *path, const char *type, const char *name)
{
    path->set_tenant(TENANT);
    path->set_namespace_(NAMESPACE);
    path->set_resource_type(type);
    path->set_name(name);
}

void must(const char *what, const grpc::Status &status)
{
    if (!status.ok())
        die(what, status.error_message().c_str());
}

struct Get {
    std::unique_ptr<pb::KVService::Stub> stub;
    pb::GetRequest request;

    static void call(void *with)
    {
        auto *self = static_cast<Get *>(with);
        grpc::ClientContext context;
        pb::GetResponse response;
        must("get", self->stub->Get(&context, self->request, &response));
        if (response.value().size() != PAYLOAD)
            die("get", "the value has another size");
    }
};

struct Health {
    std::unique_ptr<pb::HealthService::Stub> stub;

    static void call(void *with)
    {
        grpc::ClientContext context;
        pb::HealthCheckResponse response;
        must("health", static_cast<Health *>(with)->stub->HealthCheck(&context, {}, &response));
    }
};

// What is trusted, read once.
std::shared_ptr<grpc::ChannelCredentials> credentials()
{
    const char *file = getenv("FLOWMESH_TLS_CA_FILE");
    if (!file)
        return grpc::InsecureChannelCredentials();
    std::ifstream in(file);
    std::stringstream pem;
    pem << in.rdbuf();
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = pem.str();
    return grpc::SslCredentials(options);
}

struct Connect {
    std::string endpoint;
    std::shared_ptr<grpc::ChannelCredentials> credentials;

    static void call(void *with)
    {
        auto *self = static_cast<Connect *>(with);
        grpc::ChannelArguments arguments;
        // Or it would find the connection of the channel before.
        arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
        auto channel = grpc::CreateCustomChannel(self->endpoint, self->credentials, arguments);
        Health health{pb::HealthService::NewStub(channel)};
        Health::call(&health);
    }
};

// As a caller would write it: the request is built from the application's events at each call.
struct Write {
    std::unique_ptr<pb::StreamService::Stub> stub;
    int events;
    unsigned char payload[PAYLOAD];

    static void call(void *with)
    {
        auto *self = static_cast<Write *>(with);
        grpc::ClientContext context;
        pb::WriteEventsRequest request;
        pb::WriteEventsResponse response;
        set_path(request.mutable_resource_path(), "stream", STREAM_WRITE);
        request.mutable_events()->Reserve(self->events);
        for (int i = 0; i < self->events; i++)
            request.add_events()->set_payload(self->payload, PAYLOAD);
        must("write", self->stub->WriteEvents(&context, request, &response));
        if (response.offsets_size() != self->events)
            die("write", "an offset is missing");
    }
};

void subscribe(const std::shared_ptr<grpc::Channel> &channel, long messages)
{
    auto stub = pb::StreamService::NewStub(channel);
    grpc::ClientContext context;
    pb::SubscribeRequest request;
    set_path(request.mutable_resource_path(), "stream", STREAM_READ);
    request.set_consumer_group("bench");
    struct meter m;
    if (!channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(10)))
        die("subscribe", "nobody answers");
    meter_start(&m);
    auto reader = stub->Subscribe(&context, request);
    pb::SubscribeResponse response;
    long seen = 0;
    for (; seen < messages && reader->Read(&response); seen++)
        if (response.message().offset() != seen || response.message().payload().size() != PAYLOAD)
            die("subscribe", "a message is out of order or has another size");
    if (seen < messages)
        die("subscribe", reader->Finish().error_message().c_str());
    meter_report(&m, static_cast<double>(messages));
    context.TryCancel();
}

} // namespace

int main(int argc, char **argv)
{
    if (argc < 4)
        die("usage", "grpc_client ENDPOINT get|health SECONDS | threads N SECONDS | subscribe N | "
                     "write BATCH SECONDS");
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    auto channel = grpc::CreateCustomChannel(argv[1], credentials(), arguments);
    std::string work = argv[2];
    if (work == "get" || (work == "threads" && argc == 5)) {
        Get get{pb::KVService::NewStub(channel), {}};
        set_path(get.request.mutable_resource_path(), "kv", STORE);
        get.request.set_key(KEY);
        if (work == "get")
            repeat(Get::call, &get, atof(argv[3]), 1);
        else
            repeat_on(atol(argv[3]), Get::call, &get, atof(argv[4]));
    } else if (work == "health") {
        Health health{pb::HealthService::NewStub(channel)};
        repeat(Health::call, &health, atof(argv[3]), 1);
    } else if (work == "subscribe") {
        subscribe(channel, atol(argv[3]));
    } else if (work == "write" && argc == 5) {
        Write write{pb::StreamService::NewStub(channel), atoi(argv[3]), {}};
        fill(write.payload, PAYLOAD);
        repeat(Write::call, &write, atof(argv[4]), write.events);
    } else if (work == "connect") {
        Connect connect{argv[1], credentials()};
        repeat(Connect::call, &connect, atof(argv[3]), 1);
    } else if (work == "idle") {
        Health health{pb::HealthService::NewStub(channel)};
        Health::call(&health);
        puts("ready");
        fflush(stdout);
        while (getchar() != EOF) {
        }
    } else {
        die("no such work", argv[2]);
    }
    return 0;
}
