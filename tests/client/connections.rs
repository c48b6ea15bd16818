//! How calls share connections, and what becomes of them when a connection ends.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use flowmesh::client::{
    CallOptions, CancelToken, Client, NewJob, Outcome, Progress, Result, Status, SubscribeOptions,
};
use flowmesh_proto::{
    v1,
    wire::{EventView, MessageHead, SubscribeResponse, encode_message},
};
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use prost::Message;
use tokio::{net::TcpStream, sync::Semaphore};

type Connection = h2::server::Connection<TcpStream, Bytes>;
type Call = (Request<RecvStream>, SendResponse<Bytes>);

/// Accepts connections and runs `script` on each, with how many came before.
fn serve<F>(script: impl Fn(usize, TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.set_nonblocking(true).expect("non-blocking");
    let address = listener.local_addr().expect("address");
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("listener");
            for number in 0.. {
                let (socket, _) = listener.accept().await.expect("accept");
                socket.set_nodelay(true).expect("nodelay");
                tokio::spawn(script(number, socket));
            }
        });
    });
    address
}

/// A connection of a server that takes `most` calls at once.
async fn handshake(socket: TcpStream, most: u32) -> Connection {
    h2::server::Builder::new().max_concurrent_streams(most).handshake(socket).await.expect("a client")
}

/// Runs `answer` for every call until the connection ends.
async fn each_call<F>(mut connection: Connection, answer: impl Fn(Call) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    while let Some(Ok(call)) = connection.accept().await {
        tokio::spawn(answer(call));
    }
}

/// The reply's head, and its body to come.
fn head(respond: &mut SendResponse<Bytes>) -> SendStream<Bytes> {
    let head = Response::builder().header("content-type", "application/grpc").body(()).expect("head");
    respond.send_response(head, false).expect("head")
}

fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("small"));
    frame.put_slice(message);
    frame.freeze()
}

fn reply(respond: &mut SendResponse<Bytes>, message: &impl Message) {
    let mut body = head(respond);
    body.send_data(frame(&message.encode_to_vec()), false).expect("data");
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    body.send_trailers(trailers).expect("trailers");
}

/// Reads a request to its end; how many bytes it had.
async fn body(request: Request<RecvStream>) -> usize {
    let (mut body, mut size) = (request.into_body(), 0);
    while let Some(Ok(chunk)) = body.data().await {
        size += chunk.len();
        body.flow_control().release_capacity(chunk.len()).expect("it was received");
    }
    size
}

fn client(address: SocketAddr) -> Client {
    crate::open(&address.to_string())
}

/// A call that may be repeated.
fn exists(client: &Client) -> impl Future<Output = Result<bool>> + Send + 'static {
    let kv = client.kv("t", "n", "s").expect("names");
    async move { kv.exists("k", &CallOptions::default()).await }
}

/// A call that must not be repeated.
fn enqueue(client: &Client, options: CallOptions) -> impl Future<Output = Result<String>> + Send + 'static {
    let queue = client.queue("t", "n", "q").expect("names");
    let job = NewJob { payload: Bytes::from_static(b"work"), ..NewJob::default() };
    async move { queue.enqueue(job, &options).await.map(|job| job.job_id) }
}

fn found() -> v1::ExistsResponse {
    v1::ExistsResponse { exists: true, ..Default::default() }
}

fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "it never came to pass");
        thread::yield_now();
    }
}

