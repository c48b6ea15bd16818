//! One HTTP/2 connection: its settings, the deadlines of its calls, and its end.

use std::{convert::Infallible, pin::pin, time::Duration};

use http::{HeaderMap, Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tonic::{Status, body::Body};
use tower::Service;

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
pub async fn serve<I, S>(io: I, service: S, mut stopped: watch::Receiver<()>)
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let calls = service_fn(move |request| call(service.clone(), request));
    let mut connection = pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .max_send_buf_size(SEND_BUFFER)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_BYTES)
            .auto_date_header(false)
            .serve_connection(TokioIo::new(io), calls)
    );
    let end = tokio::select! {
        end = connection.as_mut() => end,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = end {
        tracing::debug!("a connection failed: {e}");
    }
}

/// One call within the deadline that its caller set. The client gives up then anyway; ending the
/// call here as well frees what it holds.
async fn call<S, B>(mut service: S, request: Request<B>) -> Result<Response<Body>, Infallible>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    match timeout(request.headers()) {
        None => service.call(request).await,
        Some(limit) => match tokio::time::timeout(limit, service.call(request)).await {
            Ok(reply) => reply,
            Err(_) => Ok(Status::deadline_exceeded("the deadline of the call has passed").into_http()),
        },
    }
}

/// The `grpc-timeout` header: up to 8 digits and a unit. A malformed one is none.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(n * 3600)),
        "M" => Some(Duration::from_secs(n * 60)),
        "S" => Some(Duration::from_secs(n)),
        "m" => Some(Duration::from_millis(n)),
        "u" => Some(Duration::from_micros(n)),
        "n" => Some(Duration::from_nanos(n)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_ends_at_its_deadline() {
        let waits_for_ever = tower::service_fn(|_| std::future::pending());
        let request = Request::builder().header("grpc-timeout", "1m").body(()).unwrap();
        let Ok(reply) = call(waits_for_ever, request).await;
        let status = Status::from_header_map(reply.headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    }

    #[test]
    fn grpc_timeouts_have_digits_and_a_unit() {
        let parse = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            timeout(&headers)
        };
        assert_eq!(parse("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse("3M"), Some(Duration::from_secs(180)));
        assert_eq!(parse("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(parse("15m"), Some(Duration::from_millis(15)));
        assert_eq!(parse("7u"), Some(Duration::from_micros(7)));
        assert_eq!(parse("0n"), Some(Duration::ZERO));
        for bad in ["", "S", "5", "5s", "-5S", "+5S", "100000000S", "5 S"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
