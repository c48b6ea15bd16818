//! The server binary from outside: start, summary, stop, exit codes; who may call.

#[path = "../../../tests/client/certificates.rs"]
mod certificates;
#[path = "../../../tests/conformance/encrypted.rs"]
mod encrypted;
mod offline;
mod settings;
mod tls;
mod tokens;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use flowmesh_proto::{
    v1::{
        GetRequest, ReserveRequest, ResourcePath, SetRequest, SubscribeRequest, SubscribeResponse,
        WriteEventsRequest, kv_service_client::KvServiceClient, queue_service_client::QueueServiceClient,
        stream_service_client::StreamServiceClient,
    },
    wire,
};
use tempfile::TempDir;
use tonic::{
    Code, Streaming,
    transport::{Channel, Endpoint},
};

/// Far more than the grace of an orderly stop, for a busy machine.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A server process and its log.
struct Process {
    child: Child,
    log: BufReader<ChildStderr>,
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowmesh-server"));
    command.args(args).env_clear().stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

impl Process {
    fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the binary starts");
        let log = BufReader::new(child.stderr.take().expect("a pipe"));
        Self { child, log }
    }

    fn start(args: &[&str]) -> Self {
        Self::spawn(command(args))
    }

    /// Reads the log up to the line that holds `word`.
    fn line_with(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            if self.log.read_line(&mut line).expect("a log") == 0 {
                panic!("the server ended: {:?}", self.child.wait());
            }
            if line.contains(word) {
                return line;
            }
        }
    }

    /// The line that says where the server listens.
    fn summary(&mut self) -> String {
        self.line_with("listening on ")
    }

    /// Addresses in the summary.
    fn addresses(&mut self) -> Vec<String> {
        let summary = self.summary();
        let rest = summary.split_once("listening on ").expect("the summary").1;
        let end = rest.find(" data_dir=").expect("the data directory follows");
        rest[..end].split(", ").map(String::from).collect()
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(kill.expect("kill").success());
    }

    /// Waits for the end; gives the rest of the log as well.
    fn wait(&mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).expect("a log");
        (self.child.wait().expect("an end"), rest)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails when the process has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the server with arguments that it must refuse; gives the exit code and what it said.
fn refused(args: &[&str]) -> (i32, String) {
    let (status, log) = Process::start(args).wait();
    (status.code().expect("an exit code"), log)
}

/// A pipe that nobody writes to.
fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
}

