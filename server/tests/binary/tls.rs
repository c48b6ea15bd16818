//! TLS from outside: flags, files that are renewed, and who may connect.

use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::{
    certificates::{Authority, Pair},
    encrypted,
};

/// The files of a server.
struct Files {
    dir: TempDir,
}

impl Files {
    fn of(pair: &Pair) -> Self {
        let files = Self { dir: tempfile::tempdir().expect("a directory") };
        files.put(pair);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts another pair in place, each file at once.
    fn put(&self, pair: &Pair) {
        self.put_one("cert.pem", &pair.certificate);
        self.put_one("key.pem", &pair.key);
    }

    fn put_one(&self, name: &str, pem: &str) {
        let next = self.path("next");
        fs::write(&next, pem).expect("a file is written");
        fs::rename(next, self.path(name)).expect("it is put in place");
    }

    /// A server on TCP and on a unix socket.
    fn start(&self, more: &[&str]) -> Process {
        let (cert, key, data) = (self.path("cert.pem"), self.path("key.pem"), data(&self.dir));
        let socket = format!("unix:{}", text(&self.path("socket")));
        let args = ["--listen", "127.0.0.1:0", "--listen", &socket, "--data-dir", text(&data)];
        let tls = ["--tls-cert", text(&cert), "--tls-key", text(&key)];
        Process::start(&[&args[..], &tls, more].concat())
    }
}

/// The TCP address in the summary.
fn address(server: &mut Process) -> SocketAddr {
    server.addresses()[0].parse().expect("an address")
}

/// The certificate that the server shows.
fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().expect("the server shows one")[0].to_vec()
}

#[tokio::test]
async fn tcp_is_encrypted_and_a_unix_socket_is_not() {
    let authority = Authority::new();
    let files = Files::of(&authority.issue("127.0.0.1"));
    let mut server = files.start(&[]);
    let addresses = server.addresses();
    let tcp: SocketAddr = addresses[0].parse().expect("an address");
    let channel = encrypted::channel(tcp, &authority.pem).await.expect("a connection");
    set(&channel, "k").await.unwrap();
    assert_eq!(get(&connect(&addresses[1]).await, "k").await.unwrap(), "v");
    let stream = encrypted::connect(tcp, &authority.pem).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    // In clear text there is nothing to be had.
    let plain = Endpoint::from_shared(format!("http://{tcp}")).unwrap().connect().await.unwrap();
    assert!(set(&plain, "k").await.is_err());
    server.signal("-TERM");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificates_serve_new_connections_and_end_no_old_one() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::of(&old.issue("127.0.0.1"));
    let mut server = files.start(&[]);
    let address = address(&mut server);
    let channel = encrypted::channel(address, &old.pem).await.expect("a connection");
    let mut subscription = subscribe(&channel).await;
    let before = shown(&encrypted::connect(address, &old.pem).await.unwrap());

    files.put(&new.issue("127.0.0.1"));
    server.line_with("is in force");
    assert_ne!(shown(&encrypted::connect(address, &new.pem).await.unwrap()), before);
    assert!(encrypted::connect(address, &old.pem).await.is_err());

    let mut event = BytesMut::new();
    wire::encode_event(&mut event, b"e", std::iter::empty());
    let write = WriteEventsRequest { resource_path: resource("stream"), events: vec![event.freeze()] };
    StreamServiceClient::new(channel).write_events(write).await.expect("the old connection goes on");
    assert!(subscription.message().await.expect("so does its subscription").is_some());
}

#[tokio::test]
async fn bad_files_leave_the_certificate_in_force_and_are_told() {
    let authority = Authority::new();
    let (pair, other) = (authority.issue("127.0.0.1"), authority.issue("127.0.0.1"));
    let files = Files::of(&pair);
    let mut server = files.start(&[]);
    let address = address(&mut server);
    for (name, pem, word) in [
        ("key.pem", other.key.as_str(), "is not the key of the certificate"),
        ("key.pem", "no key", "must hold a private key"),
        ("cert.pem", &other.key, "must hold a certificate"),
    ] {
        files.put_one(name, pem);
        let told = server.line_with("the certificates stay as they were");
        assert!(told.contains(word) && told.contains(name), "{told}");
        assert!(!told.contains("PRIVATE"), "{told}");
        encrypted::connect(address, &authority.pem).await.expect("the old ones are in force");
    }
    fs::remove_file(files.path("key.pem")).unwrap();
    server.line_with("No such file");
    files.put(&other);
    server.line_with("is in force");
    server.signal("-HUP");
    server.line_with("is in force");
    encrypted::connect(address, &authority.pem).await.expect("the new ones are");
}

