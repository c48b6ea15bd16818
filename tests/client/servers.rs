//! The client against our own server on sockets.

use std::{sync::Arc, thread};

use bytes::{Bytes, BytesMut};
use flowmesh::client::{CallOptions, Progress, SubscribeOptions};
use flowmesh_proto::wire::encode_event;
use flowmesh_server::{
    Engine, EngineOptions,
    access::Authority,
    limits::Limits,
    net::{Address, Server},
};

use crate::open;

/// A server over memory at an address of the system's choice; it runs until the test ends.
pub fn serve(address: &str) -> String {
    serve_for(address, None, |server| server)
}

/// The same for the callers that `authority` knows, with what `change` makes of the server. It has
/// a runtime when it is called.
pub fn serve_for(
    address: &str,
    authority: Option<Arc<dyn Authority>>,
    change: impl FnOnce(Server) -> Server + Send + 'static,
) -> String {
    let (sender, bound) = std::sync::mpsc::channel();
    let address: Address = address.parse().expect("address");
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("runtime");
        runtime.block_on(async move {
            let engine = Engine::open(&EngineOptions::memory()).expect("engine");
            let server = change(Server::bind(&[address]).await.expect("bind"));
            let address = server.addresses().next().expect("an address").to_string();
            sender.send(address).expect("the test waits");
            server.serve(engine, Limits::default(), authority, std::future::pending()).await
        })
    });
    bound.recv().expect("the server starts")
}

/// An event of 512 bytes.
pub fn event(number: usize) -> Bytes {
    let mut wire = BytesMut::new();
    encode_event(&mut wire, &number.to_le_bytes().repeat(64), std::iter::empty());
    wire.freeze()
}

#[test]
fn a_unix_socket_serves_like_tcp() {
    let dir = tempfile::tempdir().expect("directory");
    let server = serve(&format!("unix:{}", dir.path().join("fm.sock").display()));
    let client = open(&server);
    let kv = client.kv("t", "n", "k").expect("names");
    let value = client.block_on(async move {
        let o = CallOptions::default();
        kv.set("k", Bytes::from_static(b"v"), 0, &o).await?;
        kv.get("k", &o).await
    });
    assert_eq!(value.expect("set and get").as_ref(), b"v");
}

#[test]
fn a_caller_and_a_subscription_get_along() {
    let client = open(&serve("127.0.0.1:0"));
    let stream = client.stream("t", "n", "s").expect("names");
    let options = SubscribeOptions { consumer_group: "g".into(), ..SubscribeOptions::default() };
    let subscription = stream.subscribe(options).expect("subscribe");
    let reader = thread::spawn({
        let client = client.clone();
        move || {
            let (mut seen, mut batch) = (0, Vec::new());
            while seen < 200 {
                if client.wait(subscription.next_batch(&mut batch)).expect("it goes on") == Progress::Messages
                {
                    seen += batch.len();
                }
            }
        }
    });
    for i in 0..200 {
        let stream = stream.clone();
        client
            .block_on(async move { stream.write(vec![event(i)], &CallOptions::default()).await })
            .expect("write");
    }
    reader.join().expect("every message arrives");
}
