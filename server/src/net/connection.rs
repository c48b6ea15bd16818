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
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use h2::{
    Ping, PingPong, Reason,
    server::{Builder, Connection},
};
use http::{Request, Response};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::{Instant, timeout_at},
};
use tonic::body::Body;
use tower::Service;

use super::{
    bell::{Bell, Rope},
    cork::Cork,
    deliveries::Deliveries,
    exchange::{RequestBody, exchange},
    frames::{Gauge, Metered},
    warden::{Order, Warden},
};
use crate::limits::{Account, Ledger};

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
/// Resets of one connection that h2 remembers at a time, its own and the peer's before their call
/// was looked at; the pace of resets is limited besides ([`crate::limits`]).
const MAX_RESETS: usize = 128;

/// New calls are begun this many at a time; a connection that goes on with it for longer than
/// `TURN` lets others pass in between.
const AT_ONCE: usize = 32;
const TURN: Duration = Duration::from_millis(1);

/// What a connection is served under.
pub struct Terms {
    pub ledger: Arc<Ledger>,
    /// It is one too many: it is served until it has had an answer.
    pub refused: bool,
    /// When it must be ready for calls.
    pub ready_by: Instant,
}

/// Serves one connection until it ends; once the sender of `stopped` is gone, until its calls have.
/// Other threads wake it by `bell`.
pub async fn serve<I, S>(io: I, service: S, terms: Terms, bell: Arc<Bell>, stopped: watch::Receiver<()>)
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>,
{
    let limits = &terms.ledger.limits;
    let gauge = Gauge::new(limits.max_control_frames);
    let account = terms.ledger.memory.account();
    let handshake = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(limits.max_calls)
        .max_concurrent_reset_streams(MAX_RESETS)
        .max_pending_accept_reset_streams(MAX_RESETS)
        // Up to twice the limit a call gets an answer that says what is wrong.
        .max_header_list_size(limits.max_header_bytes.saturating_mul(2))
        .handshake(Metered::new(Cork::new(io), gauge.clone(), account.clone()));
    let end = match timeout_at(terms.ready_by, handshake).await {
        Ok(Ok(connection)) => {
            let warden = Warden::new(terms.ledger.clone(), gauge.clone(), account.clone(), terms.ready_by);
            let measures = (gauge, account, warden);
            calls(connection, service, terms, measures, Rope::new(bell), stopped).await
        }
        Ok(Err(e)) => Err(End::Failed(e)),
        Err(_) => Err(End::Cut("it did not begin to speak HTTP/2 in time (--handshake-timeout)")),
    };
    if let Err(e) = end {
        tracing::debug!("a connection ended: {e}");
    }
}

/// Why a connection ended that was not closed in order.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Failed(#[from] h2::Error),
    #[error("{0}")]
    Cut(&'static str),
}

/// Reads calls and answers them. Those that still wait when the connection ends are dropped.
async fn calls<I, S>(
    mut connection: Connection<I, Bytes>,
    mut service: S,
    terms: Terms,
    (gauge, account, mut warden): (Gauge, Arc<Account>, Warden),
    mut rope: Rope,
    mut stopped: watch::Receiver<()>,
) -> Result<(), End>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>,
{
    let max_header_bytes = terms.ledger.limits.max_header_bytes;
    let mut pings = connection.ping_pong();
    let mut calls = FuturesUnordered::new();
    let mut stop = pin!(stopped.changed());
    let mut stopping = false;
    let mut answered = false;
    let mut deliveries = Deliveries::default();
    poll_fn(move |cx| {
        if !stopping && stop.as_mut().poll(cx).is_ready() {
            stopping = true;
            connection.graceful_shutdown();
        }
        gauge.begin_turn();
        let began = std::time::Instant::now();
        loop {
            // Replies that are ready leave with the write of the next `poll_accept`.
            let mut replies = Context::from_waker(rope.waker(cx));
            while let Poll::Ready(Some(reply)) = calls.poll_next_unpin(&mut replies) {
                answered = true;
                if let Some(reply) = reply {
                    deliveries.add(reply);
                }
            }
            if answered && terms.refused && !stopping {
                stopping = true;
                connection.graceful_shutdown();
                warden.leaves();
            }
            let before = calls.len();
            while calls.len() < before + AT_ONCE
                && let Poll::Ready(accepted) = connection.poll_accept(cx)
            {
                match accepted {
                    Some(Ok((request, respond))) => {
                        calls.push(exchange(&mut service, request, respond, &account, max_header_bytes));
                    }
                    Some(Err(e)) => return Poll::Ready(Err(e.into())),
                    None => {
                        // In order: what there was to write has been written.
                        deliveries.settle(&mut gauge.traffic().resets);
                        return Poll::Ready(Ok(()));
                    }
                }
            }
            // What a blocked socket did not take has not left.
            if !account.is_blocked() {
                deliveries.settle(&mut gauge.traffic().resets);
            }
            if calls.len() > before {
                if began.elapsed() < TURN {
                    continue;
                }
                // The calls that came in are begun when the others have had their turn.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            // An order is carried out by the next `poll_accept`.
            match warden.poll(cx, !calls.is_empty()) {
                Order::Stay => return Poll::Pending,
                Order::Ask => ask(&mut pings, cx),
                Order::Leave => connection.graceful_shutdown(),
                Order::Calm => connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM),
                Order::Cut(why) => return Poll::Ready(Err(End::Cut(why))),
            }
        }
    })
    .await
}