#[test]
fn a_server_that_goes_away_answers_what_it_has_and_gets_nothing_more() {
    let (came, release) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let address = serve({
        let (came, release) = (came.clone(), release.clone());
        move |number, socket| {
            let (came, release) = (came.clone(), release.clone());
            async move {
                let mut connection = handshake(socket, 100).await;
                let mut held = None;
                if number == 0 {
                    held = connection.accept().await.map(|call| call.expect("a call"));
                    came.fetch_add(1, Ordering::SeqCst);
                    connection.graceful_shutdown();
                }
                tokio::spawn(async move {
                    if let Some((_, mut respond)) = held {
                        release.acquire().await.expect("open").forget();
                        reply(
                            &mut respond,
                            &v1::EnqueueResponse { job_id: "held".into(), ..Default::default() },
                        );
                    }
                });
                each_call(connection, move |(_, mut respond)| async move {
                    reply(&mut respond, &v1::ExistsResponse { exists: number == 1, ..Default::default() });
                })
                .await;
            }
        }
    });
    let client = client(address);
    let held = thread::spawn({
        let client = client.clone();
        move || client.block_on(enqueue(&client, CallOptions::default()))
    });
    eventually(|| came.load(Ordering::SeqCst) == 1);
    // Those that come before the server's word are still answered by the old connection.
    eventually(|| client.block_on(exists(&client)).expect("every call is answered"));
    release.add_permits(1);
    assert_eq!(held.join().expect("no panic").as_deref(), Ok("held"));
    assert_eq!(client.stats().connections_made, 2);
}

#[test]
fn what_the_server_refuses_is_sent_again() {
    for (refusals, expected) in [(2, Ok("done")), (usize::MAX, Err(Outcome::NotApplied))] {
        let calls = Arc::new(AtomicUsize::new(0));
        let address = serve({
            let calls = calls.clone();
            move |_, socket| {
                let calls = calls.clone();
                async move {
                    each_call(handshake(socket, 100).await, move |(_, mut respond)| {
                        let refuse = calls.fetch_add(1, Ordering::SeqCst) < refusals;
                        async move {
                            if refuse {
                                respond.send_reset(Reason::REFUSED_STREAM);
                            } else {
                                let done =
                                    v1::EnqueueResponse { job_id: "done".into(), ..Default::default() };
                                reply(&mut respond, &done);
                            }
                        }
                    })
                    .await;
                }
            }
        });
        let client = client(address);
        let result = client.block_on(enqueue(&client, CallOptions::default()));
        assert_eq!(result.as_deref().map_err(|e| e.outcome()), expected);
        assert_eq!(calls.load(Ordering::SeqCst), if expected.is_ok() { 3 } else { 4 });
    }
}

#[test]
fn a_connection_that_was_lost_while_idle_costs_no_call() {
    let end = Arc::new(Semaphore::new(0));
    let address = serve({
        let end = end.clone();
        move |number, socket| {
            let end = end.clone();
            async move {
                let mut connection = handshake(socket, 100).await;
                let (_, mut respond) = connection.accept().await.expect("a call").expect("a call");
                let done = v1::EnqueueResponse { job_id: number.to_string(), ..Default::default() };
                reply(&mut respond, &done);
                tokio::select! {
                    _ = connection.accept() => {}
                    permit = end.acquire() => permit.expect("open").forget(),
                }
            }
        }
    });
    let client = client(address);
    for number in 0..20u64 {
        let id = client.block_on(enqueue(&client, CallOptions::default()));
        assert_eq!(id, Ok(number.to_string()));
        end.add_permits(1);
        eventually(|| client.stats().connections_lost > number);
    }
}

#[test]
fn calls_wait_for_a_place_in_turn_and_share_one_connection() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let connections = Arc::new(AtomicUsize::new(0));
    let address = serve({
        let (most, connections) = (most.clone(), connections.clone());
        move |_, socket| {
            connections.fetch_add(1, Ordering::SeqCst);
            let (running, most) = (running.clone(), most.clone());
            async move {
                each_call(handshake(socket, 3).await, move |(request, mut respond)| {
                    let (running, most) = (running.clone(), most.clone());
                    async move {
                        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        body(request).await;
                        tokio::task::yield_now().await;
                        running.fetch_sub(1, Ordering::SeqCst);
                        reply(&mut respond, &found());
                    }
                })
                .await;
            }
        }
    });
    let client = client(address);
    let all = futures_util::future::join_all((0..100).map(|_| exists(&client)));
    let found = client.block_on(async move { Ok(all.await) }).expect("they run");
    assert!(found.iter().all(|found| *found == Ok(true)), "{found:?}");
    assert_eq!(most.load(Ordering::SeqCst), 3);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[test]
