//! Who may call: the token file from outside, over the wire.

use flowmesh_proto::v1::{
    EnqueueRequest, HealthCheckRequest, ReadStreamRequest, health_service_client::HealthServiceClient,
};
use tonic::{Request, Status, metadata::MetadataValue};

use super::*;

/// Permissions in the file's words.
const ALL: [&str; 6] = ["kv.read", "kv.write", "queue.read", "queue.write", "stream.read", "stream.write"];

/// Makes a token by the command that operators use: the secret and its entry.
fn make(tenant: &str, permissions: &[&str], more: &[&str]) -> (String, String) {
    let mut command = command(&["token", "new", "--tenant", tenant, "--permission"]);
    let out = command.args(permissions).args(more).stdout(Stdio::piped()).output().expect("the binary runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    let secret = text.split_whitespace().find(|word| word.starts_with("fm_")).expect("a token").to_owned();
    let entry = text.split_once("[[token]]").expect("an entry").1;
    assert!(!entry.contains(&secret));
    (secret, format!("[[token]]{entry}"))
}

/// A server that knows the callers of `entries`, and the file that lists them.
fn start_for(dir: &TempDir, entries: &str) -> (Process, PathBuf) {
    let file = dir.path().join("tokens.toml");
    fs::write(&file, entries).expect("the file is written");
    let data = data(dir);
    let args = ["--listen", "127.0.0.1:0", "--data-dir", text(&data), "--tokens", text(&file)];
    (Process::start(&args), file)
}

/// Puts other entries into the file, at once.
fn replace(file: &Path, entries: &str) {
    let next = file.with_extension("next");
    fs::write(&next, entries).expect("a file beside it is written");
    fs::rename(&next, file).expect("it is put in place");
}

fn with<M>(token: &str, message: M) -> Request<M> {
    with_header(&format!("Bearer {token}"), message)
}

fn with_header<M>(value: &str, message: M) -> Request<M> {
    let mut request = Request::new(message);
    let value: MetadataValue<_> = value.parse().expect("ASCII");
    request.metadata_mut().insert("authorization", value);
    request
}

fn in_namespace(tenant: &str, namespace: &str, kind: &str) -> Option<ResourcePath> {
    let [tenant, namespace, name, resource_type] = [tenant, namespace, "x", kind].map(String::from);
    Some(ResourcePath { tenant, namespace, resource_type, name })
}

fn value_of(tenant: &str, namespace: &str) -> SetRequest {
    let (key, value) = ("k".into(), Bytes::from_static(b"v"));
    SetRequest { resource_path: in_namespace(tenant, namespace, "kv"), key, value, ttl_seconds: 0 }
}

fn following() -> SubscribeRequest {
    let (consumer_group, partition, start_offset) = ("g".into(), 0, 0);
    SubscribeRequest { resource_path: resource("stream"), consumer_group, partition, start_offset }
}

fn waiting() -> ReserveRequest {
    ReserveRequest {
        resource_path: resource("queue"),
        visibility_timeout_seconds: 30,
        long_poll_timeout_seconds: 20,
    }
}

fn code<T>(result: Result<T, Status>) -> Code {
    result.map_or_else(|e| e.code(), |_| Code::Ok)
}

#[tokio::test]
async fn only_listed_tokens_may_call_and_anybody_may_ask_for_health() {
    let dir = tempfile::tempdir().unwrap();
    let (secret, entry) = make("t", &ALL, &[]);
    let (mut server, _) = start_for(&dir, &entry);
    let channel = connect(&server.addresses()[0]).await;
    let mut kv = KvServiceClient::new(channel.clone());
    assert_eq!(code(kv.set(with(&secret, value_of("t", "n"))).await), Code::Ok);
    for header in [
        String::new(),
        "Bearer ".into(),
        "Bearer nobody".into(),
        secret.clone(),
        format!("bearer {secret}"),
        format!("Bearer  {secret}"),
        format!("Basic {secret}"),
    ] {
        let refused = code(kv.set(with_header(&header, value_of("t", "n"))).await);
        assert_eq!(refused, Code::Unauthenticated, "{header:?}");
    }
    assert_eq!(code(kv.set(value_of("t", "n")).await), Code::Unauthenticated);
    let mut streams = StreamServiceClient::new(channel.clone());
    assert_eq!(code(streams.subscribe(following()).await), Code::Unauthenticated);
    let mut health = HealthServiceClient::new(channel.clone());
    assert_eq!(code(health.health_check(HealthCheckRequest {}).await), Code::Ok);
}

#[tokio::test]
async fn a_token_reaches_its_tenant_and_namespaces_only() {
    let dir = tempfile::tempdir().unwrap();
    let (one, first) = make("t", &ALL, &["--namespace", "n", "--namespace", "m"]);
    let (all, second) = make("t", &ALL, &[]);
    let (mut server, _) = start_for(&dir, &format!("{first}\n{second}"));
    let mut kv = KvServiceClient::new(connect(&server.addresses()[0]).await);
    for (token, tenant, namespace, expected) in [
        (&one, "t", "n", Code::Ok),
        (&one, "t", "m", Code::Ok),
        (&one, "t", "o", Code::PermissionDenied),
        (&one, "u", "n", Code::PermissionDenied),
        (&all, "t", "o", Code::Ok),
        (&all, "u", "o", Code::PermissionDenied),
        // What is wrong with the request itself is told first.
        (&one, "u/n", "n", Code::InvalidArgument),
    ] {
        let result = kv.set(with(token, value_of(tenant, namespace))).await;
        assert_eq!(code(result), expected, "{tenant}/{namespace}");
    }
}

#[tokio::test]
async fn each_call_needs_its_permission() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = ALL.map(|permission| make("t", &[permission], &[]));
    let entries = tokens.iter().map(|(_, entry)| entry.as_str()).collect::<Vec<_>>().join("\n");
    let (mut server, _) = start_for(&dir, &entries);
    let channel = connect(&server.addresses()[0]).await;
    let mut kv = KvServiceClient::new(channel.clone());
    let mut queues = QueueServiceClient::new(channel.clone());
    let mut streams = StreamServiceClient::new(channel);
    for ((secret, _), permission) in tokens.iter().zip(ALL) {
        let set = code(kv.set(with(secret, value_of("t", "n"))).await);
        assert_eq!(set == Code::Ok, permission == "kv.write", "{permission}");
        // The permission comes before the question whether the stream exists.
        let read = ReadStreamRequest { resource_path: resource("stream"), ..Default::default() };
        let expected = if permission == "stream.read" { Code::NotFound } else { Code::PermissionDenied };
        assert_eq!(code(streams.read_stream(with(secret, read)).await), expected, "{permission}");
        let job = EnqueueRequest {
            resource_path: resource("queue"),
            payload: Bytes::from_static(b"j"),
            ..Default::default()
        };
        let expected = if permission == "queue.write" { Code::Ok } else { Code::PermissionDenied };
        assert_eq!(code(queues.enqueue(with(secret, job)).await), expected, "{permission}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_ends_what_it_opened_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (revoked, gone) = make("t", &ALL, &[]);
    let (kept, entry) = make("t", &ALL, &[]);
    let (mut server, file) = start_for(&dir, &format!("{gone}\n{entry}"));
    let channel = connect(&server.addresses()[0]).await;
    let subscribed = |token: &str| {
        let (mut client, request) = (StreamServiceClient::new(channel.clone()), with(token, following()));
        async move { client.subscribe(request).await.expect("it is permitted").into_inner() }
    };
    let (mut ends, mut goes_on) = (subscribed(&revoked).await, subscribed(&kept).await);
    let (mut queues, request) = (QueueServiceClient::new(channel.clone()), with(&revoked, waiting()));
    let long_poll = tokio::spawn(async move { queues.reserve(request).await });

    replace(&file, &entry);
    assert_eq!(ends.message().await.expect_err("its token is gone").code(), Code::Unauthenticated);
    assert_eq!(code(long_poll.await.expect("no panic")), Code::Unauthenticated);

    let mut event = BytesMut::new();
    wire::encode_event(&mut event, b"e", std::iter::empty());
    let write = WriteEventsRequest { resource_path: resource("stream"), events: vec![event.freeze()] };
    let mut streams = StreamServiceClient::new(channel.clone());
    assert_eq!(code(streams.write_events(with(&revoked, write.clone())).await), Code::Unauthenticated);
    assert_eq!(code(streams.write_events(with(&kept, write)).await), Code::Ok);
    assert!(goes_on.message().await.expect("it goes on").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_ends_what_it_opened() {
    let dir = tempfile::tempdir().unwrap();
    let (secret, entry) = make("t", &ALL, &["--expires", "2s"]);
    let (mut server, _) = start_for(&dir, &entry);
    let mut streams = StreamServiceClient::new(connect(&server.addresses()[0]).await);
    match streams.subscribe(with(&secret, following())).await {
        Ok(reply) => {
            let mut messages = reply.into_inner();
            let end = messages.message().await.expect_err("nothing is written, so only its end comes");
            assert_eq!(end.code(), Code::Unauthenticated);
        }
        // This machine was very slow.
        Err(status) => assert_eq!(status.code(), Code::Unauthenticated),
    }
    assert_eq!(code(streams.subscribe(with(&secret, following())).await), Code::Unauthenticated);
}

#[tokio::test]
async fn a_bad_file_leaves_the_tokens_in_force_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (secret, entry) = make("t", &ALL, &[]);
    let (other, next) = make("t", &ALL, &[]);
    let (mut server, file) = start_for(&dir, &entry);
    let mut kv = KvServiceClient::new(connect(&server.addresses()[0]).await);
    replace(&file, &format!("{next}\npassword = \"{secret}\"\n"));
    let told = server.line_with("the tokens stay as they were");
    assert!(!told.contains(&secret), "{told}");
    assert_eq!(code(kv.set(with(&secret, value_of("t", "n"))).await), Code::Ok);
    replace(&file, &next);
    server.line_with("1 tokens are in force");
    assert_eq!(code(kv.set(with(&secret, value_of("t", "n"))).await), Code::Unauthenticated);
    assert_eq!(code(kv.set(with(&other, value_of("t", "n"))).await), Code::Ok);
    server.signal("-HUP");
    server.line_with("1 tokens are in force");
}

#[test]
fn the_log_says_whether_tokens_are_asked_for_and_warns_where_nobody_has_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = start_in(&dir);
    assert!(server.summary().contains("tokens=false"));
    drop(server);
    let (mut server, file) = start_for(&dir, "");
    let warning = server.line_with("nobody may call");
    assert!(warning.contains("WARN") && warning.contains(text(&file)), "{warning}");
    assert!(server.summary().contains("tokens=true"));
    replace(&file, &make("t", &ALL, &[]).1);
    server.line_with("1 tokens are in force");
    replace(&file, "");
    server.line_with("nobody may call");
}

#[test]
fn a_bad_file_at_the_start_is_exit_code_5() {
    let dir = tempfile::tempdir().unwrap();
    let (mut server, _) = start_for(&dir, "[[token]]\nsha256 = \"fm_0123\"\n");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(5), "{log}");
    let named = format!("the token file {} is not good: ", text(&dir.path().join("tokens.toml")));
    assert!(log.contains(&named) && !log.contains("fm_0123"), "{log}");
    let gone = text(&dir.path().join("gone")).to_owned();
    let (code, log) =
        refused(&["--listen", "127.0.0.1:0", "--data-dir", text(&data(&dir)), "--tokens", &gone]);
    assert_eq!(code, 5, "{log}");
    assert!(log.contains(&gone) && log.contains("No such file"), "{log}");
}

#[tokio::test]
async fn a_pipe_in_the_place_of_the_file_holds_up_neither_start_nor_reload() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    make_pipe(&pipe);
    let (exit, log) =
        refused(&["--listen", "127.0.0.1:0", "--data-dir", text(&data(&dir)), "--tokens", text(&pipe)]);
    assert_eq!(exit, 5, "{log}");
    assert!(log.contains(&format!("{} is not good: is no regular file", text(&pipe))), "{log}");

    let (secret, entry) = make("t", &ALL, &[]);
    let (mut server, file) = start_for(&dir, &entry);
    let mut kv = KvServiceClient::new(connect(&server.addresses()[0]).await);
    fs::rename(&pipe, &file).unwrap();
    server.line_with("is no regular file");
    assert_eq!(code(kv.set(with(&secret, value_of("t", "n"))).await), Code::Ok);
    server.signal("-TERM");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_token_cannot_be_made_for_nothing() {
    for (args, word) in [
        (&["--tenant", "a/b", "--permission", "kv.read"][..], "tenant"),
        (&["--tenant", "t", "--permission", "kv.all"], "permission"),
        (&["--tenant=t", "--permission=kv.read", "--namespace", "a/b"], "namespaces"),
    ] {
        let out = command(&["token", "new"]).args(args).output().expect("the binary runs");
        assert_eq!(out.status.code(), Some(2), "it is wrong usage");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(said.contains(word), "{said}");
    }
}

#[tokio::test]
async fn the_log_tells_of_calls_and_not_of_what_they_carry() {
    let dir = tempfile::tempdir().unwrap();
    let (secret, entry) = make("t", &ALL, &[]);
    let file = dir.path().join("tokens.toml");
    fs::write(&file, entry).unwrap();
    let data = data(&dir);
    let mut server = Process::start(&[
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        text(&data),
        "--tokens",
        text(&file),
        "--log-level",
        "debug",
        "--log-format",
        "json",
    ]);
    let summary = server.summary();
    let port = summary.split("127.0.0.1:").nth(1).expect("the address");
    let port: String = port.chars().take_while(char::is_ascii_digit).collect();
    let mut kv = KvServiceClient::new(connect(&format!("127.0.0.1:{port}")).await);
    let mut set = with(&secret, value_of("t", "n"));
    set.get_mut().key = "very-private-key".into();
    set.get_mut().value = Bytes::from_static(b"very-private-value");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    set.metadata_mut().insert("traceparent", trace.parse().unwrap());
    assert_eq!(code(kv.set(set).await), Code::Ok);
    assert_eq!(code(kv.set(with("fm_unknown", value_of("t", "n"))).await), Code::Unauthenticated);
    server.signal("-TERM");
    let (_, log) = server.wait();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("KVService/Set")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    for word in [r#""code":"Ok""#, trace, r#""request":""#, "a token of t", r#""ms":"#] {
        assert!(lines[0].contains(word), "{word} is not in {}", lines[0]);
    }
    assert!(lines[1].contains(r#""code":"Unauthenticated""#), "{}", lines[1]);
    for private in ["very-private", &secret, "fm_unknown", "Bearer"] {
        assert!(!summary.contains(private) && !log.contains(private), "{private} is in {log}");
    }
}
