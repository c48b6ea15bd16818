//! What a failed call tells: a status, a text for people, and what became of the call.
//!
//! Programs decide by [`Status`], [`Error::is_retryable`] and [`Outcome`], never by text.

use std::{error::Error as _, fmt};

use super::http2::CallError;
use crate::log::log;

/// Result of client calls.
pub type Result<T> = std::result::Result<T, Error>;

/// A status code: 0 to 16 are those of gRPC, from 100 on those that only a library can have.
/// Values are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(pub i32);

macro_rules! statuses {
    ($($(#[doc = $doc:literal])+ $name:ident = $value:literal;)+) => {
        impl Status {
            $($(#[doc = $doc])+ pub const $name: Self = Self($value);)+

            /// The constant's name, `None` for a number without one.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)+
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    /// Success.
    OK = 0;
    /// The caller cancelled the call.
    CANCELLED = 1;
    /// A failure that does not say what it is.
    UNKNOWN = 2;
    /// An argument breaks a rule.
    INVALID_ARGUMENT = 3;
    /// The time given to the call is over.
    DEADLINE_EXCEEDED = 4;
    /// A resource, job or key does not exist.
    NOT_FOUND = 5;
    /// Something of that name exists.
    ALREADY_EXISTS = 6;
    /// The token does not permit the call.
    PERMISSION_DENIED = 7;
    /// A limit is reached: message size, storage.
    RESOURCE_EXHAUSTED = 8;
    /// The state does not permit the call.
    FAILED_PRECONDITION = 9;
    /// The call was given up in favour of another one.
    ABORTED = 10;
    /// A position outside the valid range.
    OUT_OF_RANGE = 11;
    /// The server or this library does not have the operation.
    UNIMPLEMENTED = 12;
    /// The server, or this library, failed.
    INTERNAL = 13;
    /// The server cannot be reached, or is stopping.
    UNAVAILABLE = 14;
    /// Stored data is lost or damaged.
    DATA_LOSS = 15;
    /// The token is missing or not valid.
    UNAUTHENTICATED = 16;
    /// The client, or the library, was closed.
    CLOSED = 100;
    /// The process is a fork of the one that opened the client.
    FORKED = 101;
    /// A bounded queue of the library is full.
    QUEUE_FULL = 102;
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "status {}", self.0),
        }
    }
}

/// What became of the change that a failed call was to make.
///
/// Its size leaves [`Error`] without padding: otherwise the optimiser moves padding about together
/// with the flags beside it, and memcheck takes those for uninitialised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Outcome {
    /// It did not happen and will not.
    NotApplied,
    /// It may have happened, or still happen.
    Unknown,
    /// It happened; only its reply is lost.
    Applied,
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    status: Status,
    message: String,
    server_detail: Option<String>,
    retryable: bool,
    outcome: Outcome,
    from_server: bool,
}

impl Error {
    /// A failure that this library found before anything was sent.
    pub fn local(status: Status, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            server_detail: None,
            retryable: false,
            outcome: Outcome::NotApplied,
            from_server: false,
        }
    }

    /// An argument breaks a rule; the message names both.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::local(Status::INVALID_ARGUMENT, message)
    }

    /// A panic, which is a defect of this library; the log is told too.
    pub(crate) fn defect(panic: &(dyn std::any::Any + Send)) -> Self {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no text");
        let text = format!("a defect of libflowmesh, please report it: {text}");
        log!(Error, "process", 0, "{text}");
        Self::local(Status::INTERNAL, text).with_outcome(Outcome::Unknown)
    }

    /// Whether the server answered with this status.
    pub(crate) fn is_from_server(&self) -> bool {
        self.from_server
    }

    pub(crate) fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// Puts `what`, verb and resource, in front of the message.
    pub(crate) fn while_trying(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Adds what another error says.
    pub(crate) fn because(mut self, other: &Self) -> Self {
        self.message = format!("{}; {}", self.message, other.message);
        self
    }

    pub(crate) fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// The code.
    pub fn status(&self) -> Status {
        self.status
    }

    /// What was tried, on which resource, what went wrong and what to do.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The server's own words, when it had any.
    pub fn server_detail(&self) -> Option<&str> {
        self.server_detail.as_deref()
    }

    /// Whether the same call may succeed later, nothing else changed. What a repeat may do
    /// twice, the outcome tells.
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// What became of the change that the call was to make.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.message)
    }
}

impl std::error::Error for Error {}

/// What a call does to the server's state, which decides about retries and outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Reads only.
    None,
    /// Changes state; done twice it is as done once.
    Idempotent,
    /// Changes state, and a repeat would change it again.
    Once,
}

/// How one attempt of a call failed.
pub(crate) struct Failure {
    pub status: Status,
    /// The server's words, or the library's on a lost connection.
    pub text: String,
    pub cause: Cause,
    /// The server says that the same request will never do.
    pub for_good: bool,
}

