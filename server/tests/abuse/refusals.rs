//! What is said to those who meet a limit, and that others do not.

use std::time::Duration;

use bytes::Bytes;
use flowmesh_proto::{
    v1::{
        CommitOffsetRequest, EnqueueRequest, GetRequest, ReserveRequest, SetRequest, SubscribeRequest,
        SubscribeResponse, WriteEventsRequest, kv_service_client::KvServiceClient,
        queue_service_client::QueueServiceClient, stream_service_client::StreamServiceClient,
    },
    wire,
};
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::{
    frames::Peer,
    neighbour::{channel, resource},
    process::Process,
};

fn is(status: &Status, text: &str) {
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, text));
}

async fn subscribe(channel: &Channel, tenant: &str) -> Result<Streaming<SubscribeResponse>, Status> {
    let request = SubscribeRequest {
        resource_path: resource(tenant, "stream", "x"),
        consumer_group: "g".into(),
        partition: 0,
        start_offset: 0,
    };
    StreamServiceClient::new(channel.clone()).subscribe(request).await.map(tonic::Response::into_inner)
}

async fn reserve(channel: &Channel, tenant: &str, wait: i64) -> Result<(), Status> {
    let request = ReserveRequest {
        resource_path: resource(tenant, "queue", "q"),
        visibility_timeout_seconds: 0,
        long_poll_timeout_seconds: wait,
    };
    QueueServiceClient::new(channel.clone()).reserve(request).await.map(drop)
}

async fn get(channel: &Channel) -> Result<(), Status> {
    let request = GetRequest { resource_path: resource("t", "kv", "k"), key: "k".into() };
    KvServiceClient::new(channel.clone()).get(request).await.map(drop)
}

