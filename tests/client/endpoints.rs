//! Endpoints that nobody answers, or the wrong one does.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
    time::Duration,
};

use bytes::Bytes;
use flowmesh::client::{CallOptions, Outcome, Status, Timeout};

use crate::open;

#[test]
fn a_closed_port_is_unavailable_and_nothing_was_applied() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    drop(listener);
    let client = open(&address.to_string());
    let queue = client.queue("t", "n", "q").expect("names are fine");
    let error = client
        .block_on({
            let queue = queue.clone();
            async move {
                let job =
                    flowmesh::client::NewJob { payload: Bytes::from_static(b"x"), ..Default::default() };
                queue.enqueue(job, &CallOptions::default()).await
            }
        })
        .expect_err("nobody listens");
    assert_eq!(error.status(), Status::UNAVAILABLE, "{error}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert!(error.is_retryable());
    assert!(error.message().contains("t/n/queue/q") && error.message().contains("cannot connect"), "{error}");
}

#[test]
fn an_http1_server_is_no_flowmesh_server() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    thread::spawn(move || {
        for stream in listener.incoming().take(4) {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 64];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let client = open(&address.to_string());
    let error = client
        .block_on({
            let client = client.clone();
            async move { client.connect(&CallOptions::default()).await }
        })
        .expect_err("not gRPC");
    assert_eq!(error.status(), Status::UNAVAILABLE, "{error}");
    assert!(error.message().contains("not a FlowMesh server"), "{error}");
}

#[test]
fn a_silent_server_takes_the_time_given_and_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let client = open(&listener.local_addr().expect("address").to_string());
    let error = client
        .block_on({
            let client = client.clone();
            async move {
                let timeout = Timeout::After(Duration::from_millis(50));
                client.connect(&CallOptions { timeout, ..CallOptions::default() }).await
            }
        })
        .expect_err("nobody answers");
    assert_eq!(error.status(), Status::DEADLINE_EXCEEDED, "{error}");
}