/// Sends a ping. Whatever comes in afterwards is answer enough.
fn ask(pings: &mut Option<PingPong>, cx: &mut Context<'_>) {
    if let Some(pings) = pings {
        // Takes the answer to the last one, or this one cannot leave.
        let _ = pings.poll_pong(cx);
        if let Err(e) = pings.send_ping(Ping::opaque()) {
            tracing::debug!("a ping cannot be sent: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::FutureExt as _;
    use http_body::Body as _;
    use http_body_util::BodyExt as _;
    use tokio::{io::duplex, sync::oneshot};
    use tower::service_fn;

    use super::*;
    use crate::{
        engine::{Delivery, Leased},
        limits::Limits,
    };

    /// The whole body of a request that holds a number.
    async fn number(request: Request<RequestBody>) -> usize {
        let mut body = pin!(request.into_body());
        let frame = poll_fn(|cx| body.as_mut().poll_frame(cx)).await.unwrap().unwrap();
        std::str::from_utf8(frame.data_ref().unwrap()).unwrap().parse().unwrap()
    }

    /// Answers with a job when there is one.
    async fn lease(job: oneshot::Receiver<Delivery>) -> Result<Response<Body>, Infallible> {
        let delivery = job.await.unwrap();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", 0.into());
        let body = http_body_util::Full::new(Bytes::from_static(b"a job")).map_err(|never| match never {});
        let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
        let mut reply = Response::new(Body::new(body));
        reply.extensions_mut().insert(delivery);
        Ok(reply)
    }

    /// What becomes of a call for which a job is found.
    #[derive(Clone, Copy, PartialEq)]
    enum Fate {
        Answered,
        /// The reset has come in and was not read when there is a reply.
        TakenBack,
        /// The reset comes when the reply has left.
        Crossed,
        /// The connection goes before there is a reply.
        Cut,
    }

    /// How often the job is given back.
    fn given_back(fate: Fate) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        let (found, job) = oneshot::channel();
        let job = Mutex::new(Some(job));
        let service = service_fn(move |_| lease(job.lock().unwrap().take().unwrap()));
        let (near, far) = duplex(1 << 16);
        let (_stopping, stopped) = watch::channel(());
        let ledger = Arc::new(Ledger::new(Limits::default()));
        let terms =
            Terms { ready_by: Instant::now() + ledger.limits.handshake_timeout, ledger, refused: false };
        // Everything is polled by hand: only so it is known what the server has read.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut server = Box::pin(serve(far, service, terms, Bell::new(), stopped));
        let mut shaking = Box::pin(h2::client::handshake(near));
        let (mut client, mut connection) = loop {
            if let Poll::Ready(shaken) = shaking.as_mut().poll(&mut cx) {
                break shaken.unwrap();
            }
            assert!(server.as_mut().poll(&mut cx).is_pending());
        };
        let request = Request::post("http://localhost/any").body(()).unwrap();
        let (mut reply, mut body) = client.send_request(request, true).unwrap();
        for _ in 0..4 {
            assert!(connection.poll_unpin(&mut cx).is_pending());
            assert!(server.as_mut().poll(&mut cx).is_pending());
        }
        // The server has the call, and finds a job for it.
        let back = Arc::new(Mutex::new(0));
        let leased = Leased::new(Vec::new(), {
            let back = back.clone();
            move || *back.lock().unwrap() += 1
        });
        found.send(leased.delivery).unwrap();
        if fate == Fate::TakenBack {
            body.send_reset(Reason::CANCEL);
            assert!(connection.poll_unpin(&mut cx).is_pending());
        }
        if fate != Fate::Cut {
            assert!(server.as_mut().poll(&mut cx).is_pending());
            if fate == Fate::Crossed {
                assert_eq!(*back.lock().unwrap(), 0);
                body.send_reset(Reason::CANCEL);
            }
            assert!(connection.poll_unpin(&mut cx).is_pending());
            assert!(reply.poll_unpin(&mut cx).is_ready());
            assert!(server.as_mut().poll(&mut cx).is_pending());
        }
        // How it ends afterwards makes no difference.
        drop((client, connection, reply, body));
        drop(server);
        *back.lock().unwrap()
    }

    #[test]
    fn jobs_of_a_call_that_was_taken_back_or_cut_are_given_back() {
        assert_eq!(given_back(Fate::Answered), 0);
        assert_eq!(given_back(Fate::TakenBack), 1);
        assert_eq!(given_back(Fate::Crossed), 1);
        assert_eq!(given_back(Fate::Cut), 1);
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
        let ledger = Arc::new(Ledger::new(Limits::default()));
        let terms =
            Terms { ready_by: Instant::now() + ledger.limits.handshake_timeout, ledger, refused: false };
        let server = tokio::spawn(serve(far, service, terms, Bell::new(), stopped));
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
