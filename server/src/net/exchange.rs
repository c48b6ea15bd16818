//! One call on its HTTP/2 stream: the request's body in, the deadline, the reply out.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame};
use tonic::{Status, body::Body};
use tower::Service;

/// The body of a request. The peer may send more as soon as a part of it was taken.
pub struct RequestBody(RecvStream);

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(data) = ready!(self.0.poll_data(cx)) {
            let data = data?;
            self.0.flow_control().release_capacity(data.len())?;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        self.0.poll_trailers(cx).map(|trailers| Some(trailers.transpose()?.map(Frame::trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

/// Makes the call that `request` asks for; the future answers it by `respond`. Ends early when the
/// caller takes the call back.
pub fn exchange<S>(
    service: &mut S,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> impl Future<Output = ()> + use<S>
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>,
{
    let limit = timeout(request.headers());
    let call = service.call(request.map(RequestBody));
    async move {
        let reply = {
            let mut call = pin!(within(limit, call));
            poll_fn(|cx| {
                if let Poll::Ready(reply) = call.as_mut().poll(cx) {
                    return Poll::Ready(Some(reply));
                }
                respond.poll_reset(cx).map(|_| None)
            })
            .await
        };
        let Some(reply) = reply else { return };
        if let Err(e) = send(reply, &mut respond).await {
            tracing::debug!("a reply could not be sent: {e}");
            respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

async fn send(reply: Response<Body>, respond: &mut SendResponse<Bytes>) -> Result<(), SendError> {
    let (head, body) = reply.into_parts();
    let ends = body.is_end_stream();
    let mut stream = respond.send_response(Response::from_parts(head, ()), ends)?;
    if ends {
        return Ok(());
    }
    let mut body = pin!(body);
    loop {
        let frame = poll_fn(|cx| match body.as_mut().poll_frame(cx) {
            // Nothing to say yet; the caller may no longer want to hear it.
            Poll::Pending => stream.poll_reset(cx).map(|_| None),
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
        });
        let Some(frame) = frame.await else { return Ok(()) };
        match frame.transpose()?.map(Frame::into_data) {
            None => return Ok(stream.send_data(Bytes::new(), true)?),
            Some(Ok(data)) => {
                if !send_data(data, &mut stream).await? {
                    return Ok(());
                }
            }
            Some(Err(frame)) => {
                if let Ok(trailers) = frame.into_trailers() {
                    return Ok(stream.send_trailers(trailers)?);
                }
            }
        }
    }
}

/// Sends as the peer's window permits. False when the peer no longer listens.
async fn send_data(mut data: Bytes, stream: &mut SendStream<Bytes>) -> Result<bool, h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        if stream.capacity() == 0 {
            match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(capacity) => capacity?,
                None => return Ok(false),
            };
        }
        let part = data.split_to(stream.capacity().min(data.len()));
        stream.send_data(part, false)?;
    }
    Ok(true)
}

/// Why a reply did not get out.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Connection(#[from] h2::Error),
    #[error(transparent)]
    Body(#[from] Status),
}

/// A call within the time that its caller gave it. The client gives up then anyway; ending the call
/// here as well frees what it holds.
async fn within(
    limit: Option<Duration>,
    call: impl Future<Output = Result<Response<Body>, Infallible>>,
) -> Response<Body> {
    let Ok(reply) = match limit {
        None => call.await,
        Some(limit) => tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
            Ok(Status::deadline_exceeded("the deadline of the call has passed").into_http())
        }),
    };
    reply
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
        let reply = within(Some(Duration::from_millis(1)), std::future::pending()).await;
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