#[tokio::test]
async fn connections() {
    let server = Process::start(&["--max-connections", "3"]);
    let first = channel(server.address).await;
    assert_eq!(get(&first).await.expect_err("no such key").code(), Code::NotFound);
    let others = [Peer::connect(server.address), Peer::connect(server.address)];
    let refused = get(&channel(server.address).await).await.expect_err("one too many");
    is(&refused, "too many connections: the limit of the server is 3 (--max-connections)");
    // Those over the limit that call nothing are closed, however many.
    let address = server.address;
    let mute = move || {
        let mut peers: Vec<Peer> = (0..100).map(|_| Peer::silent(address)).collect();
        peers.iter_mut().for_each(|peer| _ = peer.end());
    };
    tokio::task::spawn_blocking(mute).await.expect("all are closed");
    assert_eq!(get(&first).await.expect_err("no such key").code(), Code::NotFound);
    drop(others);
    // The server learns of it when it next looks at those sockets.
    loop {
        match get(&channel(server.address).await).await.expect_err("no such key") {
            status if status.code() == Code::NotFound => break,
            status => is(&status, "too many connections: the limit of the server is 3 (--max-connections)"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn subscriptions_of_a_tenant() {
    let server = Process::start(&["--max-subscriptions", "2"]);
    let channel = channel(server.address).await;
    let first = subscribe(&channel, "a").await.expect("one");
    let _second = subscribe(&channel, "a").await.expect("two");
    let text = "the tenant a has too many subscriptions: the limit of the server is 2 (--max-subscriptions)";
    is(&subscribe(&channel, "a").await.expect_err("one too many"), text);
    let _other = subscribe(&channel, "b").await.expect("another tenant");
    drop(first);
    // Ended as soon as the server has read the reset.
    while let Err(status) = subscribe(&channel, "a").await {
        is(&status, text);
    }
}

#[tokio::test]
async fn long_polls_of_a_tenant() {
    let server = Process::start(&["--max-waiters", "1"]);
    let channel = channel(server.address).await;
    let waiting = tokio::spawn({
        let channel = channel.clone();
        // Again, when the other one below comes first.
        async move { while reserve(&channel, "a", 20).await.is_err() {} }
    });
    let text = "the tenant a has too many long polls: the limit of the server is 1 (--max-waiters)";
    // Waits itself, for a second and in vain, when it comes before the other.
    while let Ok(()) = reserve(&channel, "a", 1).await {}
    is(&reserve(&channel, "a", 1).await.expect_err("one too many"), text);
    reserve(&channel, "a", 0).await.expect("one that does not wait");
    reserve(&channel, "b", 1).await.expect("another tenant");
    let enqueue = EnqueueRequest {
        resource_path: resource("a", "queue", "q"),
        payload: Bytes::from_static(b"job"),
        delay_seconds: 0,
        headers: Default::default(),
    };
    QueueServiceClient::new(channel.clone()).enqueue(enqueue).await.expect("a job");
    waiting.await.expect("it gets the job");
    reserve(&channel, "a", 1).await.expect("there is room again");
}

async fn write(channel: &Channel, tenant: &str, name: &str) -> Result<(), Status> {
    let mut event = bytes::BytesMut::new();
    wire::encode_event(&mut event, b"x", std::iter::empty());
    let resource_path = resource(tenant, "stream", name);
    let request = WriteEventsRequest { resource_path, events: vec![event.freeze()] };
    StreamServiceClient::new(channel.clone()).write_events(request).await.map(drop)
}

async fn enqueue(channel: &Channel, tenant: &str, name: &str) -> Result<(), Status> {
    let request = EnqueueRequest {
        resource_path: resource(tenant, "queue", name),
        payload: Bytes::from_static(b"job"),
        delay_seconds: 0,
        headers: Default::default(),
    };
    QueueServiceClient::new(channel.clone()).enqueue(request).await.map(drop)
}

async fn set(channel: &Channel, tenant: &str, name: &str) -> Result<(), Status> {
    let (key, value) = ("k".into(), Bytes::from_static(b"v"));
    let request = SetRequest { resource_path: resource(tenant, "kv", name), key, value, ttl_seconds: 0 };
    KvServiceClient::new(channel.clone()).set(request).await.map(drop)
}

/// As many of each kind as the limit says, for each tenant; also those of before a restart count.
#[tokio::test]
async fn resources_of_a_tenant() {
    let mut server = Process::start(&["--max-resources", "2"]);
    let mut channel = channel(server.address).await;
    for round in 0..2 {
        for name in ["one", "two"] {
            for tenant in ["a", "b"] {
                write(&channel, tenant, name).await.expect("a stream");
                enqueue(&channel, tenant, name).await.expect("a queue");
                set(&channel, tenant, name).await.expect("a store");
            }
        }
        let text = |what| {
            format!("the tenant a has too many {what}: the limit of the server is 2 (--max-resources)")
        };
        is(&write(&channel, "a", "three").await.expect_err("too many"), &text("streams"));
        is(&enqueue(&channel, "a", "three").await.expect_err("too many"), &text("queues"));
        is(&set(&channel, "a", "three").await.expect_err("too many"), &text("KV stores"));
        if round == 0 {
            server.restart();
            channel = crate::neighbour::channel(server.address).await;
        }
    }
}

async fn commit(channel: &Channel, tenant: &str, name: &str, group: &str, offset: i64) -> Result<(), Status> {
    let resource_path = resource(tenant, "stream", name);
    let request = CommitOffsetRequest { resource_path, consumer_group: group.into(), partition: 0, offset };
    StreamServiceClient::new(channel.clone()).commit_offset(request).await.map(drop)
}

/// Each counts once per stream; also those of before a restart do, and one that is forgotten makes room.
#[tokio::test]
async fn consumer_groups_of_a_tenant() {
    let mut server = Process::start(&["--max-groups", "3"]);
    let mut channel = channel(server.address).await;
    for (tenant, name) in [("a", "one"), ("a", "two"), ("b", "one")] {
        write(&channel, tenant, name).await.expect("a stream");
    }
    let text = "the tenant a has too many consumer groups: the limit of the server is 3 (--max-groups)";
    for round in 0..2 {
        for (tenant, name, group) in
            [("a", "one", "g"), ("a", "one", "h"), ("a", "two", "g"), ("b", "one", "g")]
        {
            commit(&channel, tenant, name, group, round).await.expect("a commit");
        }
        is(&commit(&channel, "a", "two", "h", 0).await.expect_err("too many"), text);
        commit(&channel, "a", "two", "g", -1).await.expect("one is forgotten");
        commit(&channel, "a", "two", "h", 0).await.expect("there is room again");
        is(&commit(&channel, "a", "two", "g", 0).await.expect_err("too many"), text);
        commit(&channel, "a", "two", "h", -1).await.expect("as before");
        commit(&channel, "a", "two", "g", 0).await.expect("as before");
        if round == 0 {
            server.restart();
            channel = crate::neighbour::channel(server.address).await;
        }
    }
}