#[tokio::test]
async fn clients_must_be_known_where_authorities_are_given() {
    let authority = Authority::new();
    let files = Files::of(&authority.issue("127.0.0.1"));
    files.put_one("clients.pem", &Authority::new().pem);
    // Whoever shows a certificate is authenticated, so this listens beyond the machine.
    let clients = files.path("clients.pem");
    let mut server = files.start(&["--tls-client-ca", text(&clients), "--listen", "0.0.0.0:0"]);
    let address = address(&mut server);
    let channel = encrypted::channel(address, &authority.pem).await;
    // The client learns of it at the end of the handshake, or with the first call.
    if let Ok(channel) = channel {
        assert!(set(&channel, "k").await.is_err());
    }
}

#[test]
fn files_that_cannot_be_used_at_the_start_are_exit_code_6() {
    let authority = Authority::new();
    let (pair, other) = (authority.issue("127.0.0.1"), authority.issue("127.0.0.1"));
    let files = Files::of(&Pair { certificate: pair.certificate, key: other.key });
    let (status, log) = files.start(&[]).wait();
    assert_eq!(status.code(), Some(6), "{log}");
    assert!(log.contains("key.pem: is not the key of the certificate"), "{log}");
    fs::remove_file(files.path("cert.pem")).unwrap();
    let (status, log) = files.start(&[]).wait();
    assert_eq!(status.code(), Some(6), "{log}");
    assert!(log.contains("cert.pem: No such file"), "{log}");
    make_pipe(&files.path("cert.pem"));
    let (status, log) = files.start(&[]).wait();
    assert_eq!(status.code(), Some(6), "{log}");
    assert!(log.contains("cert.pem: is no regular file"), "{log}");
}

#[test]
fn half_of_the_files_is_wrong_usage() {
    for args in [
        &["--tls-cert", "c"][..],
        &["--tls-key", "k"],
        &["--tls-client-ca", "a"],
        &["--tls-client-ca", "a", "--tls-key", "k"],
    ] {
        let (code, log) = refused(args);
        assert_eq!(code, 2, "{log}");
        assert!(log.contains("--tls-cert") && log.contains("--tls-key"), "{log}");
    }
    // Encryption alone tells nobody who calls.
    let (code, log) = refused(&["--tls-cert", "c", "--tls-key", "k", "--listen", "0.0.0.0:0"]);
    assert_eq!(code, 2, "{log}");
    assert!(log.contains("not authenticated"), "{log}");
}

#[test]
fn a_log_beside_the_tokens_does_not_make_the_server_read_them_again() {
    let dir = tempfile::tempdir().unwrap();
    let (tokens, log) = (dir.path().join("tokens.toml"), dir.path().join("log"));
    fs::write(&tokens, "").unwrap();
    let args = ["--listen", "127.0.0.1:0", "--tokens", text(&tokens), "--data-dir", text(&data(&dir))]
        .map(str::to_owned);
    let mut command = command(&args.each_ref().map(String::as_str));
    command.stderr(fs::File::create(&log).unwrap());
    let mut child = command.spawn().expect("the binary starts");
    let lines_with =
        |word: &str| fs::read_to_string(&log).unwrap().lines().filter(|l| l.contains(word)).count();
    let wait_for = |word: &str, count: usize| {
        let limit = Instant::now() + Duration::from_secs(60);
        while lines_with(word) < count {
            assert!(Instant::now() < limit, "{}", fs::read_to_string(&log).unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    wait_for("listening on", 1);
    for count in 1..=3 {
        // Each reading that is told writes to the log, which is a change beside the tokens.
        let hangup = Command::new("kill").args(["-HUP", &child.id().to_string()]).status();
        assert!(hangup.expect("kill").success());
        wait_for("tokens are in force", count);
    }
    let stop = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(stop.expect("kill").success());
    assert_eq!(child.wait().expect("an end").code(), Some(0));
    assert_eq!(lines_with("tokens are in force"), 3);
}