fn data(dir: &TempDir) -> PathBuf {
    dir.path().join("data")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A server on a TCP port of the system's choice and data in `dir`.
fn start_in(dir: &TempDir) -> Process {
    Process::start(&["--listen", "127.0.0.1:0", "--data-dir", text(&data(dir))])
}

fn resource(kind: &str) -> Option<ResourcePath> {
    let [tenant, namespace, name] = ["t", "n", "x"].map(String::from);
    Some(ResourcePath { tenant, namespace, resource_type: kind.into(), name })
}

async fn connect(address: &str) -> Channel {
    let uri = if address.starts_with("unix:") { address.to_owned() } else { format!("http://{address}") };
    Endpoint::from_shared(uri).expect("a uri").connect().await.expect("a connection")
}

async fn set(channel: &Channel, key: &str) -> Result<(), Code> {
    let (key, value) = (key.into(), Bytes::from_static(b"v"));
    let request = SetRequest { resource_path: resource("kv"), key, value, ttl_seconds: 0 };
    KvServiceClient::new(channel.clone()).set(request).await.map(drop).map_err(|e| e.code())
}

async fn get(channel: &Channel, key: &str) -> Result<Bytes, Code> {
    let request = GetRequest { resource_path: resource("kv"), key: key.into() };
    let reply = KvServiceClient::new(channel.clone()).get(request).await;
    reply.map(|r| r.into_inner().value).map_err(|e| e.code())
}

async fn subscribe(channel: &Channel) -> Streaming<SubscribeResponse> {
    let request = SubscribeRequest {
        resource_path: resource("stream"),
        consumer_group: "g".into(),
        partition: 0,
        start_offset: 0,
    };
    StreamServiceClient::new(channel.clone()).subscribe(request).await.expect("subscribe").into_inner()
}

/// A subscriber that reads nothing: what it was sent fills every buffer on the way, and its call
/// cannot end by itself.
async fn stalled_subscriber(server: &mut Process) -> Streaming<SubscribeResponse> {
    let channel = connect(&server.addresses()[0]).await;
    let mut event = BytesMut::new();
    wire::encode_event(&mut event, &vec![b'x'; 2 << 20], std::iter::empty());
    let event = event.freeze();
    for _ in 0..16 {
        let request = WriteEventsRequest { resource_path: resource("stream"), events: vec![event.clone()] };
        StreamServiceClient::new(channel.clone()).write_events(request).await.expect("write");
    }
    subscribe(&channel).await
}

#[tokio::test]
async fn the_summary_tells_the_addresses_really_bound() {
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", text(&dir.path().join("socket")));
    let listen = ["--listen", "127.0.0.1:0", "--listen", &socket];
    let rest = ["--data-dir", text(&data(&dir)), "--fsync", "interval:20"].map(String::from);
    let args: Vec<&str> = listen.into_iter().chain(rest.iter().map(String::as_str)).collect();
    let mut server = Process::start(&args);
    let addresses = server.addresses();
    assert_eq!(addresses.len(), 2);
    assert!(!addresses[0].ends_with(":0"), "{addresses:?}");
    assert_eq!(addresses[1], socket);
    for address in &addresses {
        let channel = connect(address).await;
        set(&channel, address).await.unwrap();
        assert_eq!(get(&channel, address).await.unwrap(), "v");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_is_there_after_a_stop_and_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = start_in(&dir);
    set(&connect(&server.addresses()[0]).await, "k").await.unwrap();
    server.signal("-TERM");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    let mut server = start_in(&dir);
    let channel = connect(&server.addresses()[0]).await;
    assert_eq!(get(&channel, "k").await.unwrap(), "v");
}

#[tokio::test]
async fn a_signal_stops_in_order_with_subscribers_and_long_polls_connected() {
    for signal in ["-TERM", "-INT"] {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let address = format!("unix:{}", text(&socket));
        let mut server = Process::start(&["--listen", &address, "--data-dir", text(&data(&dir))]);
        server.summary();
        let channel = connect(&address).await;
        let mut subscriptions = Vec::new();
        for _ in 0..50 {
            subscriptions.push(subscribe(&channel).await);
        }
        let path = resource("queue");
        let request =
            ReserveRequest { resource_path: path, long_poll_timeout_seconds: 20, ..Default::default() };
        let mut queues = QueueServiceClient::new(channel.clone());
        let poll = tokio::spawn(async move { queues.reserve(request).await });
        // Calls over the same connection, so that the poll has been sent.
        for _ in 0..3 {
            set(&channel, "k").await.unwrap();
        }

        let told = Instant::now();
        server.signal(signal);
        for subscription in &mut subscriptions {
            assert_eq!(subscription.message().await.unwrap_err().code(), Code::Unavailable);
        }
        assert_eq!(poll.await.unwrap().unwrap_err().code(), Code::Unavailable);
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(told.elapsed() < STOP_LIMIT);
        assert!(!socket.exists());
    }
}

#[tokio::test]
async fn a_stalled_subscriber_does_not_hold_up_the_stop() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = start_in(&dir);
    let _stalled = stalled_subscriber(&mut server).await;
    let told = Instant::now();
    server.signal("-TERM");
    let (status, log) = server.wait();
    assert!(told.elapsed() < STOP_LIMIT);
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("cut"), "{log}");
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = start_in(&dir);
    let _stalled = stalled_subscriber(&mut server).await;
    server.signal("-TERM");
    server.line_with("stopping");
    server.signal("-TERM");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(1));
    assert!(!log.contains("stopped"), "it ended by itself: {log}");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for args in [
        &["--listen", "nonsense"][..],
        &["--fsync", "sometimes"],
        &["--fsync", "interval:0"],
        &["--max-message-bytes", "0"],
        &["--log-level", "loud"],
        &["--no-such-flag"],
        &["argument"],
    ] {
        let (code, log) = refused(args);
        assert_eq!(code, 2, "{args:?}: {log}");
    }
}

