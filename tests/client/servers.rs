//! The client against our own server on sockets, with connections that break.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use bytes::{Bytes, BytesMut};
use flowmesh::client::{CallOptions, Progress, SubscribeOptions};
use flowmesh_proto::wire::{MessageView, encode_event};
use flowmesh_server::{
    Engine, EngineOptions,
    net::{Address, Server},
    services::DEFAULT_MAX_MESSAGE_BYTES,
};

use crate::open;

/// A server over memory at an address of the system's choice; it runs until the test ends.
fn serve(address: &str) -> String {
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
            let server = Server::bind(&[address]).await.expect("bind");
            let address = server.addresses().next().expect("an address").to_string();
            sender.send(address).expect("the test waits");
            server.serve(engine, DEFAULT_MAX_MESSAGE_BYTES, std::future::pending()).await
        })
    });
    bound.recv().expect("the server starts")
}

/// Passes bytes on, and cuts all its connections when told to.
struct Proxy {
    address: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let open = Arc::new(Mutex::new(Vec::new()));
        let connections = open.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(&target).expect("the server listens");
                let mut open = connections.lock().expect("connections");
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (mut from, mut to) =
                        (from.try_clone().expect("clone"), to.try_clone().expect("clone"));
                    open.push(to.try_clone().expect("clone"));
                    thread::spawn(move || {
                        let mut buffer = [0; 4096];
                        while let Ok(n @ 1..) = from.read(&mut buffer) {
                            if to.write_all(&buffer[..n]).is_err() {
                                break;
                            }
                        }
                        // Either side may have closed already.
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { address, open }
    }

    fn cut(&self) {
        for connection in self.open.lock().expect("connections").drain(..) {
            // It may have closed already.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn event(number: usize) -> Bytes {
    let mut wire = BytesMut::new();
    encode_event(&mut wire, &number.to_le_bytes().repeat(64), std::iter::empty());
    wire.freeze()
}

#[test]
fn a_subscription_over_cut_connections_has_no_gap_and_no_repeat() {
    // Three windows of the subscription: the server cannot have sent everything before a cut.
    const COUNT: i64 = 20_000;
    let server = serve("127.0.0.1:0");
    let writer = open(&server).stream("t", "n", "s").expect("names");
    let written = writer.client().block_on({
        let writer = writer.clone();
        async move {
            for batch in 0..COUNT as usize / 100 {
                let events = (batch * 100..batch * 100 + 100).map(event).collect();
                writer.write(events, &CallOptions::default()).await?;
            }
            Ok(())
        }
    });
    written.expect("write");

    let proxy = Proxy::start(server);
    let stream = open(&proxy.address.to_string()).stream("t", "n", "s").expect("names");
    let options = SubscribeOptions {
        consumer_group: "g".into(),
        start_offset: 0,
        batch_messages: 50,
        ..SubscribeOptions::default()
    };
    let mut subscription = stream.subscribe(options).expect("subscribe");
    let (mut next, mut lost, mut batch) = (0, 0, Vec::new());
    let cuts: BTreeSet<_> = [1000, 2000, 3000].into();
    while next < COUNT {
        match stream.client().wait(subscription.next_batch(&mut batch)).expect("it goes on") {
            Progress::Messages => {
                for message in &batch {
                    let view = MessageView::parse(message).expect("a message");
                    assert_eq!(view.offset, next);
                    next += 1;
                    if cuts.contains(&next) {
                        proxy.cut();
                    }
                }
            }
            Progress::Connected(from) => assert_eq!(from, next),
            Progress::Lost(_) => lost += 1,
        }
    }
    assert!(lost >= 1, "the cuts were noticed");
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
    let mut subscription = stream.subscribe(options).expect("subscribe");
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
