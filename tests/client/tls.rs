//! TLS: whom a client trusts, what it shows, and what it says when it comes to nothing.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use bytes::Bytes;
use flowmesh::client::{
    CallOptions, Client, ClientOptions, Error, Identity, Outcome, Pem, Progress, Result, Status,
    SubscribeOptions, Timeout, TlsOptions,
};
use flowmesh_server::net::{CertificateFiles, Certificates};

use crate::{
    certificates::{Authority, Pair},
    servers::{event, serve, serve_for},
};

/// A server for this test that shows `pair`, and wants clients of `client_authority`.
fn serve_tls(pair: &Pair, client_authority: Option<&Authority>) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, pem: &str| {
        let path = dir.path().join(name);
        fs::write(&path, pem).expect("written");
        path
    };
    let files = CertificateFiles {
        certificate: write("cert.pem", &pair.certificate),
        key: write("key.pem", &pair.key),
        client_authorities: client_authority.map(|authority| write("ca.pem", &authority.pem)),
    };
    let certificates = Arc::new(Certificates::read(&files).expect("good files"));
    serve_for("127.0.0.1:0", None, |server| server.with_tls(certificates))
}

fn trusting(authority: &Authority) -> TlsOptions {
    TlsOptions { authorities: Some(pem(&authority.pem)), ..TlsOptions::default() }
}

fn showing(authority: &Authority, pair: &Pair) -> TlsOptions {
    let identity = Identity { certificate: pem(&pair.certificate), key: pem(&pair.key) };
    TlsOptions { identity: Some(identity), ..trusting(authority) }
}

fn pem(text: &str) -> Pem {
    Pem::Bytes(text.as_bytes().to_vec())
}

fn open(endpoint: &str, tls: TlsOptions) -> Client {
    open_within(endpoint, tls, ClientOptions::default().connect_timeout)
}

fn open_within(endpoint: &str, tls: TlsOptions, connect_timeout: Duration) -> Client {
    let endpoint = Some(endpoint.to_owned());
    Client::open(ClientOptions { endpoint, tls, connect_timeout, ..ClientOptions::default() })
        .expect("good options")
}

fn connect(client: &Client) -> Result<()> {
    let called = client.clone();
    client.block_on(async move { called.connect(&CallOptions::default()).await })
}

fn refused(client: &Client, words: &str) -> Error {
    let error = connect(client).expect_err(words);
    assert_eq!(error.status(), Status::UNAVAILABLE, "{error}");
    assert!(error.message().contains(words), "{error}");
    assert!(!error.message().contains("PRIVATE KEY"), "{error}");
    error
}

#[test]
fn calls_and_subscriptions_go_through() {
    let authority = Authority::new();
    let server = serve_tls(&authority.issue("127.0.0.1"), None);
    let client = open(&format!("https://{server}"), trusting(&authority));
    let stream = client.stream("t", "n", "s").expect("names");
    let options = SubscribeOptions { consumer_group: "g".into(), ..SubscribeOptions::default() };
    let subscription = stream.subscribe(options).expect("subscribe");
    let reader = thread::spawn({
        let client = client.clone();
        move || {
            let (mut seen, mut batch) = (0, Vec::new());
            while seen < 3000 {
                if client.wait(subscription.next_batch(&mut batch)).expect("it goes on") == Progress::Messages
                {
                    seen += batch.len();
                }
            }
        }
    });
    for i in 0..30 {
        let stream = stream.clone();
        let events = (0..100).map(|n| event(i * 100 + n)).collect();
        client.block_on(async move { stream.write(events, &CallOptions::default()).await }).expect("write");
    }
    reader.join().expect("every message arrives");
}

#[test]
fn a_large_value_comes_back_as_it_went() {
    let authority = Authority::new();
    let server = serve_tls(&authority.issue("127.0.0.1"), None);
    let client = open(&format!("https://{server}"), trusting(&authority));
    let kv = client.kv("t", "n", "k").expect("names");
    let value: Bytes = (0..3 << 20).map(|n: u32| (n % 251) as u8).collect::<Vec<_>>().into();
    let sent = value.clone();
    let got = client.block_on(async move {
        let o = CallOptions::default();
        kv.set("k", sent, 0, &o).await?;
        kv.get("k", &o).await
    });
    assert!(got.expect("set and get").as_ref() == value);
}

#[test]
fn who_is_not_trusted_is_refused_by_name() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = format!("https://{}", serve_tls(&authority.issue("127.0.0.1"), None));
    refused(&open(&server, trusting(&other)), "not trusted");
    // The system knows nothing of it either.
    refused(&open(&server, TlsOptions::default()), "tru");
    let endpoint = server.replace("127.0.0.1", "localhost");
    refused(&open(&endpoint, trusting(&authority)), "not for localhost");
    let by_name = TlsOptions { server_name: Some("127.0.0.1".into()), ..trusting(&authority) };
    connect(&open(&endpoint, by_name)).expect("the name that was given");

    let expired = serve_tls(&authority.issue_until("127.0.0.1", 2001), None);
    refused(&open(&format!("https://{expired}"), trusting(&authority)), "has expired");
    let careless = Authority::careless("127.0.0.1");
    let tls = TlsOptions { authorities: Some(pem(&careless.certificate)), ..TlsOptions::default() };
    refused(&open(&format!("https://{}", serve_tls(&careless, None)), tls), "CA:FALSE");
}

