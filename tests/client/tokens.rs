//! Tokens: where they come from, and where they may go.

use std::{fs, sync::Arc, thread};

use bytes::Bytes;
use flowmesh::client::{
    CallOptions, Client, ClientOptions, Progress, Status, SubscribeOptions, Subscription,
};
use flowmesh_server::access::{Entry, NewToken, Permission, Tokens};

use crate::servers::{event, serve_for};

fn make() -> NewToken {
    NewToken::make(Entry {
        sha256: String::new(),
        tenant: "t".into(),
        namespaces: Default::default(),
        permissions: Permission::ALL.into(),
        created_at: 0,
        expires_at: 0,
    })
    .expect("random bytes")
}

fn open(endpoint: &str, change: impl FnOnce(&mut ClientOptions)) -> Client {
    let mut options = ClientOptions { endpoint: Some(endpoint.into()), ..ClientOptions::default() };
    change(&mut options);
    Client::open(options).expect("opening does no I/O")
}

fn set(client: &Client) -> Result<(), flowmesh::client::Error> {
    let kv = client.kv("t", "n", "k").expect("names");
    client.block_on(async move { kv.set("k", Bytes::from_static(b"v"), 0, &CallOptions::default()).await })
}

#[test]
fn a_token_is_presented_and_an_unknown_one_refused() {
    let token = make();
    let tokens = Arc::new(Tokens::default());
    tokens.replace(vec![token.entry.clone()]);
    let server = serve_for("127.0.0.1:0", Some(tokens), |server| server);
    set(&open(&server, |o| o.auth_token = Some(token.secret.as_str().into()))).expect("it is known");
    for unknown in [Some("fm_nobody".into()), Some("".into())] {
        let error = set(&open(&server, |o| o.auth_token = unknown)).expect_err("it is not");
        assert_eq!(error.status(), Status::UNAUTHENTICATED);
        assert!(!error.to_string().contains("fm_nobody"), "{error}");
    }
}

#[test]
fn a_token_in_a_file_is_renewed_without_a_failed_call() {
    let (old, new) = (make(), make());
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    fs::write(&file, format!("{}\n", old.secret)).expect("written");
    let tokens = Arc::new(Tokens::default());
    tokens.replace(vec![old.entry.clone()]);
    let server = serve_for("127.0.0.1:0", Some(tokens.clone()), |server| server);
    let client = open(&server, |o| o.auth_token_file = Some(file.clone()));
    set(&client).expect("the first one");

    let stream = client.stream("t", "n", "s").expect("names");
    let write = |number| {
        let stream = stream.clone();
        let events = vec![event(number)];
        client.block_on(async move { stream.write(events, &CallOptions::default()).await }).expect("write");
    };
    write(0);
    let options = SubscribeOptions { consumer_group: "g".into(), ..SubscribeOptions::default() };
    let subscription = stream.subscribe(options).expect("subscribe");
    let (sender, seen) = std::sync::mpsc::channel();
    thread::spawn({
        let client = client.clone();
        move || follow(&client, &subscription, &sender)
    });
    seen.recv().expect("the first event");

    fs::write(&file, &new.secret).expect("written");
    tokens.replace(vec![new.entry.clone()]);
    write(1);
    seen.recv().expect("the subscription went on with the next token");
    assert_eq!(client.stats().calls_failed, 0);

    tokens.replace(Vec::new());
    let error = set(&client).expect_err("nobody may call");
    assert_eq!(error.status(), Status::UNAUTHENTICATED);
    assert!(seen.recv().is_err(), "the subscription has ended too");
}

/// Tells of every message, until the subscription ends.
fn follow(client: &Client, subscription: &Subscription, sender: &std::sync::mpsc::Sender<()>) {
    let mut batch = Vec::new();
    loop {
        match client.wait(subscription.next_batch(&mut batch)) {
            Ok(Progress::Messages) => batch.iter().for_each(|_| {
                let _ = sender.send(());
            }),
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.status(), Status::UNAUTHENTICATED, "{error}");
                return;
            }
        }
    }
}