/// Where a failure arose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The server answered with it.
    Server,
    /// No connection could be made, so nothing was sent.
    NotConnected,
    /// The same, and the text says what to do.
    Misconnected,
    /// There was a connection, but the request was not handed to it.
    NotSent,
    /// The connection was lost while the call was under way.
    Lost,
    /// The reply cannot be used.
    BadReply,
}

impl Failure {
    pub fn new(status: &tonic::Status) -> Self {
        let code = Status(i32::from(status.code()));
        let pushback = status.metadata().get(flowmesh_proto::RETRY_PUSHBACK);
        let for_good = pushback.is_some_and(|ms| ms.as_bytes().starts_with(b"-"));
        let (status, text, cause) = match status.source() {
            None => match code {
                // Only the decoder of a reply says this: no server of the contract uses the code.
                Status::OUT_OF_RANGE => {
                    (Status::RESOURCE_EXHAUSTED, status.message().to_owned(), Cause::BadReply)
                }
                _ => (code, status.message().to_owned(), Cause::Server),
            },
            Some(source) => {
                let cause = transport_cause(source);
                (Status::UNAVAILABLE, chain_text(source), cause)
            }
        };
        Self { status, text, cause, for_good }
    }

    /// A stream of replies ended, or says so itself.
    pub fn of_stream(status: Status, text: String, cause: Cause) -> Self {
        Self { status, text, cause, for_good: false }
    }

    /// Whether the server has certainly not seen the request.
    pub fn not_sent(&self) -> bool {
        matches!(self.cause, Cause::NotConnected | Cause::Misconnected | Cause::NotSent)
    }

    /// Whether the server has refused the token.
    pub fn is_unauthenticated(&self) -> bool {
        self.status == Status::UNAUTHENTICATED && self.cause == Cause::Server
    }

    /// Whether to try again at once: the connection may have gone stale while idle.
    pub fn worth_one_more(&self) -> bool {
        self.status == Status::UNAVAILABLE && !matches!(self.cause, Cause::NotConnected | Cause::Misconnected)
    }

    /// The error for a call that tried `what` (verb and resource) with `effect`.
    pub fn into_error(self, what: &str, effect: Effect) -> Error {
        let retryable = matches!(
            self.status,
            Status::UNAVAILABLE | Status::RESOURCE_EXHAUSTED | Status::ABORTED | Status::DEADLINE_EXCEEDED
        ) && self.cause != Cause::BadReply
            && !self.for_good;
        let refused = matches!(
            self.status,
            Status::INVALID_ARGUMENT
                | Status::NOT_FOUND
                | Status::ALREADY_EXISTS
                | Status::PERMISSION_DENIED
                | Status::RESOURCE_EXHAUSTED
                | Status::FAILED_PRECONDITION
                | Status::UNIMPLEMENTED
                | Status::UNAUTHENTICATED
        ) && self.cause == Cause::Server;
        let outcome = match effect {
            Effect::None => Outcome::NotApplied,
            _ if refused || self.not_sent() => Outcome::NotApplied,
            _ if self.cause == Cause::BadReply => Outcome::Applied,
            _ => Outcome::Unknown,
        };
        let text = if self.text.is_empty() { "no reason given" } else { &self.text };
        let advice = advice(self.status, self.cause);
        let message = format!("{what}: {text}{}{advice}", if advice.is_empty() { "" } else { "; " });
        let from_server = self.cause == Cause::Server;
        let server_detail = (from_server && !self.text.is_empty()).then_some(self.text);
        Error { status: self.status, message, server_detail, retryable, outcome, from_server }
    }
}

fn advice(status: Status, cause: Cause) -> &'static str {
    match (status, cause) {
        (_, Cause::NotConnected) => "check the endpoint, and that the server is running",
        (_, Cause::BadReply) => "raise max_message_bytes of the client, or ask for less",
        (_, Cause::Lost) => "the connection ended, or the peer is not a FlowMesh server",
        (Status::UNAUTHENTICATED, _) => "check the client's auth token",
        (Status::PERMISSION_DENIED, _) => "the token does not cover this call",
        (Status::UNIMPLEMENTED, _) => "the peer does not offer it: an older server, or none of FlowMesh",
        _ => "",
    }
}

/// The failure below everything else that tonic wrapped around it.
fn transport_cause(source: &(dyn std::error::Error + 'static)) -> Cause {
    let mut error = Some(source);
    while let Some(e) = error {
        match e.downcast_ref() {
            Some(CallError::NotConnected(e)) if e.is_explained() => return Cause::Misconnected,
            Some(CallError::NotConnected(_)) => return Cause::NotConnected,
            Some(CallError::NotSent(_)) => return Cause::NotSent,
            _ => {}
        }
        error = e.source();
    }
    Cause::Lost
}

/// The texts of an error and its sources, each once.
fn chain_text(source: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut error = Some(source);
    while let Some(e) = error {
        let own = e.to_string();
        if !text.contains(&own) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&own);
        }
        error = e.source();
    }
    text
}
