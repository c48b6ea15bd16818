//! The proxy's own faults come as told.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use flowmesh_fault_proxy::Proxy;

/// A server that sends back what it gets.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let (mut from, mut to) = (&client, &client);
                let _ = std::io::copy(&mut from, &mut to);
            });
        }
    });
    address
}

fn start() -> (Proxy, TcpStream) {
    let proxy = Proxy::start(&echo()).expect("proxy");
    let client = connect(&proxy);
    (proxy, client)
}

fn connect(proxy: &Proxy) -> TcpStream {
    let client = TcpStream::connect(proxy.address()).expect("connect");
    client.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    client
}

fn echoed(mut client: &TcpStream, bytes: &[u8]) {
    client.write_all(bytes).expect("write");
    let mut back = vec![0; bytes.len()];
    client.read_exact(&mut back).expect("read");
    assert_eq!(back, bytes);
}

/// What still comes until the connection ends, and whether by a reset.
fn rest(mut client: &TcpStream) -> (Vec<u8>, bool) {
    let mut rest = Vec::new();
    match client.read_to_end(&mut rest) {
        Ok(_) => (rest, false),
        Err(e) if e.kind() == ErrorKind::ConnectionReset => (rest, true),
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn bytes_pass_and_are_counted() {
    let (proxy, client) = start();
    echoed(&client, b"hello");
    proxy.tell("await down 5").expect("it passed");
    assert_eq!(proxy.tell("status").expect("status"), "accepted 1 closed 0 up 5 down 5");
    drop(client);
    proxy.tell("await closed 1").expect("it ended");
}

#[test]
fn a_cut_is_a_reset_or_an_end() {
    for (how, by_reset) in [("cut rst", true), ("cut fin", false)] {
        let (proxy, client) = start();
        echoed(&client, b"hello");
        proxy.tell(how).expect("cut");
        assert_eq!(rest(&client), (vec![], by_reset));
    }
}

#[test]
fn a_cut_after_bytes_lets_exactly_those_pass() {
    let (proxy, client) = start();
    proxy.tell("cut fin after down 7").expect("told");
    (&client).write_all(b"0123456789").expect("write");
    assert_eq!(rest(&client), (b"0123456".to_vec(), false));
    let client = connect(&proxy);
    echoed(&client, b"only once");
}

#[test]
fn a_stall_holds_everything_and_loses_nothing() {
    let (proxy, client) = start();
    proxy.tell("stall down").expect("told");
    (&client).write_all(b"hello").expect("write");
    proxy.tell("await up 5").expect("the other way is open");
    assert_eq!(proxy.counts().down, 0);
    proxy.tell("flow down").expect("told");
    let mut back = [0; 5];
    (&client).read_exact(&mut back).expect("read");
    assert_eq!(&back, b"hello");
}

#[test]
fn a_half_close_ends_one_direction() {
    let (proxy, client) = start();
    proxy.tell("stall down").expect("told");
    (&client).write_all(b"hello").expect("write");
    proxy.tell("await up 5").expect("passed");
    proxy.tell("half-close up").expect("told");
    proxy.tell("flow down").expect("told");
    assert_eq!(rest(&client), (b"hello".to_vec(), false));
}

#[test]
fn garbage_and_trickle() {
    let (proxy, client) = start();
    echoed(&client, b"hello");
    proxy.tell("garbage down 100").expect("told");
    let mut garbage = [0; 100];
    (&client).read_exact(&mut garbage).expect("read");
    proxy.tell("trickle both 1 2").expect("told");
    let start = Instant::now();
    echoed(&client, b"0123456789");
    assert!(start.elapsed() >= Duration::from_millis(20));
}

#[test]
fn refused_until_accepted() {
    let (proxy, client) = start();
    echoed(&client, b"accepted");
    proxy.tell("refuse").expect("told");
    let refused = TcpStream::connect(proxy.address()).expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    echoed(&client, b"open connections stay");
    proxy.tell("accept").expect("told");
    echoed(&connect(&proxy), b"hello");
}

#[test]
fn a_storm_cuts_again_and_again_and_calms() {
    let (proxy, client) = start();
    drop(client);
    proxy.tell("storm 7 100").expect("told");
    for _ in 0..5 {
        let mut client = connect(&proxy);
        // Far more than a limit: each connection is cut.
        while client.write_all(&[1; 64]).is_ok() && matches!(client.read(&mut [0; 64]), Ok(1..)) {}
    }
    proxy.tell("calm").expect("told");
    echoed(&connect(&proxy), &[2; 10_000]);
}

#[test]
fn nonsense_is_refused() {
    let (proxy, _client) = start();
    for line in ["", "cut", "cut x", "stall sideways", "delay up soon", "cut rst after both 3"] {
        assert!(proxy.tell(line).is_err(), "{line}");
    }
}
