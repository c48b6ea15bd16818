//! One HTTP/2 connection: its settings, its calls, and its end.
//!
//! A connection is one task, and its calls are part of it: a call that can be answered at once is
//! answered in the poll that read it, and the replies that are ready leave in one write. Calls
//! reach the engine in the order in which they came in.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use h2::server::{Builder, Connection};
use http::{Request, Response};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tonic::body::Body;
use tower::Service;

use super::{
    bell::{Bell, Rope},
    cork::Cork,
    exchange::{RequestBody, exchange},
};

/// Unread request bytes per call. A window limits throughput to one window per round trip:
/// 1 MiB fills a gigabit up to 8 ms of distance.
const STREAM_WINDOW: u32 = 1 << 20;
/// Unread request bytes per connection. Requests are read as they come, so this bounds what a
/// peer can make the server hold before a call has taken it.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Large frames save work per byte on requests of many events.
const MAX_FRAME: u32 = 256 << 10;
/// Reply bytes a call may have waiting for a slow peer, beside one batch of messages.
const SEND_BUFFER: usize = 256 << 10;
/// Each subscription and each long poll holds a stream as long as it lasts, beside the calls: the
/// usual 200 would let a client's own subscribers starve its calls. An idle stream costs a few
/// kilobytes, so 1,024 bound a connection to a few megabytes.
const MAX_STREAMS: u32 = 1024;
/// Request headers are a path, a token and little else.
const MAX_HEADER_BYTES: u32 = 16 << 10;

/// Serves one connection until it ends; once the sender of `stopped` is gone, until its calls have.
/// Other threads wake it by `bell`.
pub async fn serve<I, S>(io: I, service: S, bell: Arc<Bell>, stopped: watch::Receiver<()>)
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>,
{
    let handshake = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .handshake(Cork::new(io));
    let end = match handshake.await {
        Ok(connection) => calls(connection, service, Rope::new(bell), stopped).await,
        Err(e) => Err(e),
    };
    if let Err(e) = end {
        tracing::debug!("a connection failed: {e}");
    }
}

/// Reads calls and answers them. Those that still wait when the connection ends are dropped.
async fn calls<I, S>(
    mut connection: Connection<I, Bytes>,
    mut service: S,
    mut rope: Rope,
    mut stopped: watch::Receiver<()>,
) -> Result<(), h2::Error>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>,
{
    let mut calls = FuturesUnordered::new();
    let mut stop = pin!(stopped.changed());
    let mut stopping = false;
    poll_fn(move |cx| {
        if !stopping && stop.as_mut().poll(cx).is_ready() {
            stopping = true;
            connection.graceful_shutdown();
        }
        loop {
            // Replies that are ready leave with the write of the next `poll_accept`.
            let mut replies = Context::from_waker(rope.waker(cx));
            while let Poll::Ready(Some(())) = calls.poll_next_unpin(&mut replies) {}
            let before = calls.len();
            while let Poll::Ready(accepted) = connection.poll_accept(cx) {
                match accepted {
                    Some(Ok((request, respond))) => calls.push(exchange(&mut service, request, respond)),
                    Some(Err(e)) => return Poll::Ready(Err(e)),
                    None => return Poll::Ready(Ok(())),
                }
            }
            if calls.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, time::Duration};

    use http_body::Body as _;
    use tokio::io::duplex;
    use tower::service_fn;

    use super::*;

    /// The whole body of a request that holds a number.
    async fn number(request: Request<RequestBody>) -> usize {
        let mut body = pin!(request.into_body());
        let frame = poll_fn(|cx| body.as_mut().poll_frame(cx)).await.unwrap().unwrap();
        std::str::from_utf8(frame.data_ref().unwrap()).unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn calls_are_handed_on_in_the_order_of_their_requests() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let service = service_fn({
            let seen = seen.clone();
            move |request| {
                let seen = seen.clone();
                async move {
                    let number = number(request).await;
                    seen.lock().unwrap().push(number);
                    // Every other one waits for something; that must not let others pass.
                    if number % 2 == 0 {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    Ok::<_, Infallible>(Response::new(Body::empty()))
                }
            }
        });
        let (near, far) = duplex(1 << 16);
        let (stopping, stopped) = watch::channel(());
        let server = tokio::spawn(serve(far, service, Bell::new(), stopped));
        let (mut client, connection) = h2::client::handshake(near).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut replies = Vec::new();
        for n in 0..500 {
            let request = Request::post("http://localhost/any").body(()).unwrap();
            client = client.ready().await.unwrap();
            let (reply, mut body) = client.send_request(request, false).unwrap();
            body.send_data(n.to_string().into(), true).unwrap();
            replies.push(reply);
        }
        for reply in replies {
            assert_eq!(reply.await.unwrap().status(), 200);
        }
        drop(stopping);
        drop(client);
        connection.await.unwrap().unwrap();
        server.await.unwrap();
        assert!(seen.lock().unwrap().iter().copied().eq(0..500));
    }
}