#[test]
fn listening_beyond_this_machine_needs_insecure() {
    let dir = tempfile::tempdir().unwrap();
    for address in ["0.0.0.0:0", "[::]:0"] {
        let (code, log) = refused(&["--listen", address, "--data-dir", text(&data(&dir))]);
        assert_eq!(code, 2);
        assert!(log.contains("--insecure") && log.contains(address), "{log}");
    }
    assert!(!data(&dir).exists(), "refused before anything was made");
    let mut server =
        Process::start(&["--listen", "0.0.0.0:0", "--insecure", "--data-dir", text(&data(&dir))]);
    assert!(server.addresses()[0].starts_with("0.0.0.0:"));
}

#[test]
fn an_unusable_data_directory_is_exit_code_3() {
    let dir = tempfile::tempdir().unwrap();
    let refuse = |path: &Path, word: &str| {
        let (code, log) = refused(&["--listen", "127.0.0.1:0", "--data-dir", text(path)]);
        assert_eq!(code, 3, "{log}");
        assert!(log.contains(word) && log.contains(text(path)), "{log}");
    };
    refuse(&dir.path().join("no/parent"), "parent");
    // Where not even root can make a directory.
    refuse(Path::new("/sys/flowmesh-data"), "data directory");
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    refuse(&file, "is a file");

    let mut owner = start_in(&dir);
    owner.summary();
    refuse(&data(&dir), "in use");
    owner.signal("-TERM");
    assert_eq!(owner.wait().0.code(), Some(0));
    fs::write(data(&dir).join("FORMAT"), "flowmesh-data 999\n").unwrap();
    refuse(&data(&dir), "999");
}

#[test]
fn an_address_that_cannot_be_bound_is_exit_code_4() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = dir.path().join("socket");
    let _live = UnixListener::bind(&socket).unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let unix = |path: &Path| format!("unix:{}", text(path));
    for address in [taken.local_addr().unwrap().to_string(), unix(&socket), unix(&file)] {
        let (code, log) = refused(&["--listen", &address, "--data-dir", text(&data(&dir))]);
        assert_eq!(code, 4, "{log}");
        assert!(log.contains(&address), "{log}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

#[tokio::test]
async fn the_socket_file_of_a_dead_server_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let address = format!("unix:{}", text(&socket));
    let mut server = Process::start(&["--listen", &address, "--data-dir", text(&data(&dir))]);
    server.summary();
    set(&connect(&address).await, "k").await.unwrap();
}

#[tokio::test]
async fn flags_win_over_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let socket = |name: &str| format!("unix:{}", text(&dir.path().join(name)));
    let mut both = command(&["--listen", &socket("flag")]);
    both.env("FLOWMESH_LISTEN", socket("environment"));
    both.env("FLOWMESH_DATA_DIR", data(&dir)).env("FLOWMESH_NO_CREATE", "1");
    let mut server = Process::spawn(both);
    assert_eq!(server.addresses(), [socket("flag")]);
    assert!(data(&dir).exists());
    let refused = set(&connect(&socket("flag")).await, "k").await;
    assert_eq!(refused, Err(Code::NotFound), "FLOWMESH_NO_CREATE counts");
}

#[test]
fn several_addresses_in_the_environment_are_separated_by_commas() {
    let dir = tempfile::tempdir().unwrap();
    let socket = |name: &str| format!("unix:{}", text(&dir.path().join(name)));
    let mut command = command(&["--data-dir", text(&data(&dir))]);
    command.env("FLOWMESH_LISTEN", format!("{},{}", socket("a"), socket("b")));
    assert_eq!(Process::spawn(command).addresses(), [socket("a"), socket("b")]);
}

#[test]
fn the_log_can_be_json() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--listen", "127.0.0.1:0", "--log-format", "json", "--data-dir"];
    let mut command = command(&args);
    command.arg(data(&dir));
    let line = Process::spawn(command).summary();
    assert!(line.starts_with('{') && line.trim_end().ends_with('}'), "{line}");
    assert!(line.contains(r#""fsync":"always""#), "{line}");
}

#[test]
fn help_documents_the_exit_codes() {
    let help = command(&["--help"]).stdout(Stdio::piped()).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for word in ["Exit codes", "FLOWMESH_DATA_DIR", "--insecure", "unix:PATH", "FLOWMESH_TLS_CERT"] {
        assert!(help.contains(word), "{word} is not in {help}");
    }
}
