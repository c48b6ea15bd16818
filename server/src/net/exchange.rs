//! One call on its HTTP/2 stream: the request's body in, the deadline, the reply out.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame};
use tonic::{Status, body::Body, codegen::StdError};
use tower::Service;

use super::deliveries::Handed;
use crate::{
    engine::Delivery,
    limits::{self, Account, Charge},
    services::Slack,
};

/// What a request that is not complete costs beside its bytes: the call that waits for the rest.
const INCOMPLETE: usize = 8 << 10;
/// A reply below this that is all of it is not charged for: there is one per call at most.
const SMALL_REPLY: usize = 1 << 10;
/// A subscriber that takes nothing for this long gives up what was fetched for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The body of a request. The peer may send more as soon as a part of it was taken; what is taken
/// is charged until the request is complete.
pub struct RequestBody {
    stream: RecvStream,
    account: Arc<Account>,
    /// Once it is known that there is more to come.
    charge: Option<Charge>,
    /// While more is waited for.
    to_shed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl RequestBody {
    fn charge(&mut self, bytes: usize) {
        match &mut self.charge {
            Some(charge) => charge.add(bytes),
            None => self.charge = Some(self.account.charge(INCOMPLETE + bytes)),
        }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        match self.stream.poll_data(cx) {
            Poll::Ready(Some(data)) => {
                let data = data?;
                self.stream.flow_control().release_capacity(data.len())?;
                if !self.stream.is_end_stream() {
                    self.charge(data.len());
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Poll::Ready(None) => {
                let trailers = ready!(self.stream.poll_trailers(cx))?;
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Poll::Pending => {
                if self.charge.is_none() {
                    self.charge(0);
                }
                // One that holds nothing need not give anything up.
                if self.charge.as_ref().is_none_or(|charge| charge.bytes() <= INCOMPLETE) {
                    return Poll::Pending;
                }
                let account = self.account.clone();
                let to_shed = self.to_shed.get_or_insert_with(|| Box::pin(account.to_shed()));
                match to_shed.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Some(Err(account.refusal().into()))),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}

/// Makes the call that `request` asks for; the future answers it by `respond`. Ends early when the
/// caller takes the call back. What peers make it hold is charged to `account`. A reply with leased
/// jobs is left to the connection ([`super::deliveries`]).
pub fn exchange<S>(
    service: &mut S,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    account: &Arc<Account>,
    max_header_bytes: u32,
) -> impl Future<Output = Option<Handed>> + use<S>
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>,
{
    let limit = timeout(request.headers());
    let account = account.clone();
    let call = if header_bytes(&request) > max_header_bytes as usize {
        let what = "the headers of the call are too large";
        Err(limits::exhausted(what, "--max-header-bytes", max_header_bytes))
    } else if account.is_stuck() {
        Err(account.refusal())
    } else {
        let body = |stream| RequestBody { stream, account: account.clone(), charge: None, to_shed: None };
        Ok(service.call(request.map(body)))
    };
    async move {
        let reply = match call {
            Err(refusal) => Some(refusal.into_http()),
            Ok(call) => {
                let mut call = pin!(within(limit, call));
                poll_fn(|cx| {
                    if let Poll::Ready(reply) = call.as_mut().poll(cx) {
                        return Poll::Ready(Some(reply));
                    }
                    respond.poll_reset(cx).map(|_| None)
                })
                .await
            }
        };
        match send(reply?, &mut respond, &account).await {
            Ok(handed) => handed,
            Err(e) => {
                tracing::debug!("a reply could not be sent: {e}");
                respond.send_reset(Reason::INTERNAL_ERROR);
                None
            }
        }
    }
}

/// The size of a request's head as HTTP/2 counts it; its fixed fields are short but for the path.
fn header_bytes(request: &Request<RecvStream>) -> usize {
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
    fields.sum::<usize>() + request.uri().path().len() + 32
}

async fn send(
    reply: Response<Body>,
    respond: &mut SendResponse<Bytes>,
    account: &Arc<Account>,
) -> Result<Option<Handed>, SendError> {
    let (mut head, body) = reply.into_parts();
    let slack = head.extensions.remove::<Slack>();
    // On any other way out than the last it is dropped, and the jobs are given back.
    let delivery = head.extensions.remove::<Delivery>();
    let ends = body.is_end_stream();
    let stream = respond.send_response(Response::from_parts(head, ()), ends)?;
    if ends {
        return Ok(None);
    }
    let mut reply = Reply { body: pin!(body), early: None, stream, slack, account };
    let mut sent = false;
    loop {
        let frame = match reply.early.take() {
            Some(frame) => frame,
            None => match reply.next().await {
                Some(frame) => frame,
                None => return Ok(None),
            },
        };
        let data = match frame.transpose()?.map(Frame::into_data) {
            None => {
                reply.stream.send_data(Bytes::new(), true)?;
                return Ok(delivery.map(|delivery| Handed { stream: reply.stream, delivery }));
            }
            Some(Ok(data)) => data,
            Some(Err(frame)) => match frame.into_trailers() {
                Ok(trailers) => {
                    reply.stream.send_trailers(trailers)?;
                    return Ok(delivery.map(|delivery| Handed { stream: reply.stream, delivery }));
                }
                Err(_) => continue,
            },
        };
        let data = if sent || data.len() >= SMALL_REPLY { account.hold(data) } else { data };
        sent = true;
        match reply.send(data).await? {
            Sent::All => {}
            Sent::Gone => return Ok(None),
            Sent::Shed if account.is_blocked() => {
                // Frees what the HTTP/2 library has of it as well.
                reply.stream.send_reset(Reason::ENHANCE_YOUR_CALM);
                return Ok(None);
            }
            Sent::Shed => {
                let mut trailers = HeaderMap::new();
                account.refusal().add_header(&mut trailers)?;
                reply.stream.send_trailers(trailers)?;
                return Ok(None);
            }
        }
    }
}

type BodyFrame = Option<Result<Frame<Bytes>, Status>>;

/// A reply of which the head has been sent.
struct Reply<'a> {
    body: Pin<&'a mut Body>,
    /// Came while the one before could not be sent.
    early: Option<BodyFrame>,
    stream: SendStream<Bytes>,
    slack: Option<Slack>,
    account: &'a Arc<Account>,
}

/// What became of a piece of a reply.
enum Sent {
    All,
    /// The peer no longer listens.
    Gone,
    /// It was given up because it cost memory for too long.
    Shed,
}

/// How a wait for the peer ended.
enum Waited {
    Capacity(Option<Result<usize, h2::Error>>),
    Shed,
}

impl Reply<'_> {
    /// The next piece of the body; `None` when the peer no longer listens.
    async fn next(&mut self) -> Option<BodyFrame> {
        // When memory is short nothing is fetched that cannot be sent at once, and what was fetched
        // already is given up.
        let mut waits = self.slack.as_ref().filter(|_| self.account.is_short());
        let mut room = None;
        if waits.is_some() {
            self.stream.reserve_capacity(1);
            room = self.account.room();
        }
        poll_fn(|cx| {
            if let Some(slack) = waits {
                if room.as_mut().is_some_and(|room| room.as_mut().poll(cx).is_ready()) {
                    room = None;
                }
                let open = self.stream.capacity() > 0 || self.stream.poll_capacity(cx).is_ready();
                if room.is_some() || !open {
                    if slack.bytes() > 0
                        && let Poll::Ready(frame) = slack.give_up(|| self.body.as_mut().poll_frame(cx))
                    {
                        return Poll::Ready(Some(frame));
                    }
                    return self.stream.poll_reset(cx).map(|_| None);
                }
                waits = None;
            }
            match self.body.as_mut().poll_frame(cx) {
                // Nothing to say yet; the caller may no longer want to hear it.
                Poll::Pending => self.stream.poll_reset(cx).map(|_| None),
                Poll::Ready(frame) => Poll::Ready(Some(frame)),
            }
        })
        .await
    }

    /// Sends as the peer's window permits.
    async fn send(&mut self, mut data: Bytes) -> Result<Sent, h2::Error> {
        while !data.is_empty() {
            self.stream.reserve_capacity(data.len());
            if self.stream.capacity() == 0 {
                // Boxed: most calls never wait here.
                match Box::pin(self.capacity()).await {
                    Waited::Capacity(Some(capacity)) => drop(capacity?),
                    Waited::Capacity(None) => return Ok(Sent::Gone),
                    Waited::Shed => return Ok(Sent::Shed),
                }
            }
            let part = data.split_to(self.stream.capacity().min(data.len()));
            self.stream.send_data(part, false)?;
        }
        Ok(Sent::All)
    }

    /// Waits until the peer takes more. What was fetched ahead is charged, and given up when the
    /// wait is long or memory is short.
    async fn capacity(&mut self) -> Waited {
        let mut ahead = self.slack.as_ref().map(|slack| self.account.charge(slack.bytes()));
        let mut patience = pin!(tokio::time::sleep(PATIENCE));
        let mut to_shed = pin!(self.account.to_shed());
        poll_fn(|cx| {
            if let Poll::Ready(capacity) = self.stream.poll_capacity(cx) {
                return Poll::Ready(Waited::Capacity(capacity));
            }
            if let Some(slack) = &self.slack
                && ahead.is_some()
                && (self.account.is_short() || patience.as_mut().poll(cx).is_ready())
            {
                if let Poll::Ready(frame) = slack.give_up(|| self.body.as_mut().poll_frame(cx)) {
                    self.early = Some(frame);
                }
                ahead = None;
            }
            to_shed.as_mut().poll(cx).map(|()| Waited::Shed)
        })
        .await
    }
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
