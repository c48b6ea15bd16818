//! Tokens: where they come from, and where they may go.

use std::{
    fs,
    sync::{
        Arc,
        mpsc::{Receiver, Sender},
    },
    thread,
    time::Duration,
};

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
    let next_but_connections = || loop {
        match next(&seen) {
            Seen::Connected => {}
            other => break other,
        }
    };
    assert_eq!(next_but_connections(), Seen::Message, "the first event");

    fs::write(&file, &new.secret).expect("written");
    tokens.replace(vec![new.entry.clone()]);
    write(1);
    while let Seen::Lost(_) = next_but_connections() {}
    // That was the message: the subscription went on with the next token.
    assert_eq!(client.stats().calls_failed, 0);

    // The server is told before the file is: what waits goes on waiting.
    let last = make();
    tokens.replace(vec![last.entry.clone()]);
    let error = set(&client).expect_err("nobody may call");
    assert_eq!(error.status(), Status::UNAUTHENTICATED);
    assert_eq!(next_but_connections(), Seen::Lost(Status::UNAUTHENTICATED));
    fs::remove_file(&file).expect("removed");
    // It may know by now that its token is refused, or find out with this call.
    let error = set(&client).expect_err("no token");
    assert!([Status::FAILED_PRECONDITION, Status::UNAUTHENTICATED].contains(&error.status()), "{error}");
    assert!(error.message().contains("cannot be read"), "{error}");
    while next_but_connections() != Seen::Lost(Status::FAILED_PRECONDITION) {}
    fs::write(&file, &last.secret).expect("written");
    write(2);
    while let Seen::Lost(_) = next_but_connections() {}
}

#[test]
fn a_refused_call_tells_why_the_file_has_no_other_token() {
    let token = make();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    fs::write(&file, &token.secret).expect("written");
    let tokens = Arc::new(Tokens::default());
    tokens.replace(vec![token.entry.clone()]);
    let server = serve_for("127.0.0.1:0", Some(tokens.clone()), |server| server);
    let client = open(&server, |o| o.auth_token_file = Some(file.clone()));
    set(&client).expect("it is known");
    tokens.replace(Vec::new());
    fs::write(&file, "").expect("written");
    let error = set(&client).expect_err("it was revoked");
    assert_eq!(error.status(), Status::UNAUTHENTICATED);
    assert!(error.message().contains("must hold a token, and is empty"), "{error}");
}

#[test]
fn a_subscription_whose_only_token_is_revoked_ends() {
    let token = make();
    let tokens = Arc::new(Tokens::default());
    tokens.replace(vec![token.entry.clone()]);
    let server = serve_for("127.0.0.1:0", Some(tokens.clone()), |server| server);
    let client = open(&server, |o| o.auth_token = Some(token.secret.as_str().into()));
    let stream = client.stream("t", "n", "s").expect("names");
    let subscription = stream
        .subscribe(SubscribeOptions { consumer_group: "g".into(), ..Default::default() })
        .expect("subscribe");
    let (sender, seen) = std::sync::mpsc::channel();
    thread::spawn(move || follow(&client, &subscription, &sender));
    assert_eq!(next(&seen), Seen::Connected);
    tokens.replace(Vec::new());
    assert_eq!(next(&seen), Seen::Ended(Status::UNAUTHENTICATED));
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Connected,
    Message,
    Lost(Status),
    Ended(Status),
}

/// What a subscription tells next.
fn next(seen: &Receiver<Seen>) -> Seen {
    seen.recv_timeout(Duration::from_secs(60)).expect("the subscription tells something")
}

/// Tells of every message, of losses and of the end.
fn follow(client: &Client, subscription: &Subscription, sender: &Sender<Seen>) {
    let mut batch = Vec::new();
    loop {
        let told = match client.wait(subscription.next_batch(&mut batch)) {
            Ok(Progress::Messages) => batch.iter().try_for_each(|_| sender.send(Seen::Message)),
            Ok(Progress::Lost(error)) => sender.send(Seen::Lost(error.status())),
            Ok(Progress::Connected(_)) => sender.send(Seen::Connected),
            Ok(_) => Ok(()),
            Err(error) => {
                let _ = sender.send(Seen::Ended(error.status()));
                return;
            }
        };
        if told.is_err() {
            return;
        }
    }
}