fn subscriptions_take_further_connections_and_leave_the_calls_theirs() {
    let open = Arc::new(AtomicUsize::new(0));
    let address = serve({
        let open = open.clone();
        move |_, socket| {
            let open = open.clone();
            async move {
                open.fetch_add(1, Ordering::SeqCst);
                each_call(handshake(socket, 2).await, |(request, mut respond)| async move {
                    if request.uri().path().ends_with("/Subscribe") {
                        let mut body = head(&mut respond);
                        let _ = poll_fn(|cx| body.poll_reset(cx)).await;
                    } else {
                        reply(&mut respond, &found());
                    }
                })
                .await;
                open.fetch_sub(1, Ordering::SeqCst);
            }
        }
    });
    let client = client(address);
    let mut subscriptions = Vec::new();
    for _ in 0..6 {
        let options =
            SubscribeOptions { consumer_group: "g".into(), start_offset: 0, ..SubscribeOptions::default() };
        let stream = client.stream("t", "n", "s").expect("names");
        let subscription = stream.subscribe(options).expect("subscribe");
        let progress = client.wait(subscription.next_batch(&mut Vec::new()));
        assert_eq!(progress, Ok(Progress::Connected(0)));
        subscriptions.push(subscription);
    }
    assert_eq!(open.load(Ordering::SeqCst), 3);
    for _ in 0..4 {
        assert_eq!(client.block_on(exists(&client)), Ok(true));
    }
    assert_eq!(open.load(Ordering::SeqCst), 4);
    // One connection stays for the next subscription.
    drop(subscriptions);
    eventually(|| open.load(Ordering::SeqCst) == 2);
}

