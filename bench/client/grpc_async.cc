// grpc_async.cc: the same work through grpc++'s two asynchronous APIs.
//   grpc_async ENDPOINT callback|cq get|write DEPTH SECONDS
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <semaphore.h>
#include <string>
#include <vector>

#include "flowmesh/v1/flowmesh.grpc.pb.h"
#include "measure.h"

namespace pb = flowmesh::v1;

namespace
{

std::atomic<bool> stop{false};
std::atomic<size_t> under_way{0};
std::atomic<uint64_t> completed{0};
sem_t finished;

void must(const grpc::Status &status)
{
    if (!status.ok())
        die("call", status.error_message().c_str());
}

void set_path(pb::ResourcePath *path, const char *type, const char *name)
{
    path->set_tenant(TENANT);
    path->set_namespace_(NAMESPACE);
    path->set_resource_type(type);
    path->set_name(name);
}

struct Get {
    using Stub = pb::KVService::Stub;
    using Request = pb::GetRequest;
    using Response = pb::GetResponse;
    static std::unique_ptr<Stub> stub(const std::shared_ptr<grpc::Channel> &channel)
    {
        return pb::KVService::NewStub(channel);
    }
    static void fill_in(Request *request, const unsigned char *)
    {
        set_path(request->mutable_resource_path(), "kv", STORE);
        request->set_key(KEY);
    }
    static auto start(Stub *stub, grpc::ClientContext *context, const Request &request,
                      grpc::CompletionQueue *queue)
    {
        return stub->AsyncGet(context, request, queue);
    }
    template <typename Done>
    static void start(Stub *stub, grpc::ClientContext *context, const Request *request,
                      Response *response, Done done)
    {
        stub->async()->Get(context, request, response, done);
    }
    static void check(const Response &response)
    {
        if (response.value().size() != PAYLOAD)
            die("get", "the value has another size");
    }
};

struct Write {
    using Stub = pb::StreamService::Stub;
    using Request = pb::WriteEventsRequest;
    using Response = pb::WriteEventsResponse;
    static std::unique_ptr<Stub> stub(const std::shared_ptr<grpc::Channel> &channel)
    {
        return pb::StreamService::NewStub(channel);
    }
    static void fill_in(Request *request, const unsigned char *payload)
    {
        set_path(request->mutable_resource_path(), "stream", STREAM_WRITE);
        request->add_events()->set_payload(payload, PAYLOAD);
    }
    static auto start(Stub *stub, grpc::ClientContext *context, const Request &request,
                      grpc::CompletionQueue *queue)
    {
        return stub->AsyncWriteEvents(context, request, queue);
    }
    template <typename Done>
    static void start(Stub *stub, grpc::ClientContext *context, const Request *request,
                      Response *response, Done done)
    {
        stub->async()->WriteEvents(context, request, response, done);
    }
    static void check(const Response &response)
    {
        if (response.offsets_size() != 1)
            die("write", "an offset is missing");
    }
};

template <typename Work> struct Bench {
    std::unique_ptr<typename Work::Stub> stub;
    size_t depth;
    double seconds;
    unsigned char payload[PAYLOAD];
    struct meter meter = {};

    struct Call {
        grpc::ClientContext context;
        typename Work::Request request;
        typename Work::Response response;
        grpc::Status status;
        std::unique_ptr<grpc::ClientAsyncResponseReader<typename Work::Response>> reader;
    };

    void begin(Call *call, grpc::CompletionQueue *queue)
    {
        Work::fill_in(&call->request, payload);
        call->reader = Work::start(stub.get(), &call->context, call->request, queue);
        call->reader->Finish(&call->response, &call->status, call);
    }

    void by_queue()
    {
        grpc::CompletionQueue queue;
        for (size_t i = 0; i < depth; i++)
            begin(new Call, &queue);
        void *tag;
        bool ok;
        for (size_t left = depth; left > 0 && queue.Next(&tag, &ok);) {
            std::unique_ptr<Call> call(static_cast<Call *>(tag));
            must(call->status);
            Work::check(call->response);
            completed++;
            if (static_cast<double>(now_ns() - meter.started) / 1e9 < seconds)
                begin(new Call, &queue);
            else
                left--;
        }
    }

    void begin()
    {
        auto *call = new Call;
        Work::fill_in(&call->request, payload);
        Work::start(stub.get(), &call->context, &call->request, &call->response,
                    [this, call](const grpc::Status &status) {
                        must(status);
                        Work::check(call->response);
                        delete call;
                        completed++;
                        if (!stop)
                            begin();
                        else if (--under_way == 0)
                            sem_post(&finished);
                    });
    }

    void by_callback()
    {
        under_way = depth;
        for (size_t i = 0; i < depth; i++)
            begin();
        struct timespec time = {static_cast<time_t>(seconds),
                                static_cast<long>((seconds - static_cast<time_t>(seconds)) * 1e9)};
        nanosleep(&time, nullptr);
        stop = true;
        while (sem_wait(&finished)) {
        }
    }

    void run(bool callback)
    {
        fill(payload, PAYLOAD);
        meter_start(&meter);
        if (callback)
            by_callback();
        else
            by_queue();
        meter_report(&meter, static_cast<double>(completed.load()));
    }
};

} // namespace

int main(int argc, char **argv)
{
    if (argc != 6)
        die("usage", "grpc_async ENDPOINT callback|cq get|write DEPTH SECONDS");
    sem_init(&finished, 0, 0);
    auto channel = grpc::CreateChannel(argv[1], grpc::InsecureChannelCredentials());
    if (!channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(10)))
        die("connect", "nobody answers");
    bool callback = std::string(argv[2]) == "callback";
    size_t depth = static_cast<size_t>(atoll(argv[4]));
    double seconds = atof(argv[5]);
    if (std::string(argv[3]) == "write")
        Bench<Write>{Write::stub(channel), depth, seconds, {}}.run(callback);
    else
        Bench<Get>{Get::stub(channel), depth, seconds, {}}.run(callback);
    return 0;
}
