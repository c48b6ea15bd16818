//! A reply to the client: what a server sends, into HTTP/2, gRPC and the client's calls.
//!
//! A server of the harness's own says on every connection what the input says, and ends its side.
//! Whatever that is, the call must end, by itself and long before its deadline.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use flowmesh::client::{
    CallOptions, Client, ClientOptions, NewJob, Outcome, Queue, Reserve, Result, Status, Stream,
    SubscribeOptions, Timeout,
};
use flowmesh_proto::wire::encode_event;
use tempfile::TempDir;

use crate::{
    frames::{self, Script, Side},
    input::Input,
};

/// No call lasts so long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

struct FakeServer {
    /// What it says.
    script: Mutex<Arc<Script>>,
    endpoint: String,
    _dir: TempDir,
}

static SERVER: LazyLock<FakeServer> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory");
    let socket: PathBuf = dir.path().join("socket");
    let listener = UnixListener::bind(&socket).expect("a unix socket");
    std::thread::spawn(move || {
        for peer in listener.incoming() {
            let script = SERVER.script.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // The client may have ended the connection: its affair.
            let _ = speak(peer.expect("a connection"), &script);
        }
    });
    let script = Script { opening: Vec::new(), rest: Vec::new(), framed: false };
    FakeServer {
        script: Mutex::new(Arc::new(script)),
        endpoint: format!("unix:{}", socket.display()),
        _dir: dir,
    }
});

fn speak(mut peer: UnixStream, script: &Script) -> std::io::Result<()> {
    peer.set_read_timeout(Some(PATIENCE))?;
    peer.set_write_timeout(Some(PATIENCE))?;
    peer.write_all(&script.opening)?;
    if !script.rest.is_empty() {
        await_request(&mut peer)?;
        peer.write_all(&script.rest)?;
    }
    peer.shutdown(Shutdown::Write)?;
    // Closing with bytes unread would take back what was sent.
    let mut rest = [0; 4096];
    while peer.read(&mut rest)? > 0 {}
    Ok(())
}

/// Reads up to the first frame that ends a request.
fn await_request(peer: &mut UnixStream) -> std::io::Result<()> {
    const PREFACE: usize = 24;
    peer.read_exact(&mut [0; PREFACE])?;
    loop {
        let mut head = [0; 9];
        peer.read_exact(&mut head)?;
        let mut body = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        peer.read_exact(&mut body)?;
        let (kind, flags) = (head[3], head[4]);
        if kind <= 1 && flags & 1 != 0 {
            return Ok(());
        }
    }
}

/// The bytes choose a call and describe what the server says to it.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let chosen = input.u8();
    let script = frames::script(input, &Side::Server);
    *SERVER.script.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(script);
    let options = ClientOptions {
        endpoint: Some(SERVER.endpoint.clone()),
        timeout: Some(PATIENCE),
        max_message_bytes: 1 << 20,
        ..ClientOptions::default()
    };
    let client = Client::open(options).expect("an endpoint of a unix socket");
    let begun = Instant::now();
    call(&client, chosen);
    assert!(begun.elapsed() < PATIENCE, "the call ended by its deadline only");
}

fn call(client: &Client, chosen: u8) {
    let stream = client.stream("t", "n", "s").expect("good names");
    let queue = client.queue("t", "n", "q").expect("good names");
    let kv = client.kv("t", "n", "k").expect("good names");
    let options = CallOptions::default();
    match chosen % 20 {
        0 => write(client, stream),
        1 => subscribe(stream),
        2 => drop(client.block_on(async move { queue.reserve(Reserve::default(), &options).await })),
        3 => drop(client.block_on(async move { queue.receive(3, Reserve::default(), &options).await })),
        4 => drop(client.block_on(async move { queue.enqueue(job(), &options).await })),
        5 => drop(client.block_on(async move { queue.ack(ID, &options).await })),
        6 => drop(client.block_on(async move { queue.nack(ID, 0, &options).await })),
        7 => drop(client.block_on(async move { queue.stats(&options).await })),
        8 => drop(client.block_on(async move { queue.retry_policy(&options).await })),
        9 => drop(client.block_on(async move { queue.list_dlq_jobs(3, &options).await })),
        10 => drop(client.block_on(async move { queue.replay_dlq_job(ID, &options).await })),
        11 => drop(client.block_on(async move { stream.read(0, 0, 3, &options).await })),
        12 => drop(client.block_on(async move { stream.latest_offset(0, &options).await })),
        13 => drop(client.block_on(async move { stream.group_state("g", 0, &options).await })),
        14 => drop(client.block_on(async move { kv.get("k", &options).await })),
        15 => drop(client.block_on(async move { kv.list_keys("", &options).await })),
        16 => drop(client.block_on(async move { kv.set("k", Bytes::from_static(b"v"), 0, &options).await })),
        17 => {
            let client2 = client.clone();
            drop(client.block_on(async move { client2.readiness_check(&options).await }));
        }
        18 => read_all(client, stream),
        _ => lease(client, queue),
    }
}

const ID: &str = "00000000000000000000000000000001";

fn job() -> NewJob {
    NewJob { payload: Bytes::from_static(b"job"), ..NewJob::default() }
}

fn write(client: &Client, stream: Stream) {
    let mut event = BytesMut::new();
    encode_event(&mut event, b"event", std::iter::empty());
    let options = CallOptions::default();
    let written = client.block_on(async move { stream.write(vec![event.freeze()], &options).await });
    match written {
        Ok(offsets) => assert_eq!(offsets.len(), 1),
        // The server's word counts: it may say anything.
        Err(e) => assert_ne!(e.status(), Status::OK),
    }
}

fn read_all(client: &Client, stream: Stream) {
    let reader = stream.reader(0, 0, 3).expect("a good place");
    let pages: Result<()> = client.block_on(async move {
        for _ in 0..3 {
            reader.next_page(&CallOptions::default()).await?;
        }
        Ok(())
    });
    drop(pages);
}

/// What a server sends to a subscription is delivered in the order of offsets, or not at all.
fn subscribe(stream: Stream) {
    let soon = Duration::from_millis(1);
    let options = SubscribeOptions {
        consumer_group: "g".into(),
        first_backoff: soon,
        longest_backoff: soon,
        ..SubscribeOptions::default()
    };
    let subscription = stream.subscribe(options).expect("good options");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let mut next = 0;
    for _ in 0..4 {
        let mut batch: Vec<Bytes> = Vec::new();
        let time = Duration::from_millis(5);
        let progress =
            runtime.block_on(async { tokio::time::timeout(time, subscription.next_batch(&mut batch)).await });
        // It goes on for as long as it lives; an error ends it.
        let Ok(Ok(_)) = progress else { break };
        for message in batch {
            let view = flowmesh_proto::wire::MessageView::parse(&message).expect("it was checked");
            assert_eq!(view.offset, next, "a gap or a repeat");
            next += 1;
        }
    }
}

fn lease(client: &Client, queue: Queue) {
    let options = CallOptions { timeout: Timeout::After(PATIENCE / 2), ..CallOptions::default() };
    let reserve = Reserve { visibility_ms: 1000, wait_ms: 1 };
    let reserved = client.block_on(async move { queue.reserve(reserve, &options).await });
    if let Err(e) = reserved {
        assert_ne!(e.outcome(), Outcome::Applied, "a job that nobody got");
    }
}