#[test]
fn a_connect_that_fails_fails_for_all_who_wait_and_is_forgotten() {
    let (connections, all_wait) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let address = serve({
        let (connections, all_wait) = (connections.clone(), all_wait.clone());
        move |number, socket| {
            connections.fetch_add(1, Ordering::SeqCst);
            let all_wait = all_wait.clone();
            async move {
                if number == 0 {
                    all_wait.acquire().await.expect("open").forget();
                    drop(socket);
                } else {
                    each_call(handshake(socket, 100).await, |(_, mut respond)| async move {
                        reply(&mut respond, &found());
                    })
                    .await;
                }
            }
        }
    });
    let client = client(address);
    let all = futures_util::future::join_all((0..8).map(|_| enqueue(&client, CallOptions::default())));
    let all = async move {
        // Polled after all of them, and each has then asked for a connection.
        let (results, ()) = futures_util::future::join(all, async { all_wait.add_permits(1) }).await;
        Ok(results)
    };
    for result in client.block_on(all).expect("they run") {
        let error = result.expect_err("no connection");
        assert_eq!((error.status(), error.outcome()), (Status::UNAVAILABLE, Outcome::NotApplied), "{error}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    assert_eq!(client.block_on(exists(&client)), Ok(true));
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[test]
fn a_request_larger_than_every_window_arrives_whole() {
    let size = Arc::new(AtomicUsize::new(0));
    let address = serve({
        let size = size.clone();
        move |_, socket| {
            let size = size.clone();
            async move {
                let connection: Connection = h2::server::Builder::new()
                    .initial_window_size(1000)
                    .handshake(socket)
                    .await
                    .expect("a client");
                each_call(connection, move |(request, mut respond)| {
                    let size = size.clone();
                    async move {
                        size.store(body(request).await, Ordering::SeqCst);
                        reply(&mut respond, &v1::SetResponse::default());
                    }
                })
                .await;
            }
        }
    });
    let client = client(address);
    let kv = client.kv("t", "n", "s").expect("names");
    let value = Bytes::from(vec![7; 300_000]);
    let set = async move { kv.set("k", value, 0, &CallOptions::default()).await };
    client.block_on(set).expect("it is stored");
    assert!(size.load(Ordering::SeqCst) > 300_000);
}

#[test]
fn a_call_that_is_given_up_is_reset_on_the_wire() {
    let (came, reset) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let address = serve({
        let (came, reset) = (came.clone(), reset.clone());
        move |_, socket| {
            let (came, reset) = (came.clone(), reset.clone());
            async move {
                each_call(handshake(socket, 100).await, move |(_, mut respond)| {
                    came.fetch_add(1, Ordering::SeqCst);
                    let reset = reset.clone();
                    async move {
                        if let Ok(Reason::CANCEL) = poll_fn(|cx| respond.poll_reset(cx)).await {
                            reset.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                })
                .await;
            }
        }
    });
    let client = client(address);
    let token = CancelToken::new();
    let options = CallOptions { cancel: Some(token.clone()), ..CallOptions::default() };
    let calling = thread::spawn({
        let client = client.clone();
        move || client.block_on(enqueue(&client, options))
    });
    eventually(|| came.load(Ordering::SeqCst) == 1);
    token.cancel();
    let error = calling.join().expect("no panic").expect_err("cancelled");
    assert_eq!((error.status(), error.outcome()), (Status::CANCELLED, Outcome::Unknown));
    eventually(|| reset.load(Ordering::SeqCst) == 1);
}

/// Each message in a frame of its own, and nobody who reads them: libraries take that for an attack.
#[test]
fn a_slow_consumer_of_small_frames_keeps_its_connection() {
    const MESSAGES: i64 = 60_000;
    let sent = Arc::new(AtomicUsize::new(0));
    let address = serve({
        let sent = sent.clone();
        move |_, socket| {
            let sent = sent.clone();
            async move {
                each_call(handshake(socket, 100).await, move |(_, mut respond)| {
                    let sent = sent.clone();
                    async move {
                        let mut body = head(&mut respond);
                        for offset in 0..MESSAGES {
                            let message = frame(&small_message(offset));
                            body.reserve_capacity(message.len());
                            while body.capacity() < message.len() {
                                let Some(Ok(_)) = poll_fn(|cx| body.poll_capacity(cx)).await else { return };
                            }
                            if body.send_data(message, false).is_err() {
                                return;
                            }
                            sent.fetch_add(1, Ordering::SeqCst);
                            if offset % 64 == 0 {
                                tokio::task::yield_now().await;
                            }
                        }
                        let _ = poll_fn(|cx| body.poll_reset(cx)).await;
                    }
                })
                .await;
            }
        }
    });
    let client = client(address);
    let options = SubscribeOptions { consumer_group: "g".into(), start_offset: 0, ..Default::default() };
    let subscription = client.stream("t", "n", "s").and_then(|s| s.subscribe(options)).expect("subscribe");
    let mut batch = Vec::new();
    let connected = client.wait(subscription.next_batch(&mut batch));
    assert_eq!(connected, Ok(Progress::Connected(0)));
    // Everything that fits into the window lies there unread.
    let unread = (3 << 20) / frame(&small_message(0)).len();
    eventually(|| sent.load(Ordering::SeqCst) > unread.min(MESSAGES as usize - 1));
    let mut received = 0;
    while received < MESSAGES {
        match client.wait(subscription.next_batch(&mut batch)) {
            Ok(Progress::Messages) => received += i64::try_from(batch.len()).expect("small"),
            other => panic!("after {received} messages: {other:?}"),
        }
    }
}

fn small_message(offset: i64) -> Vec<u8> {
    let head =
        MessageHead { id: "m", resource_path: "t/n/stream/s", offset, created_at: 1, schema_version: 0 };
    let mut wire = BytesMut::new();
    encode_message(&mut wire, &head, &EventView::parse(&[0x0a, 1, b'x']).expect("an event"));
    SubscribeResponse { message: Some(wire.freeze()), status: None }.encode_to_vec()
}