#[test]
fn servers_may_ask_who_the_client_is() {
    let (authority, clients, other) = (Authority::new(), Authority::new(), Authority::new());
    let server = format!("https://{}", serve_tls(&authority.issue("127.0.0.1"), Some(&clients)));
    connect(&open(&server, showing(&authority, &clients.issue("client")))).expect("a known client");
    refused(&open(&server, trusting(&authority)), "asks for a client certificate");
    refused(&open(&server, showing(&authority, &other.issue("client"))), "does not accept");
    let expired = clients.issue_until("client", 2001);
    refused(&open(&server, showing(&authority, &expired)), "does not accept");
}

#[test]
fn tls_and_clear_text_do_not_meet() {
    let authority = Authority::new();
    let plain = serve("127.0.0.1:0");
    let error = refused(&open(&format!("https://{plain}"), trusting(&authority)), "does not speak TLS");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    let encrypted = serve_tls(&authority.issue("127.0.0.1"), None);
    refused(&open(&encrypted, TlsOptions::default()), "speaks TLS: its endpoint is https://");
}

#[test]
fn a_silent_server_ends_with_the_time_to_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    // Long enough to connect below TLS, on the busiest machine.
    let time = Duration::from_secs(2);
    let error = refused(
        &open_within(&format!("https://{address}"), trusting(&Authority::new()), time),
        "no answer to the TLS handshake within 2000 ms",
    );
    assert!(error.message().contains("server with TLS"), "{error}");
    refused(&open_within(&address.to_string(), TlsOptions::default(), time), "with TLS (https://)");
}

#[test]
fn a_connection_that_breaks_off_in_the_handshake_is_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.read(&mut [0; 16]);
            // The beginning of a record that does not come.
            let _ = stream.write_all(&[0x16, 3, 3, 0, 122, 2]);
        }
    });
    let client = open(&format!("https://{address}"), trusting(&Authority::new()));
    refused(&client, "the TLS handshake broke off");
    assert_eq!(client.stats().connections_made, 0);
}

#[test]
fn renewed_files_count_for_the_next_connection() {
    let (old, new) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("ca.pem");
    let of_file = || TlsOptions { authorities: Some(Pem::File(file.clone())), ..TlsOptions::default() };
    let server = format!("https://{}", serve_tls(&new.issue("127.0.0.1"), None));
    let client = open(&server, of_file());
    refused(&client, "tls_ca_file");
    for bad in ["", "-----BEGIN CERTIFICATE-----\nx"] {
        fs::write(&file, bad).expect("written");
        let error = refused(&client, "tls_ca_file");
        assert!(error.message().contains(text(&file)), "{error}");
    }
    fs::write(&file, &old.pem).expect("written");
    refused(&client, "not trusted");
    fs::write(&file, format!("{}{}", old.pem, new.pem)).expect("written");
    connect(&client).expect("the same client trusts it now");
}

#[test]
fn tls_options_are_for_tls() {
    let authority = Authority::new();
    for endpoint in ["localhost:1", "http://localhost:1", "unix:/s", "embedded:"] {
        let options = ClientOptions {
            endpoint: Some(endpoint.into()),
            tls: trusting(&authority),
            ..ClientOptions::default()
        };
        let error = Client::open(options).expect_err(endpoint);
        assert_eq!(error.status(), Status::INVALID_ARGUMENT);
        assert!(error.message().contains("https://"), "{error}");
    }
}

/// A caller that waits drives the sockets by itself, and TLS below them: many at once take turns.
#[test]
fn callers_share_the_driving() {
    let authority = Authority::new();
    let server = serve_tls(&authority.issue("127.0.0.1"), None);
    let client = open(&format!("https://{server}"), trusting(&authority));
    let threads: Vec<_> = (0..4)
        .map(|thread: usize| {
            let client = client.clone();
            thread::spawn(move || {
                let kv = client.kv("t", "n", &format!("k{thread}")).expect("names");
                for n in 0..200_usize {
                    let kv = kv.clone();
                    let value = Bytes::from(n.to_string().repeat(n));
                    let sent = value.clone();
                    let got = client.block_on(async move {
                        let o = CallOptions { timeout: Timeout::Never, ..CallOptions::default() };
                        kv.set("k", if sent.is_empty() { "-".into() } else { sent }, 0, &o).await?;
                        kv.get("k", &o).await
                    });
                    assert!(n == 0 || got.expect("a value").as_ref() == value);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("every call succeeds"));
    assert_eq!(client.stats().connections_made, 1);
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
