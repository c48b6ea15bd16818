//! Shutting the library down and using it again. One test: it concerns the whole process.

use std::{
    net::TcpListener,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use flowmesh::{
    client::{CallOptions, Client, ClientOptions, Progress, Result, Status, SubscribeOptions, Timeout},
    runtime,
};

fn open(endpoint: &str) -> Client {
    Client::open(ClientOptions { endpoint: Some(endpoint.into()), ..ClientOptions::default() }).expect("open")
}

fn set(client: &Client) -> Result<()> {
    let kv = client.kv("t", "n", "k")?;
    client.block_on(async move { kv.set("k", Bytes::from_static(b"v"), 0, &CallOptions::default()).await })
}

#[test]
fn shutdown_closes_what_is_open_and_what_comes_later_starts_anew() {
    // Accepts and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("bind");
    let endpoint = silent.local_addr().expect("address").to_string();
    let dir = tempfile::tempdir().expect("directory");
    let stored = format!("embedded:{}", dir.path().join("data").display());

    let long = Duration::from_secs(20);
    for patience in [long, long, Duration::ZERO, Duration::ZERO] {
        let (remote, embedded) = (open(&endpoint), open(&stored));
        set(&embedded).expect("set");
        let (sender, ended) = mpsc::channel();
        for _ in 0..2 {
            let (client, sender) = (remote.clone(), sender.clone());
            thread::spawn(move || sender.send(set(&client).expect_err("nobody answers").status()));
        }
        let stream = embedded.stream("t", "n", "s").expect("names");
        let options = SubscribeOptions { consumer_group: "g".into(), ..SubscribeOptions::default() };
        let subscription = stream.subscribe(options).expect("subscribe");
        let mut batch = Vec::new();
        let connected = embedded.wait(subscription.next_batch(&mut batch));
        assert_eq!(connected, Ok(Progress::Connected(0)));
        let consumer = thread::spawn({
            let client = embedded.clone();
            // The loss of the engine may come before the end.
            move || loop {
                match client.wait(subscription.next_batch(&mut Vec::new())) {
                    Ok(progress) => assert!(matches!(progress, Progress::Lost(_))),
                    Err(e) => return e.status(),
                }
            }
        });
        // Both calls have connected, so they wait for the answer.
        let _connection = silent.accept().expect("the client connects");

        let task = runtime::spawn(std::future::pending::<()>()).expect("spawn");
        let start = Instant::now();
        match runtime::shutdown(Timeout::After(patience)) {
            Ok(()) => assert!(task.is_finished(), "tasks end with the runtime"),
            Err(e) => assert_eq!((e.status(), patience), (Status::DEADLINE_EXCEEDED, Duration::ZERO)),
        }
        assert!(start.elapsed() < long);
        // Also after a shutdown that was out of time, everything comes to its end.
        for _ in 0..2 {
            assert_eq!(ended.recv_timeout(long), Ok(Status::CLOSED));
        }
        assert_eq!(consumer.join().expect("the consumer ends"), Status::CLOSED);
        while !task.is_finished() {
            assert!(start.elapsed() < 2 * long);
            thread::yield_now();
        }
        assert_eq!(set(&remote).expect_err("shut down").status(), Status::CLOSED);
        assert_eq!(set(&embedded).expect_err("shut down").status(), Status::CLOSED);
    }
    runtime::shutdown(Timeout::Never).expect("nothing is open");
}
